//! The members as the writers know them: which instances there are, who is connected, dialled, waiting to be dialled.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rand::SeedableRng;
use rand::rngs::SmallRng;

use super::config::BalanceConfig;
use super::fleet::Shared;
use super::journal::Journal;
use super::member::{Member, Stats, nanos};
use super::news::{Doubt, News, judge};
use super::rng::unit;
use super::seat::{Connection, Link, Seat};
use super::snapshot::{List, Rules, Snapshot};
use crate::event::DialError;
use crate::fleet::PickError;
use crate::{Census, Event, Instance, InstanceId, InstanceSet, Status};

/// Longest wait between dials while nothing is usable.
const URGENT: u64 = 500_000_000;
/// Unusable instances of one set that are told of; a poisoned answer can hold any number.
const REFUSALS_TOLD: usize = 8;

/// What becomes of instances that a set lacks.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Absent {
    Leave,
    Stay,
}

/// A connection to be made. Its outcome goes to [`Fleet::connected`](super::Fleet::connected) or
/// [`Fleet::dial_failed`](super::Fleet::dial_failed) with the ticket.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Dial {
    /// Names this dial.
    pub ticket: Ticket,
    /// Whom to dial.
    pub instance: Instance,
}

/// Names one connection generation of one instance.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Ticket {
    id: InstanceId,
    generation: u64,
}

