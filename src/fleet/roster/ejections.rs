//! Where members stand with ejection, besides their own health.

use std::collections::{BTreeMap, BTreeSet};

use super::super::outlier::{Health, State};
use crate::{EjectionCounters, InstanceId};

#[derive(Default)]
pub(super) struct Ejections {
    /// When ejections end, and whose; also those of ids that left.
    pub(super) ends: BTreeSet<(u64, InstanceId)>,
    /// Members that wait for their probe, in turn.
    pub(super) probing: Vec<InstanceId>,
    pub(super) suspects: Vec<InstanceId>,
    /// Members in slow start, with when they returned; in this order.
    pub(super) returning: Vec<(u64, InstanceId)>,
    /// Ids that left while they were out, till when they are remembered.
    pub(super) absent: BTreeMap<InstanceId, (u64, Box<Health>)>,
    pub(super) swept_at: u64,
    pub(super) counters: EjectionCounters,
    /// As counted last, until somebody's eligibility changes.
    pub(super) share: Option<Share>,
}

/// How many members there are to choose from, and how many of them are out.
#[derive(Clone, Copy)]
pub(super) struct Share {
    pub(super) eligible: usize,
    pub(super) out: usize,
}

impl Ejections {
    pub(super) fn next_deadline(&self) -> Option<u64> {
        self.ends.first().map(|&(at, _)| at)
    }

    /// Whether anybody is out, or not wholly back.
    pub(super) fn is_any(&self) -> bool {
        !(self.ends.is_empty() && self.probing.is_empty() && self.returning.is_empty())
    }

    /// Forgets where a member stands, for it to stand elsewhere.
    pub(super) fn forget(&mut self, id: &InstanceId, state: State) {
        if let State::Ejected { until } = state {
            self.ends.remove(&(until, id.clone()));
        }
        self.probing.retain(|probing| probing != id);
        self.suspects.retain(|suspect| suspect != id);
        self.returning.retain(|(_, returning)| returning != id);
    }
}
