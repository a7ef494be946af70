//! One member: a connection to an instance, and what is known of it.
//!
//! ```text
//!             dialled                     lost, or replaced by the next connection
//!  (roster) ───────────▶ listed, picked ──────────────────────────────────────────▶ held by its picks alone ──▶ dropped
//!                             ▲  │ instance draining, weight 0, or busy while others are available
//!                             └──┘ not listed
//! ```
//!
//! A member is never changed by the roster, only replaced. Whoever holds a [`Pick`] holds the member itself, so it may
//! finish on a connection that the roster has long forgotten.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{
    AtomicU32, AtomicU64,
    Ordering::{AcqRel, Relaxed},
};
use std::time::{Duration, Instant};

use super::fleet::Shared;
use super::load::Latency;
use crate::Instance;

/// A failure costs this many times the fleet's mean latency, whatever it took.
const FAILURE_COST: f32 = 20.0;
/// Longer answers count as this many times the fleet's mean latency. One that waited out a pause of the instance or of
/// the machine would else move the mean away from everybody; and at fifteen, one among thirty ordinary answers leaves
/// its member within the band that counts as ordinary, two do not.
const SLOWEST: f32 = 15.0;
/// Shorter latencies count as this, in nanoseconds: what differs below is the doing of the pick and of the clock.
const FINEST: f32 = 1_000.0;
/// How much dearer an overloaded member looks.
const OVERLOAD_FACTOR: f32 = FAILURE_COST;
const OVERLOAD_DEFAULT: Duration = Duration::from_secs(1);
const OVERLOAD_MAX: Duration = Duration::from_secs(60);

/// The time of a pick that was made without looking at a clock: its latency is nobody's.
pub(super) const UNTIMED: u64 = u64::MAX;

/// Slots and picks share a word, so that a pick writes once: in flight in the lower bits, picks so far in the upper.
const PICK: u64 = 1 << 24;
const IN_FLIGHT: u64 = PICK - 1;

/// A member's load and record: what requests write, on a line of its own.
#[derive(Debug, Default)]
#[repr(align(64))]
pub(super) struct Stats {
    slots: AtomicU64,
    latency: Latency,
    overloaded_until: AtomicU64,
    failures: AtomicU64,
    failures_in_row: AtomicU32,
}

impl Stats {
    pub(super) fn in_flight(&self) -> u32 {
        (self.slots.load(Relaxed) & IN_FLIGHT) as u32
    }

    pub(super) fn picks(&self) -> u64 {
        self.slots.load(Relaxed) / PICK
    }

    pub(super) fn failures(&self) -> u64 {
        self.failures.load(Relaxed)
    }

    pub(super) fn failures_in_row(&self) -> u32 {
        self.failures_in_row.load(Relaxed)
    }

    pub(super) fn latency(&self) -> &Latency {
        &self.latency
    }

    /// How many times its cost an overloaded member looks to cost.
    pub(super) fn overload(&self, now: u64) -> f32 {
        let until = self.overloaded_until.load(Relaxed);
        if until != 0 && now < until {
            OVERLOAD_FACTOR
        } else {
            1.0
        }
    }

    /// Takes a slot, unless `cap` of them are taken.
    pub(super) fn acquire(&self, cap: Option<u32>) -> bool {
        let Some(cap) = cap else {
            self.slots.fetch_add(PICK + 1, AcqRel);
            return true;
        };
        self.slots
            .fetch_update(AcqRel, Relaxed, |slots| {
                (slots & IN_FLIGHT < u64::from(cap)).then_some(slots.wrapping_add(PICK + 1))
            })
            .is_ok()
    }

    fn release(&self) {
        self.slots.fetch_sub(1, AcqRel);
    }

    /// The record without the slots: for the next connection to the same instance.
    pub(super) fn inherit(&self) -> Self {
        Self {
            slots: AtomicU64::new(self.picks().wrapping_mul(PICK)),
            latency: self.latency.copy(),
            overloaded_until: AtomicU64::new(self.overloaded_until.load(Relaxed)),
            failures: AtomicU64::new(self.failures()),
            failures_in_row: AtomicU32::new(self.failures_in_row()),
        }
    }
}

