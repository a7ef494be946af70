//! Sends events to subscribers and to the log. The rate of events that others can cause is bounded.

use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::broadcast;
use tracing::field::display;
use tracing::{debug, info, warn};

use super::event::GuardEvent;
use super::explanation::GuardExplanation;
use crate::error::discovery::DiscoveryError;
use crate::model::name::Boundary;

/// The number of events kept for a slow subscriber.
const EVENTS_KEPT: usize = 1024;
/// The number of events of each kind within [`PERIOD`], one for each address or error.
const MOST: usize = 10;
const PERIOD: Duration = Duration::from_secs(10);

pub(super) struct Journal {
    /// The guard's own boundary, a field of its log lines.
    boundary: Boundary,
    pub(super) events: broadcast::Sender<GuardEvent>,
    denied: Mutex<Ration<Caller>>,
    cut_offs: Mutex<Ration<IpAddr>>,
    forwards: Mutex<Ration<IpAddr>>,
    errors: Mutex<Ration<(Boundary, String)>>,
    changes: Mutex<Ration<Each>>,
}

/// The other end of a denied connection.
#[derive(PartialEq)]
enum Caller {
    Ip(IpAddr),
    Uid(u32),
}

/// A key that never equals another.
struct Each;

impl PartialEq for Each {
    fn eq(&self, _: &Self) -> bool {
        false
    }
}

impl Journal {
    pub(super) fn new(boundary: Boundary) -> Self {
        Self {
            boundary,
            events: broadcast::Sender::new(EVENTS_KEPT),
            denied: Mutex::default(),
            cut_offs: Mutex::default(),
            forwards: Mutex::default(),
            errors: Mutex::default(),
            changes: Mutex::default(),
        }
    }

    /// Reports an event caused by this address, if the rate allows it.
    pub(super) fn tell_of(&self, ip: IpAddr, event: GuardEvent, now: Instant) {
        if self.has_room_for(Caller::Ip(ip), now) {
            self.tell(event);
        }
    }

    /// Reports a denied connection. The log line has the reason.
    pub(super) fn tell_of_denied(
        &self,
        ip: IpAddr,
        why: impl FnOnce() -> GuardExplanation,
        now: Instant,
    ) {
        if self.has_room_for(Caller::Ip(ip), now) {
            self.tell_why(GuardEvent::Refused { ip }, Some(&why()));
        }
    }

    pub(super) fn tell_of_uid(&self, uid: u32, now: Instant) {
        if self.has_room_for(Caller::Uid(uid), now) {
            self.tell(GuardEvent::UidRefused { uid });
        }
    }

    fn has_room_for(&self, caller: Caller, now: Instant) -> bool {
        let omitted = |count| GuardEvent::RefusalsOmitted { count };
        self.has_room(&self.denied, caller, 1, omitted, now)
    }

    pub(super) fn tell_of_cut_off(&self, ip: IpAddr, connections: usize, now: Instant) {
        let count = u64::try_from(connections).unwrap_or(u64::MAX);
        let omitted = |connections| GuardEvent::CutOffsOmitted { connections };
        if self.has_room(&self.cut_offs, ip, count, omitted, now) {
            self.tell(GuardEvent::CutOff { ip, connections });
        }
    }

    /// Reports an admitted connection that could not be forwarded. `failed` is the error.
    pub(super) fn tell_of_forward(&self, ip: IpAddr, failed: GuardEvent, now: Instant) {
        let omitted = |count| GuardEvent::ForwardFailuresOmitted { count };
        if self.has_room(&self.forwards, ip, 1, omitted, now) {
            self.tell(failed);
        }
    }

    pub(super) fn tell_of_error(&self, boundary: Boundary, error: DiscoveryError, now: Instant) {
        let key = (boundary.clone(), error.with_causes());
        let omitted = |count| GuardEvent::DiscoveryErrorsOmitted { count };
        if self.has_room(&self.errors, key, 1, omitted, now) {
            self.tell(GuardEvent::DiscoveryFailed { boundary, error });
        }
    }

