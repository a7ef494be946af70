//! Who is ejected, and why.
//!
//! Only requests are evidence (passive detection); the rules send nothing. Three of them look at each failure, in the thread
//! that reports it:
//!
//! | rule | fires at | finds |
//! |---|---|---|
//! | [failures in a row](super::failures_in_row) | 5, over three mean latencies and more; more while others fail too | an instance that answers errors |
//! | [unresponsive](super::unresponsive) | the same over a second or more, where the last caller gave up without an answer | a stopped process, a black hole |
//! | [failure rate](super::failure_rate) | half of at least 10 requests in 10 s, and twice the rate of the others | an instance that fails now and then |
//!
//! While others fail too, each rule needs more than [`chance`](super::chance) explains; [`peers`](super::peers) say how often
//! the others fail. [Suspects](super::suspect) get too little traffic for these rules, and have a threshold of their own.
//!
//! A rule that fires ejects its member, unless the [cap](super::cap) of the eligible ones is out already, or `shadow` is on.
//! The ejection [ends](super::ejection_time) with a [trial](super::trial), after which the member returns by
//! [slow start](super::slow_start).
//!
//! Latency ejects no member: load moves traffic away from slow ones, and to eject them under overload makes it worse.
//!
//! Sources: Envoy's outlier detection and gRFC A50 for the vocabulary; the thresholds, the cap of small fleets and the return
//! come from simulation.

use super::chance::Chance;
use super::peers::{Peers, Record};
use super::unresponsive::outlasts_a_pause;
use super::{failure_rate, failures_in_row};
use crate::event::EjectionReason;
use crate::fleet::branch::Branch;
use crate::fleet::config::outlier::OutlierConfig;

/// What is known when a request fails.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Evidence {
    /// Of its member, with this failure.
    pub(crate) record: Record,
    /// Whether the caller gave up without an answer.
    pub(crate) unanswered: bool,
    /// Nanoseconds since the last stall of this process.
    pub(crate) since_stall: u64,
    /// The fleet's mean latency in nanoseconds; zero: unknown.
    pub(crate) mean: f32,
    pub(crate) now: u64,
}

/// The reason to eject the member, if the evidence is one.
pub(crate) fn detect(
    evidence: &Evidence,
    peers: &Peers,
    config: &OutlierConfig,
) -> Option<EjectionReason> {
    let (own, run) = (&evidence.record, evidence.record.run);
    let Some(rate) = peers.rate_beside(own, true) else {
        Branch::NobodyCanTell.reach();
        return None;
    };
    let chance = Chance::new(rate, peers.requests());
    let age = run.age(evidence.now);
    let threshold = failures_in_row::threshold(config.failures_in_row(), chance);
    if run.failures >= threshold {
        if !failures_in_row::outlasts_answers(age, evidence.mean) {
            Branch::OutlierTooSoon.reach();
        } else if !evidence.unanswered || outlasts_a_pause(age, evidence.since_stall) {
            return Some(in_row(own, threshold, evidence.unanswered));
        }
    }
    let threshold = failure_rate::threshold(config.failure_percentage(), rate);
    let (own, label) = (own.without_pause, own.label);
    let often = failure_rate::reaches(own, config.request_volume(), threshold);
    let fires = often && !chance.explains(own);
    fires.then_some(EjectionReason::FailureRate {
        requests: own.outcomes.round() as u32,
        failures: own.failures.round() as u32,
        threshold_percentage: (threshold * 100.0).round() as u32,
        label,
    })
}

/// The reason of a run of failures that reached its threshold.
pub(crate) fn in_row(own: &Record, threshold: u32, unanswered: bool) -> EjectionReason {
    let failures = own.run.failures;
    if unanswered {
        EjectionReason::Unresponsive {
            failures,
            threshold,
        }
    } else {
        EjectionReason::FailuresInRow {
            failures,
            threshold,
            label: own.label,
        }
    }
}
