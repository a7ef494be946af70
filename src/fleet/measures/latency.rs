//! The latency of one member: a decaying mean, shrunk towards the fleet's mean.
//!
//! A member's latency is a weighted mean of its samples, in which the weight of a sample falls to `1/e` in each [`TAU`]. A
//! read adds the fleet's mean with the weight of [`PRIOR`] samples: a member counts as ordinary until its own samples show
//! otherwise. So a newcomer starts at the mean, an idle member drifts back to it, and a noisy one stays near it. Reads
//! change nothing. Unlike a peak EWMA that decays when it is read, the value does not depend on how often picks compare it.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};

/// The cost of a failure in mean latencies of the fleet, however long it took.
pub(crate) const FAILURE_COST: f32 = 20.0;
/// The largest sample, in mean latencies of the fleet. Without it, one answer that waited out a pause of the instance or of
/// the machine would move the fleet's mean away from all members. At 15, one such answer among 30 ordinary ones leaves its
/// member within the band of ordinary latencies; two do not.
const MAX_SAMPLE_X_MEAN: f32 = 15.0;
/// The smallest sample, in nanoseconds. Below it, the clock and the pick itself make the difference.
const MIN_SAMPLE_NANOS: f32 = 1_000.0;

/// The sample for an answer after `nanos`. `mean`: the fleet's mean latency; zero if unknown.
pub(crate) fn sample(nanos: u64, mean: f32) -> f32 {
    let sample = (nanos as f32).max(MIN_SAMPLE_NANOS);
    if mean > 0.0 {
        sample.min((MAX_SAMPLE_X_MEAN * mean).max(MIN_SAMPLE_NANOS))
    } else {
        sample
    }
}

/// The largest sample of a trial, in mean latencies of the fleet. A trial that is not slower than this leaves no trace of
/// earlier latencies.
const MAX_TRIAL_X_MEAN: f32 = 3.0;

/// The sample for a successful trial. It replaces all earlier ones, with weight 1.
pub(crate) fn trial_sample(nanos: u64, mean: f32) -> f32 {
    (nanos as f32).min(MAX_TRIAL_X_MEAN * mean)
}

/// Time constant of the decay, in nanoseconds. One second would forget slow members at low request rates; ten seconds would
/// follow bursts too slowly.
pub(crate) const TAU: f32 = 5e9;
/// The largest total weight, in samples, so that a change of latency shows within a few answers even for a busy member.
const MAX_WEIGHT: f32 = 30.0;
/// Elapsed nanoseconds below which no decay is computed: it would be less than a thousandth. Spares the work for busy
/// members.
const NO_DECAY: u64 = 5_000_000;
/// The weight of the fleet's mean, in samples.
const PRIOR: f32 = 2.0;

/// Decaying sums of weight and weighted latency. Updates take no lock and use no compare-and-swap, so of two samples within
/// a few nanoseconds one may be lost.
#[derive(Debug, Default)]
pub(crate) struct Latency {
    /// Weight in the upper half, weight times nanoseconds in the lower, both `f32`. One word, so that a reader never
    /// combines the sums of two updates.
    sums: AtomicU64,
    /// When the sums were last updated.
    stamp: AtomicU64,
}

impl Latency {
    /// The mean latency at `now` in nanoseconds, shrunk towards `mean`.
    pub(crate) fn read(&self, now: u64, mean: f32) -> f32 {
        let (weight, sum) = unpack(self.sums.load(Relaxed));
        // Growing the prior instead of decaying the evidence gives the same quotient with a single division.
        let prior = PRIOR * growth(now.saturating_sub(self.stamp.load(Relaxed)));
        (sum + prior * mean) / (weight + prior)
    }

    /// Adds a sample of `nanos`.
    pub(crate) fn record(&self, nanos: f32, now: u64) {
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
    pub(crate) fn stamp(&self) -> u64 {
        self.stamp.load(Relaxed)
    }

    /// Replaces all evidence by one sample, or by none.
    pub(crate) fn restart(&self, nanos: Option<f32>, now: u64) {
        let sums = nanos.map_or(0, |nanos| pack(1.0, nanos));
        self.sums.store(sums, Relaxed);
        self.stamp.store(now, Relaxed);
    }

    /// Whether there is any evidence.
    pub(crate) fn is_known(&self) -> bool {
        self.sums.load(Relaxed) != 0
    }
}

/// The typical latency of one member: a mean over many more answers than a [`Latency`], without decay over time. It
/// distinguishes a member that was late once from one that is slow.
///
/// Answers that waited at the same time are one sample, of at most [`MAX_TYPICAL`] times the fleet's mean. So a pause of any
/// length moves the mean little.
#[derive(Debug, Default)]
pub(crate) struct Typical(AtomicU32);

/// The share of a new sample in the mean.
const TYPICAL_SHARE: f32 = 1.0 / 64.0;
/// The largest sample, in mean latencies of the fleet.
const MAX_TYPICAL: f32 = 4.0;

impl Typical {
    /// The mean in nanoseconds; before any sample the fleet's mean.
    pub(crate) fn read(&self, mean: f32) -> f32 {
        let typical = f32::from_bits(self.0.load(Relaxed));
        if typical > 0.0 { typical } else { mean }
    }

    pub(crate) fn record(&self, nanos: f32, mean: f32) {
        let typical = self.read(mean);
        let next = typical + (nanos.min(MAX_TYPICAL * mean) - typical) * TYPICAL_SHARE;
        self.0.store(next.to_bits(), Relaxed);
    }

    /// Forgets all samples.
    pub(crate) fn forget(&self) {
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
pub(crate) fn decay(elapsed: u64) -> f32 {
    1.0 / growth(elapsed)
}

/// The inverse of [`decay`]. Constant after 80 time constants, so that it stays finite.
///
/// Every pick computes it twice, and the library's `exp` would cost more than everything else about a candidate. This is the
/// series of `exp(elapsed / 4 TAU)` up to the third power, raised to the fourth.
fn growth(elapsed: u64) -> f32 {
    if elapsed < NO_DECAY {
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
            "finite and small at the largest time"
        );
    }

    #[test]
    fn a_member_without_samples_is_at_the_mean() {
        assert!((Latency::default().read(77 * S, MEAN) / MEAN - 1.0).abs() < 1e-6);
    }

    #[test]
    fn many_samples_outweigh_the_mean_and_few_do_not() {
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
    fn a_change_shows_within_thirty_answers() {
        let latency = Latency::default();
        for _ in 0..100_000 {
            latency.record(1e6, 0);
        }
        for _ in 0..30 {
            latency.record(100e6, 0);
        }
        assert!(
            latency.read(0, MEAN) > 50e6,
            "thirty answers outweigh any history"
        );
    }

    #[test]
    fn an_idle_member_drifts_back_to_the_mean() {
        let latency = Latency::default();
        for _ in 0..30 {
            latency.record(100e6, 0);
        }
        assert!((latency.read(60 * S, MEAN) / MEAN - 1.0).abs() < 0.1);
    }

    #[test]
    fn a_clock_that_goes_back_changes_no_mean() {
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
