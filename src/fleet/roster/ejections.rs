//! Where members stand with ejection, by when something is due.
//!
//! An index: what a member's [`Health`] says is the truth. [`Ejections::index`] and [`Ejections::unindex`] are called around
//! each change of where it stands.

use std::collections::BTreeSet;
use std::ops::Bound::{Excluded, Unbounded};

use super::super::outlier::{Health, Standing};
use crate::model::instance::InstanceId;
use crate::status::EjectionCounters;

/// Members that are looked at for those that can be tried. Some may not be connected.
const LOOKED_AT: usize = 64;

type ByTime = BTreeSet<(u64, InstanceId)>;

#[derive(Default)]
pub(super) struct Ejections {
    /// When ejections end.
    ends: ByTime,
    /// Members on probation, by since when.
    probation: ByTime,
    /// Members in slow start, by since when.
    returning: ByTime,
    /// Members that a rule ejected, by when they were ejected or failed a trial last.
    tried: ByTime,
    /// The last one of those on probation that had their turn.
    turn: Option<(u64, InstanceId)>,
    pub(super) suspects: BTreeSet<InstanceId>,
    /// Whether every member that is picked from fails.
    pub(super) all_fail: bool,
    /// Members that may have a trial in flight.
    pub(super) offered: BTreeSet<InstanceId>,
    /// The seat at which the search for suspects goes on.
    pub(super) searched_to: usize,
    pub(super) turned_at: u64,
    pub(super) counters: EjectionCounters,
}

impl Ejections {
    /// Adds a member where its health says it stands.
    pub(super) fn index(&mut self, id: &InstanceId, health: &Health) {
        match health.standing() {
            Standing::InPlay => false,
            Standing::Ejected { until } => self.ends.insert((until, id.clone())),
            Standing::Probation { since } => self.probation.insert((since, id.clone())),
            Standing::Returning { since } => self.returning.insert((since, id.clone())),
        };
        if let Some(at) = health.ejected_by_rule_at() {
            self.tried.insert((at, id.clone()));
        }
    }

    /// Removes a member from where its health says it stands, before that changes or it leaves.
    pub(super) fn unindex(&mut self, id: &InstanceId, health: &Health) {
        match health.standing() {
            Standing::InPlay => false,
            Standing::Ejected { until } => self.ends.remove(&(until, id.clone())),
            Standing::Probation { since } => self.probation.remove(&(since, id.clone())),
            Standing::Returning { since } => self.returning.remove(&(since, id.clone())),
        };
        if let Some(at) = health.ejected_by_rule_at() {
            self.tried.remove(&(at, id.clone()));
        }
    }

    pub(super) fn next_deadline(&self) -> Option<u64> {
        self.ends.first().map(|&(at, _)| at)
    }

    /// Whether anybody is out, or not wholly back.
    pub(super) fn is_any(&self) -> bool {
        !(self.ends.is_empty() && self.probation.is_empty() && self.returning.is_empty())
    }

    pub(super) fn is_any_returning(&self) -> bool {
        !self.returning.is_empty()
    }

    /// A member whose ejection is over.
    pub(super) fn over(&self, now: u64) -> Option<InstanceId> {
        let (at, id) = self.ends.first()?;
        (*at <= now).then(|| id.clone())
    }

    /// A member whose slow start of this length is over.
    pub(super) fn returned(&self, length: u64, now: u64) -> Option<InstanceId> {
        let (since, id) = self.returning.first()?;
        (now.saturating_sub(*since) >= length).then(|| id.clone())
    }

    /// Members that a rule ejected, those first that were tried longest ago, up to a moment.
    pub(super) fn tried_before(&self, moment: u64) -> impl Iterator<Item = &InstanceId> {
        let before = self.tried.iter().take_while(move |(at, _)| *at <= moment);
        before.map(|(_, id)| id).take(LOOKED_AT)
    }

    /// Members on probation, in turn.
    pub(super) fn on_probation(&self) -> impl Iterator<Item = &InstanceId> {
        let from = self.turn.as_ref().map_or(Unbounded, Excluded);
        let after = self.probation.range((from, Unbounded));
        let again = self.probation.iter();
        let all = after.chain(again).take(self.probation.len());
        all.map(|(_, id)| id).take(LOOKED_AT)
    }

    /// Gives the next `members` on probation, or all but one if there are no more, their turn. Returns whether the order
    /// changed. A trial that decides nothing, over and over, would else keep the others waiting.
    pub(super) fn pass_turn(&mut self, members: usize) -> bool {
        let members = members.min(self.probation.len().saturating_sub(1));
        if members == 0 {
            return self.turn.take().is_some();
        }
        let from = self.turn.as_ref().map_or(Unbounded, Excluded);
        let after = self.probation.range((from, Unbounded));
        let all = after.chain(&self.probation);
        self.turn = all.take(members).last().cloned();
        true
    }
}
