//! The failures of one member: in a row, and within a window of ten seconds.
//!
//! While a member does not fail, a success reads one word, the [`Hint`], and writes nothing. Failures are rare, so their
//! record is a plain struct behind the member's mutex.
//!
//! The window consists of two buckets of ten seconds. They begin at the same moments for all members, so that members can be
//! added up. The earlier bucket counts in proportion to the part that is still within the window, as if its outcomes were
//! spread evenly.
//!
//! Callers that wait together give up together, so one pause of the instance may cause any number of failures: a single
//! event. The largest such event of the window is recorded, so that the failure rate can leave it out; see
//! [`unresponsive`](crate::fleet::rules::unresponsive).

use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

/// Length of the window in nanoseconds. Outcomes in it are five seconds old on average, which matches the time constant of
/// the decaying measurements.
pub(crate) const WINDOW: u64 = 10_000_000_000;
/// The number of outcomes below which a rate says little.
pub(crate) const MIN_SAMPLE: f32 = 10.0;

/// Outcomes within the window.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Tally {
    pub(crate) outcomes: f32,
    pub(crate) failures: f32,
}

impl Tally {
    /// The share of the outcomes that failed. With fewer than [`MIN_SAMPLE`] outcomes, the missing ones count as successes.
    pub(crate) fn rate(self) -> f32 {
        self.failures / self.outcomes.max(MIN_SAMPLE)
    }

    pub(crate) fn with(self, other: Self) -> Self {
        Self {
            outcomes: self.outcomes + other.outcomes,
            failures: self.failures + other.failures,
        }
    }

    /// Subtracts the outcomes of one member, down to zero.
    pub(crate) fn without(self, one: Self) -> Self {
        Self {
            outcomes: (self.outcomes - one.outcomes).max(0.0),
            failures: (self.failures - one.failures).max(0.0),
        }
    }
}

/// The word that a success reads: the number of the present bucket, and in the lowest bit whether there is a run of
/// failures. Written under the lock of the [`Failures`].
#[derive(Debug, Default)]
pub(crate) struct Hint(AtomicU32);

const IN_RUN: u32 = 1;

impl Hint {
    /// Whether there is a run of failures.
    pub(crate) fn is_in_run(&self) -> bool {
        self.0.load(Relaxed) & IN_RUN != 0
    }

    /// Whether a success at this moment changes only the count of outcomes.
    pub(crate) fn is_settled(&self, now: u64) -> bool {
        self.0.load(Relaxed) == bucket_at(now) << 1
    }

    fn bucket(&self) -> u32 {
        self.0.load(Relaxed) >> 1
    }

    fn set(&self, bucket: u32, in_run: bool) {
        self.0.store(bucket << 1 | u32::from(in_run), Relaxed);
    }
}

/// The number of the bucket at a moment, counted from one.
fn bucket_at(now: u64) -> u32 {
    let before = u32::try_from(now / WINDOW).unwrap_or(u32::MAX);
    before.min(u32::MAX / 2 - 1) + 1
}

/// Failures in a row.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Run {
    pub(crate) failures: u32,
    /// When its first request was picked.
    pub(crate) since: u64,
}

impl Run {
    /// Nanoseconds since its first request was picked.
    pub(crate) fn age(self, now: u64) -> u64 {
        now.saturating_sub(self.since)
    }
}

/// The largest run that was a single event: its failures, and the low bits of the bucket number of its last failure.
#[derive(Clone, Copy, Debug, Default)]
struct Pause {
    failures: u16,
    bucket: u16,
}

/// The failure record of a member.
#[derive(Debug, Default)]
pub(crate) struct Failures {
    ever: u64,
    /// When the last failed request ended.
    failed_at: u64,
    /// The failures in the present run.
    in_row: u32,
    /// The largest pause of the window.
    pause: Pause,
    /// When the first request of the run was picked.
    since: u64,
    /// Totals of outcomes and failures when the present bucket began. 32 bits are enough, since only differences are used.
    base: [u32; 2],
    /// Outcomes and failures of the previous bucket.
    previous: [u32; 2],
}

impl Failures {
    /// All failures of the member so far.
    pub(crate) fn ever(&self) -> u64 {
        self.ever
    }

    pub(crate) fn failed_at(&self) -> u64 {
        self.failed_at
    }

    pub(crate) fn run(&self) -> Run {
        Run {
            failures: self.in_row,
            since: self.since,
        }
    }

    /// Records a success. `outcomes`: all outcomes so far, including this one.
    pub(crate) fn succeed(&mut self, hint: &Hint, outcomes: u64, now: u64) {
        self.turn(hint, outcomes.wrapping_sub(1), now);
        self.end_run(hint);
    }

    /// Records the failure of a request picked at `picked_at`. Returns the run including it.
    pub(crate) fn fail(&mut self, hint: &Hint, picked_at: u64, outcomes: u64, now: u64) -> Run {
        self.turn(hint, outcomes.wrapping_sub(1), now);
        self.ever += 1;
        self.failed_at = now;
        if self.in_row == 0 {
            // The timestamp of a pick that read no clock is far in the future.
            self.since = picked_at.min(now);
        }
        self.in_row = self.in_row.saturating_add(1);
        hint.set(hint.bucket(), true);
        self.run()
    }

