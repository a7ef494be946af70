use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::inner::{Connected, Inner, Signal};
use crate::fleet::{MemberRef, Pick, PickError, Slot, Verdict};
use crate::model::hints::Hints;
use crate::model::instance::Instance;
use crate::runtime::clock;

/// The guard of one pick: holds a slot of the instance, and ends with an outcome.
///
/// # Cancellation
///
/// An attempt that is dropped without an outcome counts as cancelled: the caller went away. The slot becomes free. If
/// the caller waited longer than the instance's latency, the wait counts as a latency of at least that length. After
/// [`answered`](Self::answered), a dropped attempt counts as a success.
#[must_use = "a dropped attempt counts as cancelled"]
pub struct Attempt {
    picked: Guard<Arc<dyn Signal + Send + Sync>>,
    waited: Duration,
}

impl Attempt {
    /// The picked instance.
    ///
    /// Id and address are current. Weight, availability and metadata are those announced when its connection was dialled.
    pub fn instance(&self) -> &Instance {
        self.picked.slot.instance()
    }

    /// How long the call waited for an instance that is usable and ready. Zero if one was available at once.
    pub fn waited(&self) -> Duration {
        self.waited
    }

    /// Records the latency and keeps the slot, for a response whose body is still to come. Only the first call counts.
    pub fn answered(&mut self) {
        let now = self.picked.now();
        self.picked.slot.answered(now);
    }

    /// Discards the recorded latency: the caller still waits for the response proper. The latency is that of the next
    /// [`answered`](Self::answered) or of the outcome. The instance counts as responsive from the first call on.
    #[cfg(feature = "grpc")]
    pub(crate) fn still_waits(&mut self) {
        self.picked.slot.still_waits();
    }

    /// The instance answered well.
    pub fn success(mut self) {
        self.picked.end(Verdict::Success);
    }

    /// The instance failed.
    pub fn failure(mut self) {
        self.picked.end(Verdict::Failure);
    }

    /// The instance failed, and `label` says how in a few words, such as `"503"` or `"connection reset"`.
    ///
    /// [`MemberStatus::last_failure`](crate::MemberStatus::last_failure) and [`EjectionReason`](crate::EjectionReason) show the
    /// label. It costs one store. A process keeps 255 different labels and ignores more: do not put ids or addresses into them.
    pub fn failure_labelled(mut self, label: &'static str) {
        self.picked.slot.label_failure(label);
        self.picked.end(Verdict::Failure);
    }

    /// The outcome says nothing about the instance.
    pub fn neutral(mut self) {
        self.picked.end(Verdict::Neutral);
    }

    /// The request was not sent, because the connection is lost. It is dialled again, unless it was replaced already.
    ///
    /// A classifier that ends an attempt this way returns [`Failed::unsent`](crate::Failed::unsent), so that the caller knows.
    pub fn unsent(mut self) {
        self.picked.end(Verdict::Unsent);
    }

    /// The instance is overloaded. For `duration` (default 1 s, at most 60 s) its load counts twenty times. Overload
    /// never ejects an instance.
    pub fn overloaded(mut self, duration: Option<Duration>) {
        self.picked.end(Verdict::Overloaded(duration));
    }
}

impl fmt::Debug for Attempt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Attempt")
            .field("instance", self.instance())
            .finish_non_exhaustive()
    }
}

/// A pick of a balancer's member.
pub(super) type Picked<S, C> = Guard<MemberRef<Connected<S, C>>>;

/// A pick that counts as cancelled unless it ends with another verdict.
pub(super) struct Guard<H: Signal> {
    slot: Slot<H>,
}

impl<H: Signal> Guard<H> {
    pub(super) fn slot(&self) -> &Slot<H> {
        &self.slot
    }

    pub(super) fn instance(&self) -> &Instance {
        self.slot.instance()
    }

    /// Gives the verdict, and wakes the driver if a deadline moved earlier or a connection was lost.
    pub(super) fn end(&mut self, verdict: Verdict) {
        let now = self.time_of(verdict);
        #[cfg(feature = "metrics")]
        if let Some(samples) = self.slot.holder().samples()
            && let Some(elapsed) = self.slot.elapsed(now)
        {
            samples.record(verdict, elapsed);
        }
        let moves_deadline = self.slot.judge(verdict, now);
        if moves_deadline || matches!(verdict, Verdict::Unsent) {
            self.slot.holder().driver().notify_one();
        }
    }

    /// The current time, if the fleet's rules use it.
    fn now(&self) -> Instant {
        if self.slot.reads_clock() {
            clock::now()
        } else {
            self.slot.epoch()
        }
    }

    fn time_of(&self, verdict: Verdict) -> Instant {
        match verdict {
            Verdict::Neutral | Verdict::Unused => self.slot.epoch(),
            Verdict::Unsent | Verdict::Overloaded(_) => clock::now(),
            Verdict::Success | Verdict::Failure | Verdict::Unanswered | Verdict::Cancelled => {
                self.now()
            }
        }
    }
}

impl<S, C> Picked<S, C>
where
    S: Send + Sync + 'static,
    C: Send + Sync + 'static,
{
    pub(super) fn pick(inner: &Inner<S, C>, hints: Hints<'_>) -> Result<Self, PickError> {
        inner.pick(hints).map(|Pick(slot)| Self { slot })
    }

    pub(super) fn connected(&self) -> &Connected<S, C> {
        self.slot.holder().service()
    }

    /// Moves the slot to an attempt. The rest of the pick keeps the member alive and gives no verdict. `waited`: how
    /// long the call waited before it was sent.
    pub(super) fn pass_on(&mut self, waited: Duration) -> Attempt {
        let slot = self.slot.hand_over(|holder| match holder {
            MemberRef::Direct(member) => Arc::clone(member) as Arc<dyn Signal + Send + Sync>,
            MemberRef::Counted(counted) => Arc::clone(counted) as Arc<_>,
        });
        Attempt {
            picked: Guard { slot },
            waited,
        }
    }
}

impl<H: Signal> Drop for Guard<H> {
    fn drop(&mut self) {
        if self.slot.is_held() {
            self.end(Verdict::Cancelled);
        }
    }
}