    /// Subscribers get each change, because only the last one is the current state. The log is bounded as for other events.
    pub(super) fn tell_of_change(&self, event: GuardEvent, now: Instant) {
        let (before, has_room) = ration(&self.changes, Each, 1, now);
        if let Some(count) = before {
            let guard = &self.boundary;
            debug!(target: "rolecall", %guard, count, "changes of peers were not logged one by one");
        }
        if has_room {
            self.log(&event, None);
        }
        self.send(event);
    }

    /// Whether the rate allows one more. Reports the number omitted in the period before.
    fn has_room<K: PartialEq>(
        &self,
        rationed: &Mutex<Ration<K>>,
        key: K,
        count: u64,
        omitted: impl FnOnce(u64) -> GuardEvent,
        now: Instant,
    ) -> bool {
        let (before, has_room) = ration(rationed, key, count, now);
        if let Some(count) = before {
            self.tell(omitted(count));
        }
        has_room
    }

    pub(super) fn tell(&self, event: GuardEvent) {
        self.tell_why(event, None);
    }

    fn tell_why(&self, event: GuardEvent, why: Option<&GuardExplanation>) {
        self.log(&event, why);
        self.send(event);
    }

    fn send(&self, event: GuardEvent) {
        // Nobody may be listening.
        let _ = self.events.send(event);
    }

    fn log(&self, event: &GuardEvent, why: Option<&GuardExplanation>) {
        let guard = &self.boundary;
        match event {
            GuardEvent::PeersChanged {
                boundary,
                added,
                removed,
                known,
            } => {
                debug!(target: "rolecall", %guard, %boundary, added, removed, known, "peers changed");
            }
            GuardEvent::BoundaryAllowed { boundary } => {
                info!(target: "rolecall", %guard, %boundary, "boundary allowed");
            }
            GuardEvent::BoundaryRevoked { boundary } => {
                info!(target: "rolecall", %guard, %boundary, "boundary revoked");
            }
            GuardEvent::Refused { ip } => {
                let why = why.map(display);
                warn!(target: "rolecall", %guard, %ip, why, "connection denied");
            }
            GuardEvent::UidRefused { uid } => {
                warn!(target: "rolecall", %guard, uid, "connection over a Unix socket denied");
            }
            GuardEvent::HeaderRefused { ip, error } => {
                warn!(target: "rolecall", %guard, %ip, %error, "PROXY header refused");
            }
            GuardEvent::RefusalsOmitted { count } => {
                warn!(target: "rolecall", %guard, count, "refusals were not logged one by one");
            }
            GuardEvent::CutOff { ip, connections } => {
                info!(target: "rolecall", %guard, %ip, connections, "peer cut off");
            }
            GuardEvent::CutOffsOmitted { connections } => {
                info!(target: "rolecall", %guard, connections, "peers cut off were not logged one by one");
            }
            GuardEvent::AcceptFailed { error, retry_in } => {
                warn!(target: "rolecall", %guard, %error, ?retry_in, "accepting failed");
            }
            GuardEvent::ForwardFailed { addr, error } => {
                warn!(target: "rolecall", %guard, %addr, %error, "forwarding failed");
            }
            GuardEvent::ForwardFailuresOmitted { count } => {
                warn!(target: "rolecall", %guard, count, "failures of forwarding were not logged one by one");
            }
            GuardEvent::DiscoveryFailed { boundary, error } => {
                let text = error.with_causes();
                if error.is_expected() {
                    info!(target: "rolecall", %guard, %boundary, error = text, "no peers yet");
                } else {
                    warn!(target: "rolecall", %guard, %boundary, error = text, "discovery of peers failed");
                }
            }
            GuardEvent::DiscoveryErrorsOmitted { count } => {
                warn!(target: "rolecall", %guard, count, "errors of discovery were not logged one by one");
            }
            GuardEvent::DiscoveryEnded { boundary } => {
                debug!(target: "rolecall", %guard, %boundary, "discovery of peers ended");
            }
            GuardEvent::Missed { count } => {
                warn!(target: "rolecall", %guard, count, "events missed")
            }
        }
    }
}