    /// Records that the present run is a single event, if it is the largest one in the window.
    pub(crate) fn note_pause(&mut self, hint: &Hint, now: u64) {
        if self.in_row as f32 > self.pause(hint, now).failures {
            self.pause = Pause {
                failures: u16::try_from(self.in_row).unwrap_or(u16::MAX),
                bucket: hint.bucket() as u16,
            };
        }
    }

    /// The outcomes of the largest pause within the window that ends now.
    pub(crate) fn pause(&self, hint: &Hint, now: u64) -> Tally {
        let part = match (hint.bucket() as u16).wrapping_sub(self.pause.bucket) {
            0 => 1.0,
            1 => left(hint, now),
            _ => 0.0,
        };
        let failures = f32::from(self.pause.failures) * part;
        Tally {
            outcomes: failures,
            failures,
        }
    }

    /// Ends the run.
    pub(crate) fn end_run(&mut self, hint: &Hint) {
        self.in_row = 0;
        hint.set(hint.bucket(), false);
    }

    /// Empties the window and ends the run.
    pub(crate) fn restart(&mut self, hint: &Hint, outcomes: u64, now: u64) {
        self.in_row = 0;
        self.pause = Pause::default();
        self.previous = [0; 2];
        self.base = self.totals(outcomes);
        hint.set(bucket_at(now), false);
    }

    /// The outcomes within the window that ends now.
    pub(crate) fn tally(&mut self, hint: &Hint, outcomes: u64, now: u64) -> Tally {
        self.turn(hint, outcomes, now);
        let left = left(hint, now);
        let present = gained(self.totals(outcomes), self.base);
        let count = |kind: usize| present[kind] as f32 + self.previous[kind] as f32 * left;
        Tally {
            outcomes: count(0),
            failures: count(1),
        }
    }

    fn totals(&self, outcomes: u64) -> [u32; 2] {
        [outcomes as u32, self.ever as u32]
    }

    /// Begins the bucket of this moment, unless it has begun. `outcomes`: all outcomes before this moment.
    fn turn(&mut self, hint: &Hint, outcomes: u64, now: u64) {
        let (present, next) = (hint.bucket(), bucket_at(now));
        if next <= present {
            return;
        }
        // The first bucket begins with totals of zero.
        if present > 0 {
            let totals = self.totals(outcomes);
            let adjacent = next - present == 1;
            self.previous = if adjacent {
                gained(totals, self.base)
            } else {
                [0; 2]
            };
            self.base = totals;
        }
        hint.set(next, self.in_row > 0);
    }
}

/// The part of the previous bucket that is within the window ending now, from 0 to 1.
fn left(hint: &Hint, now: u64) -> f32 {
    let end = u64::from(hint.bucket()).saturating_mul(WINDOW);
    end.saturating_sub(now).min(WINDOW) as f32 / WINDOW as f32
}

