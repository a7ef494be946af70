//! Who is ejected, why, and how it comes back.
//!
//! Judged is what requests show (passive detection); nothing is sent to find out. Three rules look at each failure, in the
//! thread that reports it:
//!
//! | rule | fires at | for |
//! |---|---|---|
//! | failures in a row | 5, more while others fail too | an instance that answers errors, or none |
//! | unresponsive | the same within a second or more, where the last one was a caller that waited for nothing | a stopped process, a black hole |
//! | failure rate | half of at least 10 requests in 10 s, and twice the others' rate | one that fails now and then |
//!
//! While others fail too, each needs as much as [`chance`] does not explain, as [`peers`] show how often one fails.
//!
//! A rule that fires ejects its member, unless a [`cap`] of the eligible ones is out already, or `shadow` is on. An
//! ejection lasts 10 s at first, twice as long after each probe that fails and when it comes soon after another one, to 60 s,
//! shortened at random by up to a half. Then the
//! member is *probing*: the next request, one at a time for the whole fleet, goes to it, and its answer decides. After that
//! it comes back by a [slow start](super::slow_start).
//!
//! Where the cap keeps an outlier in play, of those that are out the one tried longest ago is probed before its time is over,
//! though not before the time of a first ejection: it may be well by now, and the one that is kept is not.
//!
//! Latency ejects nobody: load moves traffic away from slow members, and ejecting them under overload makes it worse.
//!
//! A member that failed lately and gets no traffic since would never be judged: it is *suspect* after a second of silence,
//! twice as long after each such probe, and is probed by one of about 200 requests.
//!
//! In panic mode, when all are out, what they answer moves their load and is counted, and judges nobody.
//!
//! Sources: Envoy's outlier detection and gRFC A50 for the vocabulary; the thresholds, the cap of small fleets and the
//! return come from simulation.

mod cap;
mod chance;
mod config;
mod failure_rate;
mod failures_in_row;
mod health;
mod peers;
mod unresponsive;

pub(super) use cap::cap;
use chance::{Chance, rate_at_most};
pub use config::{OutlierBuilder, OutlierConfig};
pub(super) use health::{Health, State};
pub(super) use peers::Peers;
use peers::{looks_bad, shown};
use unresponsive::outlasts_a_pause;
pub(super) use unresponsive::unanswered;

use super::member::Record;
use super::run::Failures;
use crate::EjectionReason;

/// The least failures in a row of a suspect. Without traffic five would take a minute.
const SUSPECT_FAILURES: u32 = 2;

/// What a failure shows, if it shows an outlier. `run`: failures in a row, this one included.
pub(super) fn detect(
    record: &Record,
    config: &OutlierConfig,
    run: Failures,
    unanswered: bool,
    now: u64,
) -> Option<EjectionReason> {
    let stats = &record.stats;
    let standing = record.shared.pulse.since_standstill(now);
    let is_pause = unanswered && !outlasts_a_pause(run.age(now), standing);
    let (run, floor) = (run.count(), config.failures_in_row());
    // A silence is judged by its run, or was one pause. The cap may have kept its member.
    if is_pause || unanswered && run >= floor {
        stats.paused(run, now);
    }
    if !looks_bad(stats, run, config, now) || stats.is_quiet(now) {
        return None;
    }
    let peers = record.shared.peers(config, now);
    let others = peers.others(shown(stats, run, now), true);
    let chance = Chance::new(rate_at_most(others), peers.requests());
    let threshold = failures_in_row::threshold(floor, chance);
    if run >= threshold && !is_pause {
        return Some(in_row(run, threshold, unanswered));
    }
    let own = stats.judged(now);
    let threshold = failure_rate::threshold(config.failure_percentage(), others.rate());
    let often = failure_rate::reaches(own, config.request_volume(), threshold);
    let fires = often && !chance.explains(own);
    fires.then_some(EjectionReason::FailureRate {
        requests: own.outcomes.round() as u32,
        failures: own.failures.round() as u32,
        threshold_percentage: (threshold * 100.0).round() as u32,
    })
}

/// The same of a suspect whose probe failed, the last of so many.
pub(super) fn detect_suspect(
    record: &Record,
    config: &OutlierConfig,
    run: u32,
    probes: u32,
    unanswered: bool,
    now: u64,
) -> Option<EjectionReason> {
    let stats = &record.stats;
    let bad = looks_bad(stats, run, config, now);
    let others = record
        .shared
        .peers(config, now)
        .others(shown(stats, run, now), bad);
    // The failures before singled it out from all requests, and load left it alone for them. What chance explains or not are
    // the probes since.
    let before = run.saturating_sub(probes);
    let chance = Chance::new(others.rate(), 1.0);
    let threshold =
        before + failures_in_row::threshold(SUSPECT_FAILURES.saturating_sub(before), chance);
    (run >= threshold).then(|| in_row(run, threshold, unanswered))
}

fn in_row(failures: u32, threshold: u32, unanswered: bool) -> EjectionReason {
    if unanswered {
        EjectionReason::Unresponsive {
            failures,
            threshold,
        }
    } else {
        EjectionReason::FailuresInRow {
            failures,
            threshold,
        }
    }
}
