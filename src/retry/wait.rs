//! The time between two attempts.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use tower::retry::backoff::{
    Backoff as _, ExponentialBackoff, ExponentialBackoffMaker, MakeBackoff,
};
use tower::util::rng::Rng;

use crate::runtime::timer::Timer;
use crate::runtime::{random, timer};

/// tower's backoff, and when it is counted from.
#[derive(Debug, Clone)]
pub(super) struct Backoff {
    min: Duration,
    max: Duration,
    /// Once a request failed.
    begun: Option<ExponentialBackoff<Jitter>>,
}

impl Backoff {
    pub(super) fn new(min: Duration, max: Duration) -> Self {
        let max = max.max(Duration::from_millis(1));
        let min = min.min(max);
        Self {
            min,
            max,
            begun: None,
        }
    }

    /// The next one; none where there are no timers.
    pub(super) fn next(&mut self) -> Option<Wait> {
        if !timer::is_there() {
            return None;
        }
        let begun = match &mut self.begun {
            Some(begun) => begun,
            none => {
                let maker = ExponentialBackoffMaker::new(self.min, self.max, 1.0, Jitter);
                none.insert(maker.ok()?.make_backoff())
            }
        };
        // tower's own sleep ends with its runtime.
        let at = begun.next_backoff().deadline().into_std();
        Some(Wait(Some(timer::sleep_until(at)?)))
    }
}

/// Each thread's own generator: requests that failed together shall not come back together, and tower would give each of them
/// the same numbers.
#[derive(Debug, Clone, Copy)]
struct Jitter;

impl Rng for Jitter {
    fn next_u64(&mut self) -> u64 {
        random::with_rng(rand::Rng::next_u64)
    }
}

/// The time until a request is sent again.
#[derive(Debug)]
pub struct Wait(Option<Pin<Box<Timer>>>);

impl Wait {
    pub(super) const NONE: Self = Self(None);

    #[cfg(feature = "grpc")]
    pub(super) fn of(duration: Duration, now: Instant) -> Option<Self> {
        let sleep = timer::sleep_until(now.checked_add(duration)?)?;
        Some(Self(Some(sleep)))
    }

    pub(super) fn ends(&self, now: Instant) -> Instant {
        let sleep = self.0.as_ref();
        sleep.map_or(now, |sleep| sleep.at())
    }
}

impl Future for Wait {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        match &mut self.0 {
            Some(sleep) => sleep.as_mut().poll(cx),
            None => Poll::Ready(()),
        }
    }
}
