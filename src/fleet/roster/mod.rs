//! The writers' side of a fleet: its instances, their standing, their connections and dials.
//!
//! Sub-states own their fields: [`dials`], [`standing`], [`listing`], [`journal`]. [`Roster`] has one method for each
//! input, which changes the sub-states in order; [`publish`](Roster::publish) then makes the next snapshot.

pub(crate) mod checking;
pub(crate) mod checks;
pub(crate) mod connections;
pub(crate) mod dials;
pub(crate) mod ejecting;
pub(crate) mod journal;
pub(crate) mod late;
pub(crate) mod listing;
pub(crate) mod membership;
pub(crate) mod seat;
pub(crate) mod standing;
pub(crate) mod status;
pub(crate) mod suspects;
pub(crate) mod trials;

use std::collections::BTreeSet;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use rand::SeedableRng;
use rand::rngs::SmallRng;

use self::checks::Checks;
use self::dials::{Dial, Dials, Ticket};
use self::journal::Journal;
use self::listing::{Listing, PanicMode, find};
use self::seat::{Connection, Seat};
use self::standing::{Standings, Subject};
use super::branch::Branch;
use super::config::balance::BalanceConfig;
use super::config::outlier::OutlierConfig;
use super::members::list::List;
use super::members::member::{Member, Record};
use super::members::snapshot::{Far, Group, Rank, Route, Rules, SlowStart, Snapshot};
use super::rules::doubt::Doubt;
use super::rules::peers::Peers;
use super::rules::slow_start::ramps;
use super::shared::Shared;
use super::time::nanos;
use crate::error::census::Census;
use crate::event::Event;
use crate::event::dial::DialError;
use crate::model::instance::InstanceId;

/// The shortest stall of this process that is reported as an event, in nanoseconds.
const REPORTED_STALL: u64 = 1_000_000_000;

/// Computes the sums over the members in play. Called only when a rule needs the sums.
pub(crate) type PeersNow<'a> = &'a dyn Fn(&OutlierConfig) -> Peers;

pub(crate) struct Roster<T> {
    shared: Arc<Shared>,
    config: BalanceConfig,
    /// Sorted by id.
    seats: Vec<Seat<T>>,
    listing: Listing<T>,
    /// The instances of the own zone, sorted, if there are others and a pick needs to know.
    near_ids: Option<Arc<[InstanceId]>>,
    dials: Dials,
    checks: Checks,
    standings: Standings,
    /// Members that may have a trial in flight.
    offered: BTreeSet<InstanceId>,
    /// When the turn last moved on among the members on probation.
    turned_at: u64,
    /// The seats at which the searches for suspects and for late members continue.
    suspects_from: usize,
    late_from: usize,
    /// Whether every member in play is failing.
    all_fail: bool,
    doubt: Option<Doubt>,
    /// The last set that arrived.
    received: Option<Received>,
    /// How many instances the set in force has, those outside the subset included.
    announced: usize,
    /// Whether the seats follow a provisional set. No set is doubted by comparison with those.
    is_provisional: bool,
    unusable_since: Option<Instant>,
    /// The pool's count of outcomes at the last tick.
    outcomes: u64,
    rng: SmallRng,
    journal: Journal,
    census: Option<Arc<Census>>,
    dirty: bool,
    garbage: Garbage<T>,
}

/// When a set arrived, and how old it was then.
#[derive(Clone, Copy)]
struct Received {
    at: u64,
    age: Duration,
}

/// Values that are replaced under the lock and dropped once it is released, because dropping them runs the caller's code.
pub(crate) struct Garbage<T> {
    members: Vec<Arc<Member<T>>>,
    errors: Vec<Arc<DialError>>,
    events: Vec<Event>,
}

impl<T> Roster<T> {
    pub(crate) fn new(shared: Arc<Shared>, config: BalanceConfig, seed: u64, now: Instant) -> Self {
        Self {
            near_ids: None,
            shared,
            seats: Vec::new(),
            listing: Listing::new(config.zone().cloned()),
            config,
            dials: Dials::default(),
            checks: Checks::default(),
            standings: Standings::default(),
            offered: BTreeSet::new(),
            turned_at: 0,
            suspects_from: 0,
            late_from: 0,
            all_fail: false,
            doubt: None,
            received: None,
            announced: 0,
            is_provisional: false,
            unusable_since: Some(now),
            outcomes: 0,
            rng: SmallRng::seed_from_u64(seed),
            journal: Journal::default(),
            census: None,
            dirty: false,
            garbage: Garbage::default(),
        }
    }

    pub(crate) fn config(&self) -> &BalanceConfig {
        &self.config
    }

    pub(crate) fn reconfigure(&mut self, config: BalanceConfig) {
        if let Some(doubt) = &mut self.doubt {
            doubt.reconfigure(&config);
        }
        let changes = self.config.changes_to(&config);
        if !changes.is_empty() {
            self.note(Event::Reconfigured { changes });
        }
        self.config = config;
        self.dirty = true;
        if self.listing.own_zone() != self.config.zone() {
            let zone = self.config.zone().cloned();
            self.near_ids = None;
            let panic_mode = self.listing.move_to_zone(zone, &mut self.seats);
            self.listed(panic_mode);
        }
    }

