//! The members as the writers know them: which instances there are, who is connected, dialled, waiting to be dialled.

mod ejecting;
mod ejections;
mod late;
mod listing;
mod membership;
mod redial;
mod suspects;
mod trials;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rand::SeedableRng;
use rand::rngs::SmallRng;

use self::ejections::Ejections;
use super::config::BalanceConfig;
use super::journal::Journal;
use super::member::{Member, Record};
use super::news::Doubt;
use super::seat::{Connection, Link, Seat, Tier};
use super::shared::Shared;
use super::slot::nanos;
use super::snapshot::{List, Rules, Snapshot};
use crate::event::{DialError, Event};
use crate::fleet::PickError;
use crate::model::instance::{Instance, InstanceId};
use crate::status::{Census, EjectionMode, Status};

/// A connection to be made. Its outcome goes to [`Fleet::connected`](super::Fleet::connected) or
/// [`Fleet::dial_failed`](super::Fleet::dial_failed) with the ticket.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Dial {
    /// Names this dial.
    pub ticket: Ticket,
    /// Whom to dial.
    pub instance: Instance,
    /// Whether the last dial of it failed, or the last connection did not last. Others are to be dialled first.
    pub is_redial: bool,
}

/// Names one connection generation of one instance.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Ticket {
    id: InstanceId,
    generation: u64,
}

/// Nanoseconds of a stall of this process that is an event.
const TOLD_STALL: u64 = 1_000_000_000;

pub(super) struct Roster<S> {
    config: BalanceConfig,
    /// By id.
    seats: Vec<Seat<S>>,
    list: List<S>,
    /// Who is in the list: the members of this tier, or, if it is `Out`, all that are eligible.
    listed: Tier,
    ejections: Ejections,
    /// The seat at which the search for late members goes on.
    late_from: usize,
    /// How many members are eligible, and how many of them are out.
    eligible: usize,
    out: usize,
    /// Seats that wait to be dialled, by when.
    retries: BTreeSet<(u64, InstanceId)>,
    /// Dials that the last change cancelled.
    cancelled: Vec<Ticket>,
    doubt: Option<Doubt>,
    answered_at: Option<u64>,
    unusable_since: Option<Instant>,
    generation: u64,
    rng: SmallRng,
    journal: Journal,
    census: Option<Arc<Census>>,
    /// Outcomes that the pool had at the last beat.
    outcomes: u64,
    dirty: bool,
    garbage: Garbage<S>,
}

/// What falls away under the lock and is dropped after it: all of it holds values of the caller.
pub(super) struct Garbage<S> {
    members: Vec<Arc<Member<S>>>,
    errors: Vec<Arc<DialError>>,
    events: Vec<Event>,
}

impl<S> Roster<S> {
    pub(super) fn new(config: BalanceConfig, seed: u64, now: Instant) -> Self {
        Self {
            config,
            seats: Vec::new(),
            list: List::new(),
            listed: Tier::Available,
            ejections: Ejections::default(),
            late_from: 0,
            eligible: 0,
            out: 0,
            retries: BTreeSet::new(),
            cancelled: Vec::new(),
            doubt: None,
            answered_at: None,
            unusable_since: Some(now),
            generation: 0,
            rng: SmallRng::seed_from_u64(seed),
            journal: Journal::default(),
            census: None,
            outcomes: 0,
            dirty: false,
            garbage: Garbage::default(),
        }
    }

    pub(super) fn config(&self) -> &BalanceConfig {
        &self.config
    }

    pub(super) fn reconfigure(&mut self, config: BalanceConfig) {
        if let Some(doubt) = &mut self.doubt {
            doubt.reconfigure(&config);
        }
        self.config = config;
        self.dirty = true;
    }

    /// A driver begins: returns the dials of all instances that have no connection.
    pub(super) fn start(&mut self, now: Instant) -> Vec<Dial> {
        if self.unusable_since.is_some() {
            self.unusable_since = Some(now);
            self.dirty = true;
        }
        self.census = None;
        let wants =
            |seat: &Seat<S>| seat.member().is_none() && !seat.is_dialled() && !seat.is_draining();
        let mut dials = Vec::new();
        for index in 0..self.seats.len() {
            if wants(&self.seats[index]) {
                dials.push(self.dial(index));
            }
        }
        dials
    }

    /// The driver is gone: every connection is lost, and no dial is under way or due.
    pub(super) fn stop(&mut self, now: u64) {
        let mut connections = 0;
        for index in 0..self.seats.len() {
            self.cancel_dial(index);
            connections += usize::from(self.disconnect(index, now).is_some());
        }
        self.cancelled.clear();
        self.note(Event::DriverStopped { connections });
        self.rebuild_list();
    }

    pub(super) fn take_cancelled(&mut self) -> Vec<Ticket> {
        std::mem::take(&mut self.cancelled)
    }

