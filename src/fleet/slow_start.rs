//! A returned member's way back to its full share.
//!
//! Its share grows evenly from a tenth to the whole. Whether a pick may draw it is decided once per pick, not per draw: a pick
//! that draws many members would otherwise almost always reach the returning one, and choose it because it is idle. Costs
//! nothing while nobody is returning.

use super::member::Record;
use super::rng::{Rng, unit};

/// The part of its share that a member begins with.
const FIRST_SHARE: f64 = 0.1;

/// Which members in slow start one pick may draw.
pub(super) struct Ramp {
    /// How long slow start is, in nanoseconds.
    length: u64,
    now: u64,
    draw: f64,
}

impl Ramp {
    pub(super) fn draw(length: u64, now: u64, rng: &mut (impl Rng + ?Sized)) -> Self {
        Self {
            length,
            now,
            draw: unit(rng),
        }
    }

    /// Whether a draw of this member counts.
    pub(super) fn admits(&self, member: &Record) -> bool {
        let admits = |since| self.draw < self.share(since);
        member.stats.returned_at().is_none_or(admits)
    }

    /// The part of its share that a member gets that returned then.
    fn share(&self, since: u64) -> f64 {
        let gone = self.now.saturating_sub(since) as f64 / self.length.max(1) as f64;
        (FIRST_SHARE + (1.0 - FIRST_SHARE) * gone).min(1.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_share_grows_from_a_tenth_to_the_whole_and_stays() {
        let share = |now| {
            let ramp = Ramp {
                length: 1000,
                now,
                draw: 0.5,
            };
            ramp.share(100)
        };
        assert_eq!(
            [0, 100, 600, 1100, u64::MAX].map(share),
            [0.1, 0.1, 0.55, 1.0, 1.0]
        );
    }
}
