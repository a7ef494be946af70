//! Who leaves play and comes back.

use std::sync::Arc;
use std::time::Duration;

use super::super::member::Stats;
use super::super::outlier::{Health, OutlierConfig, State, cap};
use super::super::reached::Branch;
use super::super::shared::Shared;
use super::super::slot::nanos;
use super::super::slow_start::Ramp;
use super::Roster;
use super::ejections::Share;
use super::probing::evidence;
use crate::{EjectionReason, Event, InstanceId, Withheld};

/// Members that left while they were ejected, and are remembered. A poisoned discovery can name any number.
const REMEMBERED: usize = 1024;

impl<S> Roster<S> {
    /// A rule fired for this connection.
    pub(in super::super) fn detected(
        &mut self,
        id: &InstanceId,
        generation: u64,
        reason: EjectionReason,
        now: u64,
    ) {
        let Some(index) = self.connected_as(id, generation) else {
            return;
        };
        let (seat, config) = (&self.seats[index], self.config.outlier().cloned());
        let (Some(member), Some(config)) = (seat.eligible(), config) else {
            return;
        };
        // Several threads may have seen the same.
        if seat.is_out() || member.stats.is_quiet(now) {
            return;
        }
        let member = Arc::clone(member);
        self.ejections.counters.detected += 1;
        if let Some(by) = self.withheld(&config) {
            member.stats.quiet(now);
            self.ejections.counters.refused_by_cap += u64::from(by == Withheld::ByCap);
            let id = id.clone();
            self.note(Event::EjectionWithheld { id, reason, by });
            if by == Withheld::ByCap {
                Branch::WithheldByCap.reach();
                self.probe_instead(&config, now);
            }
        } else {
            let successes = member.stats.successes();
            let health = self.seats[index].health_mut();
            // As it was dialled: by now it may be announced, and not connected, at another address.
            let at = &member.instance;
            let time = health.eject(reason, at, successes, &config, &mut self.rng, now);
            self.ejections.counters.ejected += 1;
            Branch::Ejected.reach();
            self.leave_play(index, reason, time, now);
        }
        self.garbage.members.push(member);
    }

    fn withheld(&mut self, config: &OutlierConfig) -> Option<Withheld> {
        if config.is_shadow() {
            return Some(Withheld::InShadow);
        }
        let Share { eligible, out } = self.share();
        (out >= cap(eligible, config.max_ejection_percentage())).then_some(Withheld::ByCap)
    }

    /// Whether more are out than might be ejected: some of them were not connected when others were.
    pub(super) fn is_over_cap(&mut self) -> bool {
        let Share { eligible, out } = self.share();
        let percentage = self
            .config
            .outlier()
            .map(OutlierConfig::max_ejection_percentage);
        percentage.is_some_and(|percentage| out > cap(eligible, percentage))
    }

    pub(super) fn share(&mut self) -> Share {
        let seats = &self.seats;
        *self.ejections.share.get_or_insert_with(|| {
            let eligible = || seats.iter().filter(|seat| seat.eligible().is_some());
            Share {
                eligible: eligible().count(),
                out: eligible().filter(|seat| seat.is_out()).count(),
            }
        })
    }

    /// Ejects an instance by hand. Returns whether it is known.
    pub(in super::super) fn eject(&mut self, id: &InstanceId, time: u64, now: u64) -> bool {
        let Some(index) = self.find(id) else {
            return false;
        };
        let seat = &mut self.seats[index];
        let state = seat.health().map_or(State::InPlay, Health::state);
        let instance = seat.instance.clone();
        let successes = seat.stats().map_or(0, Stats::successes);
        let config = self.config.outlier().cloned().unwrap_or_default();
        self.ejections.counters.ejected += u64::from(!seat.is_out());
        let health = seat.health_mut();
        health.eject_by_hand(&instance, successes, time, &config, now);
        self.ejections.forget(id, state);
        self.leave_play(index, EjectionReason::Manual, time, now);
        true
    }

    pub(super) fn leave_play(&mut self, index: usize, reason: EjectionReason, time: u64, now: u64) {
        let seat = &self.seats[index];
        let id = seat.instance.id().clone();
        if let Some(stats) = seat.stats() {
            stats.leave_play(now);
        }
        self.forget_probe(index);
        self.ejections.forget(&id, State::InPlay);
        self.ejections
            .ends
            .insert((now.saturating_add(time), id.clone()));
        let time = Duration::from_nanos(time);
        self.note(Event::Ejected { id, reason, time });
        self.relist(index);
    }

