//! A returned member's way back to its full share.
//!
//! Its sampling weight grows evenly from a tenth to the whole: a draw that falls on it is kept with that probability, and
//! is repeated otherwise. What costs it: nothing while nobody is on the way back.

use super::rng::{Rng, unit};

/// The share of its draws that a member begins with.
const FIRST_SHARE: f64 = 0.1;

/// A member on its way back, by its position in the list.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ramp {
    pub(super) position: u32,
    /// When it returned.
    pub(super) since: u64,
    /// How long the way is, in nanoseconds.
    pub(super) length: u64,
}

impl Ramp {
    /// The share of its draws that it gets.
    fn share(self, now: u64) -> f64 {
        let gone = now.saturating_sub(self.since) as f64 / self.length.max(1) as f64;
        (FIRST_SHARE + (1.0 - FIRST_SHARE) * gone).min(1.0)
    }

    /// Whether a draw of it is kept.
    pub(super) fn keeps(self, now: u64, rng: &mut (impl Rng + ?Sized)) -> bool {
        let share = self.share(now);
        share >= 1.0 || unit(rng) < share
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_share_grows_from_a_tenth_to_the_whole_and_stays() {
        let ramp = Ramp {
            position: 0,
            since: 100,
            length: 1000,
        };
        let shares = [0, 100, 600, 1100, u64::MAX].map(|now| ramp.share(now));
        assert_eq!(shares, [0.1, 0.1, 0.55, 1.0, 1.0]);
    }
}
