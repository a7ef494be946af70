//! Why one member gets the share of requests that it gets.
//!
//! A member's share is its part of the requests that ended in the last 10 s. Fair is its part of the weight of all members
//! of its rank that are picked from, times the part of requests that goes to its rank. A share is called low only if chance
//! explains it badly: below four fifths of fair, and more than two standard deviations below.

use std::fmt;
use std::time::Duration;

use super::reason::{Percent, ShareReason, Spared};
use crate::model::instance::Instance;
use crate::status::{EjectionMode, MemberState, MemberStatus, RankStatus, Status};

/// The time that the figures of a member span.
const WINDOW: Duration = Duration::from_secs(10);
/// The part of fair below which a share is low.
const LOW: f64 = 0.8;
/// How much a cost must exceed the fleet's before it explains a low share.
const DEARER: f64 = 1.1;
/// Failures in a row, and the share of failures, from which it is said why a member is not ejected.
const RUN: u32 = 2;
const FAILING: f64 = 0.2;
/// The least requests for the latter.
const SAMPLE: u32 = 5;
/// The part of a member's failure rate from which that of the others excuses it.
const SHARED: f64 = 0.5;

/// Why one member gets the share of requests that it gets. `Display` is the sentence.
#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct MemberExplanation {
    /// The instance as last announced.
    pub instance: Instance,
    /// Whether picks choose it.
    pub is_picked: bool,
    /// Its part of the requests that ended in the last 10 s; `None` if there were none.
    pub share: Option<f64>,
    /// Its part of the weight of all members of its rank that are picked from, times the part of requests that goes to its
    /// rank; zero if it is not picked.
    pub fair: f64,
    /// Why it gets less than a fair share, or none, and what else is notable about it.
    pub reasons: Vec<ShareReason>,
}

/// What the sentences need to know of one rank.
struct RankSums {
    rank: u8,
    /// Its part of all requests.
    share: f64,
    /// The weight of its members that are picked from: those of the caller's zone, if there are any.
    weight: f64,
    /// Whether members of the caller's zone are picked from.
    has_near: bool,
}

/// What the sentences need to know of the whole fleet.
struct Sums {
    requests: f64,
    failures: f64,
    ranks: Vec<RankSums>,
    in_flight: f64,
    out: usize,
}

impl MemberExplanation {
    pub(super) fn of(status: &Status) -> Vec<Self> {
        let sums = Sums::of(status);
        let explain = |member| Self::of_member(member, status, &sums);
        status.members.iter().map(explain).collect()
    }

    fn of_member(member: &MemberStatus, status: &Status, sums: &Sums) -> Self {
        let is_picked = is_picked(member, status);
        let fair = if is_picked {
            sums.fair(member, status)
        } else {
            0.0
        };
        let requests = f64::from(member.recent_requests);
        let expected = fair * sums.requests;
        let is_low = requests < LOW * expected && expected - requests > 2.0 * expected.sqrt();
        let mut reasons = Vec::new();
        match &member.state {
            MemberState::Usable if !is_picked => reasons.extend(backup(member, status)),
            MemberState::Usable => {
                let low_of = is_low.then_some(fair);
                reasons_in_play(&mut reasons, member, status, sums, low_of);
            }
            MemberState::Busy => reasons.push(ShareReason::Busy),
            MemberState::Weightless => reasons.push(ShareReason::ZeroWeight),
            MemberState::Ejected | MemberState::Probation => {
                reasons.extend(reason_out(member, status));
            }
            MemberState::Draining => reasons.push(ShareReason::Draining {
                in_flight: member.in_flight,
            }),
            MemberState::Connecting => reasons.push(ShareReason::Connecting {
                since: member.since,
                error: member.error.clone(),
            }),
            MemberState::Disconnected => reasons.push(ShareReason::Disconnected {
                since: member.since,
                error: member.error.clone(),
                redial_in: member.redial_in,
            }),
        }
        if let Some(remaining) = status.doubted_for.filter(|_| member.is_missing) {
            reasons.push(ShareReason::Missing { remaining });
        }
        Self {
            instance: member.instance.clone(),
            is_picked,
            share: (sums.requests > 0.0).then(|| requests / sums.requests),
            fair,
            reasons,
        }
    }

    /// Whether there is anything to say beside its share.
    pub(crate) fn is_notable(&self) -> bool {
        !self.reasons.is_empty()
    }