    /// Puts an ejected instance back into play. Returns whether it was out.
    pub(in super::super) fn restore(&mut self, id: &InstanceId, shared: &Shared, now: u64) -> bool {
        let index = self.find(id).filter(|&index| self.seats[index].is_out());
        if let Some(index) = index {
            self.come_back(index, None, shared, now);
        }
        index.is_some()
    }

    /// `latency`: of the probe that brought it back.
    pub(super) fn come_back(
        &mut self,
        index: usize,
        latency: Option<u64>,
        shared: &Shared,
        now: u64,
    ) {
        let seat = &mut self.seats[index];
        let id = seat.instance.id().clone();
        let latency = latency.and_then(|latency| evidence(latency, shared));
        let mut successes = 0;
        if let Some(stats) = seat.stats() {
            stats.enter_play(latency, now);
            successes = stats.successes();
        }
        let health = seat.health_mut();
        let state = health.state();
        let out = health.restore(successes, now);
        self.forget_probe(index);
        self.ejections.forget(&id, state);
        if !self.config.slow_start().is_zero() {
            self.ejections.returning.push((now, id.clone()));
        }
        self.ejections.counters.returned += 1;
        let after = Duration::from_nanos(out);
        self.note(Event::Returned { id, after });
        self.relist(index);
    }

    /// Puts those back that rules ejected, where rules do not eject any more.
    pub(super) fn amnesty(&mut self, shared: &Shared, now: u64) {
        let acts = |config: &OutlierConfig| !config.is_shadow();
        if !self.config.outlier().is_some_and(acts) {
            self.pardon(shared, now);
        }
    }

    /// Puts those back that rules ejected.
    fn pardon(&mut self, shared: &Shared, now: u64) {
        let is_pardoned = |health: &Health| !health.is_ejected_by_hand();
        self.ejections.suspects.clear();
        let ends = &mut self.ejections.ends;
        self.ejections.absent.retain(|id, (till, health)| {
            let stays = !is_pardoned(health);
            if !stays {
                ends.remove(&(*till, id.clone()));
            }
            stays
        });
        for index in 0..self.seats.len() {
            let health = self.seats[index].health();
            if health.is_some_and(|health| health.is_out() && is_pardoned(health)) {
                self.come_back(index, None, shared, now);
            }
        }
    }

    /// Lets ejections end that are over.
    pub(super) fn end_ejections(&mut self, now: u64) {
        while self.ejections.next_deadline().is_some_and(|at| at <= now) {
            let Some((at, id)) = self.ejections.ends.pop_first() else {
                break;
            };
            if let Some(index) = self.find(&id) {
                self.begin_probing(index);
            } else {
                debug_assert!(
                    self.ejections
                        .absent
                        .get(&id)
                        .is_none_or(|(till, _)| *till == at)
                );
                self.ejections.absent.remove(&id);
                // With the last one of all, picks may do without the clock.
                self.dirty = true;
            }
        }
    }

    /// An instance leaves the set: whether it was out is remembered for a while.
    pub(super) fn remember(&mut self, index: usize, now: u64) {
        let seat = &mut self.seats[index];
        let id = seat.instance.id().clone();
        let health = seat.health.take();
        let state = health.as_ref().map_or(State::InPlay, |h| h.state());
        self.ejections.forget(&id, state);
        let Some(health) = health else {
            return;
        };
        let config = self.config.outlier().cloned().unwrap_or_default();
        let till = match health.state() {
            State::InPlay => return,
            State::Ejected { until } => until,
            State::Probing => now.saturating_add(nanos(config.base_ejection_time())),
        };
        if self.ejections.absent.len() < REMEMBERED {
            self.ejections.ends.insert((till, id.clone()));
            self.ejections.absent.insert(id, (till, health));
        }
    }

    /// An instance is new in the set: one that left while it was out is probed at once.
    pub(super) fn recall(&mut self, index: usize) {
        let id = self.seats[index].instance.id().clone();
        if let Some((till, health)) = self.ejections.absent.remove(&id) {
            self.ejections.ends.remove(&(till, id));
            self.seats[index].health = Some(health);
            self.begin_probing(index);
        }
    }

    /// Where those stand in the list that are in slow start, in its order.
    pub(super) fn ramps(&self) -> Vec<Ramp> {
        let length = nanos(self.config.slow_start());
        let ramp = |&(since, ref id): &(u64, InstanceId)| {
            let position = self.seats[self.find(id)?].position?;
            Some(Ramp {
                position,
                since,
                length,
            })
        };
        let mut ramps: Vec<_> = self.ejections.returning.iter().filter_map(ramp).collect();
        ramps.sort_unstable_by_key(|ramp| ramp.position.index());
        ramps
    }
}
