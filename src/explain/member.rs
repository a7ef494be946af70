//! Why one member gets the share of requests that it gets.
//!
//! A member's share is its part of the requests that ended in the last 10 s. Fair is its part of the weight of all members
//! of its rank that are picked from, times the part of requests that goes to its rank. A share is called low only if chance
//! explains it badly: below four fifths of fair, and more than two standard deviations below.

use std::fmt;
use std::time::Duration;

use crate::model::instance::{Instance, Zone};
use crate::runtime::duration::Rounded;
#[cfg(feature = "serde")]
use crate::runtime::duration::seconds;
use crate::runtime::text::Counted;
use crate::status::{EjectionMode, EjectionStatus, MemberState, MemberStatus, RankStatus, Status};

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

/// Why a member gets less than its fair share, or what else is notable about it. `Display` is a part of a sentence.
#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "kebab-case", tag = "reason"))]
#[non_exhaustive]
pub enum ShareReason {
    /// It is not connected.
    #[non_exhaustive]
    Disconnected {
        /// For how long.
        #[cfg_attr(feature = "serde", serde(serialize_with = "seconds::serialize"))]
        since: Duration,
        /// Why the last dial failed, with causes.
        error: Option<String>,
        /// The time until the next dial.
        #[cfg_attr(
            feature = "serde",
            serde(serialize_with = "seconds::option::serialize")
        )]
        redial_in: Option<Duration>,
    },
    /// It is being dialled.
    #[non_exhaustive]
    Connecting {
        /// How long it has been without a connection.
        #[cfg_attr(feature = "serde", serde(serialize_with = "seconds::serialize"))]
        since: Duration,
        /// Why the last dial failed, with causes.
        error: Option<String>,
    },
    /// It drains.
    #[non_exhaustive]
    Draining {
        /// Its requests that still have to finish.
        in_flight: u32,
    },
    /// It is announced with weight 0.
    ZeroWeight,
    /// It is busy, as it says, and others are available.
    Busy,
    /// It is a backup, and a rank before its own takes all requests.
    #[non_exhaustive]
    Backup {
        /// That rank.
        rank: u8,
        /// The part of that rank's weight that is pickable, or whose first dial is still running.
        pickable: f64,
    },
    /// It is ejected.
    #[non_exhaustive]
    Ejected {
        /// Why, since when, and for how long.
        ejection: EjectionStatus,
        /// Whether picks choose it all the same, because all are out.
        in_panic_mode: bool,
    },
    /// Its ejection is over, and a trial decides.
    #[non_exhaustive]
    Probation {
        /// Why it was ejected.
        ejection: EjectionStatus,
        /// Requests until a trial can begin. Zero: the next one.
        next_trial_in: u32,
        /// Whether picks choose it all the same, because all are out.
        in_panic_mode: bool,
    },
    /// It is in another zone than the caller, and gets requests while the caller's own costs too much.
    #[non_exhaustive]
    OtherZone {
        /// Its zone.
        zone: Zone,
        /// The caller's zone.
        own: Zone,
        /// How many times as much the caller's zone may cost.
        price: f64,
    },
    /// It is in slow start, after an ejection or because it is new.
    #[non_exhaustive]
    SlowStart {
        /// Whether it is new.
        is_new: bool,
        /// The part of its share that it gets, from 0.1 to 1.
        part: f64,
        /// How long it has been back, or connected.
        #[cfg_attr(feature = "serde", serde(serialize_with = "seconds::serialize"))]
        since: Duration,
    },
    /// It said that it is overloaded. Its load counts twenty times.
    #[non_exhaustive]
    Overloaded {
        /// For how long it still counts.
        #[cfg_attr(feature = "serde", serde(serialize_with = "seconds::serialize"))]
        remaining: Duration,
    },
    /// It has as many requests in flight as `max_in_flight` allows.
    #[non_exhaustive]
    Full {
        /// That many.
        max_in_flight: u32,
    },
    /// Its connection is younger than the figures.
    #[non_exhaustive]
    NewlyConnected {
        /// How old it is.
        #[cfg_attr(feature = "serde", serde(serialize_with = "seconds::serialize"))]
        since: Duration,
    },
    /// Its load is higher than that of the others.
    #[non_exhaustive]
    HigherLoad {
        /// Its latency as picks see it, if latency is measured.
        #[cfg_attr(
            feature = "serde",
            serde(serialize_with = "seconds::option::serialize")
        )]
        latency: Option<Duration>,
        /// Its requests in flight.
        in_flight: u32,
        /// The fleet's mean latency.
        #[cfg_attr(
            feature = "serde",
            serde(serialize_with = "seconds::option::serialize")
        )]
        mean_latency: Option<Duration>,
        /// The requests in flight that a member of its weight has in the fleet's mean.
        mean_in_flight: f64,
    },
    /// Its failures raise its latency as picks see it.
    #[non_exhaustive]
    Failures {
        /// Failures of the last 10 s.
        failures: u32,
        /// Successes and failures of the last 10 s.
        requests: u32,
        /// The label of the last one.
        label: Option<&'static str>,
    },
    /// Its load was higher than that of the others and is not now.
    LoadWasHigher,
    /// It failed, or answered late, and gets too little traffic to be judged. A trial decides.
    #[non_exhaustive]
    Suspect {
        /// Its failures in a row; zero: it was late.
        failures_in_row: u32,
        /// The label of its last failure.
        label: Option<&'static str>,
    },
    /// It fails, and is not ejected.
    #[non_exhaustive]
    NotEjected {
        /// Failures of the last 10 s, or in a row if that is more.
        failures: u32,
        /// Successes and failures of the last 10 s, at least `failures`.
        requests: u32,
        /// Why not.
        because: Spared,
    },
    /// Discovery's newest answer lacks it, but is doubted.
    #[non_exhaustive]
    Missing {
        /// For how long it is kept.
        #[cfg_attr(feature = "serde", serde(serialize_with = "seconds::serialize"))]
        remaining: Duration,
    },
}

