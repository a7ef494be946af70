//! Trials: requests that find out whether a member has recovered.
//!
//! A trial is one pick that goes to a member on probation, or to a suspect, instead of the winner of the draw. Its outcome
//! decides about the member. Only harm is rationed: a balancer has a [`Bucket`] of [`TOKENS`] tokens, full at the start and
//! refilled by one per [`PICKS_PER_TOKEN`] picks, which count when they end. A trial takes one, and gives it back unless it
//! did harm: it failed, or its caller gave up without an answer. So a bad member costs one request in 200, even at low
//! rates. While there is a token, a recovered member returns at once.
//!
//! A member has one trial at a time, named by a [`Token`]. A verdict that comes after its trial was given up, or from a pick
//! made before it, decides nothing.
//!
//! Failure mode: while the bucket is empty, a recovered member waits for up to 200 picks. It does not wait in panic mode, or
//! if every pickable member fails as well: trials are free then.

use std::num::NonZeroU64;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};

/// Tokens in a full bucket.
const TOKENS: u32 = 3;
/// Picks that refill one token.
const PICKS_PER_TOKEN: u32 = 200;
const FULL: u32 = TOKENS * PICKS_PER_TOKEN;

/// The least time after which an unanswered trial fails, in nanoseconds.
const MIN_PATIENCE: u64 = 1_000_000_000;
/// The same in mean latencies of the fleet. The longer time applies.
const PATIENCE: f32 = 8.0;

/// The low bits of a token: the answer has begun; a token of the bucket was paid; the verdict is on its way to the writers;
/// and a serial number that distinguishes trials begun at the same moment.
const ANSWERED: u64 = 1;
const PAID: u64 = 2;
const JUDGED: u64 = 4;
const SERIAL_SHIFT: u32 = 3;
const TIME_SHIFT: u32 = 12;

/// Names one trial.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Token(NonZeroU64);

/// How a trial ended.
#[derive(Clone, Copy, Debug)]
pub(crate) enum TrialEnd {
    /// Succeeded after this many nanoseconds.
    Success(u64),
    /// Failed.
    Failure,
    /// Not answered in time.
    Unanswered,
    /// Not answered: the caller gave up after this many nanoseconds, too early to tell.
    Silent(u64),
}

/// The budget for trials that do harm, in picks.
#[derive(Debug)]
pub(crate) struct Bucket {
    credit: AtomicU32,
    serial: AtomicU32,
}

/// The trial of one member.
#[derive(Debug, Default)]
pub(crate) struct Trial {
    /// The token of the trial in flight; zero if there is none.
    token: AtomicU64,
    /// Nanoseconds after which its answer began; zero if unknown.
    latency: AtomicU64,
}

impl Bucket {
    pub(crate) fn new() -> Self {
        Self {
            credit: AtomicU32::new(FULL),
            serial: AtomicU32::new(0),
        }
    }

    /// Takes a token, if there is one.
    pub(crate) fn take(&self) -> bool {
        let less = |credit: u32| credit.checked_sub(PICKS_PER_TOKEN);
        self.credit.load(Relaxed) >= PICKS_PER_TOKEN
            && self.credit.fetch_update(Relaxed, Relaxed, less).is_ok()
    }

    /// Gives the token of a trial back, if it took one.
    pub(crate) fn give_back(&self, token: Token) {
        if token.0.get() & PAID != 0 {
            self.refill(PICKS_PER_TOKEN.into());
        }
    }

    /// Gives a token back that no trial used.
    pub(crate) fn return_unused(&self, was_taken: bool) {
        if was_taken {
            self.refill(PICKS_PER_TOKEN.into());
        }
    }

    /// Refills the bucket for this many picks.
    pub(crate) fn refill(&self, picks: u64) {
        let picks = u32::try_from(picks).unwrap_or(u32::MAX);
        let more = |credit: u32| Some(credit.saturating_add(picks).min(FULL));
        // Cannot fail: the closure always returns a value.
        let _ = self.credit.fetch_update(Relaxed, Relaxed, more);
    }

    /// How many more picks refill it to the next token, if it has none.
    pub(crate) fn picks_to_next(&self) -> u32 {
        PICKS_PER_TOKEN.saturating_sub(self.credit.load(Relaxed))
    }

    fn next_serial(&self) -> u64 {
        self.serial.fetch_add(1, Relaxed).into()
    }
}

