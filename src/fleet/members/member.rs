//! One member: a connection to an instance, and what is known of the instance.
//!
//! ```text
//!             dialled                     lost, or replaced by the next connection
//!  (roster) ───────────▶ listed, picked ──────────────────────────────────────────▶ held by its picks alone ──▶ dropped
//!                             ▲  │ instance draining, weight 0, or busy while others are available; ejected, on probation
//!                             └──┘ not listed
//! ```
//!
//! A member is never changed by the roster, only replaced. A [`Pick`](crate::fleet::Pick) holds the member itself, so it may
//! finish on a connection that the roster has long forgotten.
//!
//! A member knows nothing of its fleet. What the fleet adds to it is its payload.

use std::ops::Deref;
use std::sync::Arc;

use super::stats::Stats;
use crate::model::instance::Instance;

/// A connection to an instance.
pub(crate) struct Member<T> {
    record: Record,
    payload: T,
}

/// What is known of a member, whatever its payload is.
#[repr(C)]
pub(crate) struct Record {
    /// Shared by all connections to the instance.
    pub(crate) stats: Arc<Stats>,
    /// Which dial it came from; a later one replaces it.
    pub(crate) generation: u64,
    /// The instance as it was announced when it was dialled.
    pub(crate) instance: Instance,
}

/// A reference count of its own for a member that many threads pick: each has its thread's, and they do not take turns
/// to write one line of memory. With its count before it, and so aligned, it is as large as a line.
#[repr(align(32))]
pub(crate) struct CountedRef<T>(Arc<Member<T>>);

/// Holds a picked member.
pub(crate) enum MemberRef<T> {
    Direct(Arc<Member<T>>),
    Counted(Arc<CountedRef<T>>),
}

impl<T> Member<T> {
    pub(crate) fn new(record: Record, payload: T) -> Self {
        Self { record, payload }
    }

    pub(crate) fn payload(&self) -> &T {
        &self.payload
    }
}

impl<T> CountedRef<T> {
    pub(crate) fn of(member: &Arc<Member<T>>) -> Arc<Self> {
        Arc::new(Self(Arc::clone(member)))
    }
}

impl<T> Deref for CountedRef<T> {
    type Target = Member<T>;

    fn deref(&self) -> &Member<T> {
        &self.0
    }
}

impl<T> Deref for MemberRef<T> {
    type Target = Member<T>;

    fn deref(&self) -> &Member<T> {
        match self {
            Self::Direct(member) => member,
            Self::Counted(counted) => counted,
        }
    }
}

impl<T> Deref for Member<T> {
    type Target = Record;

    fn deref(&self) -> &Record {
        &self.record
    }
}