/// A connection to an instance, with its record.
pub(crate) struct Member<S: ?Sized> {
    pub(super) stats: Stats,
    /// Which dial it came from; a later one replaces it.
    pub(super) generation: u64,
    /// The instance as it was announced when it was dialled.
    pub(super) instance: Instance,
    pub(super) shared: Arc<Shared>,
    pub(super) service: S,
}

/// A member chosen for one request: holds its slot until it is dropped.
///
/// One of the verdicts says how the request ended; each returns `true` if
/// [`Fleet::next_deadline`](super::Fleet::next_deadline) moved earlier by it. Dropped without a verdict, it judges
/// nobody.
///
/// A pick outlives what happens to its member meanwhile, also the fleet itself.
#[must_use = "a dropped pick gives its slot back"]
pub struct Pick<S: ?Sized> {
    latency: Option<u64>,
    picked_at: u64,
    held: Held<S>,
}

/// How a request ended.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Verdict {
    Success,
    Failure,
    Cancelled,
    Neutral,
    Unsent,
    Overloaded(Option<Duration>),
}

/// Gives the slot back however the pick ends.
struct Held<S: ?Sized> {
    armed: bool,
    member: Arc<Member<S>>,
}

impl<S: ?Sized> Drop for Held<S> {
    fn drop(&mut self) {
        if self.armed {
            self.member.stats.release();
        }
    }
}

impl<S> Pick<S> {
    /// The same pick without its service's type. What stays behind holds the member, but no slot, and is to be dropped.
    pub(crate) fn hand_over<T: ?Sized>(
        &mut self,
        coerce: impl FnOnce(Arc<Member<S>>) -> Arc<Member<T>>,
    ) -> Pick<T> {
        let member = coerce(Arc::clone(&self.held.member));
        let armed = std::mem::replace(&mut self.held.armed, false);
        Pick {
            latency: self.latency,
            picked_at: self.picked_at,
            held: Held { armed, member },
        }
    }
}

impl<S: ?Sized> Pick<S> {
    pub(super) fn member(&self) -> &Arc<Member<S>> {
        &self.held.member
    }

    /// Of a member whose slot the caller has taken.
    pub(super) fn holding(member: Arc<Member<S>>, now: u64) -> Self {
        Self {
            latency: None,
            picked_at: now,
            held: Held {
                armed: true,
                member,
            },
        }
    }

    /// The picked instance, as it was announced when its connection was dialled: id and address are what they are,
    /// weight, availability and metadata may be older than the newest announcement.
    pub fn instance(&self) -> &Instance {
        &self.held.member.instance
    }

    /// What was handed to [`Fleet::connected`](super::Fleet::connected) for it.
    pub fn service(&self) -> &S {
        &self.held.member.service
    }

    /// Whether verdicts use their `now` at all: not with [`Load::LeastInFlight`](super::Load::LeastInFlight), where
    /// any instant will do for `success`, `failure` and `answered`.
    pub fn reads_clock(&self) -> bool {
        self.held.member.shared.reads_clock()
    }

    /// Stamps the latency now and keeps the slot: the answer has begun, its body is still to come. The first stamp
    /// counts.
    pub fn answered(&mut self, now: Instant) {
        let now = self.held.member.shared.nanos(now);
        self.latency
            .get_or_insert(now.saturating_sub(self.picked_at));
    }

    /// The request was answered well.
    pub fn success(self, now: Instant) -> bool {
        self.judge(Verdict::Success, now)
    }

    /// The request was answered badly: costs the member twenty times the fleet's mean latency, whatever it took.
    pub fn failure(self, now: Instant) -> bool {
        self.judge(Verdict::Failure, now)
    }

    /// The caller went away. A wait that was longer than the member's latency is evidence of at least that latency; a
    /// shorter one is none (hedged requests, closed browsers). After [`answered`](Self::answered) it is the latency of
    /// the answer.
    pub fn cancelled(self, now: Instant) -> bool {
        self.judge(Verdict::Cancelled, now)
    }

