//! What a balancer samples on the path of a request while a recorder of metrics is on.

use std::time::Duration;

use metrics::Histogram;

use crate::fleet::Verdict;

/// The histograms of one target. A request adds one sample to one of them.
pub(crate) struct Samples {
    pub(crate) success: Histogram,
    pub(crate) failure: Histogram,
    pub(crate) unanswered: Histogram,
    pub(crate) cancelled: Histogram,
    pub(crate) unsent: Histogram,
    pub(crate) overloaded: Histogram,
    /// Of requests that waited for a member, or for its service to be ready.
    pub(crate) wait: Histogram,
}

impl Samples {
    pub(super) fn record(&self, verdict: Verdict, elapsed: Duration) {
        let histogram = match verdict {
            Verdict::Success => &self.success,
            Verdict::Failure => &self.failure,
            Verdict::Unanswered => &self.unanswered,
            Verdict::Cancelled => &self.cancelled,
            Verdict::Unsent => &self.unsent,
            Verdict::Overloaded(_) => &self.overloaded,
            Verdict::Neutral | Verdict::Unused => return,
        };
        histogram.record(elapsed.as_secs_f64());
    }
}
