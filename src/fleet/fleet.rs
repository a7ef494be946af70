use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, Weak};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;

use super::branch::Branch;
use super::check::DueCheck;
use super::config::balance::BalanceConfig;
use super::config::outlier::OutlierConfig;
use super::config::subset::Subset;
use super::members::list::List;
use super::members::member::{MemberRef, Record};
use super::members::pick::{Conditions, choose};
use super::members::snapshot::{Group, Route, Rules, SlowStart, Snapshot};
use super::picked::Pick;
use super::rng::Rng;
use super::roster::Roster;
use super::roster::checks::CheckFailure;
use super::roster::dials::{Dial, Ticket};
use super::roster::status::Unusable;
use super::rules::outlier::detect;
use super::rules::peers::Peers;
use super::rules::subset::choose as choose_subset;
use super::rules::trial::TrialEnd;
use super::shared::{Bound, Report, Reports, Shared};
use super::slot::Slot;
use super::time::nanos;
use crate::error::BoxError;
use crate::error::census::Census;
use crate::event::Event;
use crate::event::dial::DialError;
use crate::explain::Explanation;
use crate::model::hints::{Hints, PinFault};
use crate::model::instance::{InstanceId, InstanceSet};
use crate::runtime::causes::with_causes;
use crate::runtime::local_fault::is_local_fault;
use crate::status::Status;

/// How long the sums over all members are reused, in nanoseconds per [`PEERS`] members. Computing them takes a hundredth of
/// that time.
const PEERS_AGE: u64 = 1_000_000;
const PEERS: usize = 64;

/// The members of one target, and the rules that pick from them. `S` is the service that a pick returns.
///
/// All methods take `&self` and may be called from any thread.
pub struct Fleet<S> {
    state: Arc<State<S>>,
}

struct State<S> {
    snapshot: ArcSwap<Snapshot<Bound<S>>>,
    /// The sums over the members in play, and when they were computed.
    peers: Mutex<Option<(u64, Peers)>>,
    roster: Mutex<Roster<Bound<S>>>,
    shared: Arc<Shared>,
}

/// Why no member can be picked.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum PickError {
    /// No set has been applied yet.
    Unresolved,
    /// The set is empty.
    Empty,
    /// Instances are known, but none is usable.
    NoneUsable(Arc<Census>),
    /// All usable members are at `max_in_flight`, or the one that the pick is pinned to.
    Saturated,
    /// The pick is [pinned](Hints::pin) to an instance that it cannot have.
    #[non_exhaustive]
    Pinned {
        /// The instance.
        id: InstanceId,
        /// Why.
        fault: PinFault,
    },
}

impl PickError {
    /// Whether no wait for another state of the fleet helps.
    pub(crate) fn is_final(&self) -> bool {
        match self {
            Self::Saturated => true,
            Self::Pinned { fault, .. } => *fault != PinFault::Disconnected,
            Self::Unresolved | Self::Empty | Self::NoneUsable(_) => false,
        }
    }
}

