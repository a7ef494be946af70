//! Simulated time: nanoseconds since the run began. No clock is read.

use std::time::Duration;

pub(crate) type Moment = u64;

pub(crate) const SECOND: Moment = 1_000_000_000;

/// Whole nanoseconds; a scenario lasts hours at most.
pub(crate) fn nanos(duration: Duration) -> Moment {
    duration.as_nanos() as Moment
}

pub(crate) fn from_seconds(seconds: f64) -> Moment {
    (seconds * 1e9) as Moment
}