/// Why a member that fails is not ejected.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "kebab-case", tag = "kind"))]
#[non_exhaustive]
pub enum Spared {
    /// Ejection is off.
    Off,
    /// Ejection is in shadow.
    Shadow,
    /// It is the only member that is connected and may be picked.
    OnlyMember,
    /// The others fail too.
    #[non_exhaustive]
    OthersFail {
        /// How often, in percent.
        percentage: u32,
    },
    /// As many are out as the cap allows.
    #[non_exhaustive]
    Cap {
        /// How many.
        out: usize,
    },
    /// Its figures do not reach the threshold of any rule.
    BelowThresholds,
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

impl fmt::Display for ShareReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Disconnected {
                since,
                error,
                redial_in,
            } => {
                write!(f, "not connected for {}", Rounded(*since))?;
                write_error(f, error.as_deref())?;
                match redial_in {
                    Some(wait) => write!(f, "; dialled again in {}", Rounded(*wait)),
                    None => Ok(()),
                }
            }
            Self::Connecting { since, error } => {
                write!(
                    f,
                    "being dialled, without connection for {}",
                    Rounded(*since)
                )?;
                write_error(f, error.as_deref())
            }
            Self::Draining { in_flight: 0 } => f.write_str("it drains"),
            Self::Draining { in_flight } => {
                write!(f, "it drains, {} in flight to finish", in_flight)
            }
            Self::ZeroWeight => f.write_str("its weight is 0"),
            Self::Backup { rank, pickable } => {
                let pickable = Percent(*pickable);
                write!(
                    f,
                    "it is a backup, and {pickable} of the weight of rank {rank} is usable"
                )
            }
            Self::Busy => f.write_str("it says that it is busy, and others are available"),
            Self::Ejected {
                ejection,
                in_panic_mode,
            } => {
                write_panic_mode(f, *in_panic_mode)?;
                write!(f, "{ejection}")
            }
            Self::Probation {
                ejection,
                next_trial_in,
                in_panic_mode,
            } => {
                write_panic_mode(f, *in_panic_mode)?;
                write!(f, "{ejection}; ")?;
                match next_trial_in {
                    0 => f.write_str("its trial comes with the next request"),
                    requests => write!(f, "its trial comes within {requests} requests"),
                }
            }
            Self::OtherZone { zone, own, price } => write!(
                f,
                "in another zone: {zone} gets requests while {own} costs more than {} times as much",
                Digits(*price)
            ),
            Self::SlowStart {
                is_new,
                part,
                since,
            } => write!(
                f,
                "{} for {}, slow start gives it {} of its share",
                if *is_new { "new" } else { "back" },
                Rounded(*since),
                Percent(*part)
            ),
            Self::Overloaded { remaining } => write!(
                f,
                "it said that it is overloaded, which counts for {} more",
                Rounded(*remaining)
            ),
            Self::Full { max_in_flight } => {
                write!(f, "it is at its limit of {max_in_flight} in flight")
            }
            Self::NewlyConnected { since } => write!(
                f,
                "connected for {}, while the figures span 10 s",
                Rounded(*since)
            ),
            Self::HigherLoad {
                latency: Some(latency),
                in_flight,
                mean_latency: Some(mean_latency),
                mean_in_flight,
            } => write!(
                f,
                "{} × {} ({in_flight} in flight and the next request) against the fleet's {} × {}",
                Rounded(*latency),
                in_flight.saturating_add(1),
                Rounded(*mean_latency),
                Digits(*mean_in_flight + 1.0)
            ),
            Self::HigherLoad {
                in_flight,
                mean_in_flight,
                ..
            } => write!(
                f,
                "{in_flight} in flight against the fleet's {}",
                Digits(*mean_in_flight)
            ),
            Self::Failures {
                failures,
                requests,
                label,
            } => {
                write!(f, "{failures} of {requests} failed")?;
                write_label(f, *label)?;
                f.write_str(", each of which counts as 20 times the mean latency")
            }
            Self::LoadWasHigher => {
                f.write_str("its load is now that of the others, and was higher within 10 s")
            }
            Self::Suspect {
                failures_in_row: 0, ..
            } => f.write_str("suspect, since it answered late; a trial decides"),
            Self::Suspect {
                failures_in_row,
                label,
            } => {
                let failures = Counted(*failures_in_row, "failure");
                write!(f, "suspect after {failures} in a row")?;
                write_label(f, *label)?;
                f.write_str("; a trial decides")
            }
            Self::NotEjected {
                failures,
                requests,
                because,
            } => write!(
                f,
                "not ejected though {failures} of {requests} failed: {because}"
            ),
            Self::Missing { remaining } => write!(
                f,
                "discovery's newest answer lacks it; it is kept for {} more",
                Rounded(*remaining)
            ),
        }
    }
}