impl<S: Send + Sync + 'static> Fleet<S> {
    /// Creates a fleet to which no set has been applied yet. `seed` seeds the jitter of its deadlines.
    pub fn new(config: BalanceConfig, seed: u64, now: Instant) -> Self {
        let near = Group {
            list: List::new(),
            rules: Rules::new(&config),
            slow_start: SlowStart::default(),
        };
        let snapshot = Snapshot {
            first: Route { near, far: None },
            others: Vec::new(),
            unusable_since: Some(now),
            waiting: Vec::new(),
            trials_are_free: false,
            connected: OnceLock::new(),
        };
        let state = Arc::new_cyclic(|state: &Weak<State<S>>| {
            let shared = Arc::new(Shared::new(
                now,
                config.outlier().cloned(),
                config.load().is_latency(),
                state.clone() as Weak<dyn Reports>,
            ));
            State {
                snapshot: ArcSwap::from_pointee(snapshot),
                peers: Mutex::default(),
                roster: Mutex::new(Roster::new(Arc::clone(&shared), config, seed, now)),
                shared,
            }
        });
        Self { state }
    }

    /// Applies the whole membership as of `now`, and returns the instances to dial.
    ///
    /// Of the set, the instances of [`subset`](super::ConfigBuilder::subset) become members. Members that stay keep their
    /// connection, load and history. A doubtful set removes no member until
    /// [`shrink_grace`](super::ConfigBuilder::shrink_grace) is over.
    pub fn apply(&self, set: InstanceSet, now: Instant) -> Vec<Dial> {
        let shared = &self.state.shared;
        let moment = shared.nanos(now);
        // Without the lock, since it takes a time proportional to the whole set.
        let subset = self.state.lock().config().subset().clone();
        let chosen = match &subset {
            Subset::All => set.clone(),
            Subset::Fixed { size, key } => choose_subset(&set, *size as usize, key),
        };
        self.state
            .write(now, |roster| roster.apply(&chosen, &set, moment))
    }

    /// Reports dials that succeeded, and publishes them together. The service of a stale ticket is dropped.
    pub fn connected(&self, services: impl IntoIterator<Item = (Ticket, S)>, now: Instant) {
        let services: Vec<_> = services.into_iter().collect();
        let shared = &self.state.shared;
        let moment = shared.nanos(now);
        let mut stale = Vec::new();
        self.state.write(now, |roster| {
            for (ticket, service) in services {
                let shared = Arc::clone(shared);
                let bound = Bound { shared, service };
                let connected = roster.connected(&ticket, bound, moment);
                stale.extend(connected.err());
            }
        });
        drop_foreign(stale);
    }

    /// Reports a dial that failed. [`on_deadline`](Self::on_deadline) returns the next one. A stale ticket is ignored.
    pub fn dial_failed(&self, ticket: Ticket, error: impl Into<BoxError>, now: Instant) {
        let error = Arc::new(DialError::new(error));
        let moment = self.state.shared.nanos(now);
        self.state
            .write(now, |roster| roster.dial_failed(&ticket, &error, moment));
    }

    /// Chooses a member and takes one of its slots. Takes no lock and allocates nothing if a member is usable.
    ///
    /// `&[]` and a slice of ids to avoid convert to [`Hints`]. An avoided member is picked only if there is no other. This
    /// is exact with up to 16 members; with more, at least 16 of them are checked. A pick with hints is never a trial.
    /// [`Hints::pin`] asks for one instance, whatever its standing.
    ///
    /// # Errors
    ///
    /// [`PickError`] says why no member can be picked.
    pub fn pick<'h>(
        &self,
        now: Instant,
        rng: &mut (impl Rng + ?Sized),
        hints: impl Into<Hints<'h>>,
    ) -> Result<Pick<S>, PickError> {
        self.pick_at(self.reads_clock().then_some(now), rng, hints.into())
    }

    /// Like [`pick`](Self::pick), for callers that have checked [`reads_clock`](Self::reads_clock): `None` if it is false.
    pub(crate) fn pick_at(
        &self,
        now: Option<Instant>,
        rng: &mut (impl Rng + ?Sized),
        hints: Hints<'_>,
    ) -> Result<Pick<S>, PickError> {
        let avoid = hints.avoided();
        let shared = &self.state.shared;
        let now = now.map(|now| shared.nanos(now));
        if let Some(now) = now {
            shared.overload.end(now);
        }
        let moment = now.filter(|_| shared.is_timed());
        if let Some(id) = hints.pinned() {
            return self.pick_pinned(id, moment);
        }
        let snapshot = self.state.snapshot.load();
        if !snapshot.waiting.is_empty()
            && avoid.is_empty()
            && let Some(moment) = moment
            && let Some(trial) = self.begin_trial(&snapshot, moment)
        {
            return Ok(trial);
        }
        let conditions = Conditions {
            pool: &shared.pool,
            is_any_overloaded: shared.overload.is_on(),
            shard: shared.pool.shard_number(),
            now: now.unwrap_or(0),
            avoid,
        };
        let mut picked = choose(snapshot.route(rng), conditions, rng);
        if !avoid.is_empty() && !snapshot.others.is_empty() {
            let choose = |route| choose(route, conditions, rng);
            picked = in_another_rank(&snapshot, picked, avoid, choose);
        }
        match picked {
            Some(holder) => Ok(Pick(Slot::holding(holder, moment))),
            None if snapshot.unusable_since.is_some() => {
                Err(self.state.lock().why_unusable().into())
            }
            None => Err(PickError::Saturated),
        }
    }

    /// Picks the connection to one instance.
    #[cold]
    fn pick_pinned(&self, id: &InstanceId, moment: Option<u64>) -> Result<Pick<S>, PickError> {
        // Both are dropped without the lock: each may be the last reference to members.
        let (published, current);
        published = self.state.snapshot.load();
        let snapshot = if published.connected.get().is_some() {
            &published
        } else {
            let roster = self.state.lock();
            // With the lock held, the snapshot is that of the roster.
            current = self.state.snapshot.load();
            current.connected.get_or_init(|| roster.connected_members());
            &current
        };
        let members = snapshot.connected.get().map_or(&[][..], |members| members);
        let Ok(index) = members.binary_search_by(|member| member.instance.id().cmp(id)) else {
            return Err(self.state.why_not(id));
        };
        let member = &members[index];
        if !member
            .stats
            .acquire(snapshot.first.near.rules.max_in_flight)
        {
            return Err(PickError::Saturated);
        }
        let holder = MemberRef::Direct(Arc::clone(member));
        Ok(Pick(Slot::holding(holder, moment)))
    }

    /// Picks the first member that waits for a trial, has none in flight and has a free slot, if a token pays for it.
    #[cold]
    fn begin_trial(&self, snapshot: &Snapshot<Bound<S>>, moment: u64) -> Option<Pick<S>> {
        let shared = &self.state.shared;
        let is_paid = !snapshot.trials_are_free;
        for member in &snapshot.waiting {
            let stats = &member.stats;
            if stats.trial().is_in_flight() {
                continue;
            }
            if is_paid && !shared.tokens.take() {
                Branch::BucketEmpty.reach();
                return None;
            }
            let Some(token) = stats.trial().begin(&shared.tokens, is_paid, moment) else {
                shared.tokens.return_unused(is_paid);
                continue;
            };
            if stats.acquire(snapshot.first.near.rules.max_in_flight) {
                let branch = if is_paid {
                    Branch::TrialBegan
                } else {
                    Branch::FreeTrialBegan
                };
                branch.reach();
                let holder = MemberRef::Direct(Arc::clone(member));
                let slot = Slot::holding(holder, Some(moment));
                return Some(Pick(slot.on_trial(token)));
            }
            stats.trial().end(token);
            shared.tokens.give_back(token);
        }
        None
    }

    /// Ejects an instance by hand for `time`, regardless of the ejection cap. Returns whether the instance is known.
    ///
    /// The ejection ends like any other: with a trial, then slow start. A new address ends it, too. If the instance is
    /// already ejected or on probation, it is ejected for `time` from `now`. In panic mode it may still be picked.
    pub fn eject(&self, id: &InstanceId, time: Duration, now: Instant) -> bool {
        let (shared, time) = (&self.state.shared, nanos(time));
        let moment = shared.nanos(now);
        self.state
            .write(now, |roster| roster.eject(id, time, moment))
    }

    /// Restores an instance that is ejected or on probation, without a trial and through slow start. Returns whether it was
    /// out.
    pub fn restore(&self, id: &InstanceId, now: Instant) -> bool {
        let shared = &self.state.shared;
        let moment = shared.nanos(now);
        self.state.write(now, |roster| roster.restore(id, moment))
    }

    /// When to call [`on_deadline`](Self::on_deadline) next. Any other call on the fleet may move this deadline.
    pub fn next_deadline(&self) -> Option<Instant> {
        let next = self.state.next_deadline(&self.state.lock())?;
        Some(self.state.shared.instant(next))
    }

    /// Does the work that is due, and returns the instances to dial. Early or repeated calls are harmless.
    pub fn on_deadline(&self, now: Instant) -> Vec<Dial> {
        let shared = &self.state.shared;
        let moment = shared.nanos(now);
        let peers = |config: &OutlierConfig| self.state.peers(config, moment);
        self.state
            .write(now, |roster| roster.on_deadline(&peers, moment))
    }

    /// Requires a check that succeeded before each trial. [`take_checks`](Self::take_checks) then returns the checks to make.
    pub fn use_checks(&self, now: Instant) {
        self.state.write(now, Roster::use_checks);
    }

    /// Takes the checks that the last [`on_deadline`](Self::on_deadline) made due.
    pub fn take_checks(&self, now: Instant) -> Vec<DueCheck<S>> {
        let moment = self.state.shared.nanos(now);
        let checks = self.state.lock().take_checks(moment);
        let checks = checks.into_iter();
        checks
            .map(|(ticket, member)| DueCheck::new(ticket, member))
            .collect()
    }

    /// Reports the outcome of a check, or of one that was made of a new connection. A stale ticket is ignored.
    ///
    /// A failure of a member that waits for a trial counts as a failed trial. A success allows its next trial. An outcome says
    /// nothing about a member in play.
    pub fn checked<E>(&self, ticket: &Ticket, outcome: Result<(), E>, now: Instant)
    where
        E: Into<BoxError>,
    {
        // Formats and drops the error, which is foreign code, without the lock.
        let failure = outcome.err().map(|error| {
            let error = error.into();
            CheckFailure {
                text: with_causes(&*error),
                is_local_fault: is_local_fault(&*error),
            }
        });
        let moment = self.state.shared.nanos(now);
        let peers = |config: &OutlierConfig| self.state.peers(config, moment);
        self.state.write(now, |roster| {
            roster.checked(ticket, failure, &peers, moment)
        });
    }

    /// Replaces the configuration.
    pub fn reconfigure(&self, config: BalanceConfig, now: Instant) {
        let shared = &self.state.shared;
        let moment = shared.nanos(now);
        let has_other_unit = self.state.write(now, |roster| {
            let has_other_unit = roster.config().load() != config.load();
            shared.set_measures_latency(config.load().is_latency());
            shared
                .outlier
                .store(config.outlier().cloned().map(Arc::new));
            shared.suspect();
            roster.reconfigure(config);
            has_other_unit
        });
        while self
            .state
            .write(now, |roster| roster.restore_rule_ejected(moment))
        {}
        // Only after picks use the new rules: otherwise a pick by the old rules could record its cost afterwards.
        if has_other_unit {
            shared.pool.forget_winners();
        }
    }

    /// Returns the state of all members.
    pub fn status(&self, now: Instant) -> Status {
        let shared = &self.state.shared;
        let now = shared.nanos(now);
        self.state.lock().status(now)
    }

    /// Says in words why each member gets the share of requests that it gets. Costs as much as [`status`](Self::status).
    pub fn explain(&self, now: Instant) -> Explanation {
        self.status(now).explain()
    }

    /// Takes the events since the last call. At most 1024 are kept; if more occurred, the first one says how many were
    /// missed.
    pub fn take_events(&self) -> Vec<Event> {
        self.state.lock().take_events()
    }

    /// The configuration in force.
    pub fn config(&self) -> BalanceConfig {
        self.state.lock().config().clone()
    }

    /// Since when no member is usable; `None` while at least one is.
    pub fn unusable_since(&self) -> Option<Instant> {
        self.state.snapshot.load().unusable_since
    }

    /// Whether picks use their `now` argument. If this is false, any instant will do.
    ///
    /// It is false with [`Load::least_in_flight`](super::Load::least_in_flight) and ejection off, unless a member is
    /// ejected by hand or overloaded.
    pub fn reads_clock(&self) -> bool {
        self.state.shared.reads_clock()
    }

    /// Why no member is usable; `None` while one is.
    pub(crate) fn why_unusable(&self) -> Option<PickError> {
        let unusable = self.unusable_since().is_some();
        unusable.then(|| self.state.lock().why_unusable().into())
    }

    /// Hastens the next dials of an instance for which a pinned request waits.
    pub(crate) fn want(&self, id: &InstanceId, now: Instant) {
        let moment = self.state.shared.nanos(now);
        self.state.lock().want(id, moment);
    }

    /// Takes the dials that the last [`apply`](Self::apply) or [`on_deadline`](Self::on_deadline) cancelled, because their
    /// instances left, are draining or have a new address.
    pub(crate) fn take_cancelled(&self) -> Vec<Ticket> {
        self.state.lock().take_cancelled()
    }

    /// Whether the member of this pick may still be picked: if the pick is a trial, still be tried, and if it is pinned,
    /// whether its connection is still there.
    pub(crate) fn is_pickable(&self, slot: &Slot<MemberRef<Bound<S>>>, is_pinned: bool) -> bool {
        let (record, is_trial) = (slot.record(), slot.trial.is_some());
        self.state.lock().is_pickable(record, is_trial, is_pinned)
    }

    /// Starts a driver. The wait for a first usable member counts from `now`. Returns the dials of all known instances
    /// that should be connected.
    pub(crate) fn start(&self, now: Instant) -> Vec<Dial> {
        let shared = &self.state.shared;
        shared.stalls.restart(shared.nanos(now));
        self.state.write(now, |roster| roster.start(now))
    }

    /// Stops the driver. It kept the connections alive, so all of them count as lost. Ejections keep their end times; a
    /// later driver ends them.
    pub(crate) fn stop(&self, now: Instant) {
        let shared = &self.state.shared;
        let moment = shared.nanos(now);
        self.state.write(now, |roster| roster.stop(moment));
        // After the last member is gone, so that no pick restarts the stall detection.
        shared.stalls.rest();
    }
}

