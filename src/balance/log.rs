use std::time::{Duration, Instant};

use tracing::{debug, info, warn};

use super::faults::{Faults, Flaw};
use crate::error::discovery::DiscoveryErrorKind;
use crate::event::{Event, Withheld};
use crate::model::target::Target;
use crate::runtime::text::legible;

/// The most lines at `info` and `warn` in one [`PERIOD`] of each kind: ejections, the fleet as a whole, discovery. The rest
/// goes to `debug` and is counted, so that a flapping fleet or a poisoned discovery cannot flood the log.
const MAX_LINES: u32 = 20;
const PERIOD: Duration = Duration::from_secs(10);

/// Writes every event as a structured log line. Requests are never logged.
#[derive(Debug, Default)]
pub(super) struct Log {
    ejections: Budget,
    fleet: Budget,
    discovery: Budget,
    faults: Faults,
}

/// The lines of one kind in the current period.
#[derive(Debug, Default)]
struct Budget {
    began: Option<Instant>,
    written: u32,
    omitted: u64,
}

impl Log {
    pub(super) fn write(&mut self, target: &Target, event: &Event, now: Instant) {
        match event {
            Event::Ejected { .. }
            | Event::EjectionWithheld { .. }
            | Event::TrialFailed { .. }
            | Event::Returned { .. } => self.ejection(target, event, now),
            Event::SetDoubted { .. }
            | Event::InstanceRefused { .. }
            | Event::DuplicateId { .. }
            | Event::DiscoveryFailed { .. } => self.discovery(target, event, now),
            Event::Probation { id } => debug!(target: "rolecall", %target, %id, "on probation"),
            Event::PanicModeBegan { .. }
            | Event::PanicModeEnded
            | Event::NothingUsable
            | Event::Usable
            | Event::DriverStopped { .. }
            | Event::Stalled { .. }
            | Event::Missed { .. } => self.fleet(target, event, now),
            Event::SetChanged {
                added,
                removed,
                changed,
                known,
            } => debug!(target: "rolecall", %target, added, removed, changed, known, "set changed"),
            Event::AvailabilityChanged { id, availability } => {
                debug!(target: "rolecall", %target, %id, %availability, "availability changed");
            }
            Event::Connected { id } => debug!(target: "rolecall", %target, %id, "connected"),
            Event::DialFailed {
                id,
                error,
                retry_in,
            } => debug!(target: "rolecall", %target, %id, %error, ?retry_in, "dial failed"),
            Event::ConnectionLost { id } => {
                debug!(target: "rolecall", %target, %id, "connection lost");
            }
            Event::DiscoveryEnded => debug!(target: "rolecall", %target, "discovery ended"),
        }
    }

    fn ejection(&mut self, target: &Target, event: &Event, now: Instant) {
        let admitted = self.ejections.admits("ejections", target, now);
        match event {
            Event::Ejected { id, reason, time } if admitted => {
                info!(target: "rolecall", %target, %id, %reason, ?time, "ejected");
            }
            Event::TrialFailed { id, time } if admitted => {
                info!(target: "rolecall", %target, %id, ?time, "trial failed");
            }
            Event::Returned { id, after } if admitted => {
                info!(target: "rolecall", %target, %id, ?after, "returned");
            }
            Event::EjectionWithheld {
                id,
                reason,
                by: by @ Withheld::ByCap,
            } if admitted => {
                warn!(target: "rolecall", %target, %id, %reason, %by, "ejection withheld");
            }
            Event::EjectionWithheld { id, reason, by } if admitted => {
                info!(target: "rolecall", %target, %id, %reason, %by, "ejection withheld");
            }
            _ => debug!(target: "rolecall", %target, "{event}"),
        }
    }

    fn fleet(&mut self, target: &Target, event: &Event, now: Instant) {
        let admitted = self.fleet.admits("the fleet", target, now);
        match event {
            Event::PanicModeBegan { members } if admitted => {
                warn!(target: "rolecall", %target, members, "panic mode began");
            }
            Event::PanicModeEnded if admitted => {
                info!(target: "rolecall", %target, "panic mode ended");
            }
            Event::NothingUsable if admitted => {
                warn!(target: "rolecall", %target, "nothing usable")
            }
            Event::Stalled { time } if admitted => {
                warn!(target: "rolecall", %target, ?time, "this process stalled");
            }
            Event::Missed { count } if admitted => {
                warn!(target: "rolecall", %target, count, "events missed");
            }
            Event::Usable if admitted => info!(target: "rolecall", %target, "usable"),
            Event::DriverStopped { connections } if admitted => {
                info!(target: "rolecall", %target, connections, "driver stopped");
            }
            _ => debug!(target: "rolecall", %target, "{event}"),
        }
    }

