use std::borrow::Cow;
use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use crate::error::BoxError;
use crate::error::discovery::{DiscoveryError, DiscoveryErrorKind};
use crate::model::address::Address;
use crate::model::instance::{Availability, InstanceError, InstanceId};
use crate::runtime::causes::{chain, with_causes};
use crate::runtime::duration::Rounded;
#[cfg(feature = "serde")]
use crate::runtime::duration::seconds;
use crate::runtime::local_fault::is_local_fault;
use crate::runtime::text::{Counted, excerpt};

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
        #[cfg_attr(feature = "serde", serde(serialize_with = "told::instance"))]
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
        #[cfg_attr(feature = "serde", serde(serialize_with = "told::dial"))]
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
        #[cfg_attr(feature = "serde", serde(serialize_with = "told::dial"))]
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
        #[cfg_attr(feature = "serde", serde(serialize_with = "told::discovery"))]
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

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::SetChanged {
                added,
                removed,
                removed_ids,
                changed,
                known,
            } => {
                write!(
                    f,
                    "set changed: {added} added, {removed} removed, {changed} changed, {known} known"
                )?;
                for (index, id) in removed_ids.iter().enumerate() {
                    write!(f, "{}{id}", if index == 0 { "; gone: " } else { ", " })?;
                }
                if *removed > removed_ids.len() && !removed_ids.is_empty() {
                    f.write_str(", …")?;
                }
                Ok(())
            }
            Self::SetDoubted {
                known,
                answered,
                grace,
            } => write!(
                f,
                "discovery's answer is doubted: it has {answered} of {known} known instances; missing ones are kept for {}",
                Rounded(*grace)
            ),
            Self::DoubtEnded {
                believed: true,
                known,
                answered,
                after,
            } => write!(
                f,
                "discovery's answer was doubted for {} and is believed now: {known} instances become {answered}",
                Rounded(*after)
            ),
            Self::DoubtEnded {
                known,
                answered,
                after,
                ..
            } => write!(
                f,
                "discovery's answer is no longer doubted, after {}: {answered} instances, {known} before",
                Rounded(*after)
            ),
            // These ids were not checked: they can be long, and forge lines.
            Self::InstanceRefused { id, error } => {
                write!(f, "instance {} refused: {error}", excerpt(id.as_str()))
            }
            Self::DuplicateId { id } => {
                let id = excerpt(id.as_str());
                write!(f, "instance {id} announced several times in a set")
            }
            Self::AvailabilityChanged {
                id,
                address,
                availability,
            } => write!(f, "instance {id} ({address}) is {availability}"),
            Self::Connected {
                id,
                address,
                after,
                failed_dials,
                ..
            } => {
                write!(
                    f,
                    "instance {id} ({address}) connected after {}",
                    Rounded(*after)
                )?;
                match failed_dials {
                    0 => Ok(()),
                    failed => write!(f, " and {}", Counted(*failed, "failed dial")),
                }
            }
            Self::DialFailed {
                id,
                address,
                error,
                failed_dials,
                retry_in,
            } => write!(
                f,
                "dial {failed_dials} of instance {id} ({address}) failed: {error}; again in {}",
                Rounded(*retry_in)
            ),
            Self::Unreachable {
                id,
                address,
                error,
                failed_dials,
                since,
            } => write!(
                f,
                "instance {id} ({address}) has been unreachable for {} and {}, the last: {error}; it is dialled until it answers",
                Rounded(*since),
                Counted(*failed_dials, "dial")
            ),
            Self::ConnectionLost { id, address, after } => write!(
                f,
                "connection to instance {id} ({address}) lost after {}",
                Rounded(*after)
            ),
            Self::Ejected {
                id,
                address,
                reason,
                time,
            } => write!(
                f,
                "instance {id} ({address}) ejected for {}: {reason}",
                Rounded(*time)
            ),
            Self::EjectionWithheld {
                id,
                address,
                reason,
                by,
            } => write!(
                f,
                "instance {id} ({address}) is an outlier, and stays ({by}): {reason}"
            ),
            Self::Probation { id, address } => write!(
                f,
                "instance {id} ({address}) is on probation: a trial decides whether it returns"
            ),
            Self::TrialFailed {
                id,
                address,
                failed_trials,
                label,
                time,
            } => {
                write!(
                    f,
                    "trial {failed_trials} of instance {id} ({address}) failed"
                )?;
                if let Some(label) = label {
                    write!(f, ": {label}")?;
                }
                write!(f, "; it stays ejected for {} more", Rounded(*time))
            }
            Self::Returned {
                id,
                address,
                failed_trials,
                after,
            } => {
                write!(
                    f,
                    "instance {id} ({address}) is back after {}",
                    Rounded(*after)
                )?;
                match failed_trials {
                    0 => Ok(()),
                    failed => write!(f, " and {}", Counted(*failed, "failed trial")),
                }
            }
            Self::PanicModeBegan { members } => write!(
                f,
                "panic mode: all {members} eligible instances are out, and are picked all the same"
            ),
            Self::PanicModeEnded => f.write_str("panic mode is over"),
            Self::NothingUsable => f.write_str("no instance is usable: requests wait"),
            Self::Unavailable {
                census,
                cause,
                since,
            } => {
                let since = Rounded(*since);
                write!(
                    f,
                    "no instance has been usable for {since}, requests fail at once: {census}"
                )?;
                match cause {
                    Some(cause) => write!(f, "; the last error: {cause}"),
                    None => Ok(()),
                }
            }
            Self::Usable { after } => {
                write!(
                    f,
                    "an instance is usable, after {} without one",
                    Rounded(*after)
                )
            }
            Self::Stalled { time } => write!(
                f,
                "this process stalled for {}: no instance is blamed for requests of that time",
                Rounded(*time)
            ),
            Self::DiscoveryFailed { error, errors } => {
                if error.kind() == DiscoveryErrorKind::UnknownRole {
                    f.write_str("waiting for the first instance: ")?;
                }
                f.write_str(&error.with_causes())?;
                match errors {
                    1 => f.write_str("; the instances stay as they are"),
                    errors => write!(f, "; error {errors} in a row"),
                }
            }
            Self::DiscoveryRecovered { errors, after } => write!(
                f,
                "discovery gives sets again after {} and {}",
                Rounded(*after),
                Counted(*errors, "error")
            ),
            Self::DiscoveryEnded => f.write_str("discovery ended: the instances stay as they are"),
            Self::Reconfigured { changes } => write!(f, "reconfigured: {changes}"),
            Self::WithoutEffect { setting, why } => write!(f, "{setting} has no effect: {why}"),
            Self::DriverStopped { connections } => write!(
                f,
                "driver stopped: {} lost",
                Counted(*connections, "connection")
            ),
            Self::Missed { count } => write!(f, "{} missed", Counted(*count, "event")),
        }
    }
}

