//! Who waits for a trial, and what follows from its end.

use std::sync::Arc;
use std::time::Duration;

use super::super::labels::Label;
use super::super::member::{Member, Stats};
use super::super::outlier::Standing;
use super::super::reached::Branch;
use super::super::seat::{Seat, Tier};
use super::super::shared::Shared;
use super::super::slot::nanos;
use super::super::trial::{TrialEnd, patience};
use super::Roster;
use crate::event::Event;
use crate::model::instance::InstanceId;

/// A trial answered within this many mean latencies shows that nothing is left of what was.
const QUITE_WELL: f32 = 3.0;
/// Members of one kind that wait for the next trial. Were it the first alone, one that has no slot free, or whose callers
/// always go away, would keep all others waiting; and all would be copied with each change.
const WAITING: usize = 8;
/// Nanoseconds after which it is the turn of others.
const TURN: u64 = 1_000_000_000;

impl<S> Roster<S> {
    /// A trial of a member ended.
    pub(in super::super) fn tried(
        &mut self,
        id: &InstanceId,
        stats: &Arc<Stats>,
        end: TrialEnd,
        shared: &Shared,
        now: u64,
    ) {
        let Some(index) = self.find(id) else {
            return;
        };
        let seat = &mut self.seats[index];
        if !Arc::ptr_eq(&seat.stats, stats) {
            return;
        }
        let end = match end {
            TrialEnd::Silent(waited) => {
                let silence = seat.health_mut().adds_silence(waited);
                if silence <= patience(shared.pool.mean()) {
                    return;
                }
                Branch::TrialsSilent.reach();
                stats.count_outcome();
                TrialEnd::Unanswered
            }
            end => end,
        };
        self.ejections.counters.trials += 1;
        if !matches!(end, TrialEnd::Success(_)) {
            let label = match end {
                TrialEnd::Failure => stats.last_failure(),
                _ => Label::UNANSWERED,
            };
            stats.failed(now, label, now);
        }
        match (self.seats[index].health_standing(), end) {
            (Standing::Probation { .. }, TrialEnd::Success(latency)) => {
                self.return_to_play(index, Some(latency), shared, now);
                self.relist(index);
            }
            (Standing::Probation { .. }, _) => self.stay_out(index, now),
            (Standing::InPlay | Standing::Returning { .. }, TrialEnd::Success(latency)) => {
                self.clear(index, latency, shared, now);
            }
            (Standing::InPlay | Standing::Returning { .. }, end) => {
                let unanswered = !matches!(end, TrialEnd::Failure);
                self.stay_suspect(index, unanswered, shared, now);
            }
            (Standing::Ejected { .. }, _) => {}
        }
    }

    fn stay_out(&mut self, index: usize, now: u64) {
        Branch::TrialFailed.reach();
        let seat = &self.seats[index];
        let id = seat.instance.id().clone();
        // As it was dialled, like the one that was ejected.
        let member = seat.member();
        let instance = member
            .map_or(&seat.instance, |member| &member.instance)
            .clone();
        let time = self.change_health(index, |health, config, rng| {
            health.extend(&instance, config, rng, now)
        });
        self.note(Event::TrialFailed {
            id,
            time: Duration::from_nanos(time),
        });
    }

    /// What is done at each tick, while there is traffic: trials that hang, members whose slow start is over, suspects.
    pub(super) fn sweep(&mut self, shared: &Shared, now: u64) {
        self.give_up_trials(shared, now);
        let slow_start = nanos(self.config.slow_start());
        while let Some(id) = self.ejections.returned(slow_start, now) {
            let Some(index) = self.find(&id) else {
                break;
            };
            self.change_health(index, |health, _, _| health.end_slow_start());
            self.seats[index].stats.set_returned_at(None);
        }
        if now.saturating_sub(self.ejections.turned_at) >= TURN {
            self.ejections.turned_at = now;
            self.dirty |= self.ejections.pass_turn(WAITING);
        }
        self.find_suspects(shared, now);
        if shared.measures_latency() {
            self.look_at_latencies(shared, now);
        }
    }

    fn give_up_trials(&mut self, shared: &Shared, now: u64) {
        let mean = shared.pool.mean();
        for id in std::mem::take(&mut self.ejections.offered) {
            let Some(index) = self.find(&id) else {
                continue;
            };
            let stats = Arc::clone(&self.seats[index].stats);
            let stalled = |since| shared.pulse.spans_stall(since, now);
            match stats.trial().give_up(&shared.trials, mean, now, stalled) {
                // Others ask it, too, in panic mode or as a suspect, and it answers them.
                Some(TrialEnd::Unanswered)
                    if now.saturating_sub(stats.answered_at()) < patience(mean) => {}
                Some(end) => {
                    Branch::TrialGivenUp.reach();
                    stats.count_outcome();
                    self.tried(&id, &stats, end, shared, now);
                }
                None => {}
            }
            let still_offered = self.waits(&self.seats[index]);
            if still_offered || stats.trial().is_in_flight() {
                self.ejections.offered.insert(id);
            }
        }
    }

    fn waits(&self, seat: &Seat<S>) -> bool {
        let is_suspect = || self.ejections.suspects.contains(seat.instance.id());
        matches!(seat.health_standing(), Standing::Probation { .. }) || is_suspect()
    }

    /// Who waits for a trial: those on probation, in turn, then suspects; the first few of each.
    pub(super) fn waiting(&mut self) -> Vec<Arc<Member<S>>> {
        let seat = |id: &InstanceId| Some(&self.seats[self.find(id)?]);
        let probation = self.ejections.on_probation().filter_map(seat);
        let suspects = self.ejections.suspects.iter().filter_map(seat);
        let suspects = suspects.filter(|seat| seat.position.is_some());
        let probation = probation.filter_map(Seat::eligible).take(WAITING);
        let waiting = probation.chain(suspects.filter_map(Seat::eligible).take(WAITING));
        let waiting: Vec<_> = waiting.map(Arc::clone).collect();
        let ids = waiting.iter().map(|member| member.instance.id().clone());
        self.ejections.offered.extend(ids);
        waiting
    }

    /// Whether a trial does no worse than an ordinary pick.
    pub(super) fn trials_are_free(&self) -> bool {
        self.listed == Tier::Out || self.ejections.all_fail
    }
}

/// What a trial's latency says; nothing where latency is not known, or not asked for.
pub(super) fn evidence(latency: u64, shared: &Shared) -> Option<f32> {
    let mean = shared.pool.mean();
    let known = mean > 0.0 && shared.measures_latency();
    known.then(|| (latency as f32).min(QUITE_WELL * mean))
}