    /// Discovery gave a set, and its events were written.
    pub(super) fn set_applied(&mut self, target: &Target) {
        for (flaw, sets) in self.faults.end_set() {
            match flaw {
                Flaw::Refused(id) => {
                    info!(target: "rolecall", %target, %id, sets, "instance is refused no more");
                }
                Flaw::Duplicate(id) => {
                    info!(target: "rolecall", %target, %id, sets, "id is not a duplicate any more");
                }
            }
        }
    }

    /// Discovery itself gave a set.
    pub(super) fn discovery_works(&mut self, target: &Target, now: Instant) {
        if let Some(failure) = self.faults.recover() {
            let (errors, lasted) = (failure.errors, failure.lasted(now));
            info!(target: "rolecall", %target, errors, ?lasted, "discovery gives sets again");
        }
    }

    /// Whether the event says something that the one before it did not.
    fn is_news(&mut self, event: &Event, now: Instant) -> bool {
        match event {
            Event::InstanceRefused { id, .. } => self.faults.begins(Flaw::Refused(id.clone())),
            Event::DuplicateId { id } => self.faults.begins(Flaw::Duplicate(id.clone())),
            Event::DiscoveryFailed { error } => self.faults.fails(&error.with_causes(), now),
            _ => true,
        }
    }

    fn discovery(&mut self, target: &Target, event: &Event, now: Instant) {
        if !self.is_news(event, now) {
            let event = legible(event);
            return debug!(target: "rolecall", %target, event, "about discovery, as before");
        }
        let admitted = self.discovery.admits("discovery", target, now);
        match event {
            Event::SetDoubted {
                known,
                answered,
                grace,
            } if admitted => {
                warn!(target: "rolecall", %target, known, answered, ?grace, "set doubted");
            }
            Event::InstanceRefused { id, error } if admitted => {
                warn!(target: "rolecall", %target, %id, %error, "instance refused");
            }
            Event::DuplicateId { id } if admitted => {
                warn!(target: "rolecall", %target, %id, "duplicate id");
            }
            // Normal where callers start before the first instance.
            Event::DiscoveryFailed { error }
                if admitted && error.kind() == DiscoveryErrorKind::UnknownRole =>
            {
                info!(target: "rolecall", %target, %error, "waiting for the first instance");
            }
            Event::DiscoveryFailed { error } if admitted => {
                let error = error.with_causes();
                warn!(target: "rolecall", %target, error, "discovery failed");
            }
            _ => debug!(target: "rolecall", %target, event = legible(event), "about discovery"),
        }
    }
}

impl Budget {
    /// Whether one more line may be written. The first line of a period says how many the last one omitted.
    fn admits(&mut self, about: &'static str, target: &Target, now: Instant) -> bool {
        let is_over = |began| now.saturating_duration_since(began) >= PERIOD;
        if self.began.is_none_or(is_over) {
            if self.omitted > 0 {
                let omitted = self.omitted;
                info!(target: "rolecall", %target, omitted, "lines about {about} were left to debug");
            }
            *self = Self {
                began: Some(now),
                ..Self::default()
            };
        }
        let admitted = self.written < MAX_LINES;
        if !admitted && self.omitted == 0 {
            info!(target: "rolecall", %target, "lines about {about} go to debug for a while");
        }
        self.written += u32::from(admitted);
        self.omitted += u64::from(!admitted);
        admitted
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fleet_that_flaps_writes_a_bounded_number_of_lines() {
        let start = crate::runtime::clock::now();
        let target = "worker:http".parse().unwrap();
        let mut log = Budget::default();
        let admitted = |log: &mut Budget, second| {
            let now = start + Duration::from_secs(second);
            (0..1000)
                .filter(|_| log.admits("ejections", &target, now))
                .count()
        };
        assert_eq!(admitted(&mut log, 0), 20);
        assert_eq!(admitted(&mut log, 9), 0);
        assert_eq!(admitted(&mut log, 10), 20);
        assert_eq!(log.omitted, 980);
    }
}
