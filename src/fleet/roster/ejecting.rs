//! Who leaves play and comes back.

use std::sync::Arc;
use std::time::Duration;

use rand::rngs::SmallRng;

use super::super::member::Stats;
use super::super::outlier::{Health, OutlierConfig, cap};
use super::super::reached::Branch;
use super::super::shared::Shared;
use super::super::slot::nanos;
use super::Roster;
use super::trials::evidence;
use crate::event::{EjectionReason, Event, Withheld};
use crate::model::instance::InstanceId;

/// Members that one call puts back, so that it holds the writers' lock for less than a millisecond.
const RESTORED_AT_ONCE: usize = 1024;

impl<S> Roster<S> {
    /// Changes a member's health, and where the index has it.
    pub(super) fn change_health<R>(
        &mut self,
        index: usize,
        change: impl FnOnce(&mut Health, &OutlierConfig, &mut SmallRng) -> R,
    ) -> R {
        let config = self.config.outlier().cloned().unwrap_or_default();
        let seat = &mut self.seats[index];
        let id = seat.instance.id().clone();
        let health = seat.health_mut();
        self.ejections.unindex(&id, health);
        let result = change(health, &config, &mut self.rng);
        self.ejections.index(&id, health);
        self.dirty = true;
        result
    }

    /// A rule fired for this member.
    pub(in super::super) fn detected(
        &mut self,
        id: &InstanceId,
        stats: &Arc<Stats>,
        reason: EjectionReason,
        now: u64,
    ) {
        let Some(index) = self.find(id) else {
            return;
        };
        let (seat, config) = (&self.seats[index], self.config.outlier().cloned());
        let (Some(member), Some(config)) = (seat.eligible(), config) else {
            return;
        };
        // Several threads may have seen the same.
        let is_known = seat.is_out() || stats.is_quiet(now);
        if is_known || !Arc::ptr_eq(&seat.stats, stats) {
            return;
        }
        self.ejections.counters.detected += 1;
        if let Some(by) = self.withheld(&config) {
            stats.quiet(now);
            self.ejections.counters.refused_by_cap += u64::from(by == Withheld::ByCap);
            let id = id.clone();
            self.note(Event::EjectionWithheld { id, reason, by });
            if by == Withheld::ByCap {
                Branch::WithheldByCap.reach();
                self.try_longest_ejected(&config, now);
            }
        } else {
            let successes = stats.successes();
            // As it was dialled: by now it may be announced, and not connected, at another address.
            let at = member.instance.clone();
            let time = self.change_health(index, |health, config, rng| {
                health.eject(reason, &at, successes, config, rng, now)
            });
            Branch::Ejected.reach();
            self.ejections.counters.ejected += 1;
            self.leave_play(index, reason, time, now);
        }
    }

    fn withheld(&self, config: &OutlierConfig) -> Option<Withheld> {
        if config.is_shadow() {
            return Some(Withheld::InShadow);
        }
        let most = cap(self.eligible, config.max_ejection_percentage());
        (self.out >= most).then_some(Withheld::ByCap)
    }

    /// Whether more are out than might be ejected: some of them were not connected when others were.
    fn is_over_cap(&self) -> bool {
        let config = self.config.outlier();
        config.is_some_and(|c| self.out > cap(self.eligible, c.max_ejection_percentage()))
    }

    /// Ejects an instance by hand. Returns whether it is known.
    pub(in super::super) fn eject(&mut self, id: &InstanceId, time: u64, now: u64) -> bool {
        let Some(index) = self.find(id) else {
            return false;
        };
        let seat = &self.seats[index];
        let instance = seat.instance.clone();
        let successes = seat.stats.successes();
        self.ejections.counters.ejected += u64::from(!seat.is_out());
        self.change_health(index, |health, config, _| {
            health.eject_by_hand(&instance, successes, time, config, now);
        });
        self.leave_play(index, EjectionReason::Manual, time, now);
        true
    }

    fn leave_play(&mut self, index: usize, reason: EjectionReason, time: u64, now: u64) {
        let seat = &self.seats[index];
        let id = seat.instance.id().clone();
        seat.stats.leave_play(now);
        self.ejections.suspects.remove(&id);
        let time = Duration::from_nanos(time);
        self.note(Event::Ejected { id, reason, time });
        self.relist(index);
    }

    /// Puts an ejected instance back into play. Returns whether it was out.
    pub(in super::super) fn restore(&mut self, id: &InstanceId, shared: &Shared, now: u64) -> bool {
        let index = self.find(id).filter(|&index| self.seats[index].is_out());
        if let Some(index) = index {
            self.return_to_play(index, None, shared, now);
            self.relist(index);
        }
        index.is_some()
    }