    /// Writes the sentence without the instance that it is about.
    pub(crate) fn write_predicate(&self, f: &mut dyn fmt::Write) -> fmt::Result {
        match self.share {
            _ if !self.is_picked => f.write_str("gets no requests")?,
            Some(share) => {
                let (share, fair) = (Percent(share), Percent(self.fair));
                write!(f, "takes {share} of requests, fair is {fair}")?;
            }
            None => f.write_str("is usable")?,
        }
        for (index, reason) in self.reasons.iter().enumerate() {
            write!(f, "{} {reason}", if index == 0 { ":" } else { ";" })?;
        }
        Ok(())
    }
}

/// Why a member in play gets less than its share, and what is notable about it. `low_of`: its fair share, if it gets less.
fn reasons_in_play(
    reasons: &mut Vec<ShareReason>,
    member: &MemberStatus,
    status: &Status,
    sums: &Sums,
    low_of: Option<f64>,
) {
    if let Some(part) = member.slow_start {
        let is_new = member.is_new;
        let back = member.ejection.as_ref().filter(|_| !is_new);
        let since = back.map_or(member.since, |ejection| ejection.since);
        reasons.push(ShareReason::SlowStart {
            is_new,
            part,
            since,
        });
    }
    if let Some(remaining) = member.overloaded_for {
        reasons.push(ShareReason::Overloaded { remaining });
    }
    if let Some(max_in_flight) = status.max_in_flight
        && member.in_flight >= max_in_flight
    {
        reasons.push(ShareReason::Full { max_in_flight });
    }
    if let (Some(own), Some(zone)) = (&status.zone, member.instance.zone())
        && sums.is_passed_over(member, status)
    {
        reasons.push(ShareReason::OtherZone {
            zone: zone.clone(),
            own: own.clone(),
            price: status.zone_price,
        });
    }
    if let Some(fair) = low_of.filter(|_| reasons.is_empty()) {
        reasons.extend(reasons_of_load(member, status, sums, fair));
    }
    if member.is_suspect {
        reasons.push(ShareReason::Suspect {
            failures_in_row: member.failures_in_row,
            label: member.last_failure,
        });
    }
    let failures = member.recent_failures.max(member.failures_in_row);
    let requests = member.recent_requests.max(failures);
    let is_often =
        requests >= SAMPLE && f64::from(failures) >= FAILING * f64::from(requests.max(1));
    if member.failures_in_row >= RUN || is_often {
        reasons.push(ShareReason::NotEjected {
            failures,
            requests,
            because: spared(member, status, sums, failures, requests),
        });
    }
}

/// Why its load keeps requests away from a member.
fn reasons_of_load(
    member: &MemberStatus,
    status: &Status,
    sums: &Sums,
    fair: f64,
) -> Vec<ShareReason> {
    let mut reasons = Vec::new();
    if member.since < WINDOW {
        reasons.push(ShareReason::NewlyConnected {
            since: member.since,
        });
        return reasons;
    }
    let latency = |latency: Option<Duration>| latency.map_or(1.0, |latency| latency.as_secs_f64());
    let mean_in_flight = sums.in_flight * fair;
    let own = latency(member.latency.and(status.mean_latency).and(member.latency))
        * (f64::from(member.in_flight) + 1.0);
    let mean = latency(member.latency.and(status.mean_latency)) * (mean_in_flight + 1.0);
    if own > DEARER * mean {
        reasons.push(ShareReason::HigherLoad {
            latency: member.latency,
            in_flight: member.in_flight,
            mean_latency: status.mean_latency,
            mean_in_flight,
        });
    }
    if member.recent_failures > 0 && member.latency > status.mean_latency {
        reasons.push(ShareReason::Failures {
            failures: member.recent_failures,
            requests: member.recent_requests,
            label: member.last_failure,
        });
    }
    if reasons.is_empty() {
        reasons.push(ShareReason::LoadWasHigher);
    }
    reasons
}

/// Why a member that is out gets no requests, or gets them only because all are out.
fn reason_out(member: &MemberStatus, status: &Status) -> Option<ShareReason> {
    let ejection = member.ejection.clone()?;
    let in_panic_mode = status.panic_mode;
    Some(if member.state == MemberState::Probation {
        ShareReason::Probation {
            ejection,
            next_trial_in: status.next_trial_in,
            in_panic_mode,
        }
    } else {
        ShareReason::Ejected {
            ejection,
            in_panic_mode,
        }
    })
}

