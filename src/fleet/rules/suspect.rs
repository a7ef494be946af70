//! Suspects: members in play that failed recently and have had too little traffic since to be judged.
//!
//! Load keeps requests away from a member that failed. So it would never fail often enough to be ejected, and no event would
//! report it. A member is a suspect if its last request failed, nothing is in flight, and it has answered no request for a
//! second. Each failed [trial](super::trial) as a suspect doubles that time, up to a minute. A suspect waits for a trial,
//! and is ejected at [`suspect_failures`](crate::OutlierBuilder::suspect_failures) failures in a row.
//!
//! A suspect must also have missed a few requests that its fair share of the traffic would have brought. At low request
//! rates there are no suspects: load forgets a failure before callers would notice it, and each trial would be a large part
//! of their requests.

use super::chance::Chance;
use super::failures_in_row;
use super::outlier::in_row;
use super::peers::{Peers, Record};
use crate::event::reason::EjectionReason;
use crate::fleet::config::outlier::OutlierConfig;

/// Nanoseconds without an answer that make a suspect.
const SILENCE: u64 = 1_000_000_000;
/// The longest time between two trials of a suspect, in nanoseconds.
const MAX_SILENCE: u64 = 60_000_000_000;
/// The least number of requests that a fair share would have brought it since its last answer.
const MISSED: f32 = 3.0;
/// Requests per second and member below which there are no suspects.
const MIN_FAIR_SHARE: f32 = 0.5;

/// Whether a member whose last request failed is a suspect. `silence`: nanoseconds since its last answer. `trials`: how many
/// of its trials as a suspect failed. `fair_share`: requests per second and member.
pub(crate) fn is_suspect(silence: u64, trials: u32, fair_share: f32) -> bool {
    let least = (SILENCE << trials.min(32)).min(MAX_SILENCE);
    silence >= least
        && fair_share >= MIN_FAIR_SHARE
        && silence as f32 * fair_share >= MISSED * SILENCE as f32
}

/// The reason to eject a suspect whose trial failed, if there is one. `trials`: how many failed, including this one.
pub(crate) fn detect(
    own: &Record,
    trials: u32,
    unanswered: bool,
    peers: &Peers,
    config: &OutlierConfig,
) -> Option<EjectionReason> {
    let run = own.run.failures;
    let rate = peers.rate_of_others_for_suspect(own, own.looks_bad(config))?;
    // The failures before the trials are why this member was chosen among all, so chance may explain them. It must not
    // explain the trials since.
    let before = run.saturating_sub(trials);
    let chance = Chance::new(rate, 1.0);
    let floor = config.suspect_failures().saturating_sub(before);
    let threshold = before.saturating_add(failures_in_row::threshold(floor, chance));
    (run >= threshold).then(|| in_row(own, threshold, unanswered))
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: u64 = 1_000_000_000;

    #[test]
    fn a_suspect_waits_a_second_and_twice_as_long_after_each_trial() {
        assert!(!is_suspect(S - 1, 0, 100.0));
        assert!(is_suspect(S, 0, 100.0));
        assert!(!is_suspect(4 * S - 1, 2, 100.0) && is_suspect(4 * S, 2, 100.0));
        assert!(is_suspect(60 * S, u32::MAX, 100.0), "a minute at most");
    }

    #[test]
    fn a_suspect_has_missed_three_requests_and_low_rates_have_none() {
        assert!(!is_suspect(5 * S, 0, 0.5) && is_suspect(6 * S, 0, 0.5));
        assert!(!is_suspect(3600 * S, 0, 0.49));
    }
}
