//! Latency of one member, as evidence that fades.
//!
//! A member's latency is a weighted mean of what it answered, in which a sample's weight falls by `1/e` each [`TAU`].
//! It is read shrunk to the fleet's mean: with the weight of [`PRIOR`] samples the member is thought to be ordinary until
//! it shows otherwise. So a newcomer starts at the mean, an idle member drifts back to it, and a noisy one stays near it.
//! Reads change nothing: unlike a peak EWMA that decays when it is looked at, the value does not depend on how often
//! picks compare it.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};

/// Time constant of the decay, in nanoseconds. 1 s forgets slow members at low rates, 10 s is slow on bursts.
pub(super) const TAU: f32 = 5e9;
/// Most evidence kept, in samples, so that a change of latency shows within a few answers even of a busy member.
const MAX_WEIGHT: f32 = 60.0;
/// Nanoseconds in which evidence fades by less than a thousandth: none at all, for members that are asked often.
const NO_TIME: u64 = 5_000_000;
/// Weight of the fleet's mean, in samples.
const PRIOR: f32 = 2.0;

/// Decaying sums of weight and of weighted latency; never locked, and stored without a compare-and-swap: of two samples in
/// the same few nanoseconds one may be lost.
#[derive(Debug, Default)]
pub(super) struct Latency {
    /// Weight in the upper half, weight times nanoseconds in the lower, both `f32`: one word, so that no reader ever
    /// divides one by the other's successor.
    sums: AtomicU64,
    /// When the sums were last brought forward.
    stamp: AtomicU64,
}

impl Latency {
    /// Mean latency at `now` in nanoseconds, shrunk to `mean`.
    pub(super) fn read(&self, now: u64, mean: f32) -> f32 {
        let (weight, sum) = unpack(self.sums.load(Relaxed));
        // Instead of fading the evidence the prior grows: the same quotient, by one division.
        let prior = PRIOR * growth(now.saturating_sub(self.stamp.load(Relaxed)));
        (sum + prior * mean) / (weight + prior)
    }

    /// Adds a sample of `nanos`.
    pub(super) fn record(&self, nanos: f32, now: u64) {
        let stamp = self.stamp.load(Relaxed);
        let decay = decay(now.saturating_sub(stamp));
        let (weight, sum) = unpack(self.sums.load(Relaxed));
        let (weight, sum) = (weight * decay + 1.0, sum * decay + nanos);
        let scale = if weight > MAX_WEIGHT {
            MAX_WEIGHT / weight
        } else {
            1.0
        };
        self.sums.store(pack(weight * scale, sum * scale), Relaxed);
        if now > stamp {
            self.stamp.store(now, Relaxed);
        }
    }

    /// When the last sample was added.
    pub(super) fn stamp(&self) -> u64 {
        self.stamp.load(Relaxed)
    }

    /// Forgets all evidence but one sample, or all.
    pub(super) fn restart(&self, nanos: Option<f32>, now: u64) {
        let sums = nanos.map_or(0, |nanos| pack(1.0, nanos));
        self.sums.store(sums, Relaxed);
        self.stamp.store(now, Relaxed);
    }

    /// Whether there is any evidence.
    pub(super) fn is_known(&self) -> bool {
        self.sums.load(Relaxed) != 0
    }
}

/// What one member takes as a rule: a mean over many more answers than a [`Latency`], that no time fades. It tells a member
/// that was late from one that is slow.
///
/// Answers that waited at the same time are one sample, and count [`MAX_TYPICAL`] times the fleet's mean at most: a pause of any
/// length moves it little.
#[derive(Debug, Default)]
pub(super) struct Typical(AtomicU32);

/// Share that a new sample has in it.
const TYPICAL_SHARE: f32 = 1.0 / 64.0;
const MAX_TYPICAL: f32 = 4.0;

impl Typical {
    /// In nanoseconds; the fleet's mean before any sample.
    pub(super) fn read(&self, mean: f32) -> f32 {
        let typical = f32::from_bits(self.0.load(Relaxed));
        if typical > 0.0 { typical } else { mean }
    }

