//! Moments and durations in nanoseconds. Moments count from the start of the fleet.

use std::time::Duration;

/// The moment of a pick that was made without reading a clock. Such a pick has no latency.
pub(crate) const UNTIMED: u64 = u64::MAX - 1;

/// Converts a duration to whole nanoseconds, at most about 584 years.
pub(crate) fn nanos(duration: Duration) -> u64 {
    let seconds = duration.as_secs().saturating_mul(1_000_000_000);
    seconds.saturating_add(u64::from(duration.subsec_nanos()))
}
