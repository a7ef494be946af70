//! One member: a connection to an instance, and what is known of it.
//!
//! ```text
//!             dialled                     lost, or replaced by the next connection
//!  (roster) ───────────▶ listed, picked ──────────────────────────────────────────▶ held by its picks alone ──▶ dropped
//!                             ▲  │ instance draining, weight 0, or busy while others are available; ejected, on probation
//!                             └──┘ not listed
//! ```
//!
//! A member is never changed by the roster, only replaced. Whoever holds a [`Pick`](super::Pick) holds the member itself,
//! so it may finish on a connection that the roster has long forgotten.

use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::{
    AtomicU32, AtomicU64,
    Ordering::{AcqRel, Relaxed},
};

use super::labels::Label;
use super::load::{Latency, Typical};
use super::run::{Failing, Failures, Run};
use super::shared::Shared;
use super::trial::Trial;
use super::window::{Bucket, Pause, Tally, Totals, Window};
use crate::model::instance::Instance;

/// How much dearer an overloaded member looks.
const OVERLOAD_FACTOR: f32 = 20.0;

/// Slots and outcomes share a word, so that a success writes once: in flight in the lower bits, more than `max_in_flight` may
/// be; outcomes ever in the upper, enough for years of a hundred thousand a second.
const OUTCOME: u64 = 1 << 20;
const IN_FLIGHT: u64 = OUTCOME - 1;

/// For how many ticks a member that was found an outlier, and stays, is not looked at again: a second, or a tick less.
const QUIET: u32 = 16;
/// Nanoseconds of a tick. Eight years of them have a number.
const TICK: u64 = 62_500_000;
/// Mark of a member that is out. As a time it is 292 years away.
const OUT: u64 = 1 << 63;

/// What is known of one instance: its load and its record, over all connections to it. A pick holds it by its member, so
/// that one whose connection is long lost still gives its slot back to the instance.
///
/// Rarely used fields are boxed, so that more of a large fleet fits into the CPU caches.
#[derive(Debug, Default)]
#[repr(C)]
pub(super) struct Stats {
    slots: AtomicU64,
    latency: Latency,
    typical: Typical,
    /// When it answered anybody last.
    answered_at: AtomicU64,
    /// Picks made before this instant no longer count: it moves at an ejection, at a return and at a new address. The top
    /// bit is set while the member is ejected or on probation.
    judged_from: AtomicU64,
    failing: Failing,
    bucket: Bucket,
    rest: Box<Rest>,
}

/// Of a member's record what few requests need.
#[derive(Debug, Default)]
struct Rest {
    window: Window,
    failures: AtomicU64,
    /// Picks that ended without an outcome.
    unjudged: AtomicU64,
    overloaded_until: AtomicU64,
    run: Run,
    /// In ticks.
    quiet_until: AtomicU32,
    pause: Pause,
    trial: Trial,
    /// When it last failed, to 32 ns, and in the lower bits the label of its last failure.
    failed_at: AtomicU64,
    /// When its slow start began; zero: it is in none.
    returned_at: AtomicU64,
}

impl Stats {
    pub(super) fn in_flight(&self) -> u32 {
        (self.slots.load(Relaxed) & IN_FLIGHT) as u32
    }

    pub(super) fn picks(&self) -> u64 {
        let slots = self.slots.load(Relaxed);
        let ended = (slots / OUTCOME).wrapping_add(self.rest.unjudged.load(Relaxed));
        ended.wrapping_add(slots & IN_FLIGHT)
    }

    pub(super) fn failures(&self) -> u64 {
        self.rest.failures.load(Relaxed)
    }

    pub(super) fn successes(&self) -> u64 {
        let outcomes = self.slots.load(Relaxed) / OUTCOME;
        outcomes.saturating_sub(self.failures())
    }

    pub(super) fn failures_in_row(&self) -> u32 {
        if self.failing.is_so() {
            self.rest.run.get().count()
        } else {
            0
        }
    }

    /// Whether it has a run of failures of which the first was picked after that moment.
    pub(super) fn fails_since(&self, moment: u64, now: u64) -> bool {
        self.failing.is_so() && self.rest.run.get().since().min(now) > moment
    }

    pub(super) fn latency(&self) -> &Latency {
        &self.latency
    }

    pub(super) fn typical(&self) -> &Typical {
        &self.typical
    }

    pub(super) fn answered_at(&self) -> u64 {
        self.answered_at.load(Relaxed)
    }

    /// What it answered lately, since its last return.
    pub(super) fn recent(&self, now: u64) -> Tally {
        self.rest.window.tally(&self.bucket, self.totals(), now)
    }

    /// The same without the largest pause: what its failure rate is told by.
    pub(super) fn judged(&self, now: u64) -> Tally {
        let pause = self.rest.pause.tally(&self.bucket, now);
        self.recent(now).without(pause)
    }

