//! Every contestant through every scenario, on all processors, with progress on standard error.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::thread;
use std::time::Instant;

use crate::contestants::Contestant;
use crate::scenario::Scenario;
use crate::summary::Summary;
use crate::world::WorldError;

/// A scenario and what came of it, in the order of [`Contestant::ALL`].
pub(crate) struct Outcome {
    pub(crate) scenario: Scenario,
    /// The first one; single courses are of it.
    pub(crate) seed: u64,
    pub(crate) summaries: Vec<Summary>,
}

/// Runs all, for each seed. The answer depends on nothing but the arguments.
pub(crate) fn run(scenarios: Vec<Scenario>, seeds: &[u64]) -> Result<Vec<Outcome>, WorldError> {
    let contestants = Contestant::ALL;
    let jobs = scenarios.len() * contestants.len();
    let progress = Progress::new(scenarios.len(), seeds);
    let summaries = on_all_processors(jobs, |job| {
        let scenario = &scenarios[job / contestants.len()];
        let contestant = contestants[job % contestants.len()];
        let runs: Result<Vec<_>, _> = seeds
            .iter()
            .map(|&seed| contestant.run(scenario, seed))
            .collect();
        let summary = Summary::new(contestant, scenario, runs?);
        progress.done(job / contestants.len(), &scenario.name);
        Ok(summary)
    })?;
    let mut summaries = summaries.into_iter();
    let outcomes = scenarios.into_iter().map(|scenario| Outcome {
        seed: seeds.first().copied().unwrap_or(0),
        scenario,
        summaries: summaries.by_ref().take(contestants.len()).collect(),
    });
    Ok(outcomes.collect())
}

/// What `job` gives for each number below `count`, in this order.
pub(crate) fn on_all_processors<T: Send>(
    count: usize,
    job: impl Fn(usize) -> Result<T, WorldError> + Sync,
) -> Result<Vec<T>, WorldError> {
    let results: Vec<Mutex<Option<Result<T, WorldError>>>> =
        (0..count).map(|_| Mutex::new(None)).collect();
    let next = AtomicUsize::new(0);
    let work = || {
        loop {
            let number = next.fetch_add(1, Relaxed);
            let Some(result) = results.get(number) else {
                return;
            };
            let done = job(number);
            *result
                .lock()
                .unwrap_or_else(|poisoned| poisoned.into_inner()) = Some(done);
        }
    };
    thread::scope(|scope| {
        for _ in 0..thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(work);
        }
    });
    let results = results
        .into_iter()
        .filter_map(|result| result.into_inner().ok().flatten());
    results.collect()
}

/// Says which scenarios are done.
struct Progress {
    began: Instant,
    left: Mutex<Vec<usize>>,
}

impl Progress {
    #[expect(
        clippy::disallowed_methods,
        reason = "how long it took is said to whoever waits, and nowhere else"
    )]
    fn new(scenarios: usize, seeds: &[u64]) -> Self {
        let contestants = Contestant::ALL.len();
        eprintln!("{scenarios} scenarios, {contestants} contestants, seeds {seeds:?}");
        Self {
            began: Instant::now(),
            left: Mutex::new(vec![contestants; scenarios]),
        }
    }

    #[expect(
        clippy::disallowed_methods,
        reason = "how long it took is said to whoever waits, and nowhere else"
    )]
    fn done(&self, scenario: usize, name: &str) {
        let mut left = self
            .left
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner());
        left[scenario] -= 1;
        if left[scenario] == 0 {
            let done = left.iter().filter(|left| **left == 0).count();
            let seconds = self.began.elapsed().as_secs_f64();
            eprintln!("[{done:>2}/{}] {seconds:>6.1} s  {name}", left.len());
        }
    }
}
