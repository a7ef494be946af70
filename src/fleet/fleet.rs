use std::fmt;
use std::sync::atomic::{
    AtomicBool, AtomicU64,
    Ordering::{AcqRel, Relaxed},
};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;

use super::config::{BalanceConfig, Load};
use super::member::Hold;
use super::pick::choose;
use super::pool::Pool;
use super::rng::Rng;
use super::roster::{Dial, Roster, Ticket};
use super::slot::{Pick, Slot, UNTIMED, nanos};
use super::snapshot::{List, Rules, Snapshot};
use crate::event::DialError;
use crate::{BoxError, Census, Event, InstanceId, InstanceSet, Status};

/// The members of one target and the rules by which they are picked. `S` is what a pick hands back.
///
/// All methods take `&self` and may be called from any thread.
pub struct Fleet<S> {
    state: Arc<State<S>>,
}

struct State<S> {
    snapshot: ArcSwap<Snapshot<S>>,
    roster: Mutex<Roster<S>>,
    shared: Arc<Shared>,
}

/// What picks need of their fleet after they were made.
pub(super) struct Shared {
    pub(super) epoch: Instant,
    pub(super) pool: Pool,
    measures_latency: AtomicBool,
    /// The latest moment to which a member is overloaded; zero: none is.
    overloaded_until: AtomicU64,
    transitions: Weak<dyn Transitions>,
}

/// What a verdict can do to the roster.
trait Transitions: Send + Sync {
    /// A connection is lost. Returns whether the next deadline moved earlier.
    fn lost(&self, id: &InstanceId, generation: u64, now: Instant) -> bool;
}

/// Why there is nobody to pick.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum PickError {
    /// No set was applied yet.
    Unresolved,
    /// The set is empty.
    Empty,
    /// Instances are known, and none is usable.
    NoneUsable(Arc<Census>),
    /// All usable members are at `max_in_flight`.
    Saturated,
}

impl<S: Send + Sync + 'static> Fleet<S> {
    /// A fleet that knows no set yet. `seed` feeds the jitter of its deadlines.
    pub fn new(config: BalanceConfig, seed: u64, now: Instant) -> Self {
        let snapshot = Snapshot {
            list: List::new(),
            rules: Rules::new(&config),
            unusable_since: Some(now),
        };
        let state = Arc::new_cyclic(|state: &Weak<State<S>>| State {
            snapshot: ArcSwap::from_pointee(snapshot),
            shared: Arc::new(Shared {
                epoch: now,
                pool: Pool::new(),
                measures_latency: AtomicBool::new(config.load() == Load::Latency),
                overloaded_until: AtomicU64::new(0),
                transitions: state.clone() as Weak<dyn Transitions>,
            }),
            roster: Mutex::new(Roster::new(config, seed, now)),
        });
        Self { state }
    }

    /// Takes the whole membership as of now, and returns whom to dial.
    ///
    /// Members that stay keep their connection, load and history. A doubtful set, see
    /// [`shrink_grace`](super::ConfigBuilder::shrink_grace), removes nobody before its grace is over.
    pub fn apply(&self, set: InstanceSet, now: Instant) -> Vec<Dial> {
        let moment = self.state.shared.nanos(now);
        self.state.write(now, |roster| roster.apply(&set, moment))
    }

    /// Dials succeeded, many published at once. The service of a ticket that is no longer awaited is dropped.
    pub fn connected(&self, services: impl IntoIterator<Item = (Ticket, S)>, now: Instant) {
        let services: Vec<_> = services.into_iter().collect();
        let shared = &self.state.shared;
        let moment = shared.nanos(now);
        // Declared before the lock is taken, dropped after it was released: services of the caller.
        let mut stale = Vec::new();
        self.state.write(now, |roster| {
            for (ticket, service) in services {
                if let Err(service) = roster.connected(&ticket, service, shared, moment) {
                    stale.push(service);
                }
            }
        });
    }

    /// A dial failed; [`on_deadline`](Self::on_deadline) will return the next one. A stale ticket is ignored.
    pub fn dial_failed(&self, ticket: Ticket, error: impl Into<BoxError>, now: Instant) {
        let error = Arc::new(DialError::new(error.into()));
        let moment = self.state.shared.nanos(now);
        self.state
            .write(now, |roster| roster.dial_failed(&ticket, &error, moment));
    }

    /// Chooses a member and takes a slot of it. Takes no lock and allocates nothing.
    ///
    /// Members whose id is in `avoid` are picked only if there is no other.
    ///
    /// # Errors
    ///
    /// [`PickError`] says why there is nobody to pick.
    pub fn pick(
        &self,
        now: Instant,
        rng: &mut (impl Rng + ?Sized),
        avoid: &[InstanceId],
    ) -> Result<Pick<S>, PickError> {
        let shared = &self.state.shared;
        let moment = shared.nanos(now);
        shared.end_overload(moment);
        let snapshot = self.state.snapshot.load();
        match choose(&snapshot, shared, moment, rng, avoid) {
            Some(position) => {
                let holder = snapshot
                    .list
                    .entry(position)
                    .hold(shared.pool.shard_number());
                Ok(Pick(Slot::holding(holder, shared.pick_stamp(moment))))
            }
            None if snapshot.list.is_empty() => Err(self.state.lock().why_unusable()),
            None => Err(PickError::Saturated),
        }
    }

    /// When [`on_deadline`](Self::on_deadline) wants calling. It may move earlier by any call that takes `&self` and
    /// later by [`on_deadline`](Self::on_deadline) alone.
    pub fn next_deadline(&self) -> Option<Instant> {
        let next = self.state.lock().next_deadline()?;
        let shared = &self.state.shared;
        Some(shared.instant(next))
    }

    /// Does what is due, and returns whom to dial. Calling it early or often is harmless.
    pub fn on_deadline(&self, now: Instant) -> Vec<Dial> {
        let moment = self.state.shared.nanos(now);
        self.state.write(now, |roster| roster.on_deadline(moment))
    }

    /// Follows another configuration from now on.
    pub fn reconfigure(&self, config: BalanceConfig, now: Instant) {
        let shared = &self.state.shared;
        self.state.write(now, |roster| {
            if roster.config().load() != config.load() {
                shared
                    .measures_latency
                    .store(config.load() == Load::Latency, Relaxed);
                shared.pool.forget_winners();
            }
            roster.reconfigure(config);
        });
    }

    /// How things stand.
    pub fn status(&self, now: Instant) -> Status {
        let shared = &self.state.shared;
        let now = shared.nanos(now);
        // Declared before the lock is taken, dropped after it was released: services of the caller.
        let mut borrowed = Vec::new();
        self.state.lock().status(shared, now, &mut borrowed)
    }

    /// What happened since the last call. If more happened than is kept (1024 events), the first one says how much
    /// was missed.
    pub fn take_events(&self) -> Vec<Event> {
        self.state.lock().take_events()
    }

    /// The configuration in force.
    pub fn config(&self) -> BalanceConfig {
        self.state.lock().config().clone()
    }

    /// Since when nobody can be picked; `None` while somebody can.
    pub fn unusable_since(&self) -> Option<Instant> {
        self.state.snapshot.load().unusable_since
    }

    /// Whether the `now` of picks is used at all: not with [`Load::LeastInFlight`], where any instant will do.
    pub fn reads_clock(&self) -> bool {
        self.state.shared.reads_clock()
    }

    /// The beginning of the fleet's time: an instant for where no clock is read.
    pub(crate) fn epoch(&self) -> Instant {
        self.state.shared.epoch
    }

    /// Whether the outcome of a dial is still awaited.
    pub(crate) fn awaits(&self, ticket: &Ticket) -> bool {
        self.state.lock().awaits(ticket)
    }

    /// Whether a pick's member is still eligible: connected, weight above 0, not draining.
    pub(crate) fn is_eligible(&self, slot: &Slot<Hold<S>>) -> bool {
        self.state.lock().is_eligible(slot.record())
    }

    /// Counts the wait for a first usable member from now.
    pub(crate) fn restart_wait(&self, now: Instant) {
        self.state.write(now, |roster| roster.restart_wait(now));
    }
}

