use std::borrow::Cow;
use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use crate::error::BoxError;
use crate::error::discovery::DiscoveryError;
use crate::model::instance::{Availability, InstanceError, InstanceId};
use crate::runtime::causes::{chain, with_causes};
use crate::runtime::local_fault::is_local_fault;
use crate::runtime::text::excerpt;

/// A change in a balancer's fleet, for people, logs and metrics.
///
/// Read with [`Control::events`](crate::Control::events); every one is also logged with `tracing` under the target
/// `rolecall`. `Display` is one line for people. Lines at `info` are limited to 20 of a kind in 10 s; the rest goes to `debug`.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Event {
    /// Discovery announced another set.
    #[non_exhaustive]
    SetChanged {
        /// How many instances are new.
        added: usize,
        /// How many are gone.
        removed: usize,
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
        grace: Duration,
    },
    /// An announced instance is invalid. It is ignored; an earlier announcement stays in force.
    #[non_exhaustive]
    InstanceRefused {
        /// Its id, escaped and cut to 80 characters if it is invalid.
        id: InstanceId,
        /// What is wrong with it.
        error: InstanceError,
    },
    /// One id occurs more than once in a set. The last entry wins.
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
        /// The new availability.
        availability: Availability,
    },
    /// A dial succeeded.
    #[non_exhaustive]
    Connected {
        /// The instance.
        id: InstanceId,
    },
    /// A dial failed, and will be repeated.
    #[non_exhaustive]
    DialFailed {
        /// The instance.
        id: InstanceId,
        /// Why.
        error: Arc<DialError>,
        /// The time until the next dial.
        retry_in: Duration,
    },
    /// A connection is lost, and is dialled again.
    #[non_exhaustive]
    ConnectionLost {
        /// The instance.
        id: InstanceId,
    },
    /// A member was ejected, by a rule or by hand.
    #[non_exhaustive]
    Ejected {
        /// The instance.
        id: InstanceId,
        /// The rule that fired, with its figures.
        reason: EjectionReason,
        /// For how long.
        time: Duration,
    },
    /// A rule found an outlier, which stays in play. At most one event a second for each member.
    #[non_exhaustive]
    EjectionWithheld {
        /// The instance.
        id: InstanceId,
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
    },
    /// A trial failed, which ejects the member again.
    #[non_exhaustive]
    TrialFailed {
        /// The instance.
        id: InstanceId,
        /// For how long.
        time: Duration,
    },
    /// A member returned to play.
    #[non_exhaustive]
    Returned {
        /// The instance.
        id: InstanceId,
        /// How long it was out.
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
    /// No member is usable any more.
    NothingUsable,
    /// A member is usable, again or for the first time.
    Usable,
    /// This process stalled for a second or more while there was traffic. Requests that span the stall judge no instance.
    #[non_exhaustive]
    Stalled {
        /// For how long.
        time: Duration,
    },
    /// Discovery reported an error. The fleet stays as it is.
    #[non_exhaustive]
    DiscoveryFailed {
        /// The error.
        error: DiscoveryError,
    },
    /// Discovery's stream ended. The fleet stays as it is.
    DiscoveryEnded,
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

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::SetChanged {
                added,
                removed,
                changed,
                known,
            } => write!(
                f,
                "set changed: {added} added, {removed} removed, {changed} changed, {known} known"
            ),
            Self::SetDoubted {
                known,
                answered,
                grace,
            } => write!(
                f,
                "set doubted for {grace:?}: {answered} answered where {known} are known"
            ),
            // These ids were not checked: they can be long, and forge lines.
            Self::InstanceRefused { id, error } => {
                write!(f, "instance {} refused: {error}", excerpt(id.as_str()))
            }
            Self::DuplicateId { id } => {
                let id = excerpt(id.as_str());
                write!(f, "instance {id} announced several times in a set")
            }
            Self::AvailabilityChanged { id, availability } => {
                write!(f, "instance {id} is {availability}")
            }
            Self::Connected { id } => write!(f, "instance {id} connected"),
            Self::DialFailed {
                id,
                error,
                retry_in,
            } => write!(
                f,
                "dial of instance {id} failed: {error}; again in {retry_in:?}"
            ),
            Self::ConnectionLost { id } => write!(f, "connection to instance {id} lost"),
            Self::Ejected { id, reason, time } => {
                write!(f, "instance {id} ejected for {time:.1?}: {reason}")
            }
            Self::EjectionWithheld { id, reason, by } => {
                write!(f, "instance {id} is an outlier, and stays ({by}): {reason}")
            }
            Self::Probation { id } => write!(f, "instance {id} is on probation"),
            Self::TrialFailed { id, time } => {
                write!(f, "trial of instance {id} failed: out for {time:.1?} more")
            }
            Self::Returned { id, after } => write!(f, "instance {id} is back after {after:.1?}"),
            Self::PanicModeBegan { members } => {
                write!(f, "panic mode: all {members} eligible instances are out")
            }
            Self::PanicModeEnded => f.write_str("panic mode is over"),
            Self::NothingUsable => f.write_str("nothing usable"),
            Self::Usable => f.write_str("usable"),
            Self::Stalled { time } => write!(f, "this process stalled for {time:.1?}"),
            Self::DiscoveryFailed { error } => {
                write!(f, "discovery failed: {}", error.with_causes())
            }
            Self::DiscoveryEnded => f.write_str("discovery ended"),
            Self::DriverStopped { connections } => {
                write!(f, "driver stopped: {connections} connections lost")
            }
            Self::Missed { count } => write!(f, "{count} events missed"),
        }
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
                "unresponsive, {failures} times in a row (threshold {threshold})"
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
        Some(label) => write!(f, ", last: {label}"),
        None => Ok(()),
    }
}

/// Why an outlier stays in play.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
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
            Self::ByCap => "too many are out",
            Self::InShadow => "shadow",
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

    #[test]
    fn a_failure_of_discovery_is_told_with_its_cause() {
        let error = DiscoveryError::backend("reading files", "roles.toml:3: no name");
        let told = Event::DiscoveryFailed { error }.to_string();
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