/// Errors as texts.
#[cfg(feature = "serde")]
mod told {
    use serde::Serializer;

    use super::{Arc, DialError, DiscoveryError, InstanceError};

    pub(super) fn dial<S: Serializer>(
        error: &Arc<DialError>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.collect_str(error)
    }

    pub(super) fn instance<S: Serializer>(
        error: &InstanceError,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.collect_str(error)
    }

    pub(super) fn discovery<S: Serializer>(
        error: &DiscoveryError,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&error.with_causes())
    }
}

/// Why a member was ejected: the rule that fired, its figures and its threshold.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "kebab-case", tag = "rule"))]
#[non_exhaustive]
pub enum EjectionReason {
    /// A run of failures.
    #[non_exhaustive]
    FailuresInRow {
        /// The length of the run.
        failures: u32,
        /// The length that ejects. It depends on the configuration and on how often other members failed. It is less for a
        /// suspect, see [`suspect_failures`](crate::OutlierBuilder::suspect_failures).
        threshold: u32,
        /// The [label](crate::Attempt::failure_labelled) of the last one, if it had one.
        label: Option<&'static str>,
    },
    /// A run of failures, the last of which had no answer at all.
    #[non_exhaustive]
    Unresponsive {
        /// The length of the run.
        failures: u32,
        /// The length that ejects, as above.
        threshold: u32,
    },
    /// Too many failures within 10 s.
    #[non_exhaustive]
    FailureRate {
        /// Successes and failures in that time.
        requests: u32,
        /// Failures in that time.
        failures: u32,
        /// The share of failures that ejects, in percent.
        threshold_percentage: u32,
        /// The [label](crate::Attempt::failure_labelled) of the last one, if it had one.
        label: Option<&'static str>,
    },
    /// Ejected by hand, with [`Control::eject`](crate::Control::eject).
    Manual,
}