impl<S: Send + Sync + 'static> State<S> {
    fn lock(&self) -> std::sync::MutexGuard<'_, Roster<S>> {
        // The roster has no half-done states that a panic could leave: it calls no foreign code.
        self.roster.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes the roster and publishes the outcome. What falls away is dropped after the lock: it is the caller's.
    fn write<R>(&self, now: Instant, change: impl FnOnce(&mut Roster<S>) -> R) -> R {
        let mut roster = self.lock();
        let answer = change(&mut roster);
        let replaced = roster
            .publish(now)
            .map(|snapshot| self.snapshot.swap(Arc::new(snapshot)));
        let garbage = roster.take_garbage();
        drop(roster);
        drop((replaced, garbage));
        answer
    }
}

impl<S: Send + Sync + 'static> Transitions for State<S> {
    fn lost(&self, id: &InstanceId, generation: u64, now: Instant) -> bool {
        let moment = self.shared.nanos(now);
        self.write(now, |roster| {
            let before = roster.next_deadline();
            roster.lost(id, generation, moment);
            let after = roster.next_deadline();
            after.is_some_and(|after| before.is_none_or(|before| after < before))
        })
    }
}

impl Shared {
    /// Nanoseconds since the fleet began; a time before that counts as its beginning.
    pub(super) fn nanos(&self, now: Instant) -> u64 {
        nanos(now.saturating_duration_since(self.epoch))
    }

    fn instant(&self, moment: u64) -> Instant {
        self.epoch
            .checked_add(Duration::from_nanos(moment))
            .unwrap_or(self.epoch)
    }

    pub(super) fn measures_latency(&self) -> bool {
        self.measures_latency.load(Relaxed)
    }

    pub(super) fn reads_clock(&self) -> bool {
        self.measures_latency() || self.overloaded_until.load(Relaxed) != 0
    }

    pub(super) fn overloaded_until(&self, until: u64) {
        self.overloaded_until.fetch_max(until, AcqRel);
    }

    /// What a pick made now remembers of the time.
    fn pick_stamp(&self, moment: u64) -> u64 {
        if self.measures_latency() {
            moment
        } else {
            UNTIMED
        }
    }

    /// Lets picks do without the clock again, if they can, once no member is overloaded any more.
    fn end_overload(&self, now: u64) {
        let until = self.overloaded_until.load(Relaxed);
        if until != 0 && until <= now {
            // Lost to a later overload: then that one ends it.
            let _ = self
                .overloaded_until
                .compare_exchange(until, 0, Relaxed, Relaxed);
        }
    }

    pub(super) fn lost(&self, id: &InstanceId, generation: u64, now: Instant) -> bool {
        self.transitions
            .upgrade()
            .is_some_and(|fleet| fleet.lost(id, generation, now))
    }
}

impl<S> fmt::Debug for Fleet<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Fleet").finish_non_exhaustive()
    }
}

impl fmt::Display for PickError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unresolved => f.write_str("no set of instances yet"),
            Self::Empty => f.write_str("no instance is announced"),
            Self::NoneUsable(census) => write!(f, "no instance is usable: {census}"),
            Self::Saturated => f.write_str("all usable instances are at max_in_flight"),
        }
    }
}

impl std::error::Error for PickError {}