    /// Whether this connection is in the list or, for a trial, could be.
    pub(super) fn is_pickable(&self, record: &Record, is_trial: bool) -> bool {
        self.find(record.instance.id()).is_some_and(|index| {
            let seat = &self.seats[index];
            let is_it = |member: &Arc<Member<S>>| member.generation == record.generation;
            seat.eligible().is_some_and(is_it) && (is_trial || seat.position.is_some())
        })
    }

    /// Whether time is of any use.
    pub(super) fn is_timed(&self) -> bool {
        let judges = self.config.load().is_latency() || self.config.outlier().is_some();
        judges || self.ejections.is_any()
    }

    pub(super) fn connected(
        &mut self,
        ticket: &Ticket,
        service: S,
        shared: &Arc<Shared>,
        now: u64,
    ) -> Result<(), S> {
        let Some(index) = self.awaited(ticket) else {
            return Err(service);
        };
        let seat = &mut self.seats[index];
        if let Connection::Up(old) = &seat.connection
            && old.instance.addr() != seat.instance.addr()
        {
            seat.stats.move_to_address(now);
        }
        let record = Record {
            stats: Arc::clone(&seat.stats),
            generation: ticket.generation,
            instance: seat.instance.clone(),
            shared: Arc::clone(shared),
        };
        let member = Arc::new(Member { record, service });
        seat.link = Link::Idle;
        seat.since = now;
        let error = seat.error.take();
        let replaced = std::mem::replace(&mut seat.connection, Connection::Up(member));
        self.discard(replaced);
        self.garbage.errors.extend(error);
        self.try_if_moved(index, now);
        self.relist(index);
        self.note(Event::Connected {
            id: ticket.id.clone(),
        });
        self.try_if_over_cap(index, now);
        Ok(())
    }

    pub(super) fn dial_failed(&mut self, ticket: &Ticket, error: &Arc<DialError>, now: u64) {
        let Some(index) = self.awaited(ticket) else {
            return;
        };
        let seat = &mut self.seats[index];
        seat.link = Link::Idle;
        let replaced = seat.error.replace(Arc::clone(error));
        self.garbage.errors.extend(replaced);
        let wait = if error.is_local_fault() {
            self.retry_soon(index, now)
        } else {
            self.seats[index].attempts = self.seats[index].attempts.saturating_add(1);
            self.retry(index, now)
        };
        self.note(Event::DialFailed {
            id: ticket.id.clone(),
            error: Arc::clone(error),
            retry_in: Duration::from_nanos(wait),
        });
    }

    /// A connection is lost: its instance is dialled again, at once unless connections to it do not last.
    pub(super) fn lost(&mut self, id: &InstanceId, generation: u64, now: u64) {
        let Some(index) = self.find(id) else {
            return;
        };
        let is_it = |member: &Arc<Member<S>>| member.generation == generation;
        if !self.seats[index].member().is_some_and(is_it) {
            return;
        }
        let Some(lasted) = self.disconnect(index, now) else {
            return;
        };
        self.relist(index);
        self.note(Event::ConnectionLost { id: id.clone() });
        self.hasten(now);
        let seat = &mut self.seats[index];
        if seat.is_dialled() {
            return;
        }
        if lasted >= nanos(self.config.connect_backoff().max()) {
            seat.attempts = 0;
        }
        self.retry(index, now);
        let seat = &mut self.seats[index];
        seat.attempts = seat.attempts.saturating_add(1);
    }

    /// Takes a seat's connection away, and returns for how long it was up. The list still has it.
    fn disconnect(&mut self, index: usize, now: u64) -> Option<u64> {
        let seat = &mut self.seats[index];
        // The next connection is to another address.
        if seat.member()?.instance.addr() != seat.instance.addr() {
            seat.stats.move_to_address(now);
        }
        let lasted = now.saturating_sub(seat.since);
        let replaced = std::mem::replace(&mut seat.connection, Connection::Lost);
        seat.since = now;
        self.discard(replaced);
        Some(lasted)
    }

    pub(super) fn next_deadline(&self) -> Option<u64> {
        let retry = self.retries.first().map(|&(at, _)| at);
        let doubt = self.doubt.as_ref().map(|doubt| doubt.until);
        let ejection = self.ejections.next_deadline();
        retry.into_iter().chain(doubt).chain(ejection).min()
    }