/// Why a member that fails is in play.
fn spared(
    member: &MemberStatus,
    status: &Status,
    sums: &Sums,
    failures: u32,
    requests: u32,
) -> Spared {
    match status.ejection_mode {
        EjectionMode::Off => return Spared::Off,
        EjectionMode::Shadow => return Spared::Shadow,
        EjectionMode::On => {}
    }
    if status.ejection_cap == 0 {
        return Spared::OnlyMember;
    }
    let others = (sums.failures - f64::from(member.recent_failures))
        / (sums.requests - f64::from(member.recent_requests)).max(1.0);
    let own = f64::from(failures) / f64::from(requests.max(1));
    let percentage = (others * 100.0).round() as u32;
    if percentage > 0 && others >= SHARED * own {
        return Spared::OthersFail { percentage };
    }
    if sums.out >= status.ejection_cap {
        return Spared::Cap { out: sums.out };
    }
    Spared::BelowThresholds
}

/// Whether picks choose a member.
fn is_picked(member: &MemberStatus, status: &Status) -> bool {
    let is_out = matches!(member.state, MemberState::Ejected | MemberState::Probation);
    let is_usable = member.state == MemberState::Usable || is_out && status.panic_mode;
    is_usable && !is_backup(member, status)
}

/// Whether no requests go to the rank of a member.
fn is_backup(member: &MemberStatus, status: &Status) -> bool {
    let is_it = |rank: &&RankStatus| rank.rank == member.instance.rank();
    let rank = status.ranks.iter().find(is_it);
    rank.is_some_and(|rank| rank.share == 0.0)
}

/// Why a usable member gets no requests: a rank before its own takes all of them.
fn backup(member: &MemberStatus, status: &Status) -> Option<ShareReason> {
    let own = member.instance.rank();
    let before = status.ranks.iter().filter(|rank| rank.rank < own);
    let taking = before.clone().rfind(|rank| rank.share > 0.0);
    let rank = taking.or_else(|| before.clone().next())?;
    Some(ShareReason::Backup {
        rank: rank.rank,
        pickable: rank.pickable_part(),
    })
}

impl Sums {
    /// The fair share of a member that is picked from.
    fn fair(&self, member: &MemberStatus, status: &Status) -> f64 {
        if self.is_passed_over(member, status) {
            return 0.0;
        }
        let weight = f64::from(member.instance.weight().get());
        let rank = self.rank(member);
        rank.map_or(0.0, |rank| rank.share * weight / rank.weight.max(1.0))
    }

    /// Whether a member is in another zone, and the caller's own has members that are picked from.
    fn is_passed_over(&self, member: &MemberStatus, status: &Status) -> bool {
        let has_near = self.rank(member).is_some_and(|rank| rank.has_near);
        has_near && member.is_far(status.zone.as_ref())
    }

    fn rank(&self, member: &MemberStatus) -> Option<&RankSums> {
        let is_own = |rank: &&RankSums| rank.rank == member.instance.rank();
        self.ranks.iter().find(is_own)
    }

    fn of(status: &Status) -> Self {
        let picked = || {
            let members = status.members.iter();
            members.filter(|&member| is_picked(member, status))
        };
        let is_out = |member: &&MemberStatus| {
            matches!(member.state, MemberState::Ejected | MemberState::Probation)
        };
        let in_flight: f64 = picked().map(|member| f64::from(member.in_flight)).sum();
        let members = status.members.iter();
        let ranks = status.ranks.iter().map(|rank| {
            let own = || picked().filter(|member| member.instance.rank() == rank.rank);
            let is_near = |member: &MemberStatus| !member.is_far(status.zone.as_ref());
            let has_near = own().any(is_near);
            let counted = own().filter(|member| !has_near || is_near(member));
            let weight = counted.map(|member| f64::from(member.instance.weight().get()));
            RankSums {
                rank: rank.rank,
                share: rank.share,
                weight: weight.sum(),
                has_near,
            }
        });
        Self {
            requests: picked().map(|m| f64::from(m.recent_requests)).sum(),
            failures: picked().map(|m| f64::from(m.recent_failures)).sum(),
            ranks: ranks.collect(),
            in_flight,
            out: members.filter(is_out).count(),
        }
    }
}

impl fmt::Display for MemberExplanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (id, addr) = (self.instance.id(), self.instance.address());
        write!(f, "{id} ({addr}) ")?;
        self.write_predicate(f)
    }
}

#[cfg(test)]
pub(crate) mod tests;
