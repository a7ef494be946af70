//! How long a call waits: for a usable member, and after a fault of this process.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use super::inner::Inner;
use crate::model::instance::InstanceId;
use crate::runtime::timer::Timer;
use crate::runtime::{clock, timer};

/// How long a call waits for a usable member.
#[derive(Default)]
pub(super) struct Patience {
    /// When this call first found no usable member. A member that was usable for a moment does not reset it.
    unusable_since: Option<Instant>,
    /// The driver's epoch at that time. The wait starts again when a driver starts or ends.
    driver_epoch: u64,
    timer: Option<(Instant, Pin<Box<Timer>>)>,
}

impl Patience {
    /// The time at which the call fails, or `None` if it has passed.
    pub(super) fn until<S, C>(&mut self, inner: &Inner<S, C>) -> Option<Instant>
    where
        S: Send + Sync + 'static,
        C: Send + Sync + 'static,
    {
        let now = clock::now();
        let epoch = inner.shared.driver_epoch();
        if epoch != self.driver_epoch {
            self.driver_epoch = epoch;
            self.unusable_since = None;
        }
        let own = *self.unusable_since.get_or_insert(now);
        let is_driven = inner.shared.is_driven();
        let fleets = inner.fleet.unusable_since().filter(|_| is_driven);
        let since = fleets.map_or(own, |fleets| fleets.min(own));
        let until = since + inner.fleet.config().unavailable_after();
        (now < until).then_some(until)
    }

    /// Completes at `until`, or immediately if the runtime has no timers.
    pub(super) fn poll_until(&mut self, until: Instant, cx: &mut Context<'_>) -> Poll<()> {
        if self.timer.as_ref().is_none_or(|(at, _)| *at != until) {
            self.timer = timer::sleep_until(until).map(|sleep| (until, sleep));
        }
        match &mut self.timer {
            Some((_, sleep)) => sleep.as_mut().poll(cx),
            None => Poll::Ready(()),
        }
    }
}

/// This process had no file descriptor, local port or memory for the connection to a member.
///
/// The next member would most likely fail for the same reason. So the call pauses before it picks again.
pub(super) struct LocalFault {
    /// When this call first hit such a fault.
    since: Instant,
    /// The instance whose connection hit such a fault last.
    id: InstanceId,
    pause: Pause,
}

enum Pause {
    Until(Pin<Box<Timer>>),
    /// The runtime has no timers, so the pause cannot end.
    Endless,
    Over,
}

/// How long a call pauses after such a fault before it picks again.
const PAUSE: Duration = Duration::from_millis(50);

impl LocalFault {
    /// `earlier`: the previous fault of this call, whose start time is kept.
    pub(super) fn new(id: InstanceId, earlier: Option<Self>) -> Self {
        let now = clock::now();
        Self {
            since: earlier.map_or(now, |earlier| earlier.since),
            id,
            pause: timer::sleep_until(now + PAUSE).map_or(Pause::Endless, Pause::Until),
        }
    }

    /// The instance whose connection could not be opened.
    pub(super) fn instance(&self) -> &InstanceId {
        &self.id
    }

    /// Waits for the end of the pause. Resolves to `true` if the call picks again, and to `false` if it fails. `is_alone`: the
    /// call has no other candidate that may still become ready.
    pub(super) fn poll(
        &mut self,
        is_alone: bool,
        patience: impl Fn() -> Duration,
        cx: &mut Context<'_>,
    ) -> Poll<bool> {
        match &mut self.pause {
            Pause::Over => Poll::Ready(true),
            Pause::Until(sleep) => {
                ready!(sleep.as_mut().poll(cx));
                self.pause = Pause::Over;
                Poll::Ready(!is_alone || clock::now() < self.since + patience())
            }
            Pause::Endless if is_alone => Poll::Ready(false),
            Pause::Endless => Poll::Pending,
        }
    }
}
