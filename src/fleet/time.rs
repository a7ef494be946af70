//! Moments and durations as the fleet counts them: nanoseconds since it began.

use std::time::Duration;

/// The moment of a pick that was made without reading a clock: it has no latency.
pub(crate) const UNTIMED: u64 = u64::MAX - 1;

/// Whole nanoseconds; about 584 years at most.
pub(crate) fn nanos(duration: Duration) -> u64 {
    let seconds = duration.as_secs().saturating_mul(1_000_000_000);
    seconds.saturating_add(u64::from(duration.subsec_nanos()))
}