    fn totals(&self) -> Totals {
        Totals::new(self.slots.load(Relaxed) / OUTCOME, self.failures())
    }

    pub(super) fn failed_at(&self) -> u64 {
        self.rest.failed_at.load(Relaxed) & !Label::BITS
    }

    /// The label of its last failure.
    pub(super) fn last_failure(&self) -> Label {
        Label::of(self.rest.failed_at.load(Relaxed))
    }

    /// A trial failed, which does not count as a failure of a member in play.
    pub(super) fn label_failure(&self, label: Label) {
        let labelled = |at| Some(at & !Label::BITS | label.bits());
        // It never declines.
        let _ = self.rest.failed_at.fetch_update(Relaxed, Relaxed, labelled);
    }

    /// Whether the outcome of a pick of that time counts.
    pub(super) fn accepts_evidence_from(&self, picked_at: u64) -> bool {
        picked_at >= self.judged_from.load(Relaxed) & !OUT
    }

    /// Whether nothing but a trial judges it.
    pub(super) fn is_out(&self) -> bool {
        self.judged_from.load(Relaxed) & OUT != 0
    }

    /// Since when its picks count; zero: always.
    pub(super) fn judged_from(&self) -> u64 {
        self.judged_from.load(Relaxed) & !OUT
    }

    pub(super) fn trial(&self) -> &Trial {
        &self.rest.trial
    }

    /// When its slow start began, while it is in one.
    pub(super) fn returned_at(&self) -> Option<u64> {
        let at = self.rest.returned_at.load(Relaxed);
        (at > 0).then_some(at)
    }

    /// Begins or ends its slow start.
    pub(super) fn set_returned_at(&self, at: Option<u64>) {
        let at = at.map_or(0, |at| at.max(1));
        self.rest.returned_at.store(at, Relaxed);
    }

    /// It answered somebody.
    pub(super) fn answers(&self, now: u64) {
        self.answered_at.store(now, Relaxed);
    }

    /// A request whose slot was just given back was answered well.
    pub(super) fn succeeded(&self, now: u64) {
        self.turn_window(now);
        self.forgive();
    }

    /// A request picked then, whose slot was just given back, failed. Returns the failures in a row.
    pub(super) fn failed(&self, picked_at: u64, label: Label, now: u64) -> Failures {
        self.turn_window(now);
        self.rest.failures.fetch_add(1, Relaxed);
        let failed_at = now & !Label::BITS | label.bits();
        self.rest.failed_at.store(failed_at, Relaxed);
        self.rest.run.fail(&self.failing, picked_at, now)
    }

    /// So many failures in a row, this moment's the last of them, are a pause by now.
    pub(super) fn paused(&self, failures: u32, now: u64) {
        self.rest.pause.lasts(&self.bucket, failures, now);
    }

    /// Before an outcome of this moment is in the window: its slot was just given back, and belongs to the next bucket.
    fn turn_window(&self, now: u64) {
        if self.bucket.is_over(now) {
            let outcomes = self.slots.load(Relaxed) / OUTCOME;
            let before = Totals::new(outcomes.saturating_sub(1), self.failures());
            self.rest.window.turn(&self.bucket, before, now);
        }
    }

    pub(super) fn forgive(&self) {
        self.rest.run.end(&self.failing);
    }

    /// Nothing but a trial judges it from now on. Picks made by now count no more.
    pub(super) fn leave_play(&self, now: u64) {
        self.rest.trial.forget();
        self.set_returned_at(None);
        self.judged_from.store(now.saturating_add(1) | OUT, Relaxed);
    }

    /// It is judged again, by picks made from now on. `latency`: all that is known of it.
    pub(super) fn enter_play(&self, latency: Option<f32>, now: u64) {
        self.rest.trial.forget();
        // First, so that a request that ends meanwhile seldom leaves anything in what is emptied below.
        self.judged_from.store(now & !OUT, Relaxed);
        self.forgive();
        self.latency.restart(latency, now);
        self.rest.window.restart(&self.bucket, self.totals(), now);
        self.rest.pause.forget();
        self.rest.quiet_until.store(0, Relaxed);
    }

    /// It has another address: latency and failures start anew. What is in flight stays in flight, and whether it is out.
    pub(super) fn move_to_address(&self, now: u64) {
        let out = self.is_out();
        self.typical.forget();
        self.enter_play(None, now);
        if out {
            self.leave_play(now);
        }
    }

    /// It was found an outlier, and stays all the same.
    pub(super) fn quiet(&self, now: u64) {
        let until = tick(now).saturating_add(QUIET);
        self.rest.quiet_until.store(until, Relaxed);
    }

    pub(super) fn is_quiet(&self, now: u64) -> bool {
        tick(now) < self.rest.quiet_until.load(Relaxed)
    }