    /// Whether any rule or measurement needs timestamps.
    pub(crate) fn is_timed(&self) -> bool {
        let judges = self.config.load().is_latency() || self.config.outlier().is_some();
        judges || self.standings.is_any_out_or_returning()
    }

    /// Whether this is still its instance's connection and may be picked: it is eligible and, unless the pick is a trial,
    /// in the list. A pinned pick needs only the connection.
    pub(crate) fn is_pickable(&self, record: &Record, is_trial: bool, is_pinned: bool) -> bool {
        self.find(record.instance.id()).is_some_and(|index| {
            let seat = &self.seats[index];
            let is_it = |member: &Arc<Member<T>>| member.generation == record.generation;
            if is_pinned {
                seat.member().is_some_and(is_it)
            } else {
                seat.eligible().is_some_and(is_it) && (is_trial || seat.place.is_some())
            }
        })
    }

    /// All connected members, sorted by id. A draining instance has no connection.
    pub(crate) fn connected_members(&self) -> Box<[Arc<Member<T>>]> {
        let members = self.seats.iter().filter_map(Seat::member);
        members.map(Arc::clone).collect()
    }

    pub(crate) fn next_deadline(&self) -> Option<u64> {
        let dial = self.dials.next_deadline();
        let doubt = self.doubt.as_ref().map(Doubt::until);
        let ejection = self.standings.next_deadline();
        let check = self.checks.next_deadline();
        let deadlines = dial.into_iter().chain(doubt).chain(ejection);
        deadlines.chain(check).min()
    }

    pub(crate) fn on_deadline(&mut self, peers: PeersNow<'_>, now: u64) -> Vec<Dial> {
        let mut dials = Vec::new();
        self.dials.take_cancelled();
        let shared = Arc::clone(&self.shared);
        let ticks = shared.stalls.next().is_some_and(|next| next <= now);
        let stall = shared.stalls.tick(now, || self.has_traffic());
        if let Some(time) = stall.filter(|&stall| stall >= REPORTED_STALL) {
            let time = Duration::from_nanos(time);
            self.note(Event::Stalled { time });
        }
        if ticks {
            self.sweep(peers, now);
        }
        self.end_ejections(now);
        self.advance_checks(now);
        if let Some(doubt) = self.doubt.take_if(|doubt| doubt.until() <= now) {
            dials = self.follow(doubt, now);
        }
        while let Some(id) = self.dials.due(now) {
            if let Some(index) = self.find(&id) {
                dials.push(self.dial(index));
            }
        }
        dials
    }

    /// Runs the periodic checks, once per tick while there is traffic.
    fn sweep(&mut self, peers: PeersNow<'_>, now: u64) {
        self.give_up_trials(peers, now);
        let slow_start = nanos(self.config.slow_start());
        // If it has been switched off, it is over at once.
        let new = self.config.slow_start_new().map_or(0, nanos);
        let finished = |standings: &Standings| {
            let returned = standings.finished_slow_start(slow_start, now);
            returned.or_else(|| standings.finished_new(new, now))
        };
        while let Some(id) = finished(&self.standings) {
            let Some(index) = self.find(&id) else {
                break;
            };
            let member = self.seats[index].subject(&self.shared.tokens);
            self.standings.end_slow_start(member);
            self.recount(index);
            self.dirty = true;
        }
        self.pass_turn(now);
        self.find_suspects(now);
        if self.shared.measures_latency() {
            self.look_at_latencies(now);
        }
    }

    /// Refills the tokens for trials. Returns whether any request is in flight, or was answered since the last call.
    fn has_traffic(&mut self) -> bool {
        let outcomes = self.shared.pool.outcomes();
        let before = std::mem::replace(&mut self.outcomes, outcomes);
        // Threads that share a counter may overwrite each other, so the sum can fall: the difference is signed.
        let gained = outcomes.wrapping_sub(before) as i64;
        self.shared.tokens.refill(gained.max(0) as u64);
        let is_picked = |seat: &Seat<T>| seat.stats.in_flight() > 0;
        outcomes != before || self.seats.iter().any(is_picked)
    }

