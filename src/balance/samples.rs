//! The metrics that requests update themselves, if the program reports metrics.

use std::time::Duration;

use metrics::{Counter, Histogram};

use crate::fleet::Verdict;
use crate::model::hints::Sending;

/// The histograms and counters of one balancer. An attempt adds one sample to one histogram.
pub(crate) struct Samples {
    pub(crate) success: Histogram,
    pub(crate) failure: Histogram,
    pub(crate) unanswered: Histogram,
    pub(crate) cancelled: Histogram,
    pub(crate) unsent: Histogram,
    pub(crate) overloaded: Histogram,
    /// Of requests that waited for a member, or for its service to be ready.
    pub(crate) wait: Histogram,
    #[cfg(feature = "http")]
    pub(crate) resends: Counter,
    pub(crate) retries: Counter,
}

impl Samples {
    /// A request is sent to an instance. The first sending counts only as an attempt, when that ends.
    pub(super) fn count_sending(&self, sending: Sending) {
        match sending {
            Sending::First => {}
            Sending::Retry { .. } => self.retries.increment(1),
            #[cfg(feature = "http")]
            Sending::Resend { .. } => self.resends.increment(1),
        }
    }

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