impl<S> State<S> {
    fn lock(&self) -> std::sync::MutexGuard<'_, Roster<Bound<S>>> {
        // A panic cannot leave the roster half changed: it calls no foreign code.
        self.roster.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Why a pinned pick found no connection.
    fn why_not(&self, id: &InstanceId) -> PickError {
        let mut roster = self.lock();
        match roster.why_unusable() {
            Unusable::Unresolved => PickError::Unresolved,
            Unusable::Empty | Unusable::NoneUsable(_) => PickError::Pinned {
                id: id.clone(),
                fault: roster.pin_fault(id),
            },
        }
    }

    /// Changes the roster and publishes the result. Replaced values contain the caller's services, so they are dropped
    /// after the lock is released.
    fn write<R>(&self, now: Instant, change: impl FnOnce(&mut Roster<Bound<S>>) -> R) -> R {
        let mut roster = self.lock();
        let answer = change(&mut roster);
        let replaced = roster.publish(now).map(|snapshot| {
            self.shared.set_timed(roster.is_timed());
            self.snapshot.swap(Arc::new(snapshot))
        });
        let garbage = roster.take_garbage();
        drop(roster);
        drop_foreign((replaced, garbage));
        answer
    }

    fn next_deadline(&self, roster: &Roster<Bound<S>>) -> Option<u64> {
        let tick = self.shared.stalls.next();
        roster.next_deadline().into_iter().chain(tick).min()
    }

