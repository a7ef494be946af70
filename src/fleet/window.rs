//! Outcomes of the last ten seconds, from counters that only grow.
//!
//! Two buckets, as long as the window each and cut at the same moments for every member, so that they add up. Of the
//! earlier bucket counts the part that is still within the window, as if its outcomes had come evenly. A success costs a
//! look at the present bucket's number and no write at all.

use std::sync::atomic::{
    AtomicU32, AtomicU64,
    Ordering::{Acquire, Relaxed, Release},
};

/// In nanoseconds. A mean age of five seconds, as everything here that fades.
pub(super) const WINDOW: u64 = 10_000_000_000;
/// Of fewer outcomes a rate says little.
pub(super) const MIN_SAMPLE: f32 = 10.0;

/// What was counted within the window.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Tally {
    pub(super) outcomes: f32,
    pub(super) failures: f32,
}

impl Tally {
    /// The share that failed. What is missing to [`MIN_SAMPLE`] outcomes is taken for successes.
    pub(super) fn rate(self) -> f32 {
        self.failures / self.outcomes.max(MIN_SAMPLE)
    }

    pub(super) fn with(self, other: Self) -> Self {
        Self {
            outcomes: self.outcomes + other.outcomes,
            failures: self.failures + other.failures,
        }
    }

    /// What is left without the outcomes of one. Figures taken a moment apart never leave less than nothing.
    pub(super) fn without(self, one: Self) -> Self {
        Self {
            outcomes: (self.outcomes - one.outcomes).max(0.0),
            failures: (self.failures - one.failures).max(0.0),
        }
    }
}

/// Outcomes and failures ever, 32 bits of each: all that a difference needs.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Totals(u64);

impl Totals {
    pub(super) fn new(outcomes: u64, failures: u64) -> Self {
        Self(outcomes << 32 | failures & u64::from(u32::MAX))
    }

    pub(super) fn since(self, earlier: Self) -> Self {
        let part = |totals: u64, shift| (totals >> shift) as u32;
        // A reading that was taken earlier after all gained nothing.
        let gained = |shift| {
            let gained = part(self.0, shift).wrapping_sub(part(earlier.0, shift));
            if gained > u32::MAX / 2 { 0 } else { gained }
        };
        Self::new(gained(32).into(), gained(0).into())
    }

    fn scaled(self, by: f32) -> Tally {
        Tally {
            outcomes: (self.0 >> 32) as f32 * by,
            failures: self.0 as u32 as f32 * by,
        }
    }
}

/// The largest pause within the window: failures that were one event, by the bucket of the last of them. How many, and no
/// more than fit, in the lower half; in the upper the end of the bucket's number, which comes again after a week.
#[derive(Debug, Default)]
pub(super) struct Pause(AtomicU32);

/// The number of the present bucket, counted from one; zero: none has begun. Apart from the [`Window`], since every success
/// looks at it.
#[derive(Debug, Default)]
pub(super) struct Bucket(AtomicU32);

/// The number of a bucket whose figures are being written: nobody reads them meanwhile.
const TURNING: u32 = u32::MAX;

/// What the two buckets have, as far as it is not in the counters. Threads may cut at once: one of them does it.
#[derive(Debug, Default)]
pub(super) struct Window {
    /// Totals when the present bucket began.
    base: AtomicU64,
    /// What the one before counted.
    previous: AtomicU64,
}

impl Bucket {
    /// Whether that moment is in a later one: then the totals of this moment belong to [`Window::turn`].
    pub(super) fn is_over(&self, now: u64) -> bool {
        Self::number(now) > self.0.load(Relaxed)
    }

    /// When it ends.
    fn end(&self) -> u64 {
        u64::from(self.0.load(Relaxed)).saturating_mul(WINDOW)
    }