    /// The next snapshot for picks, if anything changed.
    pub(crate) fn publish(&mut self, now: Instant) -> Option<Snapshot<T>> {
        if !std::mem::take(&mut self.dirty) {
            return None;
        }
        let is_usable = self.listing.share_out(self.unusable_since.is_none());
        match (!is_usable, self.unusable_since) {
            (true, None) => {
                self.unusable_since = Some(now);
                self.note(Event::NothingUsable);
            }
            (false, Some(since)) => {
                self.unusable_since = None;
                let after = now.saturating_duration_since(since);
                self.note(Event::Usable { after });
            }
            _ => {}
        }
        let rules = Rules::new(&self.config);
        let slow_start = self.slow_start();
        let group = |list: &List<T>| Group {
            list: list.published(),
            rules,
            slow_start,
        };
        let price = self.config.zone_price() as f32;
        let near_ids = self.near_ids();
        let route = |rank: &listing::Rank<T>| {
            let (near, far) = (&rank.near.list, &rank.far.list);
            if near.is_empty() {
                let (near, far) = (group(far), None);
                return Route { near, far };
            }
            let far = near_ids.as_ref().filter(|_| !far.is_empty());
            Route {
                far: far.map(|near_ids| Far {
                    group: group(&rank.far.list),
                    price,
                    near_ids: Arc::clone(near_ids),
                }),
                near: group(near),
            }
        };
        let mut ranks = self.listing.ranks().iter();
        let first = ranks.next();
        let mut from = first.map_or(0.0, |first| first.share.part);
        let others = ranks.map(|rank| {
            let part = rank.share.part;
            from += part;
            Rank {
                from: from - part,
                part,
                route: route(rank),
            }
        });
        let empty = || Route {
            near: group(&List::new()),
            far: None,
        };
        Some(Snapshot {
            others: others.collect(),
            first: first.map_or_else(empty, route),
            unusable_since: self.unusable_since,
            waiting: self.waiting(),
            trials_are_free: self.trials_are_free(),
            connected: OnceLock::new(),
        })
    }

    /// How long members are in slow start, if any is.
    pub(super) fn slow_start(&self) -> SlowStart {
        let returning = self.standings.is_any_returning();
        let (new, eligible) = self.listing.weights();
        SlowStart {
            returning: returning.then(|| nanos(self.config.slow_start())),
            new: (self.config.slow_start_new().map(nanos)).filter(|_| ramps(new, eligible)),
        }
    }

    /// The instances of the own zone, sorted, if there are members elsewhere.
    fn near_ids(&mut self) -> Option<Arc<[InstanceId]>> {
        if !self.listing.has_far() {
            return None;
        }
        let seats = &self.seats;
        let ids = self.near_ids.get_or_insert_with(|| {
            let near = seats.iter().filter(|seat| !seat.counted.is_far);
            near.map(|seat| seat.instance.id().clone()).collect()
        });
        Some(Arc::clone(ids))
    }

    pub(crate) fn take_events(&mut self) -> Vec<Event> {
        self.journal.take()
    }

    pub(crate) fn take_cancelled(&mut self) -> Vec<Ticket> {
        self.dials.take_cancelled()
    }

    pub(crate) fn take_garbage(&mut self) -> Garbage<T> {
        std::mem::take(&mut self.garbage)
    }

    fn find(&self, id: &InstanceId) -> Option<usize> {
        find(&self.seats, id)
    }

    fn note(&mut self, event: Event) {
        self.census = None;
        self.garbage.events.extend(self.journal.push(event));
    }

    fn discard(&mut self, connection: Connection<T>) {
        if let Connection::Up(member) = connection {
            self.garbage.members.push(member);
        }
    }

    /// Changes a member's standing and notes the event.
    fn change_standing(
        &mut self,
        index: usize,
        change: impl FnOnce(&mut Standings, Subject<'_>, &OutlierConfig, &mut SmallRng) -> Event,
    ) {
        let config = self.config.outlier().cloned().unwrap_or_default();
        let member = self.seats[index].subject(&self.shared.tokens);
        let event = change(&mut self.standings, member, &config, &mut self.rng);
        self.dirty = true;
        self.note(event);
    }

    /// Updates the capacity of a seat's rank.
    fn recount(&mut self, index: usize) {
        self.dirty |= self.listing.recount(&mut self.seats[index]);
    }

    /// Updates a seat's place in the list.
    fn relist(&mut self, index: usize) {
        let panic_mode = self.listing.update(&mut self.seats, index);
        self.listed(panic_mode);
    }

    /// Updates all seats at once. Cheaper than one update after another, each of which would copy a part of the list.
    fn relist_all(&mut self) {
        let panic_mode = self.listing.rebuild(&mut self.seats);
        self.listed(panic_mode);
    }

    fn listed(&mut self, panic_mode: PanicMode) {
        self.dirty = true;
        match panic_mode {
            PanicMode::Unchanged => {}
            PanicMode::Began => {
                Branch::PanicModeBegan.reach();
                self.standings.counters_mut().panic_modes += 1;
                let members = self.listing.listed();
                self.note(Event::PanicModeBegan { members });
            }
            PanicMode::Ended => {
                Branch::PanicModeEnded.reach();
                self.note(Event::PanicModeEnded);
            }
        }
    }
}

impl<T> Default for Garbage<T> {
    fn default() -> Self {
        Self {
            members: Vec::new(),
            errors: Vec::new(),
            events: Vec::new(),
        }
    }
}