    /// The sums over the members in play. Takes no lock but its own, and drops no member while a lock is held: under the
    /// writers' lock the snapshot is the current one, and elsewhere its guard is dropped last.
    fn peers(&self, config: &OutlierConfig, now: u64) -> Peers {
        let snapshot = self.snapshot.load();
        let lists = || snapshot.in_use().map(|group| &group.list);
        let len: usize = lists().map(List::len).sum();
        let mut known = self.peers.lock().unwrap_or_else(PoisonError::into_inner);
        let age = PEERS_AGE * (len / PEERS) as u64;
        if let Some((_, peers)) = known.filter(|&(at, _)| now.saturating_sub(at) < age) {
            return peers;
        }
        let members = lists().flat_map(|list| {
            (0..list.len()).map(|at| list.member(at).stats.record(list.weight(at), now))
        });
        let peers = Peers::of(members, config, self.shared.pool.gap(len), now);
        *known = Some((now, peers));
        peers
    }
}

impl<S: Send + Sync + 'static> Reports for State<S> {
    fn report(&self, member: &Record, report: Report, now: u64) -> bool {
        let (shared, id, stats) = (&self.shared, member.instance.id(), &member.stats);
        let peers = |config: &OutlierConfig| self.peers(config, now);
        // Most members that look bad are no worse than the others. Check this without the lock.
        let detected = match &report {
            Report::LooksBad { evidence, .. } => {
                let config = shared.outlier.load_full();
                let found = config.and_then(|config| detect(evidence, &peers(&config), &config));
                let Some(reason) = found else {
                    return false;
                };
                Some(reason)
            }
            Report::Lost | Report::Tried { .. } => None,
        };
        self.write(shared.instant(now), |roster| {
            let before = self.next_deadline(roster);
            match (report, detected) {
                (Report::LooksBad { picked_at, .. }, Some(reason)) => {
                    // If not, it has been restored in the meantime.
                    if stats.accepts_evidence_from(picked_at) {
                        roster.detected(id, stats, reason, now);
                    }
                }
                (Report::LooksBad { .. }, None) => {}
                (Report::Lost, _) => roster.lost(id, member.generation, now),
                (Report::Tried { trial, end }, _) => {
                    if stats.trial().settle(trial) {
                        if matches!(end, TrialEnd::Success(_)) {
                            shared.tokens.give_back(trial);
                        }
                        roster.apply_trial_end(id, stats, end, &peers, now);
                    }
                }
            }
            let after = self.next_deadline(roster);
            after.is_some_and(|after| before.is_none_or(|before| after < before))
        })
    }
}

