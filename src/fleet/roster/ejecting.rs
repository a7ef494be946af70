//! Ejections and returns, by the rules and by hand.

use std::sync::Arc;

use super::Roster;
use super::listing::{Cap, Listing};
use crate::event::Event;
use crate::event::reason::{EjectionReason, Withheld};
use crate::fleet::branch::Branch;
use crate::fleet::config::outlier::OutlierConfig;
use crate::fleet::measures::latency::trial_sample;
use crate::fleet::members::stats::Stats;
use crate::fleet::time::nanos;
use crate::model::instance::InstanceId;

/// How many members one call restores at most, so that it holds the writers' lock for less than a millisecond.
const RESTORED_AT_ONCE: usize = 1024;

impl<T> Roster<T> {
    /// Ejects a member for which a rule fired, unless the ejection is withheld.
    pub(crate) fn detected(
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
        let Some(config) = config.filter(|_| seat.eligible().is_some()) else {
            return;
        };
        // Several threads may have detected the same outlier.
        let is_known = seat.standing.is_out() || stats.cooldown().is_on(now);
        if is_known || !Arc::ptr_eq(&seat.stats, stats) {
            return;
        }
        let counters = self.standings.counters_mut();
        counters.detected += 1;
        if let Some((by, cap)) = self.withheld(index, &config) {
            stats.cooldown().begin(now);
            let is_by_cap = by == Withheld::ByCap;
            self.standings.counters_mut().refused_by_cap += u64::from(is_by_cap);
            let address = self.seats[index].instance.address().clone();
            self.note(Event::EjectionWithheld {
                id: id.clone(),
                address,
                reason,
                by,
            });
            if is_by_cap {
                Branch::WithheldByCap.reach();
                let in_zone_of = (cap == Some(Cap::Zone)).then_some(index);
                self.try_longest_ejected(&config, in_zone_of, now);
            }
        } else {
            Branch::Ejected.reach();
            self.change_standing(index, |standings, member, config, rng| {
                standings.eject(member, reason, config, rng, now)
            });
            self.relist(index);
        }
    }

    fn withheld(&self, index: usize, config: &OutlierConfig) -> Option<(Withheld, Option<Cap>)> {
        if config.is_shadow() {
            return Some((Withheld::InShadow, None));
        }
        let percentage = config.max_ejection_percentage();
        let cap = self.listing.reached_cap(&self.seats[index], percentage)?;
        Some((Withheld::ByCap, Some(cap)))
    }

    /// Ejects an instance by hand. Returns whether it is known.
    pub(crate) fn eject(&mut self, id: &InstanceId, time: u64, now: u64) -> bool {
        let Some(index) = self.find(id) else {
            return false;
        };
        self.change_standing(index, |standings, member, config, _| {
            standings.eject_by_hand(member, time, config, now)
        });
        self.relist(index);
        true
    }

    /// Restores an ejected instance by hand. Returns whether it was out.
    pub(crate) fn restore(&mut self, id: &InstanceId, now: u64) -> bool {
        let is_out = |&index: &usize| self.seats[index].standing.is_out();
        let index = self.find(id).filter(is_out);
        if let Some(index) = index {
            self.return_to_play(index, None, now);
            self.relist(index);
        }
        index.is_some()
    }

    /// Puts a member back into play. The caller updates the list. `latency`: of the trial that succeeded, if one did.
    pub(super) fn return_to_play(&mut self, index: usize, latency: Option<u64>, now: u64) {
        let by_trial = latency.is_some();
        let latency = latency.and_then(|latency| self.evidence(latency));
        let slow_start = !self.config.slow_start().is_zero();
        self.change_standing(index, |standings, member, _, _| {
            standings.return_to_play(member, by_trial, latency, slow_start, now)
        });
        self.all_fail = false;
    }

    /// Restores members that rules ejected, if rules no longer eject; those ejected by hand stay out. Restores a limited
    /// number, so that the writers' lock is held briefly. Returns whether more may be left.
    pub(crate) fn restore_rule_ejected(&mut self, now: u64) -> bool {
        let acts = |config: &OutlierConfig| !config.is_shadow();
        if self.config.outlier().is_some_and(acts) {
            return false;
        }
        self.all_fail = false;
        self.dirty = true;
        let mut restored = 0;
        for index in 0..self.seats.len() {
            if restored == RESTORED_AT_ONCE {
                break;
            }
            if self.seats[index].standing.is_out_by_rule() {
                self.return_to_play(index, None, now);
                restored += 1;
            }
            let seat = &mut self.seats[index];
            let id = seat.instance.id();
            self.standings.set_suspect(id, &mut seat.standing, false);
            self.standings.forget_multiplier(&mut seat.standing);
        }
        if restored > 0 {
            self.relist_all();
        }
        restored == RESTORED_AT_ONCE
    }

    /// Puts members on probation whose ejection is over.
    pub(super) fn end_ejections(&mut self, now: u64) {
        while let Some(id) = self.standings.expired_ejection(now) {
            let Some(index) = self.find(&id) else {
                break;
            };
            self.begin_probation(index, now);
        }
    }

    fn begin_probation(&mut self, index: usize, now: u64) {
        self.change_standing(index, |standings, member, _, _| {
            standings.begin_probation(member, now)
        });
    }

    /// Puts a newly connected member on probation if it was ejected at another address.
    pub(super) fn try_if_moved(&mut self, index: usize, now: u64) {
        let seat = &self.seats[index];
        if seat.standing.is_ejected_from_elsewhere(&seat.instance) {
            Branch::MovedWhileEjected.reach();
            self.begin_probation(index, now);
        }
    }

    /// Puts a member that is eligible again on probation if more members are out than the cap allows: too few are in play
    /// then, and this one may have recovered.
    pub(super) fn try_if_over_cap(&mut self, index: usize, now: u64) {
        let (seat, listing) = (&self.seats[index], &self.listing);
        let is_over =
            |config: &OutlierConfig| listing.is_over_cap(seat, config.max_ejection_percentage());
        if seat.eligible().is_some()
            && seat.standing.is_ejected_by_rule()
            && self.config.outlier().is_some_and(is_over)
        {
            Branch::OverCap.reach();
            self.begin_probation(index, now);
        }
    }

    /// Puts an ejected member on probation because the cap keeps another outlier in play: of those that a rule ejected, the
    /// one that was ejected or failed a trial longest ago, and at least `base_ejection_time` ago. It may have recovered.
    /// `in_zone_of`: only a member of the zone of this seat.
    fn try_longest_ejected(&mut self, config: &OutlierConfig, in_zone_of: Option<usize>, now: u64) {
        let is_candidate = |index: usize| {
            let seat = &self.seats[index];
            let shares_zone = |other: usize| Listing::share_zone(seat, &self.seats[other]);
            seat.eligible().is_some() && in_zone_of.is_none_or(shares_zone)
        };
        let before = now.checked_sub(nanos(config.base_ejection_time()));
        let longest = before.and_then(|before| {
            let ids = self.standings.last_failed_by(before);
            let mut seats = ids.filter_map(|id| self.find(id));
            seats.find(|&index| is_candidate(index))
        });
        if let Some(index) = longest {
            Branch::TriedEarly.reach();
            self.begin_probation(index, now);
        }
    }

    /// The latency sample of a trial. `None` if the fleet's mean is unknown, or latency is not measured.
    pub(super) fn evidence(&self, latency: u64) -> Option<f32> {
        let mean = self.shared.pool.mean();
        let known = mean > 0.0 && self.shared.measures_latency();
        known.then(|| trial_sample(latency, mean))
    }
}