impl Trial {
    pub(crate) fn is_in_flight(&self) -> bool {
        self.token.load(Relaxed) != 0
    }

    /// Begins a trial, unless one is in flight.
    pub(crate) fn begin(&self, bucket: &Bucket, is_paid: bool, now: u64) -> Option<Token> {
        if self.is_in_flight() {
            return None;
        }
        let serial = (bucket.next_serial() << SERIAL_SHIFT) & ((1 << TIME_SHIFT) - 1);
        // Keeps the token of a trial in the first microseconds from being zero.
        let begun = (now >> TIME_SHIFT).max(1) << TIME_SHIFT;
        let token = NonZeroU64::new(begun | serial | if is_paid { PAID } else { 0 })?;
        let begun = self
            .token
            .compare_exchange(0, token.get(), Relaxed, Relaxed);
        begun.ok()?;
        self.latency.store(0, Relaxed);
        Some(Token(token))
    }

    /// Ends a trial without a verdict. Returns whether it was still the one in flight.
    pub(crate) fn end(&self, token: Token) -> bool {
        self.replace(token, 0)
    }

    /// Claims a trial for a verdict. Returns whether it was still the one in flight. The verdict counts if
    /// [`settle`](Self::settle) still finds the trial: the member may be ejected, restored or moved in between.
    pub(crate) fn judge(&self, token: Token) -> bool {
        self.replace(token, token.0.get() | JUDGED)
    }

    /// Ends a trial whose verdict has reached the writers. Returns whether the verdict counts.
    pub(crate) fn settle(&self, token: Token) -> bool {
        let judged = token.0.get() | JUDGED;
        let settled = self.token.compare_exchange(judged, 0, Relaxed, Relaxed);
        settled.is_ok()
    }

    fn replace(&self, token: Token, next: u64) -> bool {
        let is_it = |present: u64| (present & !ANSWERED == token.0.get()).then_some(next);
        self.token.fetch_update(Relaxed, Relaxed, is_it).is_ok()
    }

    /// Ends a trial without effect and gives its token back: its member was ejected, restored or moved, or has left.
    pub(crate) fn forget(&self, bucket: &Bucket) {
        let present = self.token.swap(0, Relaxed);
        if let Some(token) = NonZeroU64::new(present) {
            bucket.give_back(Token(token));
        }
    }

    /// Records that the answer of a trial has begun.
    pub(crate) fn answered(&self, token: Token, after: u64) {
        let token = token.0.get();
        let marked = self
            .token
            .compare_exchange(token, token | ANSWERED, Relaxed, Relaxed);
        if marked.is_ok() {
            self.latency.store(after.max(1), Relaxed);
        }
    }

    /// Gives up a trial that took too long. Returns how it ended: if its answer has begun, it is a success. A trial that
    /// spans a stall of this process ends without a verdict.
    pub(crate) fn give_up(
        &self,
        bucket: &Bucket,
        mean: f32,
        now: u64,
        spans_stall: impl FnOnce(u64) -> bool,
    ) -> Option<TrialEnd> {
        let present = self.token.load(Relaxed);
        if present & JUDGED != 0 {
            return None;
        }
        let token = Token(NonZeroU64::new(present & !ANSWERED)?);
        let begun = present >> TIME_SHIFT << TIME_SHIFT;
        if now.saturating_sub(begun) <= patience(mean) || !self.end(token) {
            return None;
        }
        if spans_stall(begun) {
            bucket.give_back(token);
            return None;
        }
        if present & ANSWERED == 0 {
            return Some(TrialEnd::Unanswered);
        }
        bucket.give_back(token);
        let latency = match self.latency.load(Relaxed) {
            0 => patience(mean),
            latency => latency,
        };
        Some(TrialEnd::Success(latency))
    }
}

