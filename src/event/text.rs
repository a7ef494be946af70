//! The text of an event: one line for people.

use std::fmt;

use super::Event;
use crate::error::discovery::DiscoveryErrorKind;
use crate::runtime::duration::Rounded;
use crate::runtime::text::{Counted, excerpt};

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
                was_unreachable,
            } => {
                let is_connected = if *was_unreachable {
                    "is reachable now,"
                } else {
                    "connected"
                };
                write!(
                    f,
                    "instance {id} ({address}) {is_connected} after {}",
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
                "instance {id} ({address}) has been unreachable for {} and {}, the last: {}",
                Rounded(*since),
                Counted(*failed_dials, "dial"),
                error.brief()
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
                "instance {id} ({address}) is an outlier and stays in play ({by}): {reason}"
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
                reason,
                by_trial,
                failed_trials,
                after,
            } => {
                let is_back = if *by_trial {
                    "is well again"
                } else {
                    "is back without a trial"
                };
                let after = Rounded(*after);
                write!(f, "instance {id} ({address}) {is_back}, after {after}")?;
                if *failed_trials > 0 {
                    write!(f, " and {}", Counted(*failed_trials, "failed trial"))?;
                }
                write!(f, "; it had been ejected: {reason}")
            }
            Self::PanicModeBegan { members } => write!(
                f,
                "panic mode: all {members} eligible instances are out, and are picked anyway"
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
                "this process stalled for {} and runs again: no instance is blamed for requests of that time",
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
                "discovery answers again, after {} and {}",
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