pub(super) struct Roster<S> {
    config: BalanceConfig,
    /// By id.
    seats: Vec<Seat<S>>,
    list: List<S>,
    /// Whether the list is made of busy members, for want of available ones.
    busy: bool,
    /// Seats that wait to be dialled, by when.
    retries: BTreeSet<(u64, InstanceId)>,
    doubt: Option<Doubt>,
    answered_at: Option<u64>,
    unusable_since: Option<Instant>,
    generation: u64,
    rng: SmallRng,
    journal: Journal,
    census: Option<Arc<Census>>,
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
            busy: false,
            retries: BTreeSet::new(),
            doubt: None,
            answered_at: None,
            unusable_since: Some(now),
            generation: 0,
            rng: SmallRng::seed_from_u64(seed),
            journal: Journal::default(),
            census: None,
            dirty: false,
            garbage: Garbage::default(),
        }
    }

    pub(super) fn config(&self) -> &BalanceConfig {
        &self.config
    }

    pub(super) fn reconfigure(&mut self, config: BalanceConfig) {
        self.config = config;
        self.dirty = true;
    }

    pub(super) fn restart_wait(&mut self, now: Instant) {
        if self.unusable_since.is_some() {
            self.unusable_since = Some(now);
            self.dirty = true;
        }
    }

    pub(super) fn apply(&mut self, set: &InstanceSet, now: u64) -> Vec<Dial> {
        let first = self.answered_at.replace(now).is_none();
        for id in set.duplicates() {
            self.note(Event::DuplicateId { id: id.clone() });
        }
        let known = self.seats.len();
        let lacks = |seat: &&Seat<S>| set.get(seat.instance.id().as_str()).is_none();
        let gone = || self.seats.iter().filter(lacks).count();
        match judge(set, known, gone, self.doubt.as_ref(), &self.config, now) {
            News::Believed => {
                self.doubt = None;
                self.follow(set, Absent::Leave, first, now)
            }
            News::Doubted(doubt) => {
                if self.doubt.replace(doubt).is_none() {
                    self.note(Event::SetDoubted {
                        known,
                        answered: set.len(),
                        grace: self.config.shrink_grace(),
                    });
                }
                self.follow(set, Absent::Stay, first, now)
            }
        }
    }

    pub(super) fn awaits(&self, ticket: &Ticket) -> bool {
        self.awaited(ticket).is_some()
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
        let stats = match &seat.connection {
            Connection::Lost(stats) => stats.inherit(),
            Connection::Up(old) if old.instance.addr() == seat.instance.addr() => {
                old.stats.inherit()
            }
            _ => Stats::default(),
        };
        let member = Arc::new(Member {
            stats,
            generation: ticket.generation,
            instance: seat.instance.clone(),
            shared: Arc::clone(shared),
            service,
        });
        seat.link = Link::Idle;
        seat.since = now;
        let error = seat.error.take();
        let replaced = std::mem::replace(&mut seat.connection, Connection::Up(member));
        self.discard(replaced);
        self.garbage.errors.extend(error);
        self.relist(index);
        self.note(Event::Connected {
            id: ticket.id.clone(),
        });
        Ok(())
    }

    pub(super) fn dial_failed(&mut self, ticket: &Ticket, error: &Arc<DialError>, now: u64) {
        let Some(index) = self.awaited(ticket) else {
            return;
        };
        let seat = &mut self.seats[index];
        seat.attempts = seat.attempts.saturating_add(1);
        let replaced = seat.error.replace(Arc::clone(error));
        self.garbage.errors.extend(replaced);
        let wait = self.retry(index, now);
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
        let seat = &mut self.seats[index];
        let Connection::Up(member) = &seat.connection else {
            return;
        };
        if member.generation != generation {
            return;
        }
        let lost = Connection::Lost(Box::new(member.stats.inherit()));
        let lasted = now.saturating_sub(seat.since);
        let replaced = std::mem::replace(&mut seat.connection, lost);
        seat.since = now;
        self.discard(replaced);
        self.relist(index);
        self.note(Event::ConnectionLost { id: id.clone() });
        self.hasten(now);
        let seat = &mut self.seats[index];
        if seat.is_dialled() {
            return;
        }
        if lasted >= nanos(self.config.connect_backoff().max) {
            seat.attempts = 0;
        }
        self.retry(index, now);
        let seat = &mut self.seats[index];
        seat.attempts = seat.attempts.saturating_add(1);
    }

    pub(super) fn next_deadline(&self) -> Option<u64> {
        let retry = self.retries.first().map(|&(at, _)| at);
        let doubt = self.doubt.as_ref().map(|doubt| doubt.until);
        retry.into_iter().chain(doubt).min()
    }

    pub(super) fn on_deadline(&mut self, now: u64) -> Vec<Dial> {
        let mut dials = Vec::new();
        if let Some(doubt) = self.doubt.take_if(|doubt| doubt.until <= now) {
            dials = self.follow(&doubt.set, Absent::Leave, false, now);
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

    pub(super) fn status(&self, shared: &Shared, now: u64) -> Status {
        let past = |moment: u64| Duration::from_nanos(now.saturating_sub(moment));
        let mean = shared.pool.mean();
        Status {
            target: None,
            set_age: self.answered_at.map(past),
            discovery_error: None,
            doubted_for: self
                .doubt
                .as_ref()
                .map(|doubt| Duration::from_nanos(doubt.until.saturating_sub(now))),
            usable: self.list.len(),
            mean_latency: (mean > 0.0).then(|| Duration::from_nanos(mean as u64)),
            members: self
                .seats
                .iter()
                .map(|seat| seat.status(shared, now))
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
        })
    }

    /// Makes the seats those of a set, and returns whom to dial.
    fn follow(&mut self, set: &InstanceSet, absent: Absent, first: bool, now: u64) -> Vec<Dial> {
        let mut dials = Vec::new();
        let mut changed = 0;
        // Both in order, with the index that they have or come before.
        let mut gone = Vec::new();
        let mut added = Vec::new();
        let mut refusals = REFUSALS_TOLD;
        let mut index = 0;
        for instance in set {
            while let Some(seat) = self.seats.get(index)
                && seat.instance.id() < instance.id()
            {
                gone.push(index);
                index += 1;
            }
            let known = self.seats.get(index).map(|seat| &seat.instance);
            let known = known.filter(|known| known.id() == instance.id());
            let same = known.is_some();
            if known != Some(instance) && self.is_sound(instance, &mut refusals) {
                if same {
                    changed += 1;
                    dials.extend(self.update(index, instance, now));
                } else {
                    added.push((index, instance));
                }
            }
            index += usize::from(same);
        }
        gone.extend(index..self.seats.len());
        if absent == Absent::Stay {
            gone.clear();
        }
        for &index in &gone {
            self.vacate(index);
        }
        for index in self.reseat(&gone, &added, now) {
            if !self.seats[index].is_draining() {
                dials.push(self.dial(index));
            }
        }
        if first || changed + gone.len() + added.len() > 0 {
            self.note(Event::SetChanged {
                added: added.len(),
                removed: gone.len(),
                changed,
                known: self.seats.len(),
            });
        }
        self.hasten(now);
        dials
    }

    /// Takes out and puts in seats; returns where the new ones are.
    fn reseat(&mut self, gone: &[usize], added: &[(usize, &Instance)], now: u64) -> Vec<usize> {
        if gone.is_empty() && added.is_empty() {
            return Vec::new();
        }
        let old = std::mem::take(&mut self.seats);
        let mut seats = Vec::with_capacity(old.len() + added.len() - gone.len());
        let mut places = Vec::with_capacity(added.len());
        let (mut gone, mut added) = (gone.iter().peekable(), added.iter().peekable());
        let mut seat_new = |seats: &mut Vec<Seat<S>>, before: usize| {
            while let Some((_, instance)) = added.next_if(|&&(index, _)| index <= before) {
                places.push(seats.len());
                seats.push(Seat::new((*instance).clone(), now));
            }
        };
        for (index, seat) in old.into_iter().enumerate() {
            seat_new(&mut seats, index);
            if gone.next_if(|&&gone| gone == index).is_none() {
                seats.push(seat);
            }
        }
        seat_new(&mut seats, usize::MAX);
        self.seats = seats;
        places
    }

    /// The instance was announced anew: a dial follows only where it has another address or wants to be back.
    fn update(&mut self, index: usize, instance: &Instance, now: u64) -> Option<Dial> {
        let seat = &mut self.seats[index];
        let before = std::mem::replace(&mut seat.instance, instance.clone());
        let (addr, moved) = (instance.addr(), before.addr() != instance.addr());
        let stands = seat
            .member()
            .is_some_and(|member| member.instance.addr() == addr);
        let dialled = seat.is_dialled();
        let draining = seat.is_draining();
        if draining && let Some(member) = seat.member() {
            let leaving = Connection::Leaving(Arc::downgrade(member));
            let given_up = std::mem::replace(&mut seat.connection, leaving);
            seat.since = now;
            self.discard(given_up);
        }
        if before.availability() != instance.availability() {
            self.note(Event::AvailabilityChanged {
                id: instance.id().clone(),
                availability: instance.availability(),
            });
        }
        self.relist(index);
        if draining || stands {
            self.cancel_dial(index);
            return None;
        }
        if moved {
            self.seats[index].attempts = 0;
        }
        (moved || !dialled).then(|| self.dial(index))
    }

    /// Gives up everything of a seat that is about to go.
    fn vacate(&mut self, index: usize) {
        self.cancel_dial(index);
        self.unlist(index);
        let seat = &mut self.seats[index];
        let given_up = std::mem::replace(&mut seat.connection, Connection::None);
        let error = seat.error.take();
        self.discard(given_up);
        self.garbage.errors.extend(error);
    }

    fn dial(&mut self, index: usize) -> Dial {
        self.cancel_dial(index);
        self.generation += 1;
        let generation = self.generation;
        let seat = &mut self.seats[index];
        seat.link = Link::Dialling { generation };
        let instance = seat.instance.clone();
        let id = instance.id().clone();
        Dial {
            ticket: Ticket { id, generation },
            instance,
        }
    }

    /// Lets a seat wait for its next dial, and returns how long.
    fn retry(&mut self, index: usize, now: u64) -> u64 {
        let backoff = self.config.connect_backoff();
        let attempts = self.seats[index].attempts;
        let longest = match attempts {
            0 => 0,
            1.. => nanos(backoff.base)
                .saturating_mul(1 << (attempts - 1).min(32))
                .min(nanos(backoff.max)),
        };
        let wait = self.jittered(longest);
        self.wait(index, now.saturating_add(wait));
        wait
    }

    /// A full jitter: uniform from zero up, and short while nothing is usable.
    fn jittered(&mut self, longest: u64) -> u64 {
        let longest = if self.list.is_empty() {
            longest.min(URGENT)
        } else {
            longest
        };
        (unit(&mut self.rng) * longest as f64) as u64
    }

    fn wait(&mut self, index: usize, until: u64) {
        self.cancel_dial(index);
        let seat = &mut self.seats[index];
        seat.link = Link::Waiting { until };
        self.retries.insert((until, seat.instance.id().clone()));
    }

    fn cancel_dial(&mut self, index: usize) {
        let seat = &mut self.seats[index];
        if let Link::Waiting { until } = seat.link {
            self.retries.remove(&(until, seat.instance.id().clone()));
        }
        seat.link = Link::Idle;
    }

    /// Shortens long waits when the last usable member has just gone.
    fn hasten(&mut self, now: u64) {
        if !self.list.is_empty() || self.unusable_since.is_some() {
            return;
        }
        let late = (now.saturating_add(URGENT), InstanceId::from(""));
        for (_, id) in self.retries.split_off(&late) {
            if let Some(index) = self.find(&id) {
                self.seats[index].link = Link::Idle;
                let wait = self.jittered(URGENT);
                self.wait(index, now.saturating_add(wait));
            }
        }
    }

    /// Brings a seat's place in the list up to date.
    fn relist(&mut self, index: usize) {
        let seat = &mut self.seats[index];
        let weight = seat.instance.weight();
        let eligible = seat.eligible().map(Arc::clone);
        let busy = seat.is_busy();
        match (eligible, seat.position) {
            (Some(member), position) if busy == self.busy => match position {
                Some(position) => self.list.replace(position as usize, member, weight),
                None => seat.position = Some(self.list.push(member, weight) as u32),
            },
            (Some(_), _) if self.busy => self.rebuild_list(),
            _ => self.unlist(index),
        }
        if self.list.is_empty() {
            self.rebuild_list();
        }
        self.dirty = true;
    }

    fn unlist(&mut self, index: usize) {
        let Some(position) = self.seats[index].position.take() else {
            return;
        };
        self.dirty = true;
        let moved = self.list.swap_remove(position as usize);
        let moved = moved.map(|member| member.instance.id().clone());
        if let Some(index) = moved.and_then(|id| self.find(&id)) {
            self.seats[index].position = Some(position);
        }
    }

    /// Makes the list of all available members, or, for want of any, of the busy ones.
    fn rebuild_list(&mut self) {
        let available = |seat: &Seat<S>| seat.eligible().is_some() && !seat.is_busy();
        self.busy = !self.seats.iter().any(available);
        let busy = self.busy;
        let mut listed = Vec::new();
        for seat in &mut self.seats {
            seat.position = None;
            if seat.is_busy() == busy
                && let Some(member) = seat.eligible().map(Arc::clone)
            {
                seat.position = Some(listed.len() as u32);
                listed.push((member, seat.instance.weight()));
            }
        }
        self.list.fill(listed);
        self.dirty = true;
    }

    fn find(&self, id: &InstanceId) -> Option<usize> {
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

    /// Whether an instance can be used at all; if not, the first few are told of.
    fn is_sound(&mut self, instance: &Instance, refusals: &mut usize) -> bool {
        let Err(error) = instance.validate() else {
            return true;
        };
        if *refusals > 0 {
            *refusals -= 1;
            let id = instance.id().clone();
            self.note(Event::InstanceRefused { id, error });
        }
        false
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
