//! One member: a connection to an instance, with the record of the instance.
//!
//! ```text
//!             dialled                     lost, or replaced by the next connection
//!  (roster) ───────────▶ listed, picked ──────────────────────────────────────────▶ held by its picks alone ──▶ dropped
//!                             ▲  │ instance draining, weight 0, or busy while others are available; ejected, on probation
//!                             └──┘ not listed
//! ```
//!
//! The roster never changes a member, it only replaces it. A [`Pick`](crate::fleet::Pick) holds the member itself, so it may
//! finish on a connection that the roster no longer has.
//!
//! A member does not know its fleet. What the fleet adds to a member is its payload.

use std::ops::Deref;
use std::sync::Arc;

use super::stats::Stats;
use crate::model::instance::Instance;

/// A connection to an instance.
pub(crate) struct Member<T> {
    record: Record,
    payload: T,
}

/// The part of a member that does not depend on its payload.
#[repr(C)]
pub(crate) struct Record {
    /// Shared by all connections to the instance.
    pub(crate) stats: Arc<Stats>,
    /// The dial that it came from. A later generation replaces it.
    pub(crate) generation: u64,
    /// The instance as it was announced when it was dialled.
    pub(crate) instance: Instance,
}

/// An extra reference count for a member that many threads pick. Each thread uses its own, so that they do not contend for
/// one cache line. With this alignment, and the counts of its `Arc` before it, it fills a line.
#[repr(align(32))]
pub(crate) struct CountedRef<T>(Arc<Member<T>>);

/// A reference to a picked member.
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