    pub(super) fn overloaded_until(&self, until: u64) {
        self.rest.overloaded_until.fetch_max(until, Relaxed);
    }

    /// How many times its cost an overloaded member looks to cost.
    pub(super) fn overload(&self, now: u64) -> f32 {
        let until = self.rest.overloaded_until.load(Relaxed);
        if until != 0 && now < until {
            OVERLOAD_FACTOR
        } else {
            1.0
        }
    }

    /// Takes a slot, unless `cap` of them are taken.
    pub(super) fn acquire(&self, cap: Option<u32>) -> bool {
        let Some(cap) = cap else {
            self.slots.fetch_add(1, AcqRel);
            return true;
        };
        self.slots
            .fetch_update(AcqRel, Relaxed, |slots| {
                (slots & IN_FLIGHT < u64::from(cap)).then_some(slots.wrapping_add(1))
            })
            .is_ok()
    }

    /// Gives a slot back, with an outcome.
    pub(super) fn release(&self) {
        self.slots.fetch_add(OUTCOME - 1, AcqRel);
    }

    /// An outcome of a pick that gives its slot back without one, before or afterwards.
    pub(super) fn count_outcome(&self) {
        self.slots.fetch_add(OUTCOME, AcqRel);
        self.rest.unjudged.fetch_sub(1, Relaxed);
    }

    /// Gives a slot back, without one.
    pub(super) fn release_unjudged(&self) {
        self.rest.unjudged.fetch_add(1, Relaxed);
        self.slots.fetch_sub(1, AcqRel);
    }
}

fn tick(now: u64) -> u32 {
    u32::try_from(now / TICK).unwrap_or(u32::MAX)
}

/// A connection to an instance.
pub(crate) struct Member<S> {
    pub(super) record: Record,
    pub(super) service: S,
}

/// What is known of a member, whatever its service is.
#[repr(C)]
pub(crate) struct Record {
    /// Shared by all connections to the instance.
    pub(super) stats: Arc<Stats>,
    pub(super) shared: Arc<Shared>,
    /// Which dial it came from; a later one replaces it.
    pub(super) generation: u64,
    /// The instance as it was announced when it was dialled.
    pub(super) instance: Instance,
}

/// A reference count of its own for a member that many threads pick: each has its thread's, and they do not take turns
/// to write one line of memory. With its count before it, and so aligned, it is as large as a line.
#[repr(align(32))]
pub(crate) struct Share<S>(Arc<Member<S>>);

/// What keeps a picked member in being.
pub(crate) enum Hold<S> {
    Whole(Arc<Member<S>>),
    Share(Arc<Share<S>>),
}

/// Leads to a member's record, whatever its service is.
pub(crate) trait Recorded {
    fn record(&self) -> &Record;
}

impl<S> Member<S> {
    pub(crate) fn service(&self) -> &S {
        &self.service
    }
}

impl<S> Recorded for Member<S> {
    fn record(&self) -> &Record {
        &self.record
    }
}

impl<S> Recorded for Share<S> {
    fn record(&self) -> &Record {
        &self.0.record
    }
}

impl<S> Recorded for Hold<S> {
    fn record(&self) -> &Record {
        &self.record
    }
}

impl<T: Recorded + ?Sized> Recorded for Arc<T> {
    fn record(&self) -> &Record {
        (**self).record()
    }
}

impl<S> Share<S> {
    pub(super) fn of(member: &Arc<Member<S>>) -> Arc<Self> {
        Arc::new(Self(Arc::clone(member)))
    }
}

impl<S> Deref for Share<S> {
    type Target = Member<S>;

    fn deref(&self) -> &Member<S> {
        &self.0
    }
}

impl<S> Deref for Hold<S> {
    type Target = Member<S>;

    fn deref(&self) -> &Member<S> {
        match self {
            Self::Whole(member) => member,
            Self::Share(share) => share,
        }
    }
}

impl<S> Deref for Member<S> {
    type Target = Record;

    fn deref(&self) -> &Record {
        &self.record
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: u64 = 1_000_000_000;

    #[test]
    fn a_member_of_years_is_judged_by_what_was_lately() {
        let stats = Stats::default();
        let ever = u64::from(u32::MAX) - 49;
        stats.slots.store(ever * OUTCOME, Relaxed);
        stats.rest.failures.store(ever / 100, Relaxed);
        let request = |number: u64| {
            stats.acquire(None);
            stats.release();
            if number.is_multiple_of(100) {
                stats.failed(50 * S, Label::NONE, 50 * S);
            } else {
                stats.succeeded(50 * S);
            }
        };
        for now in [0, 49 * S] {
            stats.rest.window.turn(&stats.bucket, stats.totals(), now);
        }
        (0..100).for_each(request);
        assert_eq!(stats.recent(50 * S).outcomes, 100.0, "beyond 32 bits");
        assert_eq!(stats.recent(50 * S).failures, 1.0);
    }
}