impl fmt::Display for EjectionReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::FailuresInRow {
                failures,
                threshold,
                label,
            } => {
                write!(f, "{failures} failures in a row")?;
                write_label(f, *label)?;
                write!(f, " (threshold {threshold})")
            }
            Self::Unresponsive {
                failures,
                threshold,
            } => write!(
                f,
                "unresponsive, {failures} requests in a row without an answer (threshold {threshold})"
            ),
            Self::FailureRate {
                requests,
                failures,
                threshold_percentage,
                label,
            } => {
                write!(f, "{failures} of {requests} requests failed")?;
                write_label(f, *label)?;
                write!(f, " (threshold {threshold_percentage} %)")
            }
            Self::Manual => f.write_str("by hand"),
        }
    }
}

fn write_label(f: &mut fmt::Formatter<'_>, label: Option<&str>) -> fmt::Result {
    match label {
        Some(label) => write!(f, ", the last: {label}"),
        None => Ok(()),
    }
}

/// Why an outlier stays in play.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "kebab-case"))]
#[non_exhaustive]
pub enum Withheld {
    /// The ejection cap is reached.
    ByCap,
    /// [`shadow`](crate::OutlierBuilder::shadow) is on.
    InShadow,
}

impl fmt::Display for Withheld {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::ByCap => "as many are out as may be",
            Self::InShadow => "ejection is in shadow",
        })
    }
}

/// Why a dial failed: the connector's error, with a short label to count it by.
///
/// Its text is the label, the connector's error and the causes of that, in one line.
///
/// A connector whose error is a `DialError` chooses the label. For any other error the label comes from the first
/// [`io::Error`] among its causes.
#[derive(Debug)]
pub struct DialError {
    label: Cow<'static, str>,
    text: String,
    is_local_fault: bool,
    source: BoxError,
}

impl DialError {
    /// Wraps an error and derives the label from its causes.
    ///
    /// A `DialError` is returned as it is.
    pub fn new(source: impl Into<BoxError>) -> Self {
        match source.into().downcast::<Self>() {
            Ok(error) => *error,
            Err(source) => Self::labelled(label(source.as_ref()), source),
        }
    }

    /// Wraps an error under a label of a few words, such as `"TLS failed"`.
    ///
    /// Labels tell kinds of failures apart: one that contains an address or an id makes every count 1.
    pub fn labelled(label: impl Into<Cow<'static, str>>, source: impl Into<BoxError>) -> Self {
        let (label, source) = (label.into(), source.into());
        Self {
            text: format!("{label}: {}", with_causes(source.as_ref())),
            is_local_fault: is_local_fault(source.as_ref()),
            label,
            source,
        }
    }

    /// The label that a census counts it under: `"refused (111)"`, `"timed out"`, `"outside the networks"`, `"TLS failed"`, `"dial failed"`.
    pub fn label(&self) -> &str {
        &self.label
    }

    /// Whether this process lacked file descriptors, local ports or memory, which says nothing about the instance. The next
    /// dial then follows within a second.
    pub fn is_local_fault(&self) -> bool {
        self.is_local_fault
    }

    /// The connector's error.
    pub fn source(&self) -> &(dyn std::error::Error + Send + Sync + 'static) {
        self.source.as_ref()
    }
}

impl fmt::Display for DialError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl std::error::Error for DialError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(self.source.as_ref())
    }
}

