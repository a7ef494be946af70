//! What happens in a balancer's fleet, for people, logs and metrics.

pub(crate) mod dial;
#[cfg(feature = "serde")]
mod json;
pub(crate) mod reason;
#[cfg(test)]
mod tests;
mod text;

use std::sync::Arc;
use std::time::Duration;

use self::dial::DialError;
use self::reason::{EjectionReason, Withheld};
use crate::error::discovery::DiscoveryError;
use crate::model::address::Address;
use crate::model::instance::{Availability, InstanceError, InstanceId};
#[cfg(feature = "serde")]
use crate::runtime::duration::seconds;

/// A change in a balancer's fleet, for people, logs and metrics.
///
/// Read with [`Control::events`](crate::Control::events); every one is also logged with `tracing` under the target
/// `rolecall`. `Display` is one line for people, which says what happened, where, why and for how long. What begins is logged at
/// `warn`, what ends at `info`, and what is normal or repeats at `debug`. Lines at `info` and `warn` are limited to 20 of a
/// sort in a minute; the rest goes to `debug`.
///
/// With the feature `serde` it can be serialized, as a table whose `event` is the [`kind`](Self::kind). Durations are then
/// numbers of seconds, and errors are texts.
#[derive(Clone, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "kebab-case", tag = "event"))]
#[non_exhaustive]
pub enum Event {
    /// Discovery announced another set.
    #[non_exhaustive]
    SetChanged {
        /// How many instances are new.
        added: usize,
        /// How many are gone.
        removed: usize,
        /// The first three of those that are gone.
        removed_ids: Vec<InstanceId>,
        /// How many were announced with another address, weight, zone, availability or metadata.
        changed: usize,
        /// How many there are now.
        known: usize,
    },
    /// Discovery answered with a suspiciously small set. Missing instances are kept until `grace` is over.
    #[non_exhaustive]
    SetDoubted {
        /// How many instances are known.
        known: usize,
        /// How many the answer has.
        answered: usize,
        /// How long missing instances are kept.
        #[cfg_attr(feature = "serde", serde(serialize_with = "seconds::serialize"))]
        grace: Duration,
    },
    /// The doubt about a set is over: the set is believed, or a later answer is in its place.
    #[non_exhaustive]
    DoubtEnded {
        /// Whether the grace period is over, so that the set is believed. Otherwise a later answer was as large as expected,
        /// or confirmed.
        believed: bool,
        /// How many instances were known before.
        known: usize,
        /// How many the set has that is in force now.
        answered: usize,
        /// How long the doubt lasted.
        #[cfg_attr(feature = "serde", serde(serialize_with = "seconds::serialize"))]
        after: Duration,
    },
    /// An announced instance is invalid. It is ignored; an earlier announcement stays in force. One event for each set
    /// that has it; only the first is logged above `debug`.
    #[non_exhaustive]
    InstanceRefused {
        /// Its id, escaped and cut to 80 characters if it is invalid.
        id: InstanceId,
        /// What is wrong with it.
        #[cfg_attr(feature = "serde", serde(serialize_with = "json::instance"))]
        error: InstanceError,
    },
    /// One id occurs more than once in a set. The last entry wins. One event for each set that has it; only
    /// the first is logged above `debug`.
    #[non_exhaustive]
    DuplicateId {
        /// The id, escaped and cut to 80 characters if it is invalid.
        id: InstanceId,
    },
    /// An instance announced another availability.
    #[non_exhaustive]
    AvailabilityChanged {
        /// The instance.
        id: InstanceId,
        /// Its address.
        address: Address,
        /// The new availability.
        availability: Availability,
    },
    /// A dial succeeded.
    #[non_exhaustive]
    Connected {
        /// The instance.
        id: InstanceId,
        /// Its address.
        address: Address,
        /// How long it had no connection.
        #[cfg_attr(feature = "serde", serde(serialize_with = "seconds::serialize"))]
        after: Duration,
        /// How many dials failed meanwhile.
        failed_dials: u32,
        /// Whether it was reported as [unreachable](Event::Unreachable).
        was_unreachable: bool,
    },
    /// A dial failed, and will be repeated.
    #[non_exhaustive]
    DialFailed {
        /// The instance.
        id: InstanceId,
        /// Its address.
        address: Address,
        /// Why.
        #[cfg_attr(feature = "serde", serde(serialize_with = "json::dial"))]
        error: Arc<DialError>,
        /// How many dials failed since it last had a connection.
        failed_dials: u32,
        /// The time until the next dial.
        #[cfg_attr(feature = "serde", serde(serialize_with = "seconds::serialize"))]
        retry_in: Duration,
    },
    /// An instance has had no connection for a second, and its dials fail. Reported once, until it is connected.
    #[non_exhaustive]
    Unreachable {
        /// The instance.
        id: InstanceId,
        /// Its address.
        address: Address,
        /// Why the last dial failed.
        #[cfg_attr(feature = "serde", serde(serialize_with = "json::dial"))]
        error: Arc<DialError>,
        /// How many dials failed.
        failed_dials: u32,
        /// How long it has had no connection.
        #[cfg_attr(feature = "serde", serde(serialize_with = "seconds::serialize"))]
        since: Duration,
    },
    /// A connection is lost, and is dialled again.
    #[non_exhaustive]
    ConnectionLost {
        /// The instance.
        id: InstanceId,
        /// Its address.
        address: Address,
        /// How long the connection lasted.
        #[cfg_attr(feature = "serde", serde(serialize_with = "seconds::serialize"))]
        after: Duration,
    },
    /// A member was ejected, by a rule or by hand.
    #[non_exhaustive]
    Ejected {
        /// The instance.
        id: InstanceId,
        /// Its address.
        address: Address,
        /// The rule that fired, with its figures.
        reason: EjectionReason,
        /// For how long.
        #[cfg_attr(feature = "serde", serde(serialize_with = "seconds::serialize"))]
        time: Duration,
    },
    /// A rule found an outlier, which stays in play. At most one event a second for each member.
    #[non_exhaustive]
    EjectionWithheld {
        /// The instance.
        id: InstanceId,
        /// Its address.
        address: Address,
        /// The rule that fired, with its figures.
        reason: EjectionReason,
        /// Why it stays.
        by: Withheld,
    },
    /// The time of an ejection is over. A trial decides whether the member returns.
    #[non_exhaustive]
    Probation {
        /// The instance.
        id: InstanceId,
        /// Its address.
        address: Address,
    },
    /// A trial failed, which ejects the member again.
    #[non_exhaustive]
    TrialFailed {
        /// The instance.
        id: InstanceId,
        /// Its address.
        address: Address,
        /// How many trials failed since it was ejected.
        failed_trials: u32,
        /// The [label](crate::Attempt::failure_labelled) of the failure, if it had one.
        label: Option<&'static str>,
        /// For how long it is ejected.
        #[cfg_attr(feature = "serde", serde(serialize_with = "seconds::serialize"))]
        time: Duration,
    },
    /// A member returned to play.
    #[non_exhaustive]
    Returned {
        /// The instance.
        id: InstanceId,
        /// Its address.
        address: Address,
        /// Why it was ejected.
        reason: EjectionReason,
        /// Whether a trial succeeded. Otherwise it was restored by hand, or because the rules were switched off.
        by_trial: bool,
        /// How many trials failed since it was ejected.
        failed_trials: u32,
        /// How long it was out.
        #[cfg_attr(feature = "serde", serde(serialize_with = "seconds::serialize"))]
        after: Duration,
    },
    /// Every eligible member is ejected or on probation. Picks choose among all of them.
    #[non_exhaustive]
    PanicModeBegan {
        /// How many.
        members: usize,
    },
    /// A member is in play again, or none is eligible.
    PanicModeEnded,
    /// No member is usable any more. Calls wait.
    NothingUsable,
    /// No member has been usable for [`unavailable_after`](crate::ConfigBuilder::unavailable_after): calls fail at once.
    /// Reported once, until a member is usable.
    #[non_exhaustive]
    Unavailable {
        /// How many instances are in which state, or that discovery has not answered or announces none.
        census: String,
        /// Why the last dial failed, if one did, or discovery's last error, if there is no instance.
        cause: Option<String>,
        /// For how long.
        #[cfg_attr(feature = "serde", serde(serialize_with = "seconds::serialize"))]
        since: Duration,
    },
    /// A member is usable, again or for the first time.
    #[non_exhaustive]
    Usable {
        /// How long none was.
        #[cfg_attr(feature = "serde", serde(serialize_with = "seconds::serialize"))]
        after: Duration,
    },
    /// This process stalled for a second or more while there was traffic. Requests that span the stall judge no instance.
    #[non_exhaustive]
    Stalled {
        /// For how long.
        #[cfg_attr(feature = "serde", serde(serialize_with = "seconds::serialize"))]
        time: Duration,
    },
    /// Discovery reported an error. The fleet stays as it is.
    #[non_exhaustive]
    DiscoveryFailed {
        /// The error.
        #[cfg_attr(feature = "serde", serde(serialize_with = "json::discovery"))]
        error: DiscoveryError,
        /// How many errors in a row this is. The same error again is logged at `debug`.
        errors: u32,
    },
    /// Discovery gave a set again, after errors.
    #[non_exhaustive]
    DiscoveryRecovered {
        /// How many errors there were.
        errors: u32,
        /// The time since the first.
        #[cfg_attr(feature = "serde", serde(serialize_with = "seconds::serialize"))]
        after: Duration,
    },
    /// Discovery's stream ended. The fleet stays as it is.
    DiscoveryEnded,
    /// The configuration was replaced, with [`Control::reconfigure`](crate::Control::reconfigure).
    #[non_exhaustive]
    Reconfigured {
        /// The fields that changed, such as `"shrink_grace from 30s to 5s"`.
        changes: String,
    },
    /// A setting has no effect. Reported once, at the start.
    #[non_exhaustive]
    WithoutEffect {
        /// The setting.
        setting: &'static str,
        /// Why.
        why: String,
    },
    /// The driver was dropped, as it is when its runtime ends. All connections are lost, without a
    /// [`ConnectionLost`](Event::ConnectionLost) for each. Another driver starts in the next runtime, except after
    /// [`BalanceLayer::pair`](crate::BalanceLayer::pair).
    #[non_exhaustive]
    DriverStopped {
        /// How many connections there were.
        connections: usize,
    },
    /// Events that this reader was too late for.
    #[non_exhaustive]
    Missed {
        /// How many.
        count: u64,
    },
}