/// How long a trial may go unanswered, in nanoseconds.
pub(crate) fn patience(mean: f32) -> u64 {
    MIN_PATIENCE.max((PATIENCE * mean) as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1_000_000;

    fn begin(trial: &Trial, now: u64) -> Option<Token> {
        trial.begin(&Bucket::new(), true, now)
    }

    #[test]
    fn a_member_has_one_trial_at_a_time_and_each_has_its_own_end() {
        let (trial, bucket) = (Trial::default(), Bucket::new());
        let first = trial.begin(&bucket, true, 0).unwrap();
        assert_eq!(trial.begin(&bucket, true, 0), None);
        assert!(trial.end(first));
        let second = trial.begin(&bucket, true, 0).unwrap();
        assert!(!trial.end(first), "a late verdict of an earlier trial");
        assert!(trial.end(second));
    }

    #[test]
    fn a_verdict_counts_unless_its_trial_is_forgotten_first() {
        let (trial, bucket) = (Trial::default(), Bucket::new());
        assert!(bucket.take());
        let token = trial.begin(&bucket, true, 0).unwrap();
        assert!(trial.judge(token) && trial.is_in_flight());
        assert!(!trial.judge(token), "judged once");
        assert!(trial.give_up(&bucket, 5e6, 2000 * MS, |_| false).is_none());
        assert!(trial.settle(token) && !trial.is_in_flight());

        let token = trial.begin(&bucket, true, 0).unwrap();
        assert!(trial.judge(token));
        trial.forget(&bucket);
        assert!(!trial.settle(token), "restored in between");
        assert_eq!((0..10).filter(|_| bucket.take()).count(), 3, "given back");
    }

    #[test]
    fn an_unanswered_trial_is_given_up_after_a_second_or_eight_mean_latencies() {
        let never = |_| false;
        for (mean, patience) in [(5e6, 1000 * MS), (500e6, 4000 * MS)] {
            let (trial, bucket) = (Trial::default(), Bucket::new());
            begin(&trial, 0).unwrap();
            let before = trial.give_up(&bucket, mean, patience, never);
            assert!(before.is_none(), "it may still answer");
            let after = trial.give_up(&bucket, mean, patience + MS, never);
            assert!(matches!(after, Some(TrialEnd::Unanswered)));
            assert!(!trial.is_in_flight());
        }
    }

    #[test]
    fn a_long_answer_that_began_is_a_success() {
        let (trial, bucket) = (Trial::default(), Bucket::new());
        let token = begin(&trial, 0).unwrap();
        trial.answered(token, 7 * MS);
        let end = trial.give_up(&bucket, 5e6, 2000 * MS, |_| false);
        assert!(matches!(end, Some(TrialEnd::Success(latency)) if latency == 7 * MS));
        assert!(!trial.end(token), "it was given up");
    }

    #[test]
    fn an_answer_to_an_earlier_trial_does_not_count_for_the_next() {
        let (trial, bucket) = (Trial::default(), Bucket::new());
        let first = begin(&trial, 0).unwrap();
        assert!(trial.end(first));
        trial.begin(&bucket, true, 100 * MS).unwrap();
        trial.answered(first, 7 * MS);
        let end = trial.give_up(&bucket, 5e6, 2000 * MS, |_| false);
        assert!(matches!(end, Some(TrialEnd::Unanswered)));
    }

    #[test]
    fn a_trial_that_spans_a_stall_decides_nothing_and_costs_nothing() {
        let (trial, bucket) = (Trial::default(), Bucket::new());
        for _ in 0..10 {
            assert!(bucket.take());
            trial.begin(&bucket, true, 0).unwrap();
            assert!(trial.give_up(&bucket, 5e6, 2000 * MS, |_| true).is_none());
            assert!(!trial.is_in_flight());
        }
    }

    #[test]
    fn three_trials_may_do_harm_and_then_one_in_two_hundred_picks() {
        let (trial, bucket) = (Trial::default(), Bucket::new());
        assert_eq!((0..10).filter(|_| bucket.take()).count(), 3);
        bucket.refill(199);
        assert!(!bucket.take());
        bucket.refill(1);
        assert!(bucket.take());
        bucket.refill(u64::MAX);
        assert_eq!((0..10).filter(|_| bucket.take()).count(), 3, "full");
        let free = trial.begin(&bucket, false, 0).unwrap();
        bucket.give_back(free);
        assert!(!bucket.take(), "a free trial gives nothing back");
        assert!(trial.end(free));
        bucket.give_back(trial.begin(&bucket, true, 0).unwrap());
        assert!(bucket.take());
    }

    #[test]
    fn a_clock_that_goes_back_ends_no_trial() {
        let (trial, bucket) = (Trial::default(), Bucket::new());
        begin(&trial, 5000 * MS).unwrap();
        assert!(trial.give_up(&bucket, 5e6, 0, |_| false).is_none());
    }
}
