//! How many members may be ejected at once.
//!
//! `min(max(1, floor(n * percentage)), n - 1)` of `n` eligible members, ejected ones included. With the default of 50 %:
//!
//! | n | 1 | 2 | 3 | 4 | 5 | 10 |
//! |---|---|---|---|---|---|---|
//! | may be ejected | 0 | 1 | 1 | 2 | 2 | 5 |
//!
//! The last member is never ejected: one that fails half of its requests is better than none. Where more than half of a fleet
//! fails, the cause is seldom the members, and those left would get twice their load.
//!
//! A member that loses its connection while it is out is not eligible, so another one may be ejected instead. If more are out
//! than the cap allows when it is connected again, it is on probation at once.
//!
//! While the cap keeps an outlier in play, the ejected member that was tried longest ago is on probation early, though not before
//! the time of a first ejection: it may be well by now. An outlier that the cap keeps is judged once a second, see [`Cooldown`].

use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

/// Ticks for which a member that the cap keeps is not judged again: a second, or a tick less.
const COOLDOWN_TICKS: u32 = 16;
/// Nanoseconds of a tick. 32 bits of them last eight years.
const TICK: u64 = 62_500_000;

/// Until when an outlier that the cap keeps in play is not judged again.
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

/// The most of `eligible` members that may be ejected at once.
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
    fn one_of_two_may_always_go_and_the_last_never() {
        assert_eq!([2, 3, 10].map(|eligible| cap(eligible, 1)), [1, 1, 1]);
        assert_eq!([1, 2, 10].map(|eligible| cap(eligible, 100)), [0, 1, 9]);
    }
}
