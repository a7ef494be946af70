//! One request's hold on a member: from the pick to its end.

use std::fmt;
use std::num::NonZeroU64;
use std::time::{Duration, Instant};

use super::labels::Label;
use super::member::{Hold, Record, Recorded};
use super::trial::Token;
use super::verdict::Verdict;
use crate::model::instance::Instance;

/// A failure costs this many times the fleet's mean latency, whatever it took.
pub(super) const FAILURE_COST: f32 = 20.0;

/// The time of a pick that was made without reading a clock: it has no latency.
pub(super) const UNTIMED: u64 = u64::MAX - 1;

/// Mark of a slot that is still to be given back.
const HELD: u64 = 1;
/// Mark of a pick that moved the fleet's next deadline.
const MOVES_DEADLINE: u64 = 2;
/// Mark of a pick whose instance gave a sign of life, though not yet what its caller waits for.
const HEARD: u64 = 4;
/// Above the marks: the label of a failure.
const LABEL_SHIFT: u32 = 8;

/// A member chosen for one request: holds its slot until it is dropped.
///
/// One of the verdicts says how the request ended; each returns `true` if
/// [`Fleet::next_deadline`](super::Fleet::next_deadline) moved earlier by it. Dropped without a verdict, it judges
/// nobody.
///
/// A pick outlives what happens to its member meanwhile, also the fleet itself.
#[must_use = "a dropped pick gives its slot back"]
pub struct Pick<S>(pub(crate) Slot<Hold<S>>);

/// A pick by whatever keeps its member in being.
pub(crate) struct Slot<H: Recorded> {
    pub(super) latency: Option<NonZeroU64>,
    pub(super) picked_at: u64,
    pub(super) trial: Option<Token>,
    /// A whole word, where results and futures would put their own tag into a `bool` and move the pick in odd pieces.
    marks: u64,
    pub(super) holder: H,
}

impl<S> Pick<S> {
    /// The picked instance, as it was announced when its connection was dialled: id and address are what they are,
    /// weight, availability and metadata may be older than the newest announcement.
    pub fn instance(&self) -> &Instance {
        self.0.instance()
    }

    /// What was handed to [`Fleet::connected`](super::Fleet::connected) for it.
    pub fn service(&self) -> &S {
        &self.0.holder.service
    }

    /// Whether [`Fleet::next_deadline`](super::Fleet::next_deadline) may have moved earlier by this pick: it is the first
    /// one after a rest.
    pub fn moves_deadline(&self) -> bool {
        self.0.moves_deadline()
    }

    /// Whether verdicts use their `now` at all. They do if the pick was made while [`Fleet::reads_clock`](super::Fleet::reads_clock)
    /// was true; if not, any instant will do for `success`, `failure`, `cancelled` and `answered`.
    pub fn reads_clock(&self) -> bool {
        self.0.reads_clock()
    }

    /// Stamps the latency now and keeps the slot: the answer has begun, its body is still to come. The first stamp
    /// counts.
    pub fn answered(&mut self, now: Instant) {
        self.0.answered(now);
    }

    /// The request was answered well.
    pub fn success(mut self, now: Instant) -> bool {
        self.0.judge(Verdict::Success, now)
    }

    /// The request was answered badly: costs the member twenty times the fleet's mean latency, whatever it took.
    pub fn failure(mut self, now: Instant) -> bool {
        self.0.judge(Verdict::Failure, now)
    }

    /// The same, under a label of a few words such as `"503"`: status and reasons of ejection show it. A fleet keeps 30
    /// different labels.
    pub fn failure_labelled(mut self, label: &'static str, now: Instant) -> bool {
        self.0.label_failure(label);
        self.0.judge(Verdict::Failure, now)
    }

    /// The caller went away. A wait that was longer than the member's latency is evidence of at least that latency; a
    /// shorter one is none (hedged requests, closed browsers). After [`answered`](Self::answered) it is a success, unless the
    /// member has failed since: what a caller does not want to read to the end is no fault of the instance.
    pub fn cancelled(mut self, now: Instant) -> bool {
        self.0.judge(Verdict::Cancelled, now)
    }

    /// Frees the slot and judges nobody.
    pub fn neutral(self) -> bool {
        false
    }

    /// The request never left: the connection it was picked for is lost and is dialled again. Its successor, if there
    /// is one already, is not touched.
    pub fn unsent(mut self, now: Instant) -> bool {
        self.0.judge(Verdict::Unsent, now)
    }