/// The label of the first labelled or I/O error in the chain; of an I/O error with the system's number where it has one.
fn label(error: &(dyn std::error::Error + 'static)) -> Cow<'static, str> {
    for error in chain(error) {
        if let Some(labelled) = error.downcast_ref::<DialError>() {
            return labelled.label.clone();
        }
        if let Some(io) = error.downcast_ref::<io::Error>() {
            let kind = match io.kind() {
                io::ErrorKind::ConnectionRefused => "refused",
                io::ErrorKind::ConnectionReset => "reset",
                io::ErrorKind::TimedOut => "timed out",
                io::ErrorKind::HostUnreachable | io::ErrorKind::NetworkUnreachable => "unreachable",
                _ => "dial failed",
            };
            return match io.raw_os_error() {
                Some(number) => format!("{kind} ({number})").into(),
                None => kind.into(),
            };
        }
    }
    "dial failed".into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(feature = "serde")]
    #[test]
    fn json_has_the_kind_as_event_and_seconds_as_numbers() {
        let refused = DialError::new(io::Error::from_raw_os_error(111));
        let event = Event::Unreachable {
            id: InstanceId::from("pay-1"),
            address: ([10, 0, 0, 7], 80).into(),
            error: Arc::new(refused),
            failed_dials: 4,
            since: Duration::from_millis(1250),
        };
        let json = serde_json::to_value(&event).unwrap();
        assert_eq!(json["event"], event.kind());
        assert_eq!(
            (&json["id"], &json["since"]),
            (&"pay-1".into(), &1.25.into())
        );
        assert!(
            json["error"]
                .as_str()
                .unwrap()
                .starts_with("refused (111): "),
            "{json}"
        );
        let events = [
            Event::PanicModeEnded,
            Event::NothingUsable,
            Event::DiscoveryEnded,
            Event::Missed { count: 1 },
            Event::Usable {
                after: Duration::ZERO,
            },
        ];
        for event in events {
            assert_eq!(serde_json::to_value(&event).unwrap()["event"], event.kind());
        }
    }

    #[test]
    fn a_line_says_what_where_why_and_for_how_long() {
        let (id, address) = (
            InstanceId::from("pay-1"),
            Address::from(([10, 0, 0, 7], 80)),
        );
        let ejected = Event::Ejected {
            id: id.clone(),
            address: address.clone(),
            reason: EjectionReason::FailuresInRow {
                failures: 3,
                threshold: 2,
                label: Some("503"),
            },
            time: Duration::from_nanos(5_082_210_154),
        };
        assert_eq!(
            ejected.to_string(),
            "instance pay-1 (10.0.0.7:80) ejected for 5.1 s: 3 failures in a row, the last: 503 (threshold 2)"
        );
        let connected = Event::Connected {
            id,
            address,
            after: Duration::from_secs(12),
            failed_dials: 8,
            was_unreachable: true,
        };
        assert_eq!(
            connected.to_string(),
            "instance pay-1 (10.0.0.7:80) connected after 12 s and 8 failed dials"
        );
    }

    #[test]
    fn a_failure_of_discovery_is_told_with_its_cause() {
        let error = DiscoveryError::backend("reading files", "roles.toml:3: no name");
        let told = Event::DiscoveryFailed { error, errors: 1 }.to_string();
        assert!(
            told.contains("reading files: roles.toml:3: no name"),
            "{told}"
        );
    }

    #[test]
    fn a_dial_error_is_counted_by_the_io_error_in_its_chain() {
        #[derive(Debug)]
        struct Outer(io::Error);
        impl fmt::Display for Outer {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("outer")
            }
        }
        impl std::error::Error for Outer {
            fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
                Some(&self.0)
            }
        }
        let refused = DialError::new(Outer(io::Error::from_raw_os_error(111)));
        assert_eq!(refused.label(), "refused (111)");
        let late = DialError::new(io::Error::from(io::ErrorKind::TimedOut));
        assert_eq!(late.label(), "timed out");
        assert_eq!(DialError::new("x").label(), "dial failed");
    }

    #[test]
    fn a_label_that_a_connector_chose_is_kept_under_other_layers() {
        let chosen =
            || DialError::labelled("certificate expired", io::Error::from_raw_os_error(111));
        assert_eq!(DialError::new(chosen()).label(), "certificate expired");
        #[derive(Debug)]
        struct Layer(DialError);
        impl fmt::Display for Layer {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("layer")
            }
        }
        impl std::error::Error for Layer {
            fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
                Some(&self.0)
            }
        }
        assert_eq!(
            DialError::new(Layer(chosen())).label(),
            "certificate expired"
        );
    }
}
