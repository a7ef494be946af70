use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use crate::event::EjectionReason;
use crate::model::instance::Instance;
use crate::model::target::Target;

/// How things stand with a balancer at one moment. `Display` is a table for people.
///
/// With the feature `serde` it can be serialized; a [`Duration`] is `{"secs": 41, "nanos": 62324099}` then.
#[derive(Clone, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct Status {
    /// What is balanced; `None` for a fleet without a balancer.
    pub target: Option<Target>,
    /// How long ago discovery last answered with a set; `None` if it never did. Most backends answer again only when
    /// something changed, so a great age is no sign of trouble: [`discovery_error`](Self::discovery_error) is.
    pub set_age: Option<Duration>,
    /// The last error of discovery with its causes, if no set came after it.
    pub discovery_error: Option<String>,
    /// For how long discovery's last answer is still doubted, if it is.
    pub doubted_for: Option<Duration>,
    /// How many members a pick chooses from.
    pub usable: usize,
    /// Whether every eligible member is ejected or on probation, so that all of them are picked from.
    pub panic_mode: bool,
    /// What the rules of ejection do now.
    pub ejection_mode: EjectionMode,
    /// What they did so far.
    pub ejections: EjectionCounters,
    /// How often this process stalled so far, for over 250 ms while there was traffic: suspended, throttled, or a runtime that
    /// was blocked. Requests that span a stall judge no instance.
    pub stalls: u64,
    /// Mean latency of the fleet's successes; `None` until there were a few or where no latency is measured.
    pub mean_latency: Option<Duration>,
    /// Every known instance, by id.
    pub members: Vec<MemberStatus>,
}

impl Status {
    /// Of a balancer that has ended.
    pub(crate) fn ended(target: Target) -> Self {
        Self {
            target: Some(target),
            set_age: None,
            discovery_error: None,
            doubted_for: None,
            usable: 0,
            panic_mode: false,
            ejection_mode: EjectionMode::Off,
            ejections: EjectionCounters::default(),
            stalls: 0,
            mean_latency: None,
            members: Vec::new(),
        }
    }
}

/// How things stand with one member.
#[derive(Clone, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct MemberStatus {
    /// The instance as announced last.
    pub instance: Instance,
    /// Whether it is picked, and why not.
    pub state: MemberState,
    /// How long its connection has been up, or down.
    pub since: Duration,
    /// Requests picked and not yet completed.
    pub in_flight: u32,
    /// Picks so far.
    pub picks: u64,
    /// Failures so far: bad answers, and callers that waited for nothing.
    pub failures: u64,
    /// Failures since its last success.
    pub failures_in_row: u32,
    /// The [label](crate::Attempt::failure_labelled) of its last failure, such as `"503"`; `"no answer"` if the caller gave
    /// up or the time limit passed.
    pub last_failure: Option<&'static str>,
    /// Successes and failures of about the last 10 s, and none from before it last returned. By these, of all members, the
    /// rules tell an outlier from what is usual in the fleet. Zero where no clock is read, with
    /// [`Load::least_in_flight`](crate::Load::least_in_flight) and ejection off.
    pub recent_requests: u32,
    /// How many of those were failures.
    pub recent_failures: u32,
    /// Its latency as picks see it: shrunk to the fleet's mean, to which it returns while nothing is asked of it, and each
    /// failure charged with twenty times that; `None` while there is no evidence.
    pub latency: Option<Duration>,
    /// Why the last dial to its address failed, if none succeeded since.
    pub error: Option<String>,
    /// Its last ejection, if it ever was ejected.
    pub ejection: Option<EjectionStatus>,
}

impl MemberStatus {
    /// Of one that drains, whether no dial failed since it was connected.
    fn is_connected(&self) -> bool {
        match self.state {
            MemberState::Connecting | MemberState::Disconnected => false,
            MemberState::Draining => self.error.is_none(),
            _ => true,
        }
    }
}

