//! Load and record of one instance, over all connections to it.

use std::sync::atomic::{
    AtomicU64,
    Ordering::{AcqRel, Relaxed},
};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::fleet::measures::failures::{Failures, Hint, Run, Tally};
use crate::fleet::measures::label::Label;
use crate::fleet::measures::latency::{Latency, Typical};
use crate::fleet::rules::cap::Cooldown;
use crate::fleet::rules::overload::Overload;
use crate::fleet::rules::peers;
use crate::fleet::rules::slow_start::Since;
use crate::fleet::rules::trial::{Bucket, Trial};

/// Slots and outcomes share a word, so that a success writes once. The lower 20 bits count slots in use, more than
/// `max_in_flight` allows. The upper 44 bits count outcomes, enough for years at 100 000 per second.
const OUTCOME: u64 = 1 << 20;
const IN_FLIGHT: u64 = OUTCOME - 1;

/// Mark a member that is out, one in slow start, and a new one in slow start. As timestamps they are 73 years away.
const OUT: u64 = 1 << 63;
const RETURNING: u64 = 1 << 62;
const NEW: u64 = 1 << 61;
const MARKS: u64 = OUT | RETURNING | NEW;

/// Load and record of one instance. A pick reaches it through its member, so the slot is given back even if the connection
/// was lost long ago.
///
/// Rarely used fields are boxed, so that more of a large fleet fits into the CPU caches.
#[derive(Debug, Default)]
#[repr(C)]
pub(crate) struct Stats {
    slots: AtomicU64,
    latency: Latency,
    typical: Typical,
    hint: Hint,
    /// When it last answered a request.
    answered_at: AtomicU64,
    /// Picks made before this instant no longer count: it moves at an ejection, at a return and at a new address. The top
    /// bits are its [`MARKS`].
    judged_from: AtomicU64,
    rest: Box<Rest>,
}

/// Fields that few requests need.
#[derive(Debug, Default)]
struct Rest {
    failures: Mutex<Failures>,
    /// Picks that ended without an outcome.
    unjudged: AtomicU64,
    overload: Overload,
    cooldown: Cooldown,
    trial: Trial,
    /// Of its last failure.
    label: Label,
}

impl Stats {
    pub(crate) fn in_flight(&self) -> u32 {
        (self.slots.load(Relaxed) & IN_FLIGHT) as u32
    }

    pub(crate) fn picks(&self) -> u64 {
        let slots = self.slots.load(Relaxed);
        let ended = (slots / OUTCOME).wrapping_add(self.rest.unjudged.load(Relaxed));
        ended.wrapping_add(slots & IN_FLIGHT)
    }

    pub(crate) fn failures(&self) -> u64 {
        self.lock().ever()
    }

    pub(crate) fn successes(&self) -> u64 {
        self.outcomes().saturating_sub(self.failures())
    }

    pub(crate) fn failures_in_row(&self) -> u32 {
        if self.hint.is_in_run() {
            self.lock().run().failures
        } else {
            0
        }
    }

    /// Whether it has a run of failures whose first request was picked after that moment.
    pub(crate) fn fails_since(&self, moment: u64, now: u64) -> bool {
        self.hint.is_in_run() && self.lock().run().since.min(now) > moment
    }

    pub(crate) fn latency(&self) -> &Latency {
        &self.latency
    }

    pub(crate) fn typical(&self) -> &Typical {
        &self.typical
    }

    pub(crate) fn answered_at(&self) -> u64 {
        self.answered_at.load(Relaxed)
    }

    /// Its outcomes within the last ten seconds, and since its last return.
    pub(crate) fn window(&self, now: u64) -> Tally {
        self.lock().tally(&self.hint, self.outcomes(), now)
    }

    /// Its record, as the rules see it.
    pub(crate) fn record(&self, weight: f32, now: u64) -> peers::Record {
        self.record_of(&mut self.lock(), weight, now)
    }

    fn record_of(&self, failures: &mut Failures, weight: f32, now: u64) -> peers::Record {
        let outcomes = self.outcomes();
        let window = failures.tally(&self.hint, outcomes, now);
        peers::Record {
            window,
            without_pause: window.without(failures.pause(&self.hint, now)),
            run: failures.run(),
            failed_at: failures.failed_at(),
            judged_from: self.judged_from.load(Relaxed) & !MARKS,
            has_succeeded: outcomes > failures.ever(),
            label: self.rest.label.get(),
            weight,
        }
    }

    /// Whether the outcome of a pick made at that moment counts.
    pub(crate) fn accepts_evidence_from(&self, picked_at: u64) -> bool {
        picked_at >= self.judged_from.load(Relaxed) & !MARKS
    }

    /// Whether it is out: ejected or on probation.
    pub(crate) fn is_out(&self) -> bool {
        self.judged_from.load(Relaxed) & OUT != 0
    }

