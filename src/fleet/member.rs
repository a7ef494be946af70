//! One member: a connection to an instance, and what is known of it.
//!
//! ```text
//!             dialled                     lost, or replaced by the next connection
//!  (roster) ───────────▶ listed, picked ──────────────────────────────────────────▶ held by its picks alone ──▶ dropped
//!                             ▲  │ instance draining, weight 0, or busy while others are available
//!                             └──┘ not listed
//! ```
//!
//! A member is never changed by the roster, only replaced. Whoever holds a [`Pick`](super::Pick) holds the member itself,
//! so it may finish on a connection that the roster has long forgotten.

use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::{
    AtomicU32, AtomicU64,
    Ordering::{AcqRel, Relaxed},
};

use super::fleet::Shared;
use super::load::Latency;
use crate::Instance;

/// How much dearer an overloaded member looks.
const OVERLOAD_FACTOR: f32 = 20.0;

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

    pub(super) fn succeeded(&self) {
        if self.failures_in_row() != 0 {
            self.failures_in_row.store(0, Relaxed);
        }
    }

    pub(super) fn failed(&self) {
        self.failures.fetch_add(1, Relaxed);
        self.failures_in_row.fetch_add(1, Relaxed);
    }

    pub(super) fn overloaded_until(&self, until: u64) {
        self.overloaded_until.fetch_max(until, Relaxed);
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

    pub(super) fn release(&self) {
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

/// A connection to an instance.
pub(crate) struct Member<S> {
    pub(super) record: Record,
    pub(super) service: S,
}

/// What is known of a member, whatever its service is.
pub(crate) struct Record {
    pub(super) stats: Stats,
    /// Which dial it came from; a later one replaces it.
    pub(super) generation: u64,
    /// The instance as it was announced when it was dialled.
    pub(super) instance: Instance,
    pub(super) shared: Arc<Shared>,
}

/// A reference count of its own for a member that many threads pick: each has its thread's, and they do not take turns
/// to write one line of memory.
#[repr(align(64))]
pub(crate) struct Share<S>(Arc<Member<S>>);

/// What keeps a picked member in being.
pub(crate) enum Hold<S> {
    Whole(Arc<Member<S>>),
    Share(Arc<Share<S>>),
}

/// Leads to a member's record, whatever its service is.
pub(crate) trait Recorded {
    fn record(&self) -> &Record;
}

impl<S> Member<S> {
    pub(crate) fn service(&self) -> &S {
        &self.service
    }
}

impl<S> Recorded for Member<S> {
    fn record(&self) -> &Record {
        &self.record
    }
}

impl<S> Recorded for Share<S> {
    fn record(&self) -> &Record {
        &self.0.record
    }
}

impl<S> Recorded for Hold<S> {
    fn record(&self) -> &Record {
        &self.record
    }
}

impl<T: Recorded + ?Sized> Recorded for Arc<T> {
    fn record(&self) -> &Record {
        (**self).record()
    }
}

impl<S> Share<S> {
    pub(super) fn of(member: &Arc<Member<S>>) -> Arc<Self> {
        Arc::new(Self(Arc::clone(member)))
    }
}

impl<S> Deref for Share<S> {
    type Target = Member<S>;

    fn deref(&self) -> &Member<S> {
        &self.0
    }
}

impl<S> Deref for Hold<S> {
    type Target = Member<S>;

    fn deref(&self) -> &Member<S> {
        match self {
            Self::Whole(member) => member,
            Self::Share(share) => share,
        }
    }
}

impl<S> Deref for Member<S> {
    type Target = Record;

    fn deref(&self) -> &Record {
        &self.record
    }
}