/// How things stand with a member's last ejection.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct EjectionStatus {
    /// The rule that fired, with its figures.
    pub reason: EjectionReason,
    /// How often it was ejected so far.
    pub ejections: u64,
    /// Ejections and failed trials in a row, less what it has worked off: each doubles the time of the next. Its return takes one
    /// off, though not the last; after that one more for each
    /// [`base_ejection_time`](crate::OutlierBuilder::base_ejection_time) in which it had
    /// [`request_volume`](crate::OutlierBuilder::request_volume) successes.
    pub multiplier: u32,
    /// How long ago it began, or, if it is over, ended; with the trials that failed since it is one ejection.
    pub since: Duration,
    /// Whether the member is back in play.
    pub is_over: bool,
    /// How long it still lasts; `None` where it is over or only a trial is missing.
    pub remaining: Option<Duration>,
}

/// What the rules of ejection do. Ejection by hand is there as long as the runtime of the balancer is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "kebab-case"))]
#[non_exhaustive]
pub enum EjectionMode {
    /// They eject.
    On,
    /// They detect, count and tell, and eject nobody: [`shadow`](crate::OutlierBuilder::shadow).
    Shadow,
    /// Nothing: [`outlier`](crate::ConfigBuilder::outlier) is `None`, or the runtime of the balancer is gone, so that
    /// nobody would end an ejection.
    Off,
}

/// How often something happened to members of a fleet so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct EjectionCounters {
    /// A rule fired.
    pub detected: u64,
    /// A member was ejected, by a rule or by hand.
    pub ejected: u64,
    /// A rule fired, and as many as may be were out already; at most once a second for each member.
    pub refused_by_cap: u64,
    /// A trial ended with a verdict; also of suspects, which no event tells.
    pub trials: u64,
    /// A member came back into play.
    pub returned: u64,
    /// Panic mode began.
    pub panic_modes: u64,
}

/// Whether a member is picked, and why not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "kebab-case"))]
#[non_exhaustive]
pub enum MemberState {
    /// Picked from.
    Usable,
    /// Connected; says it is busy, and others are available.
    Busy,
    /// Connected; has weight 0.
    Weightless,
    /// Takes no picks but in panic mode; see [`MemberStatus::ejection`].
    Ejected,
    /// Its ejection is over. One request at a time goes there as a trial; trials that fail are rationed.
    Probation,
    /// Takes no new picks; what is in flight finishes.
    Draining,
    /// Being dialled.
    Connecting,
    /// Not connected; dialled again later.
    Disconnected,
}

impl fmt::Display for MemberState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Usable => "usable",
            Self::Busy => "busy",
            Self::Weightless => "weight 0",
            Self::Ejected => "ejected",
            Self::Probation => "probation",
            Self::Draining => "draining",
            Self::Connecting => "connecting",
            Self::Disconnected => "disconnected",
        })
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(target) = &self.target {
            write!(f, "{target}: ")?;
        }
        write!(f, "{} of {} usable", self.usable, self.members.len())?;
        if self.panic_mode {
            f.write_str(" (panic mode)")?;
        }
        match self.ejection_mode {
            EjectionMode::On => {}
            EjectionMode::Shadow => f.write_str(", ejection in shadow")?,
            EjectionMode::Off => f.write_str(", ejection off")?,
        }
        match self.set_age {
            Some(age) => write!(f, ", set {:.1} s old", age.as_secs_f64())?,
            None => f.write_str(", no set yet")?,
        }
        if self.stalls > 0 {
            write!(f, ", this process stalled {} times", self.stalls)?;
        }
        if let Some(rest) = self.doubted_for {
            write!(f, ", newest answer doubted for {:.1} s", rest.as_secs_f64())?;
        }
        if let Some(error) = &self.discovery_error {
            write!(f, ", discovery: {error}")?;
        }
        for member in &self.members {
            let id = member.instance.id().to_string();
            let addr = member.instance.addr().to_string();
            let latency = member.latency.map_or_else(
                || "-".to_owned(),
                |l| format!("{:.2} ms", l.as_secs_f64() * 1e3),
            );
            write!(
                f,
                "\n  {id:<20} {addr:<21} {:<12} {:<4} {:>7.1} s  in flight {:<4} picks {:<8} failures {:<6} latency {latency}",
                member.state,
                if member.is_connected() { "up" } else { "down" },
                member.since.as_secs_f64(),
                member.in_flight,
                member.picks,
                member.failures,
            )?;
            if member.recent_failures > 0 {
                let (failed, of) = (member.recent_failures, member.recent_requests);
                write!(f, "  {failed} of {of} failed lately")?;
            }
            if member.failures_in_row > 0 {
                write!(f, "  {} in a row", member.failures_in_row)?;
            }
            if let Some(label) = member.last_failure {
                write!(f, "  last failure: {label}")?;
            }
            if let Some(error) = &member.error {
                write!(f, "  {error}")?;
            }
            if let Some(ejection) = &member.ejection {
                write!(f, "  {ejection}")?;
            }
        }
        Ok(())
    }
}

