//! When a connection is too old for more requests, or died too young.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use tokio::time::{Sleep, sleep};

use crate::fleet::Rng as _;
use crate::runtime::{clock, random};

/// Which part of the largest age an age is less, at most: connections that were opened together do not close together.
const JITTER: u32 = 10;
/// Until an old connection that could not be replaced is looked at again.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// A connection closed within this time that never had a request is no better than none. Servers that close idle ones are
/// more patient.
const YOUNG: Duration = Duration::from_secs(1);

/// How a connection stands in its life, for its lines.
#[derive(Clone)]
pub(super) struct Age(Arc<Life>);

struct Life {
    began: Instant,
    old: AtomicBool,
    used: AtomicBool,
}

impl Age {
    fn new() -> Self {
        Self(Arc::new(Life {
            began: clock::now(),
            old: AtomicBool::new(false),
            used: AtomicBool::new(false),
        }))
    }

    pub(super) fn is_old(&self) -> bool {
        self.0.old.load(Relaxed)
    }

    /// A request is sent.
    pub(super) fn note_use(&self) {
        if !self.is_used() {
            self.0.used.store(true, Relaxed);
        }
    }

    pub(super) fn is_used(&self) -> bool {
        self.0.used.load(Relaxed)
    }

    /// Whether a connection that was just found closed was opened just now, and never had a request.
    pub(super) fn is_closed_at_once(&self) -> bool {
        !self.is_used() && clock::now().saturating_duration_since(self.0.began) < YOUNG
    }
}

/// The same for the task of the connection, which is told in time.
pub(super) struct Aging {
    age: Age,
    timer: Option<Pin<Box<Sleep>>>,
}

impl Aging {
    /// Old after `max` or a little earlier; `None`: never.
    pub(super) fn new(max: Option<Duration>) -> Self {
        let jittered = |max: Duration| {
            let chance = random::with_rng(|rng| rng.next_u64()) as f64 / u64::MAX as f64;
            Box::pin(sleep(max - (max / JITTER).mul_f64(chance)))
        };
        Self {
            age: Age::new(),
            timer: max.map(jittered),
        }
    }

    pub(super) fn age(&self) -> Age {
        self.age.clone()
    }

    /// Ready whenever an old connection is to be replaced, until it is closed.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Some(timer) = &mut self.timer else {
            return Poll::Pending;
        };
        if timer.as_mut().poll(cx).is_pending() {
            return Poll::Pending;
        }
        timer.set(sleep(LOOK_AGAIN));
        self.age.0.old.store(true, Relaxed);
        Poll::Ready(())
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use super::*;

    async fn lifetime(max: Duration) -> Duration {
        let began = clock::now();
        let mut aging = Aging::new(Some(max));
        assert!(!aging.age().is_old());
        poll_fn(|cx| aging.poll(cx)).await;
        assert!(aging.age().is_old());
        clock::now() - began
    }

    #[tokio::test(start_paused = true)]
    async fn connections_opened_together_get_old_one_by_one() {
        let max = Duration::from_secs(1000);
        let lifetimes: Vec<_> =
            futures_util::future::join_all((0..100).map(|_| lifetime(max))).await;
        let (least, most) = (lifetimes.iter().min(), lifetimes.iter().max());
        let (least, most) = (least.unwrap(), most.unwrap());
        assert!(*least >= max * 9 / 10 && *most <= max + Duration::from_secs(1));
        assert!(*most - *least > max / 50, "{least:?} to {most:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn extreme_ages_are_harmless() {
        drop(Aging::new(Some(Duration::MAX)));
        lifetime(Duration::ZERO).await;
    }
}
