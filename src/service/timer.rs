//! Timers, where there are any.

use std::pin::Pin;
use std::time::Instant;

use tokio::runtime::Handle;
use tokio::time::Sleep;

use super::clock;
use super::unwound::caught;

/// A sleep; `None` where nobody would ever be woken: outside a tokio runtime, and in one without timers.
pub(crate) fn sleep_until(at: Instant) -> Option<Pin<Box<Sleep>>> {
    Handle::try_current().ok()?;
    // That a runtime has no timers is told by a panic alone.
    caught(|| Box::pin(tokio::time::sleep_until(at.into()))).ok()
}

/// Whether there are timers here.
pub(crate) fn is_there() -> bool {
    sleep_until(clock::now()).is_some()
}
