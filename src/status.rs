use std::fmt;
use std::time::Duration;

use crate::event::reason::EjectionReason;
use crate::model::instance::{Instance, Zone};
use crate::model::target::Target;
use crate::runtime::duration::Rounded;
#[cfg(feature = "serde")]
use crate::runtime::duration::seconds;

/// The state of a balancer at one moment. `Display` is a table for people, at most 120 columns wide.
///
/// [`explain`](Self::explain) says in words what the figures mean.
///
/// With the feature `serde` it can be serialized. Durations are then numbers of seconds, such as `41.062`: programs compare
/// and draw them without a parser. Configuration, which people write, keeps strings such as `"5s"`.
#[derive(Clone, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct Status {
    /// The balanced target; `None` for a fleet without a balancer.
    pub target: Option<Target>,
    /// The time since discovery last answered with a set; `None` if it never did.
    ///
    /// Most backends answer again only when something changed. So a great age is no sign of trouble, but
    /// [`discovery_error`](Self::discovery_error) is. Of a cached (`DiscoveryExt::cached`) set it is the time since
    /// discovery gave it to the process that stored it.
    #[cfg_attr(
        feature = "serde",
        serde(serialize_with = "seconds::option::serialize")
    )]
    pub set_age: Option<Duration>,
    /// Whether the set is a stand-in, cached or of [another discovery](crate::DiscoveryExt::or), until discovery gives its first
    /// one.
    pub is_provisional: bool,
    /// The last error of discovery with its causes, if no set came after it.
    pub discovery_error: Option<String>,
    /// The part of the instances that is dialled; `None` if that is all of them.
    pub subset: Option<SubsetStatus>,
    /// How long the instances that discovery's last answer lacks are still kept, if that answer is doubted.
    #[cfg_attr(
        feature = "serde",
        serde(serialize_with = "seconds::option::serialize")
    )]
    pub doubted_for: Option<Duration>,
    /// How many members picks choose from. Backups that are not needed do not count.
    pub usable: usize,
    /// Whether every eligible member is ejected or on probation, so that picks choose among all of them.
    pub panic_mode: bool,
    /// Whether the rules of ejection act.
    pub ejection_mode: EjectionMode,
    /// What the rules did so far.
    pub ejections: EjectionCounters,
    /// How often this process stalled for more than 250 ms while there was traffic: it was suspended or throttled, or its
    /// runtime was blocked. Requests that span a stall judge no instance.
    pub stalls: u64,
    /// How many members may be ejected by the rules at once. Zero for a single member.
    pub ejection_cap: usize,
    /// How many more requests refill the budget for trials until the next member that waits for one gets it. Zero: the next
    /// request is its trial.
    pub next_trial_in: u32,
    /// [`max_in_flight`](crate::ConfigBuilder::max_in_flight) of the configuration in force.
    pub max_in_flight: Option<u32>,
    /// The balancer's `attempt_timeout`. Without one, an instance that hangs is noticed only when callers give up.
    #[cfg_attr(
        feature = "serde",
        serde(serialize_with = "seconds::option::serialize")
    )]
    pub attempt_timeout: Option<Duration>,
    /// The mean latency of successes; `None` until there were a few, and where no latency is measured.
    #[cfg_attr(
        feature = "serde",
        serde(serialize_with = "seconds::option::serialize")
    )]
    pub mean_latency: Option<Duration>,
    /// The zone of this caller: [`zone`](crate::ConfigBuilder::zone) of the configuration in force.
    pub zone: Option<Zone>,
    /// How many times as much its zone may cost: [`zone_price`](crate::ConfigBuilder::zone_price).
    pub zone_price: f64,
    /// What each [rank](crate::Instance::rank) that has instances takes, best first.
    pub ranks: Vec<RankStatus>,
    /// Every known instance, by id.
    pub members: Vec<MemberStatus>,
}

/// What one rank takes. A rank takes everything while at least 70 % of its announced weight is pickable; below that the next
/// rank takes the rest.
#[derive(Clone, Copy, Debug, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct RankStatus {
    /// The rank.
    pub rank: u8,
    /// The weight of its instances that are not draining.
    pub announced_weight: u64,
    /// The part of that weight that is connected and in play, or whose first dial is still running.
    pub pickable_weight: u64,
    /// Its part of all requests, from 0 to 1.
    pub share: f64,
}

impl RankStatus {
    /// The pickable part of its announced weight.
    pub(crate) fn pickable_part(&self) -> f64 {
        self.pickable_weight as f64 / self.announced_weight.max(1) as f64
    }
}

