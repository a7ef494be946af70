//! The one probe that may be in flight.
//!
//! An ordinary request that is sent to a member that is out of play, or suspected, and whose end decides about it. A token
//! ties a verdict to its probe: one that comes after the probe was given up, or from a pick made before, is nobody's.

use std::num::NonZeroU64;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Nanoseconds after which a probe may have failed for its silence, at the least.
const LEAST_PATIENCE: u64 = 1_000_000_000;
/// The same in mean latencies of the fleet.
const PATIENCE: f32 = 8.0;
/// The low bits of a token tell probes begun in the same microsecond apart.
const SERIAL_BITS: u32 = 10;

/// Names one probe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Token(NonZeroU64);

/// How a probe ended.
#[derive(Clone, Copy, Debug)]
pub(super) enum Probed {
    /// Answered well after so many nanoseconds.
    Success(u64),
    /// Answered badly.
    Failure,
    /// Not answered.
    Unanswered,
    /// Not answered, by a caller that went away after so many nanoseconds, too early to tell.
    Silent(u64),
}

#[derive(Debug, Default)]
pub(super) struct Probe {
    /// The token of the probe in flight; zero: none is.
    token: AtomicU64,
    serial: AtomicU64,
    /// The connection generation that it probes.
    generation: AtomicU64,
    /// Nanoseconds after which its answer began; zero: it has not.
    answered: AtomicU64,
}

impl Probe {
    /// Begins a probe, unless one is in flight.
    pub(super) fn begin(&self, generation: u64, now: u64) -> Option<Token> {
        if self.token.load(Relaxed) != 0 {
            return None;
        }
        let serial = self.serial.fetch_add(1, Relaxed) & ((1 << SERIAL_BITS) - 1);
        // A probe of the first microsecond has a token, too.
        let token = NonZeroU64::new((now >> SERIAL_BITS).max(1) << SERIAL_BITS | serial)?;
        let begun = self
            .token
            .compare_exchange(0, token.get(), Relaxed, Relaxed);
        begun.ok()?;
        self.generation.store(generation, Relaxed);
        self.answered.store(0, Relaxed);
        Some(Token(token))
    }

    /// Whose turn it is: each probe, however it ends, gives it to the next one.
    pub(super) fn turn(&self) -> u64 {
        self.serial.load(Relaxed)
    }

    /// Ends a probe. Returns whether it was still the one in flight.
    pub(super) fn end(&self, token: Token) -> bool {
        let ended = self
            .token
            .compare_exchange(token.0.get(), 0, Relaxed, Relaxed);
        ended.is_ok()
    }

    /// Ends the probe of a connection that has come or gone out of play meanwhile: what it says is nobody's.
    pub(super) fn forget(&self, generation: u64) {
        let token = NonZeroU64::new(self.token.load(Relaxed));
        if let Some(token) = token.filter(|_| self.generation.load(Relaxed) == generation) {
            self.end(Token(token));
        }
    }

    /// The answer of a probe has begun.
    pub(super) fn answered(&self, token: Token, after: u64) {
        if self.token.load(Relaxed) == token.0.get() {
            self.answered.store(after.max(1), Relaxed);
        }
    }

    /// Gives up a probe that took too long, and tells whom it probed and what is known by now: the beginning of a long
    /// answer is a success. One that `stood` still with us since it began is given up without a word.
    pub(super) fn give_up(
        &self,
        mean: f32,
        now: u64,
        stood: impl FnOnce(u64) -> bool,
    ) -> Option<(u64, Probed)> {
        let token = NonZeroU64::new(self.token.load(Relaxed))?;
        let begun = token.get() >> SERIAL_BITS << SERIAL_BITS;
        let too_long = now.saturating_sub(begun) > patience(mean);
        if !too_long || !self.end(Token(token)) || stood(begun) {
            return None;
        }
        let outcome = match self.answered.load(Relaxed) {
            0 => Probed::Unanswered,
            after => Probed::Success(after),
        };
        Some((self.generation.load(Relaxed), outcome))
    }
}

/// For how long a probe may be silent, in nanoseconds.
pub(super) fn patience(mean: f32) -> u64 {
    LEAST_PATIENCE.max((PATIENCE * mean) as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1_000_000;

    #[test]
    fn there_is_one_at_a_time_and_each_has_its_own_end() {
        let probe = Probe::default();
        let first = probe.begin(1, 0).unwrap();
        assert_eq!(probe.begin(2, 0), None);
        assert!(probe.end(first));
        let second = probe.begin(2, 0).unwrap();
        assert!(!probe.end(first), "a late verdict of an earlier probe");
        assert!(probe.end(second));
    }

    #[test]
    fn a_silent_probe_is_given_up_after_a_second_or_eight_mean_latencies() {
        let probe = Probe::default();
        let token = probe.begin(7, 100 * MS).unwrap();
        assert!(probe.give_up(1e6, 1099 * MS, |_| false).is_none());
        assert!(probe.give_up(200e6, 1500 * MS, |_| false).is_none());
        let given_up = probe.give_up(1e6, 1101 * MS, |_| false);
        assert!(matches!(given_up, Some((7, Probed::Unanswered))));
        assert!(!probe.end(token));
    }

    #[test]
    fn a_probe_that_stood_still_with_us_is_given_up_without_a_word() {
        let probe = Probe::default();
        let token = probe.begin(7, 100 * MS).unwrap();
        assert!(probe.give_up(1e6, 5000 * MS, |since| since > 0).is_none());
        assert!(!probe.end(token), "the next one may begin");
    }

    #[test]
    fn a_probe_whose_answer_goes_on_and_on_has_succeeded() {
        let probe = Probe::default();
        let token = probe.begin(7, 0).unwrap();
        probe.answered(token, 5 * MS);
        let given_up = probe.give_up(1e6, 2000 * MS, |_| false);
        assert!(matches!(given_up, Some((7, Probed::Success(after))) if after == 5 * MS));
    }
}
