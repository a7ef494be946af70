//! Who is ejected, why, and how it comes back.
//!
//! Only requests are judged (passive detection); nothing is sent to find out. Three rules look at each failure, in the
//! thread that reports it:
//!
//! | rule | fires at | for |
//! |---|---|---|
//! | failures in a row | 5, over three mean latencies and more; more while others fail too | an instance that answers errors, or none |
//! | unresponsive | the same over a second or more, where the last one was a caller that gave up without an answer | a stopped process, a black hole |
//! | failure rate | half of at least 10 requests in 10 s, and twice the others' rate | one that fails now and then |
//!
//! While others fail too, each rule needs more than [`chance`] explains; [`peers`] say how often the others fail. Until any
//! other member has succeeded once, nobody is judged.
//!
//! A rule that fires ejects its member, unless a [`cap`] of the eligible ones is out already, or `shadow` is on. An
//! ejection lasts 10 s at first, twice as long after each trial that fails and when it comes soon after another one, to 60 s,
//! shortened at random by up to a half. Then the member is *on probation*: a [trial](super::trial) decides. After that it
//! comes back by a [slow start](super::slow_start).
//!
//! While the cap keeps an outlier in play, the ejected member that was tried longest ago is on probation before its time is
//! over, though not before the time of a first ejection: it may be well by now, and the one that is kept is not.
//!
//! Latency ejects nobody: load moves traffic away from slow members, and ejecting them under overload makes it worse.
//!
//! A member that failed lately and gets no traffic since would never be judged: it is a suspect after a second of silence,
//! twice as long after each trial that fails, and is tried, too.
//!
//! In panic mode, when all are out, their answers move their load and are counted, and judge nobody.
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
use chance::Chance;
pub use config::{OutlierBuilder, OutlierConfig};
pub(super) use health::{Health, Standing};
pub(super) use peers::Peers;
use peers::{Shown, looks_bad};
use unresponsive::outlasts_a_pause;
pub(super) use unresponsive::unanswered;

use super::member::{Record, Stats};
use super::reached::Branch;
use super::run::Failures;
use crate::event::EjectionReason;

/// What a failure shows, if it shows an outlier. `run`: failures in a row, this one included.
pub(super) fn detect(
    record: &Record,
    config: &OutlierConfig,
    run: Failures,
    unanswered: bool,
    now: u64,
) -> Option<EjectionReason> {
    let stats = &record.stats;
    let since_stall = record.shared.pulse.since_stall(now);
    let is_pause = unanswered && !outlasts_a_pause(run.age(now), since_stall);
    let is_old = failures_in_row::outlasts_answers(run.age(now), record.shared.pool.mean());
    let (run, floor) = (run.count(), config.failures_in_row());
    // A silence is judged by its run, or was one pause. The cap may have kept its member.
    if is_pause || unanswered && run >= floor {
        stats.paused(run, now);
    }
    if !looks_bad(stats, run, config, now) || stats.is_quiet(now) {
        return None;
    }
    let peers = record.shared.peers(config, now);
    let weight = f32::from(record.instance.weight().get());
    let own = Shown::of(stats, run, weight, now);
    let Some(rate) = peers.rate(own, true) else {
        Branch::NobodyCanTell.reach();
        return None;
    };
    let chance = Chance::new(rate, peers.requests());
    let threshold = failures_in_row::threshold(floor, chance);
    if run >= threshold && !is_old {
        Branch::OutlierTooSoon.reach();
    }
    if run >= threshold && is_old && !is_pause {
        return Some(in_row(run, threshold, unanswered));
    }
    let own = stats.judged(now);
    let threshold = failure_rate::threshold(config.failure_percentage(), rate);
    let often = failure_rate::reaches(own, config.request_volume(), threshold);
    let fires = often && !chance.explains(own);
    fires.then_some(EjectionReason::FailureRate {
        requests: own.outcomes.round() as u32,
        failures: own.failures.round() as u32,
        threshold_percentage: (threshold * 100.0).round() as u32,
        label: None,
    })
}

/// The same of a suspect whose trial failed, the last of `trials`.
pub(super) fn detect_suspect(
    stats: &Stats,
    weight: f32,
    peers: &Peers,
    config: &OutlierConfig,
    trials: u32,
    unanswered: bool,
    now: u64,
) -> Option<EjectionReason> {
    let run = stats.failures_in_row();
    let bad = looks_bad(stats, run, config, now);
    let rate = peers.rate_beside_suspect(Shown::of(stats, run, weight, now), bad)?;
    // The failures before singled it out from all requests, and load kept requests away for them. What chance explains or not
    // are the trials since.
    let before = run.saturating_sub(trials);
    let chance = Chance::new(rate, 1.0);
    let floor = config.suspect_failures().saturating_sub(before);
    let threshold = before.saturating_add(failures_in_row::threshold(floor, chance));
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
            label: None,
        }
    }
}
