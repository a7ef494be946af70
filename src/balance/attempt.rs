use std::cell::Cell;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use super::hub::{Connected, Signal};
use crate::balance::Outcome;
use crate::fleet::{MemberRef, Pick, Slot, Verdict};
use crate::model::instance::Instance;
use crate::runtime::clock;

/// The guard of one pick: holds a slot of the instance, and ends with an outcome.
///
/// # Cancellation
///
/// Dropped before any outcome it counts as cancelled: the caller went away. That frees the slot, and a wait longer than
/// the instance's latency counts as at least that latency. After [`answered`](Self::answered) it counts as answered well.
#[must_use = "a dropped attempt counts as cancelled"]
pub struct Attempt {
    judged: Judged<Arc<dyn Signal + Send + Sync>>,
    /// Which call it is of.
    call: u64,
}

impl Attempt {
    /// The picked instance: id and address are what they are; weight, availability and metadata are those announced
    /// when its connection was dialled.
    pub fn instance(&self) -> &Instance {
        self.judged.slot.instance()
    }

    /// The answer has begun: stamps the latency and keeps the slot, for a body that is still to come. The first stamp
    /// counts.
    pub fn answered(&mut self) {
        let now = self.judged.now();
        self.judged.slot.answered(now);
    }

    /// What was stamped was only the beginning of an answer, after which the caller waits: the latency is what the next
    /// stamp says, or the verdict. That the instance is not silent stays known.
    #[cfg(feature = "grpc")]
    pub(crate) fn still_waits(&mut self) {
        self.judged.slot.still_waits();
    }

    /// Answered well.
    pub fn success(mut self) {
        self.judged.end(Verdict::Success);
    }

    /// Answered badly.
    pub fn failure(mut self) {
        self.judged.end(Verdict::Failure);
    }

    /// Says nothing about the instance.
    pub fn neutral(mut self) {
        self.judged.end(Verdict::Neutral);
    }

    /// The request never left: the connection it was picked for, but no later one, is lost and is dialled again.
    ///
    /// Said within [`Classify::classify`](crate::Classify::classify), an error returned from there
    /// [was not sent](crate::Error::was_sent).
    pub fn unsent(mut self) {
        self.note_unsent();
        self.judged.end(Verdict::Unsent);
    }

    /// The request never left, by a fault of this process: nobody is judged, and the connection stays.
    #[cfg(feature = "http")]
    pub(crate) fn local_fault(mut self) {
        self.note_unsent();
        self.judged.end(Verdict::Neutral);
    }

    fn note_unsent(&self) {
        CALLS.with(|calls| {
            if calls.classified.get() == self.call {
                calls.classified.set(NONE);
            }
        });
    }

    /// Ends with what a classifier found.
    pub(crate) fn end(self, outcome: Outcome) {
        match outcome {
            Outcome::Success => self.success(),
            Outcome::Failure => self.failure(),
            Outcome::Neutral => self.neutral(),
            Outcome::Unsent => self.unsent(),
            Outcome::Overloaded(duration) => self.overloaded(duration),
        }
    }

    /// The instance has too much to do: its load reads twenty times as high for `duration` (default 1 s, at most 60 s).
    pub fn overloaded(mut self, duration: Option<Duration>) {
        self.judged.end(Verdict::Overloaded(duration));
    }
}

impl fmt::Debug for Attempt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Attempt")
            .field("instance", self.instance())
            .finish_non_exhaustive()
    }
}

thread_local!(static CALLS: Calls = const { Calls { last: Cell::new(NONE), classified: Cell::new(NONE) } });

/// Which calls a thread classifies.
struct Calls {
    /// The number of its last one.
    last: Cell<u64>,
    /// The one that is being classified, until it is said to be unsent.
    classified: Cell<u64>,
}

/// The number of no call.
const NONE: u64 = 0;
/// Each thread has numbers of its own.
const CALLS_OF_A_THREAD: u64 = 1 << 44;
static THREADS: AtomicU64 = AtomicU64::new(0);

impl Calls {
    fn number(&self) -> u64 {
        let last = match self.last.get() {
            NONE => THREADS.fetch_add(CALLS_OF_A_THREAD, Relaxed),
            last => last,
        };
        let number = last.wrapping_add(1);
        self.last.set(number);
        number
    }
}

/// Has an attempt classified, and answers whether it was ended as unsent on the way. The attempt itself is gone by then,
/// and a place to leave a note in would cost an allocation per request.
pub(super) fn noting_unsent<R>(attempt: Attempt, classify: impl FnOnce(Attempt) -> R) -> (R, bool) {
    /// Also after a panic, for the call that this one was made in.
    struct Restored<'a>(&'a Calls, u64);
    impl Drop for Restored<'_> {
        fn drop(&mut self) {
            self.0.classified.set(self.1);
        }
    }
    CALLS.with(|calls| {
        let call = attempt.call;
        let _outer = Restored(calls, calls.classified.replace(call));
        let result = classify(attempt);
        (result, calls.classified.get() != call)
    })
}

/// A pick of a balancer's member.
pub(super) type Picked<S, C> = Judged<MemberRef<Connected<S, C>>>;

/// A pick that is judged as cancelled unless it was judged otherwise.
pub(super) struct Judged<H: Signal> {
    slot: Slot<H>,
}

impl<H: Signal> Judged<H> {
    fn new(slot: Slot<H>) -> Self {
        Self { slot }
    }

    pub(super) fn slot(&self) -> &Slot<H> {
        &self.slot
    }

    pub(super) fn instance(&self) -> &Instance {
        self.slot.instance()
    }

    /// Gives the verdict; the driver is told if it has to hurry, or has a loss to report.
    pub(super) fn end(&mut self, verdict: Verdict) {
        let hurry = self.slot.judge(verdict, self.time_of(verdict));
        if hurry || matches!(verdict, Verdict::Unsent) {
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
    pub(super) fn of(pick: Pick<Connected<S, C>>) -> Self {
        Self::new(pick.0)
    }

    pub(super) fn connected(&self) -> &Connected<S, C> {
        self.slot.holder().service()
    }

    /// Passes the slot on to an attempt. What stays behind keeps the member in being and judges nobody.
    pub(super) fn pass_on(&mut self) -> Attempt {
        let slot = self.slot.hand_over(|holder| match holder {
            MemberRef::Direct(member) => Arc::clone(member) as Arc<dyn Signal + Send + Sync>,
            MemberRef::Counted(counted) => Arc::clone(counted) as Arc<_>,
        });
        Attempt {
            judged: Judged::new(slot),
            call: CALLS.with(Calls::number),
        }
    }
}

impl<H: Signal> Drop for Judged<H> {
    fn drop(&mut self) {
        if self.slot.is_held() {
            self.end(Verdict::Cancelled);
        }
    }
}
