//! How many members may be ejected at once.
//!
//! `min(max(1, floor(n * percentage)), n - 1)` of `n` eligible members, ejected ones included. With the default of 50 %:
//!
//! | n | 1 | 2 | 3 | 4 | 5 | 10 |
//! |---|---|---|---|---|---|---|
//! | may be ejected | 0 | 1 | 1 | 2 | 2 | 5 |
//!
//! The last member is never ejected: one that fails half of its requests is better than none. If more than half of a fleet
//! fails, the members are seldom the cause, and those left would get twice their load.
//!
//! A member that is out (ejected or on probation) and loses its connection is not eligible, so another one may be ejected
//! instead. If more are out than the cap allows when it connects again, it is put on probation at once.
//!
//! If the balancer knows its zone, the same cap applies to each [zone](super::zone) of two or more eligible members.
//!
//! When the cap keeps an outlier in play, an ejected member is put on probation early, because it may have recovered: the
//! one that was ejected or failed a trial longest ago, and at least `base_ejection_time` ago. An outlier whose ejection was
//! withheld is judged only once a second; see [`Cooldown`].

use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

/// Ticks during which a member whose ejection was withheld is not judged again: a second, or up to a tick less.
const COOLDOWN_TICKS: u32 = 16;
/// Length of a tick in nanoseconds. 32 bits of ticks last eight years.
const TICK: u64 = 62_500_000;

/// A pause in judging an outlier whose ejection was withheld.
#[derive(Debug, Default)]
pub(crate) struct Cooldown {
    /// In ticks.
    until: AtomicU32,
}

impl Cooldown {
    pub(crate) fn begin(&self, now: u64) {
        let until = tick(now).saturating_add(COOLDOWN_TICKS);
        self.until.store(until, Relaxed);
    }

    pub(crate) fn end(&self) {
        self.until.store(0, Relaxed);
    }

    pub(crate) fn is_on(&self, now: u64) -> bool {
        tick(now) < self.until.load(Relaxed)
    }
}

fn tick(now: u64) -> u32 {
    u32::try_from(now / TICK).unwrap_or(u32::MAX)
}

/// How many of `eligible` members may be ejected at once.
pub(crate) fn cap(eligible: usize, percentage: u32) -> usize {
    let share = eligible.saturating_mul(percentage as usize) / 100;
    share.max(1).min(eligible.saturating_sub(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cap_of_small_fleets() {
        let caps = [0, 1, 2, 3, 4, 5, 10, 1000].map(|eligible| cap(eligible, 50));
        assert_eq!(caps, [0, 0, 1, 1, 2, 2, 5, 500]);
    }

    #[test]
    fn one_of_two_may_be_ejected_and_the_last_never() {
        assert_eq!([2, 3, 10].map(|eligible| cap(eligible, 1)), [1, 1, 1]);
        assert_eq!([1, 2, 10].map(|eligible| cap(eligible, 100)), [0, 1, 9]);
    }
}
