//! Overload: an instance reports that it has too much to do.
//!
//! Its cost is multiplied by [`FACTOR`] for the time that it names: at most 60 s, or 1 s if it names none. It is not
//! ejected, because an instance that reports overload is alive.

use std::sync::atomic::{
    AtomicU64,
    Ordering::{AcqRel, Relaxed},
};
use std::time::Duration;

use crate::fleet::time::nanos;

/// Factor on the cost of an overloaded member.
const FACTOR: f32 = 20.0;
/// The time if the instance names none.
const DEFAULT: Duration = Duration::from_secs(1);
/// The longest time that an instance can name.
const MAX: Duration = Duration::from_secs(60);
/// The end of the fleet's overload is rounded up to multiples of this, in nanoseconds. So members that report overload all
/// the time seldom write the shared word.
const STEP: u64 = 100_000_000;

/// The end of an overload that begins now. `duration`: as named by the instance.
pub(crate) fn ends_at(duration: Option<Duration>, now: u64) -> u64 {
    now.saturating_add(nanos(duration.unwrap_or(DEFAULT).min(MAX)))
}

/// The overload of one member.
#[derive(Debug, Default)]
pub(crate) struct Overload {
    /// Zero: it was never overloaded.
    until: AtomicU64,
}

impl Overload {
    pub(crate) fn extend(&self, until: u64) {
        self.until.fetch_max(until, Relaxed);
    }

    /// Nanoseconds until its end, while it is overloaded.
    pub(crate) fn remaining(&self, now: u64) -> Option<u64> {
        let remaining = self.until.load(Relaxed).saturating_sub(now);
        (remaining > 0).then_some(remaining)
    }

    /// The factor on the member's cost.
    pub(crate) fn factor(&self, now: u64) -> f32 {
        if now < self.until.load(Relaxed) {
            FACTOR
        } else {
            1.0
        }
    }
}

/// Whether any member may be overloaded. Picks read this one word before they check each member.
#[derive(Debug, Default)]
pub(crate) struct AnyOverload {
    /// Zero: no member is.
    until: AtomicU64,
}

impl AnyOverload {
    pub(crate) fn is_on(&self) -> bool {
        self.until.load(Relaxed) != 0
    }

    pub(crate) fn extend(&self, until: u64) {
        let until = until.div_ceil(STEP).saturating_mul(STEP);
        if self.until.load(Relaxed) < until {
            self.until.fetch_max(until, AcqRel);
        }
    }

    /// Ends it once no member is overloaded any more.
    pub(crate) fn end(&self, now: u64) {
        let until = self.until.load(Relaxed);
        if until != 0 && until <= now {
            // If a longer overload is stored meanwhile, it stays.
            let _ = self.until.compare_exchange(until, 0, Relaxed, Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_overload_lasts_as_long_as_the_instance_says_and_a_minute_at_most() {
        let seconds = |duration| ends_at(duration, 0) / 1_000_000_000;
        assert_eq!(seconds(None), 1);
        assert_eq!(seconds(Some(Duration::from_secs(7))), 7);
        assert_eq!(seconds(Some(Duration::MAX)), 60);
        assert_eq!(ends_at(None, u64::MAX), u64::MAX);
    }

    #[test]
    fn a_shorter_overload_does_not_end_a_longer_one() {
        let overload = Overload::default();
        assert_eq!(overload.factor(0), 1.0);
        overload.extend(200);
        overload.extend(100);
        assert_eq!([150, 200].map(|now| overload.factor(now)), [FACTOR, 1.0]);
    }

    #[test]
    fn the_fleet_is_overloaded_until_its_last_member_is_not() {
        let any = AnyOverload::default();
        any.extend(1);
        any.extend(STEP + 1);
        any.end(STEP);
        assert!(any.is_on());
        any.end(2 * STEP);
        assert!(!any.is_on());
    }
}