impl Status {
    /// Of a balancer that has ended.
    pub(crate) fn ended(target: Target) -> Self {
        Self {
            target: Some(target),
            set_age: None,
            is_provisional: false,
            discovery_error: None,
            doubted_for: None,
            subset: None,
            usable: 0,
            panic_mode: false,
            ejection_mode: EjectionMode::Off,
            ejections: EjectionCounters::default(),
            stalls: 0,
            ejection_cap: 0,
            next_trial_in: 0,
            max_in_flight: None,
            attempt_timeout: None,
            mean_latency: None,
            zone: None,
            zone_price: 0.0,
            ranks: Vec::new(),
            members: Vec::new(),
        }
    }
}

/// How much of its target a balancer with a [`Subset`](crate::Subset) dials.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct SubsetStatus {
    /// How many instances are dialled.
    pub size: usize,
    /// How many are announced.
    pub of: usize,
}

impl SubsetStatus {
    /// How unevenly this many callers load the instances, if each dials a subset of this size and sends as many requests: the
    /// standard deviation of an instance's load over the mean.
    ///
    /// It is about `1 / sqrt(callers * size / of)`, and zero if all instances are dialled. A balancer does not know how many
    /// callers there are; zero counts as one.
    ///
    /// ```
    /// # fn check(status: &rolecall::Status) {
    /// if let Some(subset) = status.subset {
    ///     // 20 of 100 instances, 200 callers: 40 callers for each instance, 14 %.
    ///     println!("loads differ by {:.0} %", 100.0 * subset.unevenness(200));
    /// }
    /// # }
    /// ```
    #[must_use]
    pub fn unevenness(&self, callers: u32) -> f64 {
        let part = self.size as f64 / self.of.max(1) as f64;
        if part <= 0.0 || part >= 1.0 {
            return 0.0;
        }
        ((1.0 - part) / (part * f64::from(callers.max(1)))).sqrt()
    }
}

/// The state of one member.
#[derive(Clone, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct MemberStatus {
    /// The instance as last announced.
    pub instance: Instance,
    /// Whether it is usable, and if not, why.
    pub state: MemberState,
    /// How long its connection has been up, or down.
    #[cfg_attr(feature = "serde", serde(serialize_with = "seconds::serialize"))]
    pub since: Duration,
    /// Requests picked and not yet completed.
    pub in_flight: u32,
    /// Requests that it was picked for so far. A request that found its service not ready and went to another instance
    /// counts for the other one.
    pub picks: u64,
    /// Failures so far: bad answers, and waits without an answer.
    pub failures: u64,
    /// Failures since its last success.
    pub failures_in_row: u32,
    /// The [label](crate::Attempt::failure_labelled) of its last failure, such as `"503"`; `"no answer"` if the caller gave
    /// up or the time limit passed.
    pub last_failure: Option<&'static str>,
    /// Successes and failures of about the last 10 s, since its last return. The rules compare these figures of all members.
    /// Zero where no clock is read, with
    /// [`Load::least_in_flight`](crate::Load::least_in_flight) and ejection off.
    pub recent_requests: u32,
    /// The failures among them.
    pub recent_failures: u32,
    /// Its latency as picks see it; `None` while there is no evidence.
    ///
    /// It is drawn towards the fleet's mean, the more the less recent traffic it had. A failure counts as twenty times the
    /// mean.
    #[cfg_attr(
        feature = "serde",
        serde(serialize_with = "seconds::option::serialize")
    )]
    pub latency: Option<Duration>,
    /// The error of the last dial to its address, if none succeeded since.
    pub error: Option<String>,
    /// The time until the next dial, if one is scheduled.
    #[cfg_attr(
        feature = "serde",
        serde(serialize_with = "seconds::option::serialize")
    )]
    pub redial_in: Option<Duration>,
    /// Its last check that told something, if the balancer has a check.
    pub check: Option<CheckStatus>,
    /// Whether it is a suspect: it failed, or answered late, and gets too little traffic to be judged. A trial decides.
    pub is_suspect: bool,
    /// The part of its share that slow start gives it, from 0.1 to 1, if it ramps.
    pub slow_start: Option<f64>,
    /// Whether it is new, and [`slow_start_new`](crate::ConfigBuilder::slow_start_new) is configured.
    pub is_new: bool,
    /// How long it still counts as overloaded, because it said so.
    #[cfg_attr(
        feature = "serde",
        serde(serialize_with = "seconds::option::serialize")
    )]
    pub overloaded_for: Option<Duration>,
    /// Whether discovery's newest answer lacks it, but is doubted.
    pub is_missing: bool,
    /// Its last ejection, if there was one.
    pub ejection: Option<EjectionStatus>,
}

impl MemberStatus {
    /// Whether it is in another zone than the caller. One without a zone is not.
    pub(crate) fn is_far(&self, own: Option<&Zone>) -> bool {
        let zone = self.instance.zone();
        own.zip(zone).is_some_and(|(own, zone)| !zone.is_same(own))
    }

