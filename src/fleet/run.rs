//! A member's present run of failures: how many in a row, and since when.

use std::sync::atomic::{
    AtomicBool, AtomicU64,
    Ordering::{AcqRel, Acquire, Relaxed, Release},
};

/// Whether there is a run at all: what a success looks at, and the first to be cleared. Apart from the [`Run`], which is
/// among what few requests need.
#[derive(Debug, Default)]
pub(super) struct Failing(AtomicBool);

/// Failures in a row in the upper bits, and when the first of them was picked in the lower, in ticks: one word, so
/// that nobody ever sees one run's failures with another's age.
#[derive(Debug, Default)]
pub(super) struct Run(AtomicU64);

/// A tick is this power of two of nanoseconds: 16 microseconds.
const TICK: u32 = 14;
/// Bits of the time, enough for nine years.
const SINCE_BITS: u32 = 44;
const SINCE: u64 = (1 << SINCE_BITS) - 1;
const MAX_COUNT: u32 = (1 << (64 - SINCE_BITS)) - 1;

/// A run at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Failures(u64);

impl Failing {
    pub(super) fn is_so(&self) -> bool {
        self.0.load(Relaxed)
    }
}

impl Run {
    /// A request that was picked then failed. Returns the run with it.
    pub(super) fn fail(&self, failing: &Failing, picked_at: u64, now: u64) -> Failures {
        // A pick that knew no time was not made after its end.
        let first = Failures::new(1, picked_at.min(now) >> TICK);
        let mut run = self.0.load(Relaxed);
        let next = loop {
            let next = Failures(run).and_one_more().unwrap_or(first);
            match self.0.compare_exchange_weak(run, next.0, AcqRel, Relaxed) {
                Ok(_) => break next,
                Err(present) => run = present,
            }
        };
        failing.0.store(true, Release);
        next
    }

    /// The run, if there is one, is over.
    pub(super) fn end(&self, failing: &Failing) {
        // In this order: a failure meanwhile says that there is one after it has become one, and so no run is left that
        // no success would end.
        if failing.is_so() && failing.0.swap(false, AcqRel) {
            self.0.store(0, Release);
        }
    }

    pub(super) fn get(&self) -> Failures {
        Failures(self.0.load(Acquire))
    }
}

impl Failures {
    fn new(count: u32, since: u64) -> Self {
        Self(u64::from(count.min(MAX_COUNT)) << SINCE_BITS | since.min(SINCE))
    }

    pub(super) fn count(self) -> u32 {
        (self.0 >> SINCE_BITS) as u32
    }

    fn and_one_more(self) -> Option<Self> {
        (self.count() > 0).then(|| Self::new(self.count() + 1, self.0 & SINCE))
    }

    /// When the first request of it was picked, in nanoseconds, give or take a tick.
    pub(super) fn since(self) -> u64 {
        (self.0 & SINCE) << TICK
    }

    /// Its age in nanoseconds: since the first request of it was picked.
    pub(super) fn age(self, now: u64) -> u64 {
        now.saturating_sub(self.since())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: u64 = 1_000_000_000;

    #[test]
    fn a_run_is_as_old_as_the_first_request_of_it() {
        let (failing, run) = (Failing::default(), Run::default());
        let about = |age: u64, seconds: u64| age.abs_diff(seconds * S) <= 1 << TICK;
        assert!(about(run.fail(&failing, S, 2 * S).age(3 * S), 2));
        let second = run.fail(&failing, 0, 3 * S);
        assert!(second.count() == 2 && about(second.age(3 * S), 2));
        run.end(&failing);
        assert_eq!(run.get().count(), 0);
        let next = run.fail(&failing, 8 * S, 9 * S);
        assert!(next.count() == 1 && about(next.age(9 * S), 1));
        assert_eq!(next.age(0), 0, "time that goes back");
    }

    #[test]
    fn a_run_of_years_is_as_old_as_it_is() {
        let (failing, run) = (Failing::default(), Run::default());
        let year = 365 * 86_400 * S;
        run.fail(&failing, S, S);
        for time in [year / 12, 5 * year] {
            assert!(run.get().age(S + time).abs_diff(time) <= 1 << TICK);
        }
        for _ in 0..3 {
            run.0.store(!SINCE, Relaxed);
            run.fail(&failing, S, S);
        }
        assert_eq!(run.get().count(), MAX_COUNT, "it saturates");
    }

    #[test]
    fn a_request_that_was_picked_at_no_time_failed_when_it_ended() {
        let (failing, run) = (Failing::default(), Run::default());
        let untimed = super::super::slot::UNTIMED;
        assert!(run.fail(&failing, untimed, 5 * S).age(5 * S) <= 1 << TICK);
    }

    #[test]
    fn no_thread_sees_a_run_with_the_age_of_another() {
        let (failing, run) = (Failing::default(), Run::default());
        let (present, last) = (AtomicU64::new(1), 50_000);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                for second in 1..=last {
                    present.store(second, Release);
                    run.fail(&failing, second * S, second * S);
                    run.fail(&failing, second * S, second * S);
                    run.end(&failing);
                }
            });
            loop {
                let before = present.load(Acquire);
                let seen = run.get();
                let after = present.load(Acquire);
                let since = (seen.since() + (1 << TICK)) / S;
                assert!(
                    seen.count() == 0 || (before..=after).contains(&since),
                    "a run of second {since}, seen between {before} and {after}"
                );
                if before == last {
                    break;
                }
            }
        });
    }

    #[test]
    fn no_run_is_left_that_no_success_ends() {
        let (failing, run) = (Failing::default(), Run::default());
        std::thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| {
                    (0..20_000).for_each(|at| {
                        run.fail(&failing, at, at);
                    })
                });
                scope.spawn(|| (0..20_000).for_each(|_| run.end(&failing)));
            }
        });
        run.end(&failing);
        assert_eq!(run.get().count(), 0);
    }
}
