//! One contestant in one scenario, over all seeds.
//!
//! A failed request counts as one that waited for the whole timeout: else a balancer would improve its percentiles by
//! failing what is slow.

use serde::Serialize;

use crate::contestants::Contestant;
use crate::measures::{Measures, Request};
use crate::moment::SECOND;
use crate::scenario::Scenario;

#[derive(Serialize)]
pub(crate) struct Summary {
    #[serde(skip)]
    pub(crate) contestant: Contestant,
    #[serde(rename = "contestant")]
    name: &'static str,
    pub(crate) requests: u64,
    pub(crate) failed_share: f64,
    pub(crate) p50_ms: f64,
    pub(crate) p99_ms: f64,
    pub(crate) p999_ms: f64,
    /// For each seed.
    pub(crate) p99_ms_by_seed: Vec<f64>,
    /// The smallest and the largest share of a server, over what is fair.
    pub(crate) least_share: f64,
    pub(crate) worst_share: f64,
    pub(crate) mean_draws: Option<f64>,
    /// Median over the seeds; see [`Measures::healed_after`].
    pub(crate) healed_after_s: Option<f64>,
    /// Pairs: the share of requests that took longer, and milliseconds.
    pub(crate) tail: Vec<(f64, f64)>,
    /// Of the first seed, where there are faults.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) course: Option<Course>,
}

/// How servers fared over time.
#[derive(Serialize)]
pub(crate) struct Course {
    /// For each second and server: its share over what is fair; none while discovery does not offer it.
    pub(crate) shares: Vec<Vec<Option<f64>>>,
    /// For each server the states that the first client saw, with the second from which on.
    pub(crate) states: Vec<Vec<(f64, String)>>,
}

impl Summary {
    pub(crate) fn new(contestant: Contestant, scenario: &Scenario, runs: Vec<Measures>) -> Self {
        let timeout = scenario.timeout.as_secs_f64() * 1e3;
        let by_seed = runs
            .iter()
            .map(|run| Latencies::of(&run.requests, timeout).quantile(0.01));
        let p99_ms_by_seed = by_seed.collect();
        let requests = runs.iter().flat_map(|run| &run.requests);
        let latencies = Latencies::of(requests, timeout);
        let shares: Vec<f64> = runs.iter().flat_map(Measures::shares).collect();
        let tallies = runs.iter().filter_map(|run| run.tally);
        let (picks, draws) =
            tallies.fold((0, 0), |sum, one| (sum.0 + one.picks, sum.1 + one.draws));
        let mut healed: Vec<_> = runs
            .iter()
            .filter_map(|run| run.healed_after(scenario))
            .collect();
        healed.sort_by(f64::total_cmp);
        Self {
            contestant,
            name: contestant.name(),
            requests: latencies.count as u64,
            failed_share: latencies.failed_share(),
            p50_ms: latencies.quantile(0.5),
            p99_ms: latencies.quantile(0.01),
            p999_ms: latencies.quantile(0.001),
            p99_ms_by_seed,
            least_share: shares.iter().copied().fold(f64::INFINITY, f64::min),
            worst_share: shares.iter().copied().fold(0.0, f64::max),
            mean_draws: (picks > 0).then(|| draws as f64 / picks as f64),
            healed_after_s: healed.get(healed.len() / 2).copied(),
            tail: latencies.tail(),
            course: runs.first().and_then(|run| Course::of(run, scenario)),
        }
    }
}

impl Course {
    fn of(run: &Measures, scenario: &Scenario) -> Option<Self> {
        let samples = run.states.as_ref()?;
        let servers = scenario.servers().count();
        let seconds = (scenario.duration.as_secs() as usize).min(run.sent.len());
        let shares = (0..seconds).map(|second| {
            (0..servers)
                .map(|server| run.share(second, server))
                .collect()
        });
        let mut states: Vec<Vec<(f64, String)>> = vec![Vec::new(); servers];
        for (at, members) in samples {
            let seconds = *at as f64 / SECOND as f64;
            for (server, course) in states.iter_mut().enumerate() {
                let state = members.iter().find(|(member, _)| *member == server);
                let state = state.map_or("absent", |(_, state)| state);
                if course.last().is_none_or(|(_, last)| last != state) {
                    course.push((seconds, state.to_owned()));
                }
            }
        }
        Some(Self {
            shares: shares.collect(),
            states,
        })
    }
}

/// Of all requests, the failed ones at the end.
pub(crate) struct Latencies {
    answered: Vec<u32>,
    pub(crate) count: usize,
    timeout: f64,
}

impl Latencies {
    /// A request that failed counts as `timeout` milliseconds.
    pub(crate) fn of<'a>(requests: impl IntoIterator<Item = &'a Request>, timeout: f64) -> Self {
        let mut count = 0;
        let counted = requests.into_iter().inspect(|_| count += 1);
        let mut answered: Vec<_> = counted.filter_map(|request| request.micros).collect();
        answered.sort_unstable();
        Self {
            answered,
            count,
            timeout,
        }
    }

    pub(crate) fn failed(&self) -> usize {
        self.count - self.answered.len()
    }

    pub(crate) fn failed_share(&self) -> f64 {
        self.failed() as f64 / (self.count as f64).max(1.0)
    }

    /// Milliseconds that this share of the requests exceeds.
    pub(crate) fn quantile(&self, slower: f64) -> f64 {
        let rank = (self.count as f64 * (1.0 - slower)) as usize;
        self.answered
            .get(rank)
            .map_or(self.timeout, |&micros| f64::from(micros) / 1e3)
    }

    fn tail(&self) -> Vec<(f64, f64)> {
        let shares = (0..=80).map(|step| 10_f64.powf(-f64::from(step) / 20.0));
        let enough = shares.filter(|share| share * self.count as f64 >= 10.0);
        enough.map(|share| (share, self.quantile(share))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_are_the_slowest_requests() {
        let latencies = Latencies {
            answered: (1..=98).map(|n| n * 1000).collect(),
            count: 100,
            timeout: 500.0,
        };
        assert_eq!(latencies.quantile(0.5), 51.0);
        assert_eq!(latencies.quantile(0.03), 98.0);
        assert_eq!(latencies.quantile(0.01), 500.0);
        assert_eq!(latencies.failed(), 2);
    }
}