    pub(crate) fn trial(&self) -> &Trial {
        &self.rest.trial
    }

    pub(crate) fn overload(&self) -> &Overload {
        &self.rest.overload
    }

    pub(crate) fn label(&self) -> &Label {
        &self.rest.label
    }

    pub(crate) fn cooldown(&self) -> &Cooldown {
        &self.rest.cooldown
    }

    /// When its slow start began, while it is in one.
    pub(crate) fn slow_since(&self) -> Option<Since> {
        let from = self.judged_from.load(Relaxed);
        let since = from & !MARKS;
        if from & RETURNING != 0 {
            Some(Since::Returned(since))
        } else if from & NEW != 0 {
            Some(Since::Connected(since))
        } else {
            None
        }
    }

    /// Begins the slow start of a new member. Nothing was picked yet.
    pub(crate) fn begin_new(&self, now: u64) {
        self.judged_from.store(now & !MARKS | NEW, Relaxed);
    }

    /// Ends its slow start.
    pub(crate) fn end_slow_start(&self) {
        self.judged_from.fetch_and(!(RETURNING | NEW), Relaxed);
    }

    /// Records that it answered a request.
    pub(crate) fn answers(&self, now: u64) {
        self.answered_at.store(now, Relaxed);
    }

    /// Records a success. The slot of its request was just given back.
    pub(crate) fn succeeded(&self, now: u64) {
        if !self.hint.is_settled(now) {
            self.settle(now);
        }
    }

    #[cold]
    fn settle(&self, now: u64) {
        self.lock().succeed(&self.hint, self.outcomes(), now);
    }

    /// Records a failure of a request picked at `picked_at`. Its slot was just given back. `is_one_event`: whether the run,
    /// including it, is a single event. Returns the record including it.
    pub(crate) fn failed(
        &self,
        picked_at: u64,
        weight: f32,
        now: u64,
        is_one_event: impl FnOnce(Run) -> bool,
    ) -> peers::Record {
        let mut failures = self.lock();
        let run = failures.fail(&self.hint, picked_at, self.outcomes(), now);
        if is_one_event(run) {
            failures.note_pause(&self.hint, now);
        }
        self.record_of(&mut failures, weight, now)
    }

    /// Marks it as out. Picks made until now no longer count.
    pub(crate) fn leave_play(&self, tokens: &Bucket, now: u64) {
        self.rest.trial.forget(tokens);
        let from = now.saturating_add(1) & !MARKS;
        self.judged_from.store(from | OUT, Relaxed);
    }

    /// Marks it as in play. Picks made from now on count. `latency`: the only sample that it keeps, if any.
    pub(crate) fn enter_play(
        &self,
        latency: Option<f32>,
        slow_start: bool,
        tokens: &Bucket,
        now: u64,
    ) {
        self.rest.trial.forget(tokens);
        // First, so that a request that ends meanwhile rarely writes to what is reset below.
        let mark = if slow_start { RETURNING } else { 0 };
        self.judged_from.store(now & !MARKS | mark, Relaxed);
        self.latency.restart(latency, now);
        self.lock().restart(&self.hint, self.outcomes(), now);
        self.rest.cooldown.end();
    }

    /// Resets latency, failures and slow start, because it has another address. It keeps its requests in flight, and remains
    /// out if it was.
    pub(crate) fn move_to_address(&self, tokens: &Bucket, now: u64) {
        let slow_start = self.judged_from.load(Relaxed) & (RETURNING | NEW);
        let out = self.is_out();
        self.typical.forget();
        self.enter_play(None, false, tokens, now);
        self.judged_from.fetch_or(slow_start, Relaxed);
        if out {
            self.leave_play(tokens, now);
        }
    }

    /// Takes a slot, unless `cap` slots are in use.
    pub(crate) fn acquire(&self, cap: Option<u32>) -> bool {
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
    pub(crate) fn release(&self) {
        self.slots.fetch_add(OUTCOME - 1, AcqRel);
    }

    /// Gives a slot back, without an outcome.
    pub(crate) fn release_unjudged(&self) {
        self.rest.unjudged.fetch_add(1, Relaxed);
        self.slots.fetch_sub(1, AcqRel);
    }

    /// Gives a slot back as if it had never been taken.
    pub(crate) fn release_unused(&self) {
        self.slots.fetch_sub(1, AcqRel);
    }

    /// Counts an outcome for a pick whose slot is given back without one, before this call or after it.
    pub(crate) fn count_outcome(&self) {
        self.slots.fetch_add(OUTCOME, AcqRel);
        self.rest.unjudged.fetch_sub(1, Relaxed);
    }

    fn outcomes(&self) -> u64 {
        self.slots.load(Relaxed) / OUTCOME
    }

    fn lock(&self) -> MutexGuard<'_, Failures> {
        // No code under this lock can panic halfway.
        self.rest
            .failures
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}
