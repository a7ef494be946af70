//! Timers of tokio runtimes that have a time driver.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Instant;

use pin_project_lite::pin_project;
use tokio::runtime::{Handle, Id};
use tokio::time::Sleep;

use super::clock;
use super::panic::caught;

pin_project! {
    /// A sleep that can be polled in another runtime than the one it was made in. A plain [`Sleep`] panics once its runtime has
    /// shut down.
    #[derive(Debug)]
    pub(crate) struct Timer {
        at: Instant,
        runtime: Id,
        #[pin]
        sleep: Sleep,
    }
}

/// Creates a timer. Returns `None` outside a tokio runtime and in one without a time driver: it could never fire there.
pub(crate) fn sleep_until(at: Instant) -> Option<Pin<Box<Timer>>> {
    let runtime = Handle::try_current().ok()?.id();
    let sleep = sleep_here(at)?;
    Some(Box::pin(Timer { at, runtime, sleep }))
}

/// Whether the current runtime has timers.
pub(crate) fn is_there() -> bool {
    sleep_here(clock::now()).is_some()
}

/// In the current runtime, if that has timers.
fn sleep_here(at: Instant) -> Option<Sleep> {
    Handle::try_current().ok()?;
    // A runtime without timers panics; there is no other way to ask.
    caught(|| tokio::time::sleep_until(at.into())).ok()
}

impl Timer {
    #[cfg(feature = "retry")]
    pub(crate) fn at(&self) -> Instant {
        self.at
    }
}

impl Future for Timer {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let mut this = self.project();
        if let Ok(here) = Handle::try_current()
            && here.id() != *this.runtime
            && let Some(sleep) = sleep_here(*this.at)
        {
            this.sleep.set(sleep);
            *this.runtime = here.id();
        }
        this.sleep.poll(cx)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::runtime::{Builder, Runtime};

    use super::*;

    fn runtime() -> Runtime {
        Builder::new_current_thread().enable_time().build().unwrap()
    }

    #[test]
    fn a_timer_outlives_its_runtime() {
        let first = runtime();
        let mut timer = None;
        first.block_on(async {
            let sleep =
                timer.insert(sleep_until(clock::now() + Duration::from_millis(20)).unwrap());
            let mut context = Context::from_waker(std::task::Waker::noop());
            assert!(sleep.as_mut().poll(&mut context).is_pending());
        });
        let timer = timer.unwrap();
        drop(first);
        runtime().block_on(async {
            let at = timer.at;
            timer.await;
            assert!(clock::now() >= at);
        });
    }

    #[test]
    fn there_is_none_without_a_runtime_that_has_timers() {
        assert!(!is_there());
        assert!(sleep_until(clock::now()).is_none());
        let without = Builder::new_current_thread().build().unwrap();
        without.block_on(async { assert!(!is_there()) });
    }
}
