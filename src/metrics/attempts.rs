//! The histograms and counters that requests update themselves.

use metrics::{Histogram, Label, counter, histogram};

use crate::balance::samples::Samples;

pub(super) const ATTEMPT: &str = "rolecall_attempt_duration_seconds";
pub(super) const WAIT: &str = "rolecall_wait_duration_seconds";
#[cfg(feature = "http")]
pub(super) const RESENDS: &str = "rolecall_resends_total";
pub(super) const RETRIES: &str = "rolecall_retries_total";

pub(super) fn samples(labels: &[Label]) -> Samples {
    let attempt = |outcome: &'static str| -> Histogram {
        let mut labels = labels.to_vec();
        labels.push(Label::from_static_parts("outcome", outcome));
        histogram!(ATTEMPT, labels)
    };
    Samples {
        success: attempt("success"),
        failure: attempt("failure"),
        unanswered: attempt("unanswered"),
        cancelled: attempt("cancelled"),
        unsent: attempt("unsent"),
        overloaded: attempt("overloaded"),
        wait: histogram!(WAIT, labels.to_vec()),
        #[cfg(feature = "http")]
        resends: counter!(RESENDS, labels.to_vec()),
        retries: counter!(RETRIES, labels.to_vec()),
    }
}
