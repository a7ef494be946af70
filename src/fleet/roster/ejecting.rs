//! Who leaves play and comes back.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use super::super::fleet::Shared;
use super::super::member::{Member, Stats};
use super::super::outlier::{Health, OutlierConfig, State, cap, detect_suspect};
use super::super::probe::Probed;
use super::super::seat::Seat;
use super::super::slot::nanos;
use super::super::slow_start::Ramp;
use super::super::snapshot::Candidates;
use super::Roster;
use crate::{EjectionCounters, EjectionReason, Event, InstanceId, Withheld};

/// Nanoseconds from sweep to sweep for suspects; and after which a silent member is one.
const SWEEP: u64 = 1_000_000_000;
/// The longest silence between two probes of a suspect.
const LONGEST_SILENCE: u64 = 60_000_000_000;
/// A probe within this many mean latencies shows that nothing is left of what was.
const QUITE_WELL: f32 = 3.0;
/// Members of which one gets the next probe. Were it the first alone, one that has no slot free, or whose callers always
/// go away, would keep all others waiting; and all would be copied with each change.
const CANDIDATES: usize = 8;
/// Members that left while they were ejected, and are remembered. A poisoned discovery can name any number.
const REMEMBERED: usize = 1024;

#[derive(Default)]
pub(super) struct Ejections {
    /// When ejections end, and whose; also those of ids that left.
    ends: BTreeSet<(u64, InstanceId)>,
    /// Members that wait for their probe, in turn.
    probing: Vec<InstanceId>,
    suspects: Vec<InstanceId>,
    /// Members in slow start, with when they returned; in this order.
    returning: Vec<(u64, InstanceId)>,
    /// Ids that left while they were out, till when they are remembered.
    absent: BTreeMap<InstanceId, (u64, Box<Health>)>,
    swept_at: u64,
    pub(super) counters: EjectionCounters,
    /// As counted last, until somebody's eligibility changes.
    pub(super) share: Option<Share>,
}

