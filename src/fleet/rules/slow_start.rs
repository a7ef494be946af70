//! Slow start: how a returned member gets back to its full share.
//!
//! Its share grows linearly from a tenth to the whole. The decision is made once per pick, not per draw: a pick that draws
//! many members would otherwise almost always reach the returning one, and choose it because it is idle. Picks pay nothing
//! for it while no member is returning.

use crate::fleet::rng::{Rng, unit};

/// The fraction of its share at which a member begins.
const FIRST_SHARE: f64 = 0.1;

/// Decides which members in slow start one pick may draw.
pub(crate) struct Ramp {
    /// The length of slow start in nanoseconds.
    length: u64,
    now: u64,
    draw: f64,
}

impl Ramp {
    pub(crate) fn draw(length: u64, now: u64, rng: &mut (impl Rng + ?Sized)) -> Self {
        Self {
            length,
            now,
            draw: unit(rng),
        }
    }

    /// Whether the pick may draw a member that returned at that moment. `None`: the member is not in slow start.
    pub(crate) fn admits(&self, returned_at: Option<u64>) -> bool {
        returned_at.is_none_or(|since| self.draw < share(since, self.length, self.now))
    }
}

/// The fraction of its share for a member that returned at a moment, in a slow start of this length.
pub(crate) fn share(since: u64, length: u64, now: u64) -> f64 {
    let elapsed = now.saturating_sub(since) as f64 / length.max(1) as f64;
    (FIRST_SHARE + (1.0 - FIRST_SHARE) * elapsed).min(1.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_share_grows_from_a_tenth_to_the_whole_and_stays() {
        assert_eq!(
            [0, 100, 600, 1100, u64::MAX].map(|now| share(100, 1000, now)),
            [0.1, 0.1, 0.55, 1.0, 1.0]
        );
    }
}