    /// The instance said that it has too much to do: its load reads twenty times as high for `duration` (default 1 s,
    /// at most 60 s). A trial counts it as an answer: the member returns, with that load.
    pub fn overloaded(mut self, duration: Option<Duration>, now: Instant) -> bool {
        self.0.judge(Verdict::Overloaded(duration), now)
    }
}

impl<H: Recorded> Slot<H> {
    /// Of a member whose slot the caller has taken.
    pub(super) fn holding(holder: H, picked_at: u64, moves_deadline: bool) -> Self {
        Self {
            latency: None,
            picked_at,
            trial: None,
            marks: HELD | if moves_deadline { MOVES_DEADLINE } else { 0 },
            holder,
        }
    }

    /// The same, as a trial.
    pub(super) fn on_trial(mut self, token: Token) -> Self {
        self.trial = Some(token);
        self
    }

    pub(crate) fn moves_deadline(&self) -> bool {
        self.marks & MOVES_DEADLINE != 0
    }

    /// Whether the slot is still to be given back.
    pub(crate) fn is_held(&self) -> bool {
        self.marks & HELD != 0
    }

    /// Whether the instance gave a sign of life, though no answer.
    pub(super) fn is_heard(&self) -> bool {
        self.marks & HEARD != 0
    }

    /// Whether it was still to be given back; from now on it is not.
    pub(super) fn let_go(&mut self) -> bool {
        let held = self.is_held();
        self.marks &= !HELD;
        held
    }

    /// The same pick by another holder of its member. What stays behind holds the member, but no slot, and is to be
    /// dropped.
    pub(crate) fn hand_over<T: Recorded>(&mut self, holder: impl FnOnce(&H) -> T) -> Slot<T> {
        Slot {
            latency: self.latency,
            picked_at: self.picked_at,
            holder: holder(&self.holder),
            trial: self.trial.take(),
            marks: std::mem::replace(&mut self.marks, 0),
        }
    }

    /// Gives the failure that follows a label.
    pub(crate) fn label_failure(&mut self, text: &'static str) {
        let label = self.record().shared.labels.label(text);
        self.marks |= label.bits() << LABEL_SHIFT;
    }

    pub(super) fn label(&self) -> Label {
        Label::of(self.marks >> LABEL_SHIFT)
    }

    pub(crate) fn holder(&self) -> &H {
        &self.holder
    }

    pub(crate) fn instance(&self) -> &Instance {
        &self.record().instance
    }

    /// Whether the pick knows when it was made, so that its end has a time, too.
    pub(crate) fn reads_clock(&self) -> bool {
        self.picked_at != UNTIMED
    }

    pub(crate) fn answered(&mut self, now: Instant) {
        let record = self.holder.record();
        if self.latency.is_none() && self.picked_at != UNTIMED {
            let now = record.shared.nanos(now);
            let latency = now.saturating_sub(self.picked_at);
            self.latency = NonZeroU64::new(latency.max(1));
            record.stats.answers(now);
            if let Some(trial) = self.trial {
                record.stats.trial().answered(trial, latency);
            }
        }
    }

    /// What was stamped was only a beginning, after which the caller waits: takes the stamp back. To a trial, which asks
    /// whether the instance lives, it is answer enough.
    #[cfg(feature = "grpc")]
    pub(crate) fn still_waits(&mut self) {
        if self.trial.is_none() && self.latency.take().is_some() {
            self.marks |= HEARD;
        }
    }

    /// The beginning of the fleet's time: an instant for where no clock is read.
    pub(crate) fn epoch(&self) -> Instant {
        self.record().shared.epoch
    }

    pub(super) fn record(&self) -> &Record {
        self.holder.record()
    }

    /// Whether both, of one fleet, are of the same connection to the same instance.
    pub(crate) fn shares_member(&self, other: &Self) -> bool {
        self.record().generation == other.record().generation
    }
}

/// Gives the slot back however the pick ends.
impl<H: Recorded> Drop for Slot<H> {
    fn drop(&mut self) {
        if !self.is_held() {
            return;
        }
        let record = self.holder.record();
        if let Some(trial) = self.trial
            && record.stats.trial().end(trial)
        {
            record.shared.trials.give_back(trial);
        }
        record.stats.release_unjudged();
    }
}

impl<S> fmt::Debug for Pick<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pick")
            .field("instance", self.instance())
            .field("latency", &self.0.latency)
            .finish_non_exhaustive()
    }
}

/// Whole nanoseconds; about 584 years at most.
pub(super) fn nanos(duration: Duration) -> u64 {
    let seconds = duration.as_secs().saturating_mul(1_000_000_000);
    seconds.saturating_add(u64::from(duration.subsec_nanos()))
}