/// How many members there are to choose from, and how many of them are out.
#[derive(Clone, Copy)]
pub(super) struct Share {
    eligible: usize,
    out: usize,
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
    fn forget(&mut self, id: &InstanceId, state: State) {
        if let State::Ejected { until } = state {
            self.ends.remove(&(until, id.clone()));
        }
        self.probing.retain(|probing| probing != id);
        self.suspects.retain(|suspect| suspect != id);
        self.returning.retain(|(_, returning)| returning != id);
    }
}

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
        } else {
            let successes = member.stats.successes();
            let health = self.seats[index].health_mut();
            // As it was dialled: by now it may be announced, and not connected, at another address.
            let at = &member.instance;
            let time = health.eject(reason, at, successes, &config, &mut self.rng, now);
            self.ejections.counters.ejected += 1;
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

    fn share(&mut self) -> Share {
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

    fn leave_play(&mut self, index: usize, reason: EjectionReason, time: u64, now: u64) {
        let seat = &self.seats[index];
        let id = seat.instance.id().clone();
        if let Some(stats) = seat.stats() {
            stats.leave_play();
        }
        self.forget_probe(index);
        self.ejections.forget(&id, State::InPlay);
        self.ejections
            .ends
            .insert((now.saturating_add(time), id.clone()));
        self.relist(index);
        let time = Duration::from_nanos(time);
        self.note(Event::Ejected { id, reason, time });
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
    fn come_back(&mut self, index: usize, latency: Option<u64>, shared: &Shared, now: u64) {
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
        self.relist(index);
        let after = Duration::from_nanos(out);
        self.note(Event::Returned { id, after });
    }

    /// Puts those back that rules ejected, where rules do not eject any more.
    pub(super) fn amnesty(&mut self, shared: &Shared, now: u64) {
        let acts = |config: &OutlierConfig| !config.is_shadow();
        if self.config.outlier().is_some_and(acts) {
            return;
        }
        self.ejections.suspects.clear();
        let ends = &mut self.ejections.ends;
        self.ejections.absent.retain(|id, (till, health)| {
            let stays = health.is_ejected_by_hand();
            if !stays {
                ends.remove(&(*till, id.clone()));
            }
            stays
        });
        for index in 0..self.seats.len() {
            let health = self.seats[index].health();
            if health.is_some_and(|health| health.is_out() && !health.is_ejected_by_hand()) {
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

    fn begin_probing(&mut self, index: usize) {
        let seat = &mut self.seats[index];
        let id = seat.instance.id().clone();
        let health = seat.health_mut();
        let state = health.state();
        health.probe();
        self.ejections.forget(&id, state);
        self.ejections.probing.push(id.clone());
        self.dirty = true;
        self.note(Event::Probing { id });
    }

    /// A seat has a new connection: one that was ejected at another address is probed at once.
    pub(super) fn probe_if_moved(&mut self, index: usize) {
        let seat = &self.seats[index];
        let elsewhere = |health: &Health| health.is_ejected_from_elsewhere(&seat.instance);
        if seat.health().is_some_and(elsewhere) {
            self.begin_probing(index);
        }
        let seat = &self.seats[index];
        if let Some(stats) = seat.stats().filter(|_| seat.is_out()) {
            stats.leave_play();
        }
    }

    /// An instance leaves the set: whether it was out is remembered for a while.
    pub(super) fn remember(&mut self, index: usize, now: u64) {
        let seat = &mut self.seats[index];
        let id = seat.instance.id().clone();
        let health = seat.take_health();
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
            self.seats[index].set_health(health);
            self.begin_probing(index);
        }
    }

    /// A probe of this connection ended.
    pub(in super::super) fn probed(
        &mut self,
        id: &InstanceId,
        generation: u64,
        outcome: Probed,
        shared: &Shared,
        now: u64,
    ) {
        let Some(index) = self.connected_as(id, generation) else {
            return;
        };
        self.ejections.counters.probes += 1;
        shared.probe.judged();
        let failed = !matches!(outcome, Probed::Success(_));
        if let Some(stats) = self.seats[index].stats().filter(|_| failed) {
            stats.failed(now, now);
        }
        let state = self.seats[index]
            .health()
            .map_or(State::InPlay, Health::state);
        match (state, outcome) {
            (State::Probing, Probed::Success(latency)) => {
                self.come_back(index, Some(latency), shared, now);
            }
            (State::Probing, _) => self.stay_out(index, now),
            (State::InPlay, Probed::Success(latency)) => self.clear(index, latency, shared, now),
            (State::InPlay, Probed::Failure) => self.stay_suspect(index, false, now),
            (State::InPlay, Probed::Unanswered) => self.stay_suspect(index, true, now),
            (State::Ejected { .. }, _) => {}
        }
    }

    fn stay_out(&mut self, index: usize, now: u64) {
        let config = self.config.outlier().cloned().unwrap_or_default();
        let seat = &mut self.seats[index];
        let id = seat.instance.id().clone();
        // As it was dialled, like the one that was ejected.
        let instance = seat.member().map(|member| member.instance.clone());
        let instance = instance.unwrap_or_else(|| seat.instance.clone());
        let health = seat.health_mut();
        let time = health.extend(&instance, &config, &mut self.rng, now);
        self.ejections.forget(&id, State::Probing);
        self.ejections
            .ends
            .insert((now.saturating_add(time), id.clone()));
        self.dirty = true;
        let time = Duration::from_nanos(time);
        self.note(Event::ProbeFailed { id, time });
    }

    /// A suspect answered well.
    fn clear(&mut self, index: usize, latency: u64, shared: &Shared, now: u64) {
        let seat = &mut self.seats[index];
        let id = seat.instance.id().clone();
        if let Some(health) = seat.health_mut_if_any() {
            health.clear_suspicion();
        }
        if let Some(stats) = seat.stats() {
            stats.succeeded(now);
            let evidence = evidence(latency, shared);
            if let Some(evidence) = evidence.filter(|&evidence| latency as f32 <= evidence) {
                stats.latency().restart(Some(evidence), now);
            }
        }
        self.ejections.suspects.retain(|suspect| *suspect != id);
        self.dirty = true;
    }

    fn stay_suspect(&mut self, index: usize, unanswered: bool, now: u64) {
        let seat = &mut self.seats[index];
        seat.health_mut().stays_suspect();
        let id = seat.instance.id().clone();
        self.ejections.suspects.retain(|suspect| *suspect != id);
        self.dirty = true;
        let Some(member) = self.seats[index].member().map(Arc::clone) else {
            return;
        };
        let run = member.stats.failures_in_row();
        if let Some(reason) = detect_suspect(&member.record, run, unanswered, now) {
            self.detected(&id, member.generation, reason, now);
        }
        self.garbage.members.push(member);
    }

    /// What is done while there is traffic: probes that hang, members that are back, suspects.
    pub(super) fn sweep(&mut self, shared: &Shared, now: u64) {
        let stood = |since| shared.pulse.stood(since, now);
        let given_up = shared.probe.give_up(shared.pool.mean(), now, stood);
        if let Some((generation, outcome)) = given_up {
            self.probe_given_up(generation, outcome, shared, now);
        }
        let slow_start = nanos(self.config.slow_start());
        let back = |(since, _): &(u64, InstanceId)| now.saturating_sub(*since) >= slow_start;
        let returned = self
            .ejections
            .returning
            .iter()
            .take_while(|r| back(r))
            .count();
        self.ejections.returning.drain(..returned);
        self.dirty |= returned > 0;
        if now.saturating_sub(self.ejections.swept_at) >= SWEEP {
            self.ejections.swept_at = now;
            self.find_suspects(shared, now);
        }
    }

    fn probe_given_up(&mut self, generation: u64, outcome: Probed, shared: &Shared, now: u64) {
        // Not only among those that wait for a probe: a suspect that is asked something is none any more.
        let probed = |seat: &&Seat<S>| seat.member().is_some_and(|m| m.generation == generation);
        let Some(seat) = self.seats.iter().find(probed) else {
            return;
        };
        let id = seat.instance.id().clone();
        self.probed(&id, generation, outcome, shared, now);
    }

    /// Finds those that failed lately, and are silent since for want of traffic.
    fn find_suspects(&mut self, shared: &Shared, now: u64) {
        let acts = |config: &OutlierConfig| !config.is_shadow();
        if !self.config.outlier().is_some_and(acts) || !shared.take_suspicion() {
            return;
        }
        let before = std::mem::take(&mut self.ejections.suspects);
        for seat in &mut self.seats {
            // A busy one that is not listed has its reason to be silent.
            let listed = seat.position.is_some() && !seat.is_out();
            let Some(member) = seat.eligible().filter(|_| listed) else {
                continue;
            };
            if member.stats.failures_in_row() == 0 {
                if let Some(health) = seat.health_mut_if_any() {
                    health.clear_suspicion();
                }
                continue;
            }
            shared.suspect();
            let probed = seat.health().map_or(0, Health::suspected).min(32);
            let patience = (SWEEP << probed).min(LONGEST_SILENCE);
            let silent = now.saturating_sub(member.stats.answered_at()) >= patience;
            if silent && member.stats.in_flight() == 0 {
                self.ejections.suspects.push(seat.instance.id().clone());
            }
        }
        self.dirty |= self.ejections.suspects != before;
    }

    /// Whom the next probes go to: of those whose ejection is over, or else of the suspects, the first few.
    pub(super) fn candidates(&self) -> Candidates<S> {
        let few = |ids: &[InstanceId], suits: fn(&Seat<S>) -> bool| {
            let seats = ids
                .iter()
                .filter_map(|id| Some(&self.seats[self.find(id)?]));
            let members = seats.filter(|seat| suits(seat)).filter_map(Seat::eligible);
            members.take(CANDIDATES).map(Arc::clone).collect::<Vec<_>>()
        };
        let members = few(&self.ejections.probing, |_| true);
        let are_suspects = members.is_empty();
        Candidates {
            members: if are_suspects {
                few(&self.ejections.suspects, |seat| seat.position.is_some())
            } else {
                members
            },
            are_suspects,
        }
    }

    /// Where those stand in the list that are in slow start.
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
        self.ejections.returning.iter().filter_map(ramp).collect()
    }

    /// A seat leaves play or comes back: its probe, if one is under way, is none any more.
    fn forget_probe(&self, index: usize) {
        if let Some(member) = self.seats[index].member() {
            member.shared.probe.forget(member.generation);
        }
    }

    /// The seat that has this very connection.
    fn connected_as(&self, id: &InstanceId, generation: u64) -> Option<usize> {
        let is_it = |member: &Arc<Member<S>>| member.generation == generation;
        self.find(id)
            .filter(|&index| self.seats[index].member().is_some_and(is_it))
    }
}

/// What a probe's latency says; nothing where latency is not known, or not asked for.
fn evidence(latency: u64, shared: &Shared) -> Option<f32> {
    let mean = shared.pool.mean();
    let known = mean > 0.0 && shared.measures_latency();
    known.then(|| (latency as f32).min(QUITE_WELL * mean))
}