    pub(super) fn on_deadline(&mut self, shared: &Shared, now: u64) -> Vec<Dial> {
        let mut dials = Vec::new();
        self.cancelled.clear();
        let beats = shared.pulse.next().is_some_and(|next| next <= now);
        let stall = shared.pulse.beat(now, || self.has_traffic(shared));
        if let Some(time) = stall.filter(|&stall| stall >= TOLD_STALL) {
            let time = Duration::from_nanos(time);
            self.note(Event::Stalled { time });
        }
        if beats {
            self.sweep(shared, now);
        }
        self.end_ejections(now);
        if let Some(doubt) = self.doubt.take_if(|doubt| doubt.until <= now) {
            dials = self.follow(&doubt.set, membership::Absent::Leave, false, now);
        }
        while self.retries.first().is_some_and(|&(at, _)| at <= now) {
            let Some((_, id)) = self.retries.pop_first() else {
                break;
            };
            if let Some(index) = self.find(&id) {
                dials.push(self.dial(index));
            }
        }
        dials
    }

    /// Whether anybody was answered since the last time, or waits.
    fn has_traffic(&mut self, shared: &Shared) -> bool {
        let outcomes = shared.pool.outcomes();
        let before = std::mem::replace(&mut self.outcomes, outcomes);
        // Threads that share a count can set it back.
        let gained = outcomes.wrapping_sub(before) as i64;
        shared.trials.refill(gained.max(0) as u64);
        let waits = |seat: &Seat<S>| seat.stats.in_flight() > 0;
        outcomes != before || self.seats.iter().any(waits)
    }

    pub(super) fn why_unusable(&mut self) -> PickError {
        match (self.answered_at, self.seats.is_empty()) {
            (None, _) => PickError::Unresolved,
            (Some(_), true) => PickError::Empty,
            (Some(_), false) => {
                let seats = &self.seats;
                let census = self.census.get_or_insert_with(|| {
                    let mut census = Census::default();
                    for seat in seats {
                        census.count(seat.reason());
                    }
                    Arc::new(census)
                });
                PickError::NoneUsable(Arc::clone(census))
            }
        }
    }

    /// How things stand.
    pub(super) fn status(&self, shared: &Shared, now: u64) -> Status {
        let past = |moment: u64| Duration::from_nanos(now.saturating_sub(moment));
        let mean = shared.pool.mean();
        let outlier = self.config.outlier().cloned().unwrap_or_default();
        Status {
            target: None,
            set_age: self.answered_at.map(past),
            discovery_error: None,
            doubted_for: self
                .doubt
                .as_ref()
                .map(|doubt| Duration::from_nanos(doubt.until.saturating_sub(now))),
            usable: self.list.len(),
            panic_mode: self.listed == Tier::Out,
            ejection_mode: match &*shared.outlier.load() {
                Some(config) if config.is_shadow() => EjectionMode::Shadow,
                Some(_) => EjectionMode::On,
                None => EjectionMode::Off,
            },
            ejections: self.ejections.counters,
            stalls: shared.pulse.stalls(),
            mean_latency: (mean > 0.0).then(|| Duration::from_nanos(mean as u64)),
            members: self
                .seats
                .iter()
                .map(|seat| seat.status(shared, &outlier, now))
                .collect(),
        }
    }

    pub(super) fn take_events(&mut self) -> Vec<Event> {
        self.journal.take()
    }

    pub(super) fn take_garbage(&mut self) -> Garbage<S> {
        std::mem::take(&mut self.garbage)
    }

    /// The state that picks shall read from now on, if it is another.
    pub(super) fn publish(&mut self, now: Instant) -> Option<Snapshot<S>> {
        if !std::mem::take(&mut self.dirty) {
            return None;
        }
        match (self.list.is_empty(), self.unusable_since) {
            (true, None) => {
                self.unusable_since = Some(now);
                self.note(Event::NothingUsable);
            }
            (false, Some(_)) => {
                self.unusable_since = None;
                self.note(Event::Usable);
            }
            _ => {}
        }
        Some(Snapshot {
            list: self.list.published(),
            rules: Rules::new(&self.config),
            unusable_since: self.unusable_since,
            waiting: self.waiting(),
            trials_are_free: self.trials_are_free(),
            slow_start: (self.ejections.is_any_returning())
                .then(|| nanos(self.config.slow_start())),
        })
    }

    pub(super) fn find(&self, id: &InstanceId) -> Option<usize> {
        self.seats
            .binary_search_by(|seat| seat.instance.id().cmp(id))
            .ok()
    }

    /// The seat that waits for the outcome of this very dial.
    fn awaited(&self, ticket: &Ticket) -> Option<usize> {
        let generation = ticket.generation;
        self.find(&ticket.id)
            .filter(|&index| self.seats[index].link == Link::Dialling { generation })
    }

    fn note(&mut self, event: Event) {
        self.census = None;
        self.garbage.events.extend(self.journal.push(event));
    }

    fn discard(&mut self, connection: Connection<S>) {
        if let Connection::Up(member) = connection {
            self.garbage.members.push(member);
        }
    }
}

impl<S> Default for Garbage<S> {
    fn default() -> Self {
        Self {
            members: Vec::new(),
            errors: Vec::new(),
            events: Vec::new(),
        }
    }
}
