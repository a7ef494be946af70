//! Which members are ejected, and why.
//!
//! Only the callers' requests are evidence (passive detection); the rules send none. Three rules check each failure, in the
//! thread that reports it:
//!
//! | rule | fires at | finds |
//! |---|---|---|
//! | [failures in a row](super::failures_in_row) | 5 or more, over at least three mean latencies; more while others fail too | an instance that answers with errors |
//! | [unresponsive](super::unresponsive) | the same, over at least a second, if the last caller gave up without an answer | a stopped process, a black-holed network |
//! | [failure rate](super::failure_rate) | half of at least 10 requests in 10 s, and twice the rate of the others | an instance that fails now and then |
//!
//! While others fail too, each rule requires more than [`chance`](super::chance) explains; [`peers`](super::peers) measures
//! how often the others fail. [Suspects](super::suspect) get too little traffic for these rules and have a threshold of
//! their own.
//!
//! A rule that fires ejects its member, unless as many members are out as the [cap](super::cap) allows, or `shadow` is on.
//! The ejection [ends](super::ejection_time) with a [trial](super::trial). If it succeeds, the member returns through [slow
//! start](super::slow_start).
//!
//! Slow members are not ejected: load moves traffic away from them, and ejecting them under overload makes it worse.
//!
//! Sources: the vocabulary comes from Envoy's outlier detection and gRFC A50; the thresholds, the cap in small fleets and
//! the return come from simulation.

use super::chance::Chance;
use super::peers::{Peers, Record};
use super::unresponsive::outlasts_a_pause;
use super::{failure_rate, failures_in_row};
use crate::event::reason::EjectionReason;
use crate::fleet::branch::Branch;
use crate::fleet::config::outlier::OutlierConfig;

/// The evidence when a request fails.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Evidence {
    /// The record of its member, including this failure.
    pub(crate) record: Record,
    /// Whether the caller gave up without an answer.
    pub(crate) unanswered: bool,
    /// Nanoseconds since the last stall of this process.
    pub(crate) since_stall: u64,
    /// The fleet's mean latency in nanoseconds; zero: unknown.
    pub(crate) mean: f32,
    pub(crate) now: u64,
}

/// The reason to eject the member, if the evidence is sufficient.
pub(crate) fn detect(
    evidence: &Evidence,
    peers: &Peers,
    config: &OutlierConfig,
) -> Option<EjectionReason> {
    let (own, run) = (&evidence.record, evidence.record.run);
    let Some(rate) = peers.rate_of_others(own, true) else {
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

/// The ejection reason for a run of failures that reached its threshold.
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
