use std::cell::Cell;
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::clock;
use super::hub::{Connected, Signal};
use crate::Instance;
use crate::fleet::{Hold, Pick, Slot, Verdict};

/// The guard of one pick: holds a slot of the instance, and ends with an outcome.
///
/// # Cancellation
///
/// Dropped before any outcome it counts as cancelled: the caller went away. That frees the slot, and a wait longer than
/// the instance's latency counts as at least that latency.
#[must_use = "a dropped attempt counts as cancelled"]
pub struct Attempt(Judged<Arc<dyn Signal + Send + Sync>>);

impl Attempt {
    /// The picked instance: id and address are what they are; weight, availability and metadata are those announced
    /// when its connection was dialled.
    pub fn instance(&self) -> &Instance {
        self.0.slot.instance()
    }

    /// The answer has begun: stamps the latency and keeps the slot, for a body that is still to come. The first stamp
    /// counts.
    pub fn answered(&mut self) {
        let now = self.0.now();
        self.0.slot.answered(now);
    }

    /// Answered well.
    pub fn success(mut self) {
        self.0.end(Verdict::Success);
    }

    /// Answered badly.
    pub fn failure(mut self) {
        self.0.end(Verdict::Failure);
    }

    /// Says nothing about the instance.
    pub fn neutral(mut self) {
        self.0.end(Verdict::Neutral);
    }

    /// The request never left: the connection it was picked for, but no later one, is lost and is dialled again.
    ///
    /// Said within [`Classify::classify`](crate::Classify::classify), an error returned from there
    /// [was not sent](crate::Error::was_sent).
    pub fn unsent(mut self) {
        UNSENT.set(true);
        self.0.end(Verdict::Unsent);
    }

    /// The instance has too much to do: its load reads twenty times as high for `duration` (default 1 s, at most 60 s).
    pub fn overloaded(mut self, duration: Option<Duration>) {
        self.0.end(Verdict::Overloaded(duration));
    }
}

impl fmt::Debug for Attempt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Attempt")
            .field("instance", self.instance())
            .finish_non_exhaustive()
    }
}

thread_local!(static UNSENT: Cell<bool> = const { Cell::new(false) });

/// Whether an attempt was ended as unsent while `classify` ran. The attempt itself is gone by then, and a place to
/// leave a note in would cost an allocation per request.
pub(super) fn noting_unsent<R>(classify: impl FnOnce() -> R) -> (R, bool) {
    let outer = UNSENT.replace(false);
    let result = classify();
    (result, UNSENT.replace(outer))
}

/// A pick of a balancer's member.
pub(super) type Picked<S, C> = Judged<Hold<Connected<S, C>>>;

/// A pick that is judged as cancelled unless it was judged otherwise.
pub(super) struct Judged<H: Signal> {
    judged: bool,
    slot: Slot<H>,
}

impl<H: Signal> Judged<H> {
    fn new(slot: Slot<H>) -> Self {
        let judged = false;
        Self { judged, slot }
    }

    pub(super) fn instance(&self) -> &Instance {
        self.slot.instance()
    }

    /// Gives the verdict; the driver is told if it has to hurry.
    pub(super) fn end(&mut self, verdict: Verdict) {
        self.judged = true;
        if self.slot.judge(verdict, self.time_of(verdict)) {
            self.slot.holder().driver().notify_one();
        }
    }

    /// The time, if anybody wants to know it.
    fn now(&self) -> Instant {
        if self.slot.reads_clock() {
            clock::now()
        } else {
            self.slot.epoch()
        }
    }

    fn time_of(&self, verdict: Verdict) -> Instant {
        match verdict {
            Verdict::Neutral => self.slot.epoch(),
            Verdict::Unsent | Verdict::Overloaded(_) => clock::now(),
            Verdict::Success | Verdict::Failure | Verdict::Cancelled => self.now(),
        }
    }
}

impl<S, C> Picked<S, C>
where
    S: Send + Sync + 'static,
    C: Send + Sync + 'static,
{
    pub(super) fn of(pick: Pick<Connected<S, C>>) -> Self {
        Self::new(pick.0)
    }

    pub(super) fn connected(&self) -> &Connected<S, C> {
        self.slot.holder().service()
    }

    /// Passes the slot on to an attempt. What stays behind keeps the member in being and judges nobody.
    pub(super) fn pass_on(&mut self) -> Attempt {
        self.judged = true;
        let slot = self.slot.hand_over(|holder| match holder {
            Hold::Whole(member) => Arc::clone(member) as Arc<dyn Signal + Send + Sync>,
            Hold::Share(share) => Arc::clone(share) as Arc<_>,
        });
        Attempt(Judged::new(slot))
    }
}

impl<H: Signal> Drop for Judged<H> {
    fn drop(&mut self) {
        if !self.judged {
            self.end(Verdict::Cancelled);
        }
    }
}
