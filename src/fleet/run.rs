//! A member's present run of failures: how many in a row, and since when.

use std::sync::atomic::{
    AtomicBool, AtomicU64,
    Ordering::{AcqRel, Acquire, Relaxed, Release},
};

/// Whether there is a run at all: what a success looks at, and the first to be cleared. Apart from the [`Run`], which is
/// among what few requests need.
#[derive(Debug, Default)]
pub(super) struct Failing(AtomicBool);

/// Failures in a row in the upper half, and when the first of them was picked in the lower, in milliseconds: one word, so
/// that nobody ever sees one run's failures with another's age.
#[derive(Debug, Default)]
pub(super) struct Run(AtomicU64);

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
        let first = Failures::new(1, millis(picked_at.min(now)));
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

    /// The same under another owner.
    pub(super) fn copy(&self) -> (Failing, Self) {
        let run = self.get();
        let failing = AtomicBool::new(run.count() > 0);
        (Failing(failing), Self(AtomicU64::new(run.0)))
    }
}

impl Failures {
    fn new(count: u32, since: u32) -> Self {
        Self(u64::from(count) << 32 | u64::from(since))
    }

    pub(super) fn count(self) -> u32 {
        (self.0 >> 32) as u32
    }

    fn and_one_more(self) -> Option<Self> {
        let since = self.0 as u32;
        (self.count() > 0).then(|| Self::new(self.count().saturating_add(1), since))
    }

    /// Its age in milliseconds: since the first request of it was picked. Beyond 49 days it begins anew.
    pub(super) fn age(self, now: u64) -> u32 {
        // Time that goes back is no time.
        (millis(now).wrapping_sub(self.0 as u32) as i32).max(0) as u32
    }
}

fn millis(nanos: u64) -> u32 {
    (nanos / 1_000_000) as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: u64 = 1_000_000_000;

    #[test]
    fn a_run_is_as_old_as_the_first_request_of_it() {
        let (failing, run) = (Failing::default(), Run::default());
        assert_eq!(run.fail(&failing, S, 2 * S).age(3 * S), 2000);
        let second = run.fail(&failing, 0, 3 * S);
        assert_eq!((second.count(), second.age(3 * S)), (2, 2000));
        run.end(&failing);
        assert_eq!(run.get().count(), 0);
        let next = run.fail(&failing, 8 * S, 9 * S);
        assert_eq!((next.count(), next.age(9 * S)), (1, 1000));
        assert_eq!(next.age(0), 0, "time that goes back");
        let (failing, copy) = run.copy();
        assert_eq!(copy.get(), next);
        copy.end(&failing);
        assert_eq!((copy.get().count(), run.get().count()), (0, 1));
    }

    #[test]
    fn a_request_that_was_picked_at_no_time_failed_when_it_ended() {
        let (failing, run) = (Failing::default(), Run::default());
        let untimed = super::super::slot::UNTIMED;
        assert_eq!(run.fail(&failing, untimed, 5 * S).age(5 * S), 0);
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
                let since = after - u64::from(seen.age(after * S)) / 1000;
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
