//! The slot of a member that a request holds from its pick to its end.

use std::num::NonZeroU64;
use std::time::Instant;

use super::members::member::Record;
use super::rules::trial::Token;
use super::shared::{InFleet, Shared};
use super::time::UNTIMED;
use crate::model::instance::Instance;

/// The slot has not been given back yet.
const HELD: u64 = 1;
/// The pick moved the fleet's next deadline.
const MOVES_DEADLINE: u64 = 2;
/// The instance has sent something, but not yet the response that the caller waits for.
const HEARD: u64 = 4;
/// The failure of the request has a label.
const LABELLED: u64 = 8;

/// A taken slot. `H` keeps its member alive.
pub(crate) struct Slot<H: InFleet> {
    pub(crate) latency: Option<NonZeroU64>,
    pub(crate) picked_at: u64,
    pub(crate) trial: Option<Token>,
    /// A `u64` and not `bool`s: enums around a `Pick` would use the niche of a `bool` and copy the struct field by field
    /// (measured).
    marks: u64,
    pub(crate) holder: H,
}

impl<H: InFleet> Slot<H> {
    /// Wraps a slot that the caller has taken. `moment` is `None` if the pick read no clock.
    pub(crate) fn holding(holder: H, moment: Option<u64>) -> Self {
        let wakes = |moment| holder.shared().stalls.wake(moment);
        let moves_deadline = moment.is_some_and(wakes);
        let picked_at = moment.unwrap_or(UNTIMED);
        Self {
            latency: None,
            picked_at,
            trial: None,
            marks: HELD | if moves_deadline { MOVES_DEADLINE } else { 0 },
            holder,
        }
    }

    /// Marks the pick as a trial.
    pub(crate) fn on_trial(mut self, token: Token) -> Self {
        self.trial = Some(token);
        self
    }

    pub(crate) fn moves_deadline(&self) -> bool {
        self.marks & MOVES_DEADLINE != 0
    }

    /// Whether the slot has not been given back yet.
    pub(crate) fn is_held(&self) -> bool {
        self.marks & HELD != 0
    }

    /// Whether the instance has sent something, but not yet the response.
    pub(crate) fn is_heard(&self) -> bool {
        self.marks & HEARD != 0
    }

    /// Marks the slot as given back. Returns whether it was held until now.
    pub(crate) fn let_go(&mut self) -> bool {
        let held = self.is_held();
        self.marks &= !HELD;
        held
    }

    /// Moves the slot to another holder of the same member. What remains in `self` holds the member but no slot; drop it.
    pub(crate) fn hand_over<T: InFleet>(&mut self, holder: impl FnOnce(&H) -> T) -> Slot<T> {
        Slot {
            latency: self.latency,
            picked_at: self.picked_at,
            holder: holder(&self.holder),
            trial: self.trial.take(),
            marks: std::mem::replace(&mut self.marks, 0),
        }
    }

    pub(crate) fn holder(&self) -> &H {
        &self.holder
    }

    pub(crate) fn instance(&self) -> &Instance {
        &self.record().instance
    }

    /// Whether the pick has a timestamp, so that its end needs one too.
    pub(crate) fn reads_clock(&self) -> bool {
        self.picked_at != UNTIMED
    }

    /// The time until the answer began, or until now. `None` if the pick has no timestamp or the slot was given back.
    #[cfg(feature = "metrics")]
    pub(crate) fn elapsed(&self, now: Instant) -> Option<std::time::Duration> {
        if !self.is_held() || !self.reads_clock() {
            return None;
        }
        let until_now = || self.shared().nanos(now).saturating_sub(self.picked_at);
        let nanos = self.latency.map_or_else(until_now, NonZeroU64::get);
        Some(std::time::Duration::from_nanos(nanos))
    }

    pub(crate) fn answered(&mut self, now: Instant) {
        if self.latency.is_none() && self.picked_at != UNTIMED {
            let record = self.holder.record();
            let now = self.holder.shared().nanos(now);
            let latency = now.saturating_sub(self.picked_at);
            self.latency = NonZeroU64::new(latency.max(1));
            record.stats.answers(now);
            if let Some(trial) = self.trial {
                record.stats.trial().answered(trial, latency);
            }
        }
    }

    /// Takes back the latency stamp: only the beginning of the response came, and the caller still waits. A trial keeps its
    /// stamp, because it only asks whether the instance is alive.
    #[cfg(feature = "grpc")]
    pub(crate) fn still_waits(&mut self) {
        if self.trial.is_none() && self.latency.take().is_some() {
            self.marks |= HEARD;
        }
    }

    /// The start of the fleet's time, for use where no clock is read.
    pub(crate) fn epoch(&self) -> Instant {
        self.shared().epoch()
    }

    /// Says in a few words how the request is about to fail.
    pub(crate) fn label_failure(&mut self, label: &'static str) {
        self.record().stats.label().set(Some(label));
        self.marks |= LABELLED;
    }

    /// Whether its failure has a label.
    pub(crate) fn is_labelled(&self) -> bool {
        self.marks & LABELLED != 0
    }

    pub(crate) fn record(&self) -> &Record {
        self.holder.record()
    }

    pub(crate) fn shared(&self) -> &Shared {
        self.holder.shared()
    }

    /// Whether both slots belong to the same connection. Both must be of one fleet.
    pub(crate) fn shares_member(&self, other: &Self) -> bool {
        self.record().generation == other.record().generation
    }
}

/// Gives the slot back without an outcome, unless that has happened already.
impl<H: InFleet> Drop for Slot<H> {
    fn drop(&mut self) {
        if !self.is_held() {
            return;
        }
        let record = self.holder.record();
        if let Some(trial) = self.trial
            && record.stats.trial().end(trial)
        {
            self.holder.shared().tokens.give_back(trial);
        }
        record.stats.release_unjudged();
    }
}