impl fmt::Display for EjectionStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (since, reason) = (self.since.as_secs_f64(), &self.reason);
        match (self.is_over, self.remaining) {
            (true, _) => write!(f, "back for {since:.1} s, was ejected: {reason}"),
            (false, Some(rest)) => {
                let rest = rest.as_secs_f64();
                write!(f, "ejected {since:.1} s ago, {rest:.1} s to go: {reason}")
            }
            (false, None) => write!(f, "ejected {since:.1} s ago, on probation: {reason}"),
        }?;
        if self.ejections > 1 {
            write!(f, "; {} ejections so far", self.ejections)?;
        }
        if self.multiplier > 1 {
            write!(f, "; multiplier {}", self.multiplier)?;
        }
        Ok(())
    }
}

/// What a fleet with nothing usable consists of: `"4 known: 3 refused (111), 1 draining"`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Census {
    known: usize,
    reasons: BTreeMap<String, usize>,
}

impl Census {
    pub(crate) fn count(&mut self, reason: &str) {
        self.known += 1;
        match self.reasons.get_mut(reason) {
            Some(count) => *count += 1,
            None => {
                self.reasons.insert(reason.to_owned(), 1);
            }
        }
    }

    /// How many instances are known.
    pub fn known(&self) -> usize {
        self.known
    }

    /// Why they are not usable, and how many each; the most frequent first.
    pub fn reasons(&self) -> Vec<(&str, usize)> {
        let mut reasons: Vec<_> = self
            .reasons
            .iter()
            .map(|(reason, &count)| (reason.as_str(), count))
            .collect();
        reasons.sort_by_key(|&(_, count)| std::cmp::Reverse(count));
        reasons
    }
}

impl fmt::Display for Census {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} known", self.known)?;
        for (index, (reason, count)) in self.reasons().into_iter().enumerate() {
            write!(f, "{} {count} {reason}", if index == 0 { ":" } else { "," })?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_beside_a_state_is_that_of_the_connection() {
        let addr = "127.0.0.1:80".parse().unwrap();
        let member = |state| MemberStatus {
            instance: Instance::new("a", addr),
            state,
            since: Duration::from_secs(34),
            in_flight: 0,
            picks: 0,
            failures: 0,
            failures_in_row: 0,
            last_failure: None,
            recent_requests: 0,
            recent_failures: 0,
            latency: None,
            error: None,
            ejection: None,
        };
        let status = Status {
            target: None,
            set_age: None,
            discovery_error: None,
            doubted_for: None,
            usable: 0,
            panic_mode: false,
            ejection_mode: EjectionMode::On,
            ejections: EjectionCounters::default(),
            stalls: 0,
            mean_latency: None,
            members: vec![
                member(MemberState::Ejected),
                member(MemberState::Disconnected),
            ],
        };
        let text = status.to_string();
        let mut words = text.lines().map(|line| line.split_whitespace().skip(2));
        assert!(words.next().is_some());
        let mut told = words.map(|line| line.take(3).collect::<Vec<_>>().join(" "));
        assert_eq!(told.next().unwrap(), "ejected up 34.0");
        assert_eq!(told.next().unwrap(), "disconnected down 34.0");
    }

    #[test]
    fn a_census_names_the_most_frequent_reason_first() {
        let mut census = Census::default();
        for reason in [
            "draining",
            "refused (111)",
            "refused (111)",
            "refused (111)",
        ] {
            census.count(reason);
        }
        assert_eq!(census.to_string(), "4 known: 3 refused (111), 1 draining");
    }
}
