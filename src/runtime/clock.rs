//! The only place that reads the time.
//!
//! It is tokio's clock, so that paused time reaches the fleet.

use std::time::Instant;

/// The time of day, for what outlives the process.
#[cfg(any(feature = "cache", feature = "console"))]
#[expect(
    clippy::disallowed_methods,
    reason = "the one place that reads the time"
)]
pub(crate) fn wall() -> std::time::SystemTime {
    std::time::SystemTime::now()
}

#[expect(
    clippy::disallowed_methods,
    reason = "the one place that reads the time"
)]
pub(crate) fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}
