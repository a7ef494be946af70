//! Whom probes go to, and what comes of them.

use std::sync::Arc;
use std::time::Duration;

use super::super::member::Member;
use super::super::outlier::{Health, OutlierConfig, State};
use super::super::probe::{Probed, patience};
use super::super::seat::Seat;
use super::super::shared::Shared;
use super::super::slot::nanos;
use super::super::snapshot::Candidates;
use super::Roster;
use super::suspects::SWEEP;
use crate::{Event, InstanceId};

/// A probe within this many mean latencies shows that nothing is left of what was.
const QUITE_WELL: f32 = 3.0;
/// Members of which one gets the next probe. Were it the first alone, one that has no slot free, or whose callers always
/// go away, would keep all others waiting; and all would be copied with each change.
const CANDIDATES: usize = 8;

impl<S> Roster<S> {
    pub(super) fn begin_probing(&mut self, index: usize) {
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
    pub(super) fn probe_if_moved(&mut self, index: usize, now: u64) {
        let seat = &self.seats[index];
        let elsewhere = |health: &Health| health.is_ejected_from_elsewhere(&seat.instance);
        if seat.health().is_some_and(elsewhere) {
            self.begin_probing(index);
        }
        let seat = &self.seats[index];
        if let Some(stats) = seat.stats().filter(|_| seat.is_out()) {
            stats.leave_play(now);
        }
    }

    /// A seat is connected again, or has a weight again: one whose place under the cap others have taken meanwhile is probed
    /// at once. As few are in play as the cap allows, and it, and not they, may be well by now.
    pub(super) fn probe_if_replaced(&mut self, index: usize) {
        let is_ejected = |health: &Health| health.ejected_by_rule_at().is_some();
        let seat = &self.seats[index];
        if seat.eligible().is_some() && seat.health().is_some_and(is_ejected) && self.is_over_cap()
        {
            self.begin_probing(index);
        }
    }

    /// As few are in play as the cap allows, and one of those is no better: of those that a rule ejected the one that was tried
    /// longest ago may be well by now, though its time is not over.
    pub(super) fn probe_instead(&mut self, config: &OutlierConfig, now: u64) {
        let base = nanos(config.base_ejection_time());
        let tried = |seat: &Seat<S>| {
            let tried_at = seat.health()?.ejected_by_rule_at()?;
            let waited = now.saturating_sub(tried_at) >= base;
            (waited && seat.eligible().is_some()).then_some(tried_at)
        };
        let seats = self.seats.iter().enumerate();
        let longest = seats.filter_map(|(index, seat)| Some((tried(seat)?, index)));
        if let Some((_, index)) = longest.min() {
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
        let outcome = match outcome {
            Probed::Silent(waited) => {
                let silence = self.seats[index].health_mut().adds_silence(waited);
                if silence <= patience(shared.pool.mean()) {
                    return;
                }
                if let Some(stats) = self.seats[index].stats() {
                    stats.outcome();
                }
                Probed::Unanswered
            }
            outcome => outcome,
        };
        self.ejections.counters.probes += 1;
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
            (State::InPlay, Probed::Unanswered | Probed::Silent(_)) => {
                self.stay_suspect(index, true, now)
            }
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
            // Those that are first may have no slot free for a probe.
            let waiting = &mut self.ejections.probing;
            if waiting.len() > CANDIDATES {
                waiting.rotate_left(CANDIDATES);
                self.dirty = true;
            }
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
        if let Some(stats) = seat.stats() {
            // It is asked by others, too: in panic mode, or as a suspect.
            let answers = now.saturating_sub(stats.answered_at()) < patience(shared.pool.mean());
            if answers && matches!(outcome, Probed::Unanswered) {
                return;
            }
            stats.outcome();
        }
        self.probed(&id, generation, outcome, shared, now);
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

    /// A seat leaves play or comes back: its probe, if one is under way, is none any more.
    pub(super) fn forget_probe(&self, index: usize) {
        if let Some(member) = self.seats[index].member() {
            member.shared.probe.forget(member.generation);
        }
    }

    /// The seat that has this very connection.
    pub(super) fn connected_as(&self, id: &InstanceId, generation: u64) -> Option<usize> {
        let is_it = |member: &Arc<Member<S>>| member.generation == generation;
        self.find(id)
            .filter(|&index| self.seats[index].member().is_some_and(is_it))
    }
}

/// What a probe's latency says; nothing where latency is not known, or not asked for.
pub(super) fn evidence(latency: u64, shared: &Shared) -> Option<f32> {
    let mean = shared.pool.mean();
    let known = mean > 0.0 && shared.measures_latency();
    known.then(|| (latency as f32).min(QUITE_WELL * mean))
}