impl From<Unusable> for PickError {
    fn from(why: Unusable) -> Self {
        match why {
            Unusable::Unresolved => Self::Unresolved,
            Unusable::Empty => Self::Empty,
            Unusable::NoneUsable(census) => Self::NoneUsable(census),
        }
    }
}

/// Replaces a pick of a member to avoid by one of another member, of any rank that has one.
#[cold]
fn in_another_rank<'s, S>(
    snapshot: &'s Snapshot<Bound<S>>,
    picked: Option<MemberRef<Bound<S>>>,
    avoid: &[InstanceId],
    mut choose: impl FnMut(&'s Route<Bound<S>>) -> Option<MemberRef<Bound<S>>>,
) -> Option<MemberRef<Bound<S>>> {
    let is_avoided = |member: &MemberRef<Bound<S>>| avoid.contains(member.instance.id());
    let Some(avoided) = picked.as_ref().filter(|member| is_avoided(member)) else {
        return picked;
    };
    for route in snapshot.routes() {
        match choose(route) {
            Some(other) if !is_avoided(&other) => {
                avoided.stats.release_unused();
                return Some(other);
            }
            Some(other) => other.stats.release_unused(),
            None => {}
        }
    }
    picked
}

/// Drops values that contain the caller's services. A panic in one of them must not end the task that drops it.
fn drop_foreign<T>(foreign: T) {
    // The panic hook has already reported the panic.
    let _ = catch_unwind(AssertUnwindSafe(|| drop(foreign)));
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
            Self::Pinned { id, fault } => write!(f, "pinned to instance {id}, which {fault}"),
        }
    }
}

impl std::error::Error for PickError {}