    /// Puts a member back into play; the list is to be brought up to date. `latency`: of the trial that brought it back.
    pub(super) fn return_to_play(
        &mut self,
        index: usize,
        latency: Option<u64>,
        shared: &Shared,
        now: u64,
    ) {
        let seat = &self.seats[index];
        let (id, stats) = (seat.instance.id().clone(), Arc::clone(&seat.stats));
        let latency = latency.and_then(|latency| evidence(latency, shared));
        stats.enter_play(latency, now);
        let successes = stats.successes();
        let has_slow_start = !self.config.slow_start().is_zero();
        let out = self.change_health(index, |health, _, _| {
            let out = health.return_to_play(successes, now);
            if !has_slow_start {
                health.end_slow_start();
            }
            out
        });
        stats.set_returned_at(has_slow_start.then_some(now));
        self.ejections.all_fail = false;
        self.ejections.counters.returned += 1;
        let after = Duration::from_nanos(out);
        self.note(Event::Returned { id, after });
    }

    /// Puts some of those back that rules ejected, if rules eject no more; those that were ejected by hand stay out. Returns
    /// whether there may be more of them: each call takes the writers' lock for a moment only.
    pub(in super::super) fn restore_rule_ejected(&mut self, shared: &Shared, now: u64) -> bool {
        let acts = |config: &OutlierConfig| !config.is_shadow();
        if self.config.outlier().is_some_and(acts) {
            return false;
        }
        self.ejections.suspects.clear();
        self.ejections.all_fail = false;
        self.dirty = true;
        let is_restored = |health: &Health| health.is_out() && !health.is_ejected_by_hand();
        let mut restored = 0;
        for index in 0..self.seats.len() {
            if restored == RESTORED_AT_ONCE {
                break;
            }
            if self.seats[index].health().is_some_and(is_restored) {
                self.return_to_play(index, None, shared, now);
                restored += 1;
            }
            if let Some(health) = &mut self.seats[index].health {
                health.forget_multiplier();
            }
        }
        // All at once: one after another would copy a part of the list each time.
        if restored > 0 {
            self.rebuild_list();
        }
        restored == RESTORED_AT_ONCE
    }

    /// Lets ejections end that are over.
    pub(super) fn end_ejections(&mut self, now: u64) {
        while let Some(id) = self.ejections.over(now) {
            let Some(index) = self.find(&id) else {
                break;
            };
            self.begin_probation(index, now);
        }
    }

    pub(super) fn begin_probation(&mut self, index: usize, now: u64) {
        let id = self.seats[index].instance.id().clone();
        self.change_health(index, |health, _, _| health.begin_probation(now));
        self.note(Event::Probation { id });
    }

    /// A seat has a new connection: one that was ejected at another address is on probation at once.
    pub(super) fn try_if_moved(&mut self, index: usize, now: u64) {
        let seat = &self.seats[index];
        let elsewhere = |health: &Health| health.is_ejected_from_elsewhere(&seat.instance);
        if seat.health().is_some_and(elsewhere) {
            Branch::MovedWhileEjected.reach();
            self.begin_probation(index, now);
        }
    }

    /// A seat is connected again, or has a weight again: one whose place under the cap others have taken meanwhile is on
    /// probation at once. As few are in play as the cap allows, and it may be well by now.
    pub(super) fn try_if_over_cap(&mut self, index: usize, now: u64) {
        let is_ejected = |health: &Health| health.ejected_by_rule_at().is_some();
        let seat = &self.seats[index];
        if seat.eligible().is_some() && seat.health().is_some_and(is_ejected) && self.is_over_cap()
        {
            Branch::OverCap.reach();
            self.begin_probation(index, now);
        }
    }

    /// As few are in play as the cap allows, and one of those is an outlier: of those that a rule ejected, the one that was
    /// tried longest ago may be well by now. It is on probation, though not before the time of a first ejection.
    fn try_longest_ejected(&mut self, config: &OutlierConfig, now: u64) {
        let before = now.checked_sub(nanos(config.base_ejection_time()));
        let longest = before.and_then(|before| {
            let ids = self.ejections.tried_before(before);
            let mut seats = ids.filter_map(|id| self.find(id));
            seats.find(|&index| self.seats[index].eligible().is_some())
        });
        if let Some(index) = longest {
            Branch::TriedEarly.reach();
            self.begin_probation(index, now);
        }
    }

    /// A seat is about to go, with its ejection.
    pub(super) fn forget_ejection(&mut self, index: usize) {
        let seat = &self.seats[index];
        let id = seat.instance.id();
        if let Some(health) = seat.health() {
            self.ejections.unindex(id, health);
        }
        self.ejections.suspects.remove(id);
        self.ejections.offered.remove(id);
        // With the last one of all, picks may do without the clock.
        self.dirty = true;
    }
}
