//! The histograms that requests add a sample to.

use metrics::{Histogram, Label, histogram};

use crate::balance::samples::Samples;

pub(super) const ATTEMPT: &str = "rolecall_attempt_duration_seconds";
pub(super) const WAIT: &str = "rolecall_wait_duration_seconds";

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
    }
}
