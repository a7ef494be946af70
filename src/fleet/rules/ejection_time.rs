//! How long an ejection lasts.
//!
//! A first ejection lasts [`base_ejection_time`](crate::OutlierBuilder::base_ejection_time). Each further ejection and each
//! failed trial in a row doubles that, up to [`max_ejection_time`](crate::OutlierBuilder::max_ejection_time). Every ejection
//! is shortened at random by up to a half, so that members ejected together do not return together.
//!
//! A return takes back one doubling, but not the last one. After that, each `base_ejection_time` with `request_volume`
//! successes of the member takes back one more.

use crate::fleet::config::outlier::OutlierConfig;
use crate::fleet::rng::{Rng, unit};
use crate::fleet::time::nanos;

/// How often the time of the next ejection is doubled.
#[derive(Debug, Default)]
pub(crate) struct Multiplier {
    doublings: u32,
    /// When the member returned, and its successes until then.
    returned_at: u64,
    successes: u64,
}

impl Multiplier {
    /// The time of the next ejection in nanoseconds. Doubles the one after it.
    pub(crate) fn next(&mut self, config: &OutlierConfig, rng: &mut (impl Rng + ?Sized)) -> u64 {
        let (base, max) = (config.base_ejection_time(), config.max_ejection_time());
        let doubled = |times: u32| nanos(base).saturating_mul(1 << times.min(63));
        let longest = doubled(self.doublings).min(nanos(max));
        // More doublings have no effect at the longest time.
        if self.doublings == 0 || doubled(self.doublings - 1) < nanos(max) {
            self.doublings += 1;
        }
        (longest as f64 * (0.5 + unit(rng) / 2.0)) as u64
    }

    /// Takes back one doubling when the member returns, but not the last. An ejection by hand adds none.
    pub(crate) fn reduce(&mut self, successes: u64, now: u64) {
        let least = self.doublings.min(1);
        self.doublings = self.doublings.saturating_sub(1).max(least);
        self.returned_at = now;
        self.successes = successes;
    }

    /// Takes back the doublings that the member has worked off since its return.
    pub(crate) fn decay(&mut self, successes: u64, config: &OutlierConfig, now: u64) {
        self.doublings = self.decayed(successes, config, now);
    }

    /// The doublings, less one for each step since the return. A step takes both `base_ejection_time` and `request_volume`
    /// successes.
    pub(crate) fn decayed(&self, successes: u64, config: &OutlierConfig, now: u64) -> u32 {
        let base = nanos(config.base_ejection_time()).max(1);
        let by_time = now.saturating_sub(self.returned_at) / base;
        let answers = successes.saturating_sub(self.successes);
        let by_answers = answers / u64::from(config.request_volume());
        let steps = u32::try_from(by_time.min(by_answers)).unwrap_or(u32::MAX);
        self.doublings.saturating_sub(steps)
    }

    pub(crate) fn doublings(&self) -> u32 {
        self.doublings
    }

    pub(crate) fn forget(&mut self) {
        self.doublings = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::{SeedableRng, rngs::SmallRng};

    const S: u64 = 1_000_000_000;

    fn rng() -> SmallRng {
        SmallRng::seed_from_u64(3)
    }

    #[test]
    fn the_time_doubles_to_its_ceiling_and_is_shortened_by_up_to_half() {
        let config = OutlierConfig::default();
        let (mut rng, mut multiplier) = (rng(), Multiplier::default());
        for longest in [10, 20, 40, 60, 60, 60] {
            let time = multiplier.next(&config, &mut rng);
            assert!(time >= longest * S / 2 && time <= longest * S, "{time}");
        }
        assert_eq!(multiplier.doublings(), 4, "enough for 60 s");
    }

    #[test]
    fn the_jitter_fills_its_range() {
        let config = OutlierConfig::default();
        let mut rng = rng();
        let mut first = || Multiplier::default().next(&config, &mut rng);
        let times: Vec<u64> = (0..1000).map(|_| first()).collect();
        let (least, most) = (times.iter().min().unwrap(), times.iter().max().unwrap());
        assert!(*least >= 5 * S && *least < 5 * S + S / 20);
        assert!(*most <= 10 * S && *most > 10 * S - S / 20);
    }

    #[test]
    fn the_multiplier_falls_only_with_both_time_and_successes() {
        let config = OutlierConfig::default();
        let again = |successes, seconds| {
            let (mut rng, mut multiplier) = (rng(), Multiplier::default());
            for _ in 0..4 {
                multiplier.next(&config, &mut rng);
            }
            multiplier.reduce(0, 0);
            multiplier.decay(successes, &config, seconds * S);
            multiplier.next(&config, &mut rng);
            multiplier.doublings()
        };
        assert_eq!(again(0, 0), 4, "three after its return, and this one");
        assert_eq!(again(0, 3600), 4, "an idle hour is no evidence");
        assert_eq!(again(1_000_000, 5), 4, "nor are many answers at once");
        assert_eq!(again(20, 3600), 2);
        assert_eq!(again(1_000_000, 3600), 1, "as if it were the first");
    }

    #[test]
    fn the_last_doubling_is_kept_at_a_return() {
        let config = OutlierConfig::default();
        let mut multiplier = Multiplier::default();
        multiplier.reduce(0, 0);
        assert_eq!(multiplier.doublings(), 0, "ejected by hand alone");
        multiplier.next(&config, &mut rng());
        multiplier.reduce(0, 0);
        assert_eq!(multiplier.doublings(), 1);
    }
}