    /// The part of what the bucket whose number ends so counted that is still within the window ending at `now`.
    fn part(&self, number: u16, now: u64) -> f32 {
        match (self.0.load(Relaxed) as u16).wrapping_sub(number) {
            // Time that went back is in one that has not begun.
            0 | u16::MAX => 1.0,
            1 => self.left(now),
            _ => 0.0,
        }
    }

    /// The same of the bucket before.
    fn left(&self, now: u64) -> f32 {
        let left = self.end().saturating_sub(now).min(WINDOW);
        left as f32 / WINDOW as f32
    }

    fn number(now: u64) -> u32 {
        let before = u32::try_from(now / WINDOW).unwrap_or(u32::MAX);
        before.saturating_add(1).min(TURNING - 1)
    }
}

impl Window {
    /// Begins the bucket that `now` is in, if it has not begun.
    pub(super) fn turn(&self, bucket: &Bucket, totals: Totals, now: u64) {
        let (present, next) = (bucket.0.load(Relaxed), Bucket::number(now));
        let claim = |from| bucket.0.compare_exchange(from, TURNING, Acquire, Relaxed);
        if next <= present || claim(present).is_err() {
            return;
        }
        // The first bucket of all began with nothing.
        if present > 0 {
            let counted = totals.since(Totals(self.base.swap(totals.0, Relaxed)));
            let adjacent = next - present == 1;
            let previous = if adjacent { counted } else { Totals::default() };
            self.previous.store(previous.0, Relaxed);
        }
        bucket.0.store(next, Release);
    }

    /// Forgets all that was before `now`.
    pub(super) fn restart(&self, bucket: &Bucket, totals: Totals, now: u64) {
        bucket.0.store(Bucket::number(now), Relaxed);
        self.previous.store(0, Relaxed);
        self.base.store(totals.0, Relaxed);
    }

    /// What the window ending at `now` has, where these are the totals.
    pub(super) fn tally(&self, bucket: &Bucket, totals: Totals, now: u64) -> Tally {
        self.turn(bucket, totals, now);
        if bucket.0.load(Acquire) == TURNING {
            return Tally::default();
        }
        let present = totals.since(Totals(self.base.load(Relaxed))).scaled(1.0);
        let earlier = Totals(self.previous.load(Relaxed)).scaled(bucket.left(now));
        Tally {
            outcomes: present.outcomes + earlier.outcomes,
            failures: present.failures + earlier.failures,
        }
    }
}

impl Pause {
    /// One that has so many failures by now. A smaller one than the window still has is none.
    pub(super) fn lasts(&self, bucket: &Bucket, failures: u32, now: u64) {
        let counted = failures.min(u32::from(u16::MAX));
        let last = Bucket::number(now) << 16 | counted;
        // Whoever finds a larger one leaves it.
        let _ = self.0.fetch_update(Relaxed, Relaxed, |largest| {
            let larger = counted as f32 > Self::within(largest, bucket, now);
            larger.then_some(last)
        });
    }

    pub(super) fn tally(&self, bucket: &Bucket, now: u64) -> Tally {
        let failures = Self::within(self.0.load(Relaxed), bucket, now);
        Tally {
            outcomes: failures,
            failures,
        }
    }

    fn within(pause: u32, bucket: &Bucket, now: u64) -> f32 {
        f32::from(pause as u16) * bucket.part((pause >> 16) as u16, now)
    }

