//! Records attempts in the caller's `tracing` span.

use std::time::Duration;

use tracing::Span;
use tracing::level_filters::LevelFilter;

use crate::model::instance::Instance;

/// Records an attempt in the current span. Of several attempts the last one stays.
///
/// Costs one load of an atomic while no subscriber is installed.
pub(super) fn record(instance: &Instance, attempt: u32, waited: Duration) {
    if LevelFilter::current() == LevelFilter::OFF {
        return;
    }
    let span = Span::current();
    if span.is_disabled() {
        return;
    }
    // Each is ignored by a span that does not declare the field.
    span.record("rolecall.instance", instance.id().as_str());
    span.record("rolecall.attempts", attempt);
    span.record("rolecall.waited_ms", waited.as_secs_f64() * 1e3);
}
