use tracing::{debug, info, warn};

use crate::{Event, Target};

/// Every event as a structured log line. Requests themselves are never logged.
pub(super) fn log(target: &Target, event: &Event) {
    match event {
        Event::SetChanged {
            added,
            removed,
            changed,
            known,
        } => debug!(target: "rolecall", %target, added, removed, changed, known, "set changed"),
        Event::SetDoubted {
            known,
            answered,
            grace,
        } => warn!(target: "rolecall", %target, known, answered, ?grace, "set doubted"),
        Event::InstanceRefused { id, error } => {
            warn!(target: "rolecall", %target, %id, %error, "instance refused");
        }
        Event::DuplicateId { id } => warn!(target: "rolecall", %target, %id, "duplicate id"),
        Event::AvailabilityChanged { id, availability } => {
            debug!(target: "rolecall", %target, %id, %availability, "availability changed");
        }
        Event::Connected { id } => debug!(target: "rolecall", %target, %id, "connected"),
        Event::DialFailed {
            id,
            error,
            retry_in,
        } => debug!(target: "rolecall", %target, %id, %error, ?retry_in, "dial failed"),
        Event::ConnectionLost { id } => debug!(target: "rolecall", %target, %id, "connection lost"),
        Event::NothingUsable => warn!(target: "rolecall", %target, "nothing usable"),
        Event::Usable => info!(target: "rolecall", %target, "usable"),
        Event::DiscoveryFailed { error } => {
            warn!(target: "rolecall", %target, %error, "discovery failed");
        }
        Event::DiscoveryEnded => debug!(target: "rolecall", %target, "discovery ended"),
        Event::Missed { count } => warn!(target: "rolecall", %target, count, "events missed"),
    }
}