    pub(super) fn record(&self, nanos: f32, mean: f32) {
        let typical = self.read(mean);
        let next = typical + (nanos.min(MAX_TYPICAL * mean) - typical) * TYPICAL_SHARE;
        self.0.store(next.to_bits(), Relaxed);
    }

    /// Forgets all samples.
    pub(super) fn forget(&self) {
        self.0.store(0, Relaxed);
    }
}

fn pack(weight: f32, sum: f32) -> u64 {
    u64::from(weight.to_bits()) << 32 | u64::from(sum.to_bits())
}

fn unpack(sums: u64) -> (f32, f32) {
    (
        f32::from_bits((sums >> 32) as u32),
        f32::from_bits(sums as u32),
    )
}

/// `exp(-elapsed / TAU)`, within 0.1 % up to one time constant, 1 % up to two, 8 % up to four.
pub(super) fn decay(elapsed: u64) -> f32 {
    1.0 / growth(elapsed)
}

/// The inverse of [`decay`], and finite: after eighty time constants time stands still.
///
/// It stands twice in every pick, where the library's `exp` would cost more than everything else about a candidate: the
/// series of `exp(elapsed / 4 TAU)` to the third power, raised to the fourth.
fn growth(elapsed: u64) -> f32 {
    if elapsed < NO_TIME {
        return 1.0;
    }
    let x = (elapsed as f32 * (0.25 / TAU)).min(20.0);
    let root = 1.0 + x * (1.0 + x * (0.5 + x * (1.0 / 6.0)));
    let square = root * root;
    square * square
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: u64 = 1_000_000_000;
    const MEAN: f32 = 10e6;

    #[test]
    fn decay_follows_the_exponential() {
        assert_eq!(decay(0), 1.0);
        for (tenths, tolerance) in [(1_u64, 1e-3), (10, 1e-3), (20, 1e-2), (40, 8e-2)] {
            let exact = (-(tenths as f32) / 10.0).exp();
            let error = (decay(tenths * S / 2) / exact - 1.0).abs();
            assert!(
                error < tolerance,
                "off by {error} after {tenths} tenths of tau"
            );
        }
        assert!(
            decay(u64::MAX) >= 0.0 && decay(u64::MAX) < 1e-6,
            "no NaN at the end of time"
        );
    }

    #[test]
    fn without_evidence_it_is_the_mean() {
        assert!((Latency::default().read(77 * S, MEAN) / MEAN - 1.0).abs() < 1e-6);
    }

    #[test]
    fn few_samples_are_shrunk_and_many_are_believed() {
        let latency = Latency::default();
        latency.record(100e6, 0);
        assert!(
            (latency.read(0, MEAN) - 40e6).abs() < 1e3,
            "(100 + 2 * 10) / 3"
        );
        for _ in 0..200 {
            latency.record(100e6, 0);
        }
        assert!(latency.read(0, MEAN) > 94e6);
    }

    #[test]
    fn evidence_is_bounded_so_that_change_shows_soon() {
        let latency = Latency::default();
        for _ in 0..100_000 {
            latency.record(1e6, 0);
        }
        for _ in 0..60 {
            latency.record(100e6, 0);
        }
        assert!(
            latency.read(0, MEAN) > 50e6,
            "sixty answers outweigh any history"
        );
    }

    #[test]
    fn idle_drifts_back_to_the_mean() {
        let latency = Latency::default();
        for _ in 0..30 {
            latency.record(100e6, 0);
        }
        assert!((latency.read(60 * S, MEAN) / MEAN - 1.0).abs() < 0.1);
    }

    #[test]
    fn time_that_goes_back_or_stands_still_changes_no_mean() {
        let latency = Latency::default();
        latency.record(20e6, 10 * S);
        let before = latency.read(10 * S, MEAN);
        assert_eq!(latency.read(0, MEAN), before, "a read from the past");
        latency.record(20e6, 5 * S);
        assert!(
            latency.read(10 * S, MEAN) > before,
            "a sample from the past counts"
        );
        assert!(latency.read(u64::MAX, MEAN).is_finite());
    }
}