impl Event {
    /// Its name, such as `"connection-lost"`: a label to count events by.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::SetChanged { .. } => "set-changed",
            Self::SetDoubted { .. } => "set-doubted",
            Self::DoubtEnded { .. } => "doubt-ended",
            Self::InstanceRefused { .. } => "instance-refused",
            Self::DuplicateId { .. } => "duplicate-id",
            Self::AvailabilityChanged { .. } => "availability-changed",
            Self::Connected { .. } => "connected",
            Self::DialFailed { .. } => "dial-failed",
            Self::Unreachable { .. } => "unreachable",
            Self::ConnectionLost { .. } => "connection-lost",
            Self::Ejected { .. } => "ejected",
            Self::EjectionWithheld { .. } => "ejection-withheld",
            Self::Probation { .. } => "probation",
            Self::TrialFailed { .. } => "trial-failed",
            Self::Returned { .. } => "returned",
            Self::PanicModeBegan { .. } => "panic-mode-began",
            Self::PanicModeEnded => "panic-mode-ended",
            Self::NothingUsable => "nothing-usable",
            Self::Unavailable { .. } => "unavailable",
            Self::Usable { .. } => "usable",
            Self::Stalled { .. } => "stalled",
            Self::DiscoveryFailed { .. } => "discovery-failed",
            Self::DiscoveryRecovered { .. } => "discovery-recovered",
            Self::DiscoveryEnded => "discovery-ended",
            Self::Reconfigured { .. } => "reconfigured",
            Self::WithoutEffect { .. } => "without-effect",
            Self::DriverStopped { .. } => "driver-stopped",
            Self::Missed { .. } => "missed",
        }
    }

    /// The instance that it is about; `None` if it is about the whole fleet.
    pub fn id(&self) -> Option<&InstanceId> {
        match self {
            Self::InstanceRefused { id, .. }
            | Self::DuplicateId { id }
            | Self::AvailabilityChanged { id, .. }
            | Self::Connected { id, .. }
            | Self::DialFailed { id, .. }
            | Self::Unreachable { id, .. }
            | Self::ConnectionLost { id, .. }
            | Self::Ejected { id, .. }
            | Self::EjectionWithheld { id, .. }
            | Self::Probation { id, .. }
            | Self::TrialFailed { id, .. }
            | Self::Returned { id, .. } => Some(id),
            Self::SetChanged { .. }
            | Self::SetDoubted { .. }
            | Self::DoubtEnded { .. }
            | Self::PanicModeBegan { .. }
            | Self::PanicModeEnded
            | Self::NothingUsable
            | Self::Unavailable { .. }
            | Self::Usable { .. }
            | Self::Stalled { .. }
            | Self::DiscoveryFailed { .. }
            | Self::DiscoveryRecovered { .. }
            | Self::DiscoveryEnded
            | Self::Reconfigured { .. }
            | Self::WithoutEffect { .. }
            | Self::DriverStopped { .. }
            | Self::Missed { .. } => None,
        }
    }
}
