use std::borrow::Cow;
use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use crate::error::BoxError;
use crate::error::discovery::DiscoveryError;
use crate::model::instance::{Availability, InstanceError, InstanceId};
use crate::runtime::causes::chain;
use crate::runtime::local_fault::is_local_fault;
use crate::runtime::text::excerpt;

/// Something that happened to a balancer's fleet: for people, logs and metrics.
///
/// Read with [`Control::events`](crate::Control::events); every one is also logged by `tracing` under the target
/// `rolecall`, with its fields, or as text at `debug` where a fleet flaps and the lines at `info` are limited. `Display` is one line for people.
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
    /// Discovery answered with a set so much smaller that it is not believed yet: what it lacks is kept.
    #[non_exhaustive]
    SetDoubted {
        /// How many instances are known.
        known: usize,
        /// How many the answer has.
        answered: usize,
        /// For how long it will be doubted.
        grace: Duration,
    },
    /// An announced instance cannot be used and is left out, or left as it was.
    #[non_exhaustive]
    InstanceRefused {
        /// Its id; escaped and cut to 80 characters if that is what is wrong.
        id: InstanceId,
        /// What is wrong with it.
        error: InstanceError,
    },
    /// One id was announced several times in one set; the last announcement counts.
    #[non_exhaustive]
    DuplicateId {
        /// The id; escaped and cut to 80 characters if it is no valid one.
        id: InstanceId,
    },
    /// An instance says something else of itself.
    #[non_exhaustive]
    AvailabilityChanged {
        /// Which one.
        id: InstanceId,
        /// What it says.
        availability: Availability,
    },
    /// A dial succeeded.
    #[non_exhaustive]
    Connected {
        /// To whom.
        id: InstanceId,
    },
    /// A dial failed; the next one follows.
    #[non_exhaustive]
    DialFailed {
        /// To whom.
        id: InstanceId,
        /// Why.
        error: Arc<DialError>,
        /// When it is tried again.
        retry_in: Duration,
    },
    /// A connection turned out to be lost; it is dialled again.
    #[non_exhaustive]
    ConnectionLost {
        /// To whom.
        id: InstanceId,
    },
    /// A member is an outlier and leaves play, or was ejected by hand.
    #[non_exhaustive]
    Ejected {
        /// Which one.
        id: InstanceId,
        /// The rule that fired, with its figures.
        reason: EjectionReason,
        /// For how long.
        time: Duration,
    },
    /// A member is an outlier and stays in play all the same. Told of at most once a second for each.
    #[non_exhaustive]
    EjectionWithheld {
        /// Which one.
        id: InstanceId,
        /// The rule that fired, with its figures.
        reason: EjectionReason,
        /// What keeps it.
        by: Withheld,
    },
    /// An ejection is over: a trial decides.
    #[non_exhaustive]
    Probation {
        /// Whose.
        id: InstanceId,
    },
    /// A trial failed: the member is out for longer.
    #[non_exhaustive]
    TrialFailed {
        /// Which one.
        id: InstanceId,
        /// For how long.
        time: Duration,
    },
    /// A member is back in play.
    #[non_exhaustive]
    Returned {
        /// Which one.
        id: InstanceId,
        /// How long it was out.
        after: Duration,
    },
    /// Every eligible member is ejected or on probation: all of them are picked from.
    #[non_exhaustive]
    PanicModeBegan {
        /// How many.
        members: usize,
    },
    /// Somebody is in play again, or nobody is eligible.
    PanicModeEnded,
    /// No member can be picked any more.
    NothingUsable,
    /// A member can be picked again, or for the first time.
    Usable,
    /// This process stalled for a second or more while there was traffic. What was under way judges no instance.
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
    /// Discovery has no more news. The fleet stays as it is.
    DiscoveryEnded,
    /// The driver was dropped, as it is when its runtime ends. Its connections count as lost; there is no
    /// [`ConnectionLost`](Event::ConnectionLost) for each. Another driver starts in the next runtime, unless it was one of
    /// [`BalanceLayer::pair`](crate::BalanceLayer::pair).
    #[non_exhaustive]
    DriverStopped {
        /// How many connections there were.
        connections: usize,
    },
    /// Events that were dropped here because nobody read them in time.
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

/// Why a member was ejected: the rule that fired, with its figures and its threshold.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "kebab-case", tag = "rule"))]
#[non_exhaustive]
pub enum EjectionReason {
    /// It failed again and again.
    #[non_exhaustive]
    FailuresInRow {
        /// How often, without a success in between.
        failures: u32,
        /// How many it takes, by configuration and by how often the others failed; fewer for a suspect, see
        /// [`suspect_failures`](crate::OutlierBuilder::suspect_failures).
        threshold: u32,
        /// The [label](crate::Attempt::failure_labelled) of the last one, if it had one.
        label: Option<&'static str>,
    },
    /// It failed again and again, and the last time a caller waited for nothing and went away.
    #[non_exhaustive]
    Unresponsive {
        /// How often, without a success in between.
        failures: u32,
        /// How many it takes, as above.
        threshold: u32,
    },
    /// It failed too often within 10 s.
    #[non_exhaustive]
    FailureRate {
        /// Requests in that time that ended well or badly.
        requests: u32,
        /// How many of them failed.
        failures: u32,
        /// The share that it takes, in percent.
        threshold_percentage: u32,
        /// The [label](crate::Attempt::failure_labelled) of the last one, if it had one.
        label: Option<&'static str>,
    },
    /// A person ejected it.
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

/// What keeps an outlier in play.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Withheld {
    /// As many as may be are out already.
    ByCap,
    /// Outliers are only told of.
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
            text: format!("{label}: {source}"),
            is_local_fault: is_local_fault(source.as_ref()),
            label,
            source,
        }
    }

    /// What a census counts it as: `"refused (111)"`, `"timed out"`, `"outside the networks"`, `"TLS failed"`, `"dial failed"`.
    pub fn label(&self) -> &str {
        &self.label
    }

    /// Whether this process lacked file descriptors, local ports or memory, which says nothing of the instance. The next
    /// dial follows within a second then.
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