    /// Of one that drains, whether no dial failed since it was connected.
    pub(crate) fn is_connected(&self) -> bool {
        match self.state {
            MemberState::Connecting | MemberState::Disconnected => false,
            MemberState::Draining => self.error.is_none(),
            _ => true,
        }
    }
}

/// The last [check](crate::BalanceLayer::check) of a member.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct CheckStatus {
    /// The time since it ended.
    #[cfg_attr(feature = "serde", serde(serialize_with = "seconds::serialize"))]
    pub since: Duration,
    /// Why it failed, with causes; `None` if it succeeded.
    pub error: Option<String>,
}

/// The last ejection of a member.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct EjectionStatus {
    /// The rule that fired, with its figures.
    pub reason: EjectionReason,
    /// How often the member was ejected so far.
    pub ejections: u64,
    /// Each ejection and each failed trial adds one, and each one doubles the time of the next ejection. The return
    /// subtracts one, but not the last. After that, each
    /// [`base_ejection_time`](crate::OutlierBuilder::base_ejection_time) with
    /// [`request_volume`](crate::OutlierBuilder::request_volume) successes subtracts one more.
    pub multiplier: u32,
    /// The time since it began, or since it ended if it is over. Failed trials prolong an ejection.
    #[cfg_attr(feature = "serde", serde(serialize_with = "seconds::serialize"))]
    pub since: Duration,
    /// Whether the member has returned to play.
    pub is_over: bool,
    /// How long it has been on probation; `None` if it is not.
    #[cfg_attr(
        feature = "serde",
        serde(serialize_with = "seconds::option::serialize")
    )]
    pub probation: Option<Duration>,
    /// How long it still lasts; `None` if it is over or only waits for a trial.
    #[cfg_attr(
        feature = "serde",
        serde(serialize_with = "seconds::option::serialize")
    )]
    pub remaining: Option<Duration>,
}

/// Whether the rules of ejection act. Ejection by hand works as long as the balancer has a runtime.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "kebab-case"))]
#[non_exhaustive]
pub enum EjectionMode {
    /// The rules eject.
    On,
    /// The rules detect, count and emit events, but eject no member: [`shadow`](crate::OutlierBuilder::shadow).
    Shadow,
    /// The rules do nothing: [`outlier`](crate::ConfigBuilder::outlier) is `None`, or no driver runs that could end an
    /// ejection.
    Off,
}

/// Counts of what happened in a fleet so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct EjectionCounters {
    /// A rule fired.
    pub detected: u64,
    /// A member was ejected, by a rule or by hand.
    pub ejected: u64,
    /// A rule fired while the ejection cap was reached; counted at most once a second for each member.
    pub refused_by_cap: u64,
    /// A trial ended with a verdict. Trials of suspects count too, which have no event.
    pub trials: u64,
    /// A member returned to play.
    pub returned: u64,
    /// Panic mode began.
    pub panic_modes: u64,
}

/// Whether a member is usable, and if not, why.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "kebab-case"))]
#[non_exhaustive]
pub enum MemberState {
    /// Picks choose among these. A backup is usable too while no request goes to its rank: see [`Status::ranks`].
    Usable,
    /// Connected and busy, while others are available.
    Busy,
    /// Connected, with weight 0.
    Weightless,
    /// Ejected: picked only in panic mode. See [`MemberStatus::ejection`].
    Ejected,
    /// Its ejection is over, and one request at a time goes there as a trial. Failed trials are rationed.
    Probation,
    /// Gets no new requests; those in flight finish.
    Draining,
    /// Being dialled.
    Connecting,
    /// Not connected, and dialled again later.
    Disconnected,
}

/// Lists all states. A state that is missing here does not compile.
#[cfg(any(test, feature = "metrics"))]
macro_rules! all_states {
    ($($state:ident),*) => {
        impl MemberState {
            pub(crate) const ALL: [Self; [$(Self::$state),*].len()] = {
                const fn is_listed(state: MemberState) {
                    match state {
                        $(MemberState::$state => {})*
                    }
                }
                is_listed(Self::Usable);
                [$(Self::$state),*]
            };
        }
    };
}

#[cfg(any(test, feature = "metrics"))]
all_states!(
    Usable,
    Busy,
    Weightless,
    Ejected,
    Probation,
    Draining,
    Connecting,
    Disconnected
);

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

impl fmt::Display for EjectionStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (since, reason) = (Rounded(self.since), &self.reason);
        match (self.is_over, self.remaining, self.probation) {
            (true, ..) => write!(f, "back for {since}, was ejected: {reason}"),
            (false, Some(rest), _) => {
                let rest = Rounded(rest);
                write!(f, "ejected {since} ago, {rest} to go: {reason}")
            }
            (false, None, probation) => {
                let probation = Rounded(probation.unwrap_or_default());
                write!(
                    f,
                    "ejected {since} ago, on probation for {probation}: {reason}"
                )
            }
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