    /// Frees the slot and judges nobody.
    pub fn neutral(self) -> bool {
        false
    }

    /// The request never left: the connection it was picked for is lost and is dialled again. Its successor, if there
    /// is one already, is not touched.
    pub fn unsent(self, now: Instant) -> bool {
        self.judge(Verdict::Unsent, now)
    }

    /// The instance said that it has too much to do: its load reads twenty times as high for `duration` (default 1 s,
    /// at most 60 s).
    pub fn overloaded(self, duration: Option<Duration>, now: Instant) -> bool {
        self.judge(Verdict::Overloaded(duration), now)
    }

    /// Gives a verdict, once, by a pick that is about to be dropped.
    pub(crate) fn judge(&self, verdict: Verdict, now: Instant) -> bool {
        let Member { stats, shared, .. } = &*self.held.member;
        match verdict {
            Verdict::Success => {
                if stats.failures_in_row() != 0 {
                    stats.failures_in_row.store(0, Relaxed);
                }
                if shared.measures_latency() {
                    self.record_latency(shared.nanos(now));
                }
            }
            Verdict::Failure => {
                stats.failures.fetch_add(1, Relaxed);
                stats.failures_in_row.fetch_add(1, Relaxed);
                if shared.measures_latency() {
                    self.record_failure(shared.nanos(now));
                }
            }
            Verdict::Cancelled => {
                if shared.measures_latency() {
                    self.record_wait(shared.nanos(now));
                }
            }
            Verdict::Neutral => {}
            Verdict::Unsent => {
                let id = self.instance().id();
                return shared.lost(id, self.held.member.generation, now);
            }
            Verdict::Overloaded(duration) => {
                let duration = duration.unwrap_or(OVERLOAD_DEFAULT).min(OVERLOAD_MAX);
                let until = shared.nanos(now).saturating_add(nanos(duration));
                stats.overloaded_until.fetch_max(until, Relaxed);
                shared.overloaded_until(until);
            }
        }
        false
    }

    /// Whether both are of the same connection to the same instance.
    pub(crate) fn shares_member(&self, other: &Self) -> bool {
        Arc::ptr_eq(self.member(), other.member())
    }

    /// The beginning of the fleet's time: an instant for where no clock is read.
    pub(crate) fn epoch(&self) -> Instant {
        self.held.member.shared.epoch
    }

    fn record_failure(&self, now: u64) {
        let Member { stats, shared, .. } = &*self.held.member;
        let mean = shared.pool.mean();
        if mean > 0.0 {
            stats.latency.record(FAILURE_COST * mean, now);
        }
        shared.pool.failure(now);
    }

    fn record_wait(&self, now: u64) {
        let Member { stats, shared, .. } = &*self.held.member;
        let mean = shared.pool.mean();
        if self.latency.is_some() {
            self.record_latency(now);
        } else if mean > 0.0 {
            let waited = now.saturating_sub(self.picked_at) as f32;
            if waited > stats.latency.read(now, mean) {
                stats.latency.record(waited.min(FAILURE_COST * mean), now);
            }
        }
    }

    fn record_latency(&self, now: u64) {
        if self.picked_at == UNTIMED {
            return;
        }
        let Member { stats, shared, .. } = &*self.held.member;
        let latency = self
            .latency
            .unwrap_or_else(|| now.saturating_sub(self.picked_at));
        let mean = shared.pool.mean();
        if mean > 0.0 {
            let latency = (latency as f32).clamp(FINEST, (SLOWEST * mean).max(FINEST));
            stats.latency.record(latency, now);
            shared.pool.success(latency as u64, now);
        } else {
            shared.pool.success(latency.max(FINEST as u64), now);
        }
    }
}

impl<S: ?Sized> fmt::Debug for Pick<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pick")
            .field("instance", self.instance())
            .field("latency", &self.latency)
            .finish_non_exhaustive()
    }
}

/// Whole nanoseconds; about 584 years at most.
pub(super) fn nanos(duration: Duration) -> u64 {
    let seconds = duration.as_secs().saturating_mul(1_000_000_000);
    seconds.saturating_add(u64::from(duration.subsec_nanos()))
}
