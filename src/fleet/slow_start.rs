//! A returned member's way back to its full share.
//!
//! Its share grows evenly from a tenth to the whole: for each pick a coin is tossed that says whether the member can be
//! drawn by it at all. One toss for each draw would not do: picks that look at many members would meet it nearly always,
//! and take it, having the fewest in flight. What it costs: nothing while nobody is on the way back.

use super::rng::{Rng, unit};
use super::snapshot::Position;

/// The part of its share that a member begins with.
const FIRST_SHARE: f64 = 0.1;

/// A member on its way back, by its position in the list.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ramp {
    pub(super) position: Position,
    /// When it returned.
    pub(super) since: u64,
    /// How long the way is, in nanoseconds.
    pub(super) length: u64,
}

impl Ramp {
    /// The part of its share that it gets.
    fn share(self, now: u64) -> f64 {
        let gone = now.saturating_sub(self.since) as f64 / self.length.max(1) as f64;
        (FIRST_SHARE + (1.0 - FIRST_SHARE) * gone).min(1.0)
    }
}

/// Who of those on their way back can be drawn by one pick.
pub(super) struct Toss<'a> {
    /// In the order of the list.
    ramps: &'a [Ramp],
    now: u64,
    coin: f64,
}

impl<'a> Toss<'a> {
    /// None is needed where nobody is on the way back.
    pub(super) fn new(ramps: &'a [Ramp], now: u64, rng: &mut (impl Rng + ?Sized)) -> Option<Self> {
        let coin = || unit(rng);
        (!ramps.is_empty())
            .then(coin)
            .map(|coin| Self { ramps, now, coin })
    }

    /// Whether a draw of this position is kept.
    pub(super) fn keeps(&self, position: usize) -> bool {
        let place = |ramp: &Ramp| ramp.position.index();
        let ramp = self.ramps.binary_search_by_key(&position, place);
        ramp.ok()
            .is_none_or(|ramp| self.coin < self.ramps[ramp].share(self.now))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_share_grows_from_a_tenth_to_the_whole_and_stays() {
        let ramp = Ramp {
            position: Position::new(0),
            since: 100,
            length: 1000,
        };
        let shares = [0, 100, 600, 1100, u64::MAX].map(|now| ramp.share(now));
        assert_eq!(shares, [0.1, 0.1, 0.55, 1.0, 1.0]);
    }

    #[test]
    fn one_toss_is_for_all_of_them_and_for_nobody_else() {
        let ramps = [(1, 0), (4, 900), (7, 0)].map(|(position, since)| Ramp {
            position: Position::new(position),
            since,
            length: 1000,
        });
        let toss = Toss {
            ramps: &ramps,
            now: 1000,
            coin: 0.5,
        };
        let kept: Vec<_> = (0..9).filter(|&position| toss.keeps(position)).collect();
        assert_eq!(kept, [0, 1, 2, 3, 5, 6, 7, 8]);
    }
}