    pub(super) fn forget(&self) {
        self.0.store(0, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: u64 = 1_000_000_000;

    #[test]
    fn the_window_slides_over_the_earlier_bucket() {
        let (bucket, window) = Default::default();
        let tally = |outcomes, failures, now| {
            let totals = Totals::new(outcomes, failures);
            Window::tally(&window, &bucket, totals, now)
        };
        assert_eq!(tally(100, 50, 9 * S).outcomes, 100.0);
        assert_eq!(tally(100, 50, 10 * S).failures, 50.0, "all of it");
        assert_eq!(tally(110, 50, 15 * S).outcomes, 60.0, "half of it, and ten");
        assert_eq!(tally(110, 50, 20 * S).outcomes, 10.0);
        assert_eq!(tally(110, 50, 45 * S), Tally::default());
    }

    #[test]
    fn a_bucket_that_nobody_saw_is_not_the_earlier_one() {
        let (bucket, window) = (Bucket::default(), Window::default());
        window.turn(&bucket, Totals::new(0, 0), 5 * S);
        window.turn(&bucket, Totals::new(100, 100), 25 * S);
        let tally = window.tally(&bucket, Totals::new(100, 100), 25 * S);
        assert_eq!(tally, Tally::default());
    }

    #[test]
    fn counters_may_wrap_and_time_may_go_back() {
        let (bucket, window) = (Bucket::default(), Window::default());
        let before = Totals::new(u64::from(u32::MAX), u64::from(u32::MAX));
        window.turn(&bucket, before, 5 * S);
        window.turn(&bucket, before, 35 * S);
        let after = Totals::new(u64::from(u32::MAX) + 3, u64::from(u32::MAX) + 2);
        let tally = window.tally(&bucket, after, 36 * S);
        assert_eq!((tally.outcomes, tally.failures), (3.0, 2.0));
        assert_eq!(window.tally(&bucket, after, 0).outcomes, 3.0);
        assert_eq!(
            window.tally(&bucket, Totals::default(), 36 * S).outcomes,
            1.0
        );
        let torn = Totals::new(u64::from(u32::MAX) - 7, u64::from(u32::MAX) - 7);
        assert_eq!(window.tally(&bucket, torn, 36 * S), Tally::default());
        assert!(window.tally(&bucket, after, u64::MAX).outcomes.is_finite());
    }

    #[test]
    fn the_largest_pause_fades_as_the_window_does() {
        let (bucket, window, pause) = (Bucket::default(), Window::default(), Pause::default());
        let mut failed = 0;
        let mut now_has = |more, now| {
            failed += more;
            let totals = Totals::new(failed, failed);
            let recent = window.tally(&bucket, totals, now);
            (recent.failures, pause.tally(&bucket, now).failures)
        };
        assert_eq!(now_has(0, S), (0.0, 0.0), "there was none");
        pause.lasts(&bucket, 20, 8 * S);
        assert_eq!(now_has(20, 8 * S), (20.0, 20.0));
        pause.lasts(&bucket, 3, 9 * S);
        assert_eq!(now_has(3, 9 * S), (23.0, 20.0), "a smaller one");
        assert_eq!(now_has(0, 15 * S), (11.5, 10.0));
        pause.lasts(&bucket, 11, 15 * S);
        assert_eq!(now_has(11, 15 * S), (22.5, 11.0), "more than are left");
        assert_eq!(now_has(0, 25 * S), (5.5, 5.5));
        assert_eq!(now_has(0, 35 * S), (0.0, 0.0));
        pause.lasts(&bucket, 2, 35 * S);
        assert_eq!(now_has(2, 0), (2.0, 2.0), "time that goes back");
        pause.lasts(&bucket, 100_000, 35 * S);
        assert_eq!(now_has(0, 35 * S).1, 65_535.0, "as many as it can hold");
    }

    #[test]
    fn members_add_up_to_the_fleet() {
        let (a, b, all): (Window, Window, Window) = Default::default();
        let (bucket_a, bucket_b, bucket_all) = Default::default();
        for second in 0..60 {
            a.turn(&bucket_a, Totals::new(second * 10, second), second * S);
            b.turn(&bucket_b, Totals::new(second * 3, second * 3), second * S);
            let own = a.tally(&bucket_a, Totals::new(second * 10, second), second * S);
            let other = b.tally(&bucket_b, Totals::new(second * 3, second * 3), second * S);
            let both = all.tally(
                &bucket_all,
                Totals::new(second * 13, second * 4),
                second * S,
            );
            assert!((both.without(own).failures - other.failures).abs() < 1e-3);
            assert!((both.without(own).outcomes - other.outcomes).abs() < 1e-3);
        }
    }
}