impl fmt::Display for Spared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Off => f.write_str("ejection is off"),
            Self::Shadow => f.write_str("ejection is in shadow"),
            Self::OnlyMember => f.write_str("the only connected instance is never ejected"),
            Self::OthersFail { percentage } => {
                write!(f, "{percentage} % of the others' requests fail too")
            }
            Self::Cap { out } => write!(f, "{out} out already, which is the ejection cap"),
            Self::BelowThresholds => f.write_str("that is below the thresholds"),
        }
    }
}

fn write_error(f: &mut fmt::Formatter<'_>, error: Option<&str>) -> fmt::Result {
    match error {
        Some(error) => write!(f, ", the last dial failed: {error}"),
        None => Ok(()),
    }
}

fn write_label(f: &mut fmt::Formatter<'_>, label: Option<&str>) -> fmt::Result {
    match label {
        Some(label) => write!(f, ", the last: {label}"),
        None => Ok(()),
    }
}

fn write_panic_mode(f: &mut fmt::Formatter<'_>, is_on: bool) -> fmt::Result {
    if is_on {
        f.write_str("picked anyway, since all are out; ")?;
    }
    Ok(())
}

/// A fraction as a percentage of two or three digits.
pub(crate) struct Percent(pub(crate) f64);

impl fmt::Display for Percent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} %", Digits(self.0 * 100.0))
    }
}

