//! What is told of what happens: every event to subscribers and to the log, those that strangers cause at a bounded rate.

use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::broadcast;
use tracing::{debug, info, warn};

use super::Event;
use crate::Boundary;

/// Events kept for a subscriber that is late.
const EVENTS_KEPT: usize = 1024;
/// Lines that strangers can cause within [`PERIOD`], one for each address.
const MOST: usize = 20;
const PERIOD: Duration = Duration::from_secs(10);

pub(super) struct Journal {
    /// The guard's own boundary, by which log lines are told apart.
    boundary: Boundary,
    pub(super) events: broadcast::Sender<Event>,
    ration: Mutex<Ration>,
}

impl Journal {
    pub(super) fn new(boundary: Boundary) -> Self {
        Self {
            boundary,
            events: broadcast::Sender::new(EVENTS_KEPT),
            ration: Mutex::default(),
        }
    }

    /// Tells of something that this address caused, if there is room for it.
    pub(super) fn tell_of(&self, ip: IpAddr, event: Event, now: Instant) {
        let (omitted, told) = {
            let mut ration = self.ration.lock().unwrap_or_else(PoisonError::into_inner);
            (ration.renew(now), ration.admits(ip))
        };
        if let Some(count) = omitted {
            self.tell(Event::RefusalsOmitted { count });
        }
        if told {
            self.tell(event);
        }
    }

    pub(super) fn tell(&self, event: Event) {
        self.log(&event);
        // Nobody may be listening.
        let _ = self.events.send(event);
    }

    fn log(&self, event: &Event) {
        let guard = &self.boundary;
        match event {
            Event::PeersChanged {
                boundary,
                added,
                removed,
                known,
            } => {
                debug!(target: "rolecall", %guard, %boundary, added, removed, known, "peers changed");
            }
            Event::BoundaryAllowed { boundary } => {
                info!(target: "rolecall", %guard, %boundary, "boundary allowed");
            }
            Event::BoundaryRevoked { boundary } => {
                info!(target: "rolecall", %guard, %boundary, "boundary revoked");
            }
            Event::Refused { ip } => warn!(target: "rolecall", %guard, %ip, "stranger refused"),
            Event::HeaderRefused { ip, error } => {
                warn!(target: "rolecall", %guard, %ip, %error, "PROXY header refused");
            }
            Event::RefusalsOmitted { count } => {
                warn!(target: "rolecall", %guard, count, "refusals were not logged one by one");
            }
            Event::CutOff { ip, connections } => {
                info!(target: "rolecall", %guard, %ip, connections, "peer cut off");
            }
            Event::AcceptFailed { error, retry_in } => {
                warn!(target: "rolecall", %guard, %error, ?retry_in, "accepting failed");
            }
            Event::ForwardFailed { addr, error } => {
                warn!(target: "rolecall", %guard, %addr, %error, "forwarding failed");
            }
            Event::DiscoveryFailed { boundary, error } => {
                warn!(target: "rolecall", %guard, %boundary, %error, "discovery of peers failed");
            }
            Event::DiscoveryEnded { boundary } => {
                debug!(target: "rolecall", %guard, %boundary, "discovery of peers ended");
            }
            Event::Missed { count } => warn!(target: "rolecall", %guard, count, "events missed"),
        }
    }
}

/// What was told in this period. The addresses told of are few, however many there are.
#[derive(Default)]
struct Ration {
    began: Option<Instant>,
    told: Vec<IpAddr>,
    omitted: u64,
}

impl Ration {
    /// Begins another period if this one is over; returns how much was omitted in it, if any.
    fn renew(&mut self, now: Instant) -> Option<u64> {
        let is_over = |began| now.saturating_duration_since(began) >= PERIOD;
        if !self.began.is_none_or(is_over) {
            return None;
        }
        self.began = Some(now);
        self.told.clear();
        let omitted = std::mem::take(&mut self.omitted);
        (omitted > 0).then_some(omitted)
    }

    fn admits(&mut self, ip: IpAddr) -> bool {
        let admitted = self.told.len() < MOST && !self.told.contains(&ip);
        if admitted {
            self.told.push(ip);
        } else {
            self.omitted += 1;
        }
        admitted
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    fn ip(number: u32) -> IpAddr {
        Ipv4Addr::from_bits(number).into()
    }

    #[test]
    fn a_flood_of_addresses_is_told_of_in_few_lines_and_counted() {
        let start = crate::service::clock::now();
        let mut ration = Ration::default();
        assert_eq!(ration.renew(start), None);
        assert_eq!((0..100_000).filter(|n| ration.admits(ip(*n))).count(), 20);
        assert_eq!(ration.told.capacity().min(64), ration.told.capacity());
        let later = start + Duration::from_secs(9);
        assert_eq!(ration.renew(later), None);
        assert!(!ration.admits(ip(7)));
        assert_eq!(ration.renew(start + PERIOD), Some(99_981));
        assert!(ration.admits(ip(7)));
    }

    #[test]
    fn one_address_that_insists_leaves_room_for_the_others() {
        let mut ration = Ration::default();
        assert_eq!((0..1000).filter(|_| ration.admits(ip(1))).count(), 1);
        assert!(ration.admits(ip(2)));
    }
}