/// The increase of two totals since earlier ones. A total that turns out to be older has not increased.
fn gained(totals: [u32; 2], since: [u32; 2]) -> [u32; 2] {
    std::array::from_fn(|kind| {
        let gained = totals[kind].wrapping_sub(since[kind]);
        if gained > u32::MAX / 2 { 0 } else { gained }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: u64 = 1_000_000_000;

    /// A member's record, with its outcomes.
    #[derive(Default)]
    struct Member {
        hint: Hint,
        failures: Failures,
        outcomes: u64,
    }

    impl Member {
        fn succeed(&mut self, requests: u64, now: u64) {
            for _ in 0..requests {
                self.outcomes += 1;
                self.failures.succeed(&self.hint, self.outcomes, now);
            }
        }

        fn fail(&mut self, requests: u64, now: u64) {
            for _ in 0..requests {
                self.outcomes += 1;
                self.failures.fail(&self.hint, now, self.outcomes, now);
            }
        }

        fn tally(&mut self, now: u64) -> (f32, f32) {
            let tally = self.failures.tally(&self.hint, self.outcomes, now);
            (tally.outcomes, tally.failures)
        }
    }

    #[test]
    fn a_run_is_as_old_as_the_pick_of_its_first_request() {
        let mut member = Member::default();
        let mut fail = |picked_at, now| {
            member.outcomes += 1;
            let Member {
                hint,
                failures,
                outcomes,
            } = &mut member;
            failures.fail(hint, picked_at, *outcomes, now)
        };
        assert_eq!(fail(S, 2 * S).age(3 * S), 2 * S);
        let second = fail(0, 3 * S);
        assert_eq!((second.failures, second.age(3 * S)), (2, 2 * S));
        assert_eq!(second.age(0), 0, "a clock that goes back");
        assert!(member.hint.is_in_run());
        member.succeed(1, 3 * S);
        assert_eq!(member.failures.run().failures, 0);
        assert!(!member.hint.is_in_run() && member.hint.is_settled(3 * S));
        let next = member.failures.fail(&member.hint, u64::MAX, 4, 9 * S);
        assert_eq!(
            (next.failures, next.age(9 * S)),
            (1, 0),
            "a pick without a timestamp"
        );
    }

    #[test]
    fn a_success_is_settled_only_in_the_present_bucket_of_a_member_that_does_not_fail() {
        let mut member = Member::default();
        assert!(!member.hint.is_settled(0), "no bucket has begun");
        member.succeed(1, 9 * S);
        assert!(member.hint.is_settled(9 * S));
        assert!(!member.hint.is_settled(10 * S), "the next bucket");
        member.fail(1, 9 * S);
        assert!(!member.hint.is_settled(9 * S), "a run to end");
    }

    #[test]
    fn the_window_slides_over_the_earlier_bucket() {
        let mut member = Member::default();
        member.succeed(50, 0);
        member.fail(50, 9 * S);
        assert_eq!(member.tally(9 * S), (100.0, 50.0));
        assert_eq!(member.tally(10 * S), (100.0, 50.0), "all of it");
        member.succeed(10, 15 * S);
        assert_eq!(member.tally(15 * S).0, 60.0, "half of it, and ten");
        assert_eq!(member.tally(20 * S).0, 10.0);
        assert_eq!(member.tally(45 * S), (0.0, 0.0));
    }

    #[test]
    fn outcomes_two_buckets_ago_are_outside_the_window() {
        let mut member = Member::default();
        member.fail(100, 5 * S);
        assert_eq!(member.tally(25 * S), (0.0, 0.0));
    }

    #[test]
    fn the_largest_pause_leaves_the_window_with_its_failures() {
        let mut member = Member::default();
        let mut pause = |failures, now| {
            member.fail(failures, now);
            member.failures.note_pause(&member.hint, now);
            let (_, all) = member.tally(now);
            let pause = member.failures.pause(&member.hint, now).failures;
            member.failures.end_run(&member.hint);
            (all, pause)
        };
        assert_eq!(pause(20, 8 * S), (20.0, 20.0));
        assert_eq!(pause(3, 9 * S), (23.0, 20.0), "a smaller one");
        assert_eq!(pause(0, 15 * S), (11.5, 10.0));
        assert_eq!(
            pause(11, 15 * S),
            (22.5, 11.0),
            "larger than the part left of the first"
        );
        assert_eq!(pause(0, 25 * S), (5.5, 5.5));
        assert_eq!(pause(0, 35 * S), (0.0, 0.0));
        assert_eq!(pause(2, 35 * S), (2.0, 2.0));
        assert_eq!(pause(100_000, 36 * S).1, 65_535.0, "limited to 16 bits");
    }

    #[test]
    fn a_restart_forgets_the_window_and_the_run() {
        let mut member = Member::default();
        member.fail(30, 9 * S);
        let Member {
            hint,
            failures,
            outcomes,
        } = &mut member;
        failures.restart(hint, *outcomes, 11 * S);
        assert_eq!(member.tally(11 * S), (0.0, 0.0));
        member.succeed(3, 12 * S);
        assert_eq!(member.tally(12 * S), (3.0, 0.0));
        assert_eq!(member.failures.ever(), 30);
    }

    #[test]
    fn totals_beyond_32_bits_leave_the_window_right() {
        let mut member = Member {
            outcomes: u64::from(u32::MAX) - 49,
            ..Member::default()
        };
        member.failures.ever = member.outcomes / 100;
        let Member {
            hint,
            failures,
            outcomes,
        } = &mut member;
        failures.restart(hint, *outcomes, 49 * S);
        member.succeed(99, 50 * S);
        member.fail(1, 50 * S);
        assert_eq!(member.tally(50 * S), (100.0, 1.0), "beyond 32 bits");
    }

    #[test]
    fn a_clock_may_go_back_or_reach_its_maximum() {
        let mut member = Member::default();
        member.fail(3, 36 * S);
        assert_eq!(member.tally(0).0, 3.0);
        let (outcomes, failures) = member.tally(u64::MAX);
        assert!(outcomes.is_finite() && failures.is_finite());
        member.succeed(1, u64::MAX);
        assert!(member.hint.is_settled(u64::MAX));
    }

    #[test]
    fn tallies_of_members_add_up() {
        let (mut a, mut b, mut all) = (Member::default(), Member::default(), Member::default());
        for second in 0..60 {
            a.succeed(9, second * S);
            a.fail(1, second * S);
            b.fail(3, second * S);
            all.succeed(9, second * S);
            all.fail(4, second * S);
            let tally = |member: &mut Member| {
                member
                    .failures
                    .tally(&member.hint, member.outcomes, second * S)
            };
            let left = tally(&mut all).without(tally(&mut a));
            let other = tally(&mut b);
            assert!((left.failures - other.failures).abs() < 1e-3);
            assert!((left.outcomes - other.outcomes).abs() < 1e-3);
        }
    }
}