/// A number with one decimal where it is below ten and has any.
struct Digits(f64);

impl fmt::Display for Digits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let tenths = (self.0 * 10.0).round() / 10.0;
        if tenths < 10.0 && tenths.fract() != 0.0 {
            write!(f, "{tenths:.1}")
        } else {
            write!(f, "{:.0}", self.0)
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::event::reason::EjectionReason;
    use crate::status::EjectionCounters;

    const SECOND: Duration = Duration::from_secs(1);

    pub(crate) fn member(state: MemberState) -> MemberStatus {
        MemberStatus {
            instance: Instance::new("pay-1", ([10, 0, 0, 7], 80)),
            state,
            since: 34 * SECOND,
            in_flight: 0,
            picks: 0,
            failures: 0,
            failures_in_row: 0,
            last_failure: None,
            recent_requests: 0,
            recent_failures: 0,
            latency: None,
            error: None,
            redial_in: None,
            is_suspect: false,
            check: None,
            slow_start: None,
            is_new: false,
            overloaded_for: None,
            is_missing: false,
            ejection: None,
        }
    }

    pub(crate) fn status<const N: usize>(states: [MemberState; N]) -> Status {
        let is_usable = |state: &&MemberState| **state == MemberState::Usable;
        Status {
            target: Some("worker:http".parse().unwrap()),
            set_age: Some(40 * SECOND),
            discovery_error: None,
            is_provisional: false,
            doubted_for: None,
            subset: None,
            usable: states.iter().filter(is_usable).count(),
            panic_mode: false,
            ejection_mode: EjectionMode::On,
            ejections: EjectionCounters::default(),
            stalls: 0,
            ejection_cap: 5,
            next_trial_in: 0,
            max_in_flight: None,
            attempt_timeout: None,
            mean_latency: None,
            zone: None,
            zone_price: 2.0,
            ranks: vec![rank(0, 10, 10, 1.0)],
            members: states.map(member).into(),
        }
    }

    fn rank(rank: u8, announced_weight: u64, pickable_weight: u64, share: f64) -> RankStatus {
        RankStatus {
            rank,
            announced_weight,
            pickable_weight,
            share,
        }
    }

    pub(crate) fn ejection() -> EjectionStatus {
        EjectionStatus {
            reason: EjectionReason::FailuresInRow {
                failures: 3,
                threshold: 2,
                label: Some("503"),
            },
            ejections: 1,
            multiplier: 1,
            since: Duration::from_millis(1900),
            is_over: false,
            probation: None,
            remaining: Some(Duration::from_millis(3200)),
        }
    }

    /// Ten usable members with 100 requests each in the last 10 s, the first of which `change` changes.
    fn first(change: impl FnOnce(&mut MemberStatus, &mut Status)) -> MemberExplanation {
        let mut status = status([MemberState::Usable; 10]);
        for member in &mut status.members {
            member.recent_requests = 100;
            member.in_flight = 1;
            member.latency = Some(Duration::from_millis(6));
        }
        status.mean_latency = Some(Duration::from_millis(6));
        let mut first = status.members.remove(0);
        change(&mut first, &mut status);
        status.members.insert(0, first);
        MemberExplanation::of(&status).remove(0)
    }

    fn low(member: &mut MemberStatus) {
        member.recent_requests = 40;
    }

    /// A member for each reason, whatever else it may have, and the golden sentence. The matches make a new reason, a new
    /// state and a new cause of sparing fail to compile here.
    fn goldens() -> Vec<(MemberExplanation, &'static str)> {
        vec![
            (first(|_, _| {}), "takes 10 % of requests, fair is 10 %"),
            (
                first(|m, _| {
                    (m.state, m.since) = (MemberState::Disconnected, 12 * SECOND);
                    m.error = Some("refused (111): Connection refused".into());
                    m.redial_in = Some(SECOND / 2);
                }),
                "gets no requests: not connected for 12 s, the last dial failed: refused (111): Connection refused; dialled \
                 again in 500 ms",
            ),
            (
                first(|m, _| (m.state, m.since) = (MemberState::Connecting, SECOND / 2)),
                "gets no requests: being dialled, without connection for 500 ms",
            ),
            (
                first(|m, _| (m.state, m.in_flight) = (MemberState::Draining, 3)),
                "gets no requests: it drains, 3 in flight to finish",
            ),
            (
                first(|m, _| m.state = MemberState::Weightless),
                "gets no requests: its weight is 0",
            ),
            (
                first(|m, _| m.state = MemberState::Busy),
                "gets no requests: it says that it is busy, and others are available",
            ),
            (
                first(|m, status| {
                    m.instance = m.instance.clone().with_rank(1);
                    status.ranks = vec![rank(0, 10, 9, 1.0), rank(1, 1, 1, 0.0)];
                }),
                "gets no requests: it is a backup, and 90 % of the weight of rank 0 is usable",
            ),
            (
                first(|m, status| {
                    let zone = |zone| Zone::new(zone).unwrap();
                    (status.zone, status.zone_price) = (Some(zone("EU-1a")), 2.5);
                    for near in &mut status.members {
                        near.instance = near.instance.clone().with_zone(zone("eu-1a"));
                    }
                    (m.instance, m.recent_requests) =
                        (m.instance.clone().with_zone(zone("eu-1b")), 3);
                }),
                "takes 0.3 % of requests, fair is 0 %: in another zone: eu-1b gets requests while EU-1a costs more than 2.5 times \
                 as much",
            ),
            (
                first(|m, _| {
                    (m.is_new, m.slow_start, m.since) = (true, Some(0.4), 3 * SECOND);
                    m.recent_requests = 40;
                }),
                "takes 4.3 % of requests, fair is 10 %: new for 3 s, slow start gives it 40 % of its share",
            ),
            (
                first(|m, status| {
                    (m.instance, m.recent_requests) = (m.instance.clone().with_rank(1), 0);
                    status.ranks = vec![rank(0, 10, 6, 6.0 / 7.0), rank(1, 1, 1, 1.0 / 7.0)];
                    m.since = SECOND;
                }),
                "takes 0 % of requests, fair is 14 %: connected for 1 s, while the figures span 10 s",
            ),
            (
                first(|m, _| (m.state, m.ejection) = (MemberState::Ejected, Some(ejection()))),
                "gets no requests: ejected 1.9 s ago, 3.2 s to go: 3 failures in a row, the last: 503 (threshold 2)",
            ),
            (
                first(|m, s| {
                    (m.state, m.ejection) = (MemberState::Ejected, Some(ejection()));
                    s.panic_mode = true;
                }),
                "takes 10 % of requests, fair is 10 %: picked anyway, since all are out; ejected 1.9 s ago, 3.2 s to go: \
                 3 failures in a row, the last: 503 (threshold 2)",
            ),
            (
                first(|m, s| {
                    let mut ejection = ejection();
                    (ejection.remaining, ejection.probation) = (None, Some(3 * SECOND));
                    (m.state, m.ejection) = (MemberState::Probation, Some(ejection));
                    s.next_trial_in = 12;
                }),
                "gets no requests: ejected 1.9 s ago, on probation for 3 s: 3 failures in a row, the last: 503 (threshold 2); \
                 its trial comes within 12 requests",
            ),
            (
                first(|m, _| {
                    low(m);
                    m.slow_start = Some(0.32);
                    let mut ejection = ejection();
                    (ejection.is_over, ejection.since) = (true, Duration::from_millis(1200));
                    m.ejection = Some(ejection);
                }),
                "takes 4.3 % of requests, fair is 10 %: back for 1.2 s, slow start gives it 32 % of its share",
            ),
            (
                first(|m, _| {
                    low(m);
                    m.overloaded_for = Some(SECOND * 4 / 5);
                }),
                "takes 4.3 % of requests, fair is 10 %: it said that it is overloaded, which counts for 800 ms more",
            ),
            (
                first(|m, s| {
                    low(m);
                    (m.in_flight, s.max_in_flight) = (8, Some(8));
                }),
                "takes 4.3 % of requests, fair is 10 %: it is at its limit of 8 in flight",
            ),
            (
                first(|m, _| {
                    low(m);
                    m.since = 3 * SECOND;
                }),
                "takes 4.3 % of requests, fair is 10 %: connected for 3 s, while the figures span 10 s",
            ),
            (
                first(|m, _| {
                    low(m);
                    (m.latency, m.in_flight) = (Some(Duration::from_millis(18)), 3);
                }),
                "takes 4.3 % of requests, fair is 10 %: 18 ms × 4 (3 in flight and the next request) against the fleet's \
                 6 ms × 2.2",
            ),
            (
                first(|m, s| {
                    low(m);
                    (m.latency, m.in_flight, s.mean_latency) = (None, 3, None);
                }),
                "takes 4.3 % of requests, fair is 10 %: 3 in flight against the fleet's 1.2",
            ),
            (
                first(|m, _| {
                    low(m);
                    (m.latency, m.in_flight) = (Some(Duration::from_millis(18)), 0);
                    (m.recent_failures, m.last_failure) = (4, Some("503"));
                }),
                "takes 4.3 % of requests, fair is 10 %: 18 ms × 1 (0 in flight and the next request) against the fleet's \
                 6 ms × 1.9; 4 of 40 failed, the last: 503, each of which counts as 20 times the mean latency",
            ),
            (
                first(|m, _| low(m)),
                "takes 4.3 % of requests, fair is 10 %: its load is now that of the others, and was higher within 10 s",
            ),
            (
                first(|m, _| {
                    (m.is_suspect, m.failures_in_row, m.last_failure) = (true, 1, Some("503"));
                }),
                "takes 10 % of requests, fair is 10 %: suspect after 1 failure in a row, the last: 503; a trial decides",
            ),
            (
                first(|m, _| m.is_suspect = true),
                "takes 10 % of requests, fair is 10 %: suspect, since it answered late; a trial decides",
            ),
            (
                first(|m, s| (m.recent_failures, s.ejection_mode) = (40, EjectionMode::Off)),
                "takes 10 % of requests, fair is 10 %: not ejected though 40 of 100 failed: ejection is off",
            ),
            (
                first(|m, s| (m.recent_failures, s.ejection_mode) = (40, EjectionMode::Shadow)),
                "takes 10 % of requests, fair is 10 %: not ejected though 40 of 100 failed: ejection is in shadow",
            ),
            (
                first(|m, s| (m.recent_failures, s.ejection_cap) = (40, 0)),
                "takes 10 % of requests, fair is 10 %: not ejected though 40 of 100 failed: the only connected instance is \
                 never ejected",
            ),
            (
                first(|m, s| {
                    m.recent_failures = 40;
                    for other in &mut s.members {
                        other.recent_failures = 31;
                    }
                }),
                "takes 10 % of requests, fair is 10 %: not ejected though 40 of 100 failed: 31 % of the others' \
                 requests fail too",
            ),
            (
                first(|m, s| {
                    m.recent_failures = 40;
                    s.ejection_cap = 1;
                    s.members[0].state = MemberState::Ejected;
                }),
                "takes 11 % of requests, fair is 11 %: not ejected though 40 of 100 failed: 1 out already, which is the ejection \
                 cap",
            ),
            (
                first(|m, _| (m.recent_failures, m.failures_in_row) = (2, 2)),
                "takes 10 % of requests, fair is 10 %: not ejected though 2 of 100 failed: that is below the thresholds",
            ),
            (
                first(|m, s| {
                    m.is_missing = true;
                    s.doubted_for = Some(12 * SECOND);
                }),
                "takes 10 % of requests, fair is 10 %: discovery's newest answer lacks it; it is kept for 12 s more",
            ),
        ]
    }

    #[test]
    fn each_sentence_is_as_in_the_golden_list() {
        for (explained, golden) in goldens() {
            let told = explained.to_string();
            assert_eq!(told, format!("pay-1 (10.0.0.7:80) {golden}"));
        }
    }

    /// The names of all reasons. Without a name a new one does not compile, and without a golden sentence the test below
    /// fails.
    fn names(explained: &MemberExplanation) -> impl Iterator<Item = &'static str> {
        explained.reasons.iter().map(|reason| match reason {
            ShareReason::Disconnected { .. } => "disconnected",
            ShareReason::Connecting { .. } => "connecting",
            ShareReason::Draining { .. } => "draining",
            ShareReason::ZeroWeight => "zero weight",
            ShareReason::Backup { .. } => "backup",
            ShareReason::OtherZone { .. } => "other zone",
            ShareReason::Busy => "busy",
            ShareReason::Ejected { .. } => "ejected",
            ShareReason::Probation { .. } => "probation",
            ShareReason::SlowStart { .. } => "slow start",
            ShareReason::Overloaded { .. } => "overloaded",
            ShareReason::Full { .. } => "full",
            ShareReason::NewlyConnected { .. } => "newly connected",
            ShareReason::HigherLoad { .. } => "higher load",
            ShareReason::Failures { .. } => "failures",
            ShareReason::LoadWasHigher => "load was higher",
            ShareReason::Suspect { .. } => "suspect",
            ShareReason::Missing { .. } => "missing",
            ShareReason::NotEjected { because, .. } => match because {
                Spared::Off => "not ejected: off",
                Spared::Shadow => "not ejected: shadow",
                Spared::OnlyMember => "not ejected: only member",
                Spared::OthersFail { .. } => "not ejected: others fail",
                Spared::Cap { .. } => "not ejected: cap",
                Spared::BelowThresholds => "not ejected: below",
            },
        })
    }

    #[test]
    fn every_reason_has_a_golden_sentence() {
        let told: std::collections::BTreeSet<_> = goldens()
            .iter()
            .flat_map(|(explained, _)| names(explained))
            .collect();
        assert_eq!(told.len(), 24, "{told:?}");
    }

    #[test]
    fn every_state_that_gets_no_requests_says_why() {
        for state in [
            MemberState::Busy,
            MemberState::Weightless,
            MemberState::Ejected,
            MemberState::Probation,
            MemberState::Draining,
            MemberState::Connecting,
            MemberState::Disconnected,
        ] {
            let explained = first(|member, _| {
                (member.state, member.ejection) = (state, Some(ejection()));
            });
            assert!(!explained.is_picked && explained.fair == 0.0, "{state}");
            assert_eq!(explained.reasons.len(), 1, "{state}: {explained}");
        }
    }

    #[test]
    fn a_share_that_chance_explains_needs_no_reason() {
        let few = first(|member, status| {
            member.recent_requests = 1;
            for other in &mut status.members {
                other.recent_requests = 3;
            }
        });
        assert!(few.reasons.is_empty(), "{few}");
    }

    #[test]
    fn fair_follows_the_weights() {
        let heavy = first(|member, _| {
            member.instance = member.instance.clone().with_weight(11);
        });
        assert!((heavy.fair - 0.55).abs() < 1e-9, "{heavy}");
    }

    #[test]
    fn a_heavy_member_with_requests_by_its_weight_has_no_higher_load() {
        let heavy = first(|member, _| {
            member.instance = member.instance.clone().with_weight(10);
            (member.in_flight, member.recent_requests) = (10, 600);
        });
        assert_eq!(heavy.reasons, [ShareReason::LoadWasHigher], "{heavy}");
    }

    #[test]
    fn others_that_hardly_fail_excuse_nobody() {
        let lone = first(|member, status| {
            (member.recent_requests, member.failures_in_row) = (0, 2);
            status.members[0].recent_requests = 1000;
            status.members[0].recent_failures = 1;
        });
        let told = lone.to_string();
        assert!(
            told.ends_with("not ejected though 2 of 2 failed: that is below the thresholds"),
            "{told}"
        );
    }

    #[test]
    fn without_requests_there_is_no_share() {
        let status = status([MemberState::Usable]);
        let told = MemberExplanation::of(&status)[0].to_string();
        assert_eq!(told, "pay-1 (10.0.0.7:80) is usable");
    }
}