/// The number omitted in the period before, if a new one starts, and whether the rate allows one more.
fn ration<K: PartialEq>(
    ration: &Mutex<Ration<K>>,
    key: K,
    count: u64,
    now: Instant,
) -> (Option<u64>, bool) {
    let mut ration = ration.lock().unwrap_or_else(PoisonError::into_inner);
    (ration.renew(now), ration.admits(key, count))
}

/// The events of this period. The number of keys is bounded.
struct Ration<K> {
    began: Option<Instant>,
    told: Vec<K>,
    omitted: u64,
}

impl<K> Default for Ration<K> {
    fn default() -> Self {
        Self {
            began: None,
            told: Vec::new(),
            omitted: 0,
        }
    }
}

impl<K: PartialEq> Ration<K> {
    /// Starts a new period if this one is over. Returns the number omitted in the old one, if any.
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

    /// Whether the rate allows one more. If not, counts `count` as omitted.
    fn admits(&mut self, key: K, count: u64) -> bool {
        let admitted = self.told.len() < MOST && !self.told.contains(&key);
        if admitted {
            self.told.push(key);
        } else {
            self.omitted = self.omitted.saturating_add(count);
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
        let start = crate::runtime::clock::now();
        let mut ration = Ration::default();
        assert_eq!(ration.renew(start), None);
        assert_eq!(
            (0..100_000).filter(|n| ration.admits(ip(*n), 1)).count(),
            10
        );
        assert_eq!(ration.told.capacity().min(64), ration.told.capacity());
        let later = start + Duration::from_secs(9);
        assert_eq!(ration.renew(later), None);
        assert!(!ration.admits(ip(7), 1));
        assert_eq!(ration.renew(start + PERIOD), Some(99_991));
        assert!(ration.admits(ip(7), 1));
    }

    #[test]
    fn one_address_that_insists_leaves_room_for_the_others() {
        let mut ration = Ration::default();
        assert_eq!((0..1000).filter(|_| ration.admits(ip(1), 1)).count(), 1);
        assert!(ration.admits(ip(2), 1));
    }

    #[test]
    fn friends_that_could_not_be_passed_on_are_no_refusals() {
        let journal = Journal::new(Boundary::default());
        let mut told = journal.events.subscribe();
        let start = crate::runtime::clock::now();
        for n in 0..100 {
            let addr = ([127, 0, 0, 1], 1).into();
            let error = std::sync::Arc::new(std::io::ErrorKind::ConnectionRefused.into());
            let now = start + PERIOD * (n / 50);
            journal.tell_of_forward(ip(7), GuardEvent::ForwardFailed { addr, error }, now);
        }
        journal.tell_of(ip(7), GuardEvent::Refused { ip: ip(7) }, start + PERIOD);
        let told: Vec<_> = std::iter::from_fn(|| told.try_recv().ok())
            .map(|event| event.to_string())
            .collect();
        let failed = "forwarding to 127.0.0.1:1 failed: connection refused";
        let omitted = "forwarding failed 49 more times";
        assert_eq!(
            told,
            [failed, omitted, failed, "connection from 0.0.0.7 denied"]
        );
    }

    #[test]
    fn peers_cut_off_are_told_of_in_few_lines_and_counted() {
        let journal = Journal::new(Boundary::default());
        let mut told = journal.events.subscribe();
        let start = crate::runtime::clock::now();
        for n in 0..10_000 {
            journal.tell_of_cut_off(ip(n), 3, start);
        }
        assert_eq!(told.len(), 10);
        journal.tell_of(ip(1), GuardEvent::Refused { ip: ip(1) }, start);
        assert_eq!(told.len(), 11, "they take no line from denied connections");
        for _ in 0..11 {
            told.try_recv().unwrap();
        }
        journal.tell_of_cut_off(ip(7), 1, start + PERIOD);
        let omitted = told.try_recv().unwrap();
        assert!(
            matches!(
                omitted,
                GuardEvent::CutOffsOmitted {
                    connections: 29_970
                }
            ),
            "{omitted}"
        );
        assert!(matches!(
            told.try_recv().unwrap(),
            GuardEvent::CutOff { .. }
        ));
    }
}
