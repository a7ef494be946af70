//! Slow start: how a returned member gets back to its full share, and how a new one gets to it.
//!
//! Its share grows linearly from a tenth to the whole. The decision is made once per pick, not per draw: a pick that draws
//! many members would otherwise almost always reach the returning one, and choose it because it is idle. Picks pay nothing
//! for it while no member is in slow start.
//!
//! New members ramp only if `slow_start_new` says so, and only while they are at most half of the eligible weight: the others
//! have to take what the new ones leave. So nothing is ramped at the start, when all members are new.

use crate::fleet::rng::{Rng, unit};

/// The fraction of its share at which a member begins.
const FIRST_SHARE: f64 = 0.1;

/// When the slow start of a member began, and why.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Since {
    /// It returned after an ejection.
    Returned(u64),
    /// It is new.
    Connected(u64),
}

/// Decides which members in slow start one pick may draw.
pub(crate) struct Ramp {
    /// The lengths of slow start in nanoseconds, after an ejection and of new members. `None`: there is none.
    returning: Option<u64>,
    new: Option<u64>,
    now: u64,
    draw: f64,
}

impl Ramp {
    pub(crate) fn draw(
        returning: Option<u64>,
        new: Option<u64>,
        now: u64,
        rng: &mut (impl Rng + ?Sized),
    ) -> Self {
        Self {
            returning,
            new,
            now,
            draw: unit(rng),
        }
    }

    /// Whether the pick may draw a member. `None`: the member is not in slow start.
    pub(crate) fn admits(&self, since: Option<Since>) -> bool {
        let (since, length) = match since {
            None => return true,
            Some(Since::Returned(since)) => (since, self.returning),
            Some(Since::Connected(since)) => (since, self.new),
        };
        length.is_none_or(|length| self.draw < share(since, length, self.now))
    }
}

/// The fraction of its share for a member that returned at a moment, in a slow start of this length.
pub(crate) fn share(since: u64, length: u64, now: u64) -> f64 {
    let elapsed = now.saturating_sub(since) as f64 / length.max(1) as f64;
    (FIRST_SHARE + (1.0 - FIRST_SHARE) * elapsed).min(1.0)
}

/// Whether new members of this weight ramp, in a fleet of this eligible weight.
pub(crate) fn ramps(new: u64, eligible: u64) -> bool {
    new > 0 && new <= eligible / 2
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

    #[test]
    fn new_members_ramp_while_they_are_at_most_half_of_the_weight() {
        assert!(ramps(1, 2) && ramps(5, 10));
        assert!(!ramps(0, 2) && !ramps(6, 10) && !ramps(1, 1));
    }
}
