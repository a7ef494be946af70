//! Which members wait for a trial, and what follows from its end.

use std::sync::Arc;

use super::seat::Seat;
use super::{PeersNow, Roster};
use crate::fleet::branch::Branch;
use crate::fleet::members::member::Member;
use crate::fleet::members::stats::Stats;
use crate::fleet::rules::suspect;
use crate::fleet::rules::trial::{TrialEnd, patience};
use crate::model::instance::InstanceId;

/// Members of one kind that wait for the next trial. Were it the first alone, one that has no slot free, or whose callers
/// always give up, would keep all others waiting. Were it all, each change would copy them.
const WAITING: usize = 8;
/// Nanoseconds after which it is the turn of others.
const TURN: u64 = 1_000_000_000;

impl<T> Roster<T> {
    /// A trial of a member ended.
    pub(crate) fn tried(
        &mut self,
        id: &InstanceId,
        stats: &Arc<Stats>,
        end: TrialEnd,
        peers: PeersNow<'_>,
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
                let silence = self.standings.add_silence(&mut seat.standing, waited);
                if silence <= patience(self.shared.pool.mean()) {
                    return;
                }
                Branch::TrialsSilent.reach();
                stats.count_outcome();
                TrialEnd::Unanswered
            }
            end => end,
        };
        self.standings.counters_mut().trials += 1;
        let failed = !matches!(end, TrialEnd::Success(_));
        let unanswered = failed && !matches!(end, TrialEnd::Failure);
        if failed {
            let weight = self.seats[index].instance.weight().get();
            stats.failed(now, weight.into(), now, |_| false);
        }
        match (end, self.seats[index].standing.is_on_probation()) {
            (TrialEnd::Success(latency), true) => {
                self.return_to_play(index, Some(latency), now);
                self.relist(index);
            }
            (_, true) => {
                Branch::TrialFailed.reach();
                self.change_standing(index, |standings, member, config, rng| {
                    standings.fail_trial(member, config, rng, now)
                });
            }
            _ if self.seats[index].standing.is_ejected() => {}
            (TrialEnd::Success(latency), false) => self.clear(index, latency, now),
            (_, false) => self.stay_suspect(index, unanswered, peers, now),
        }
    }

    /// A suspect answered well.
    fn clear(&mut self, index: usize, latency: u64, now: u64) {
        Branch::SuspectCleared.reach();
        let seat = &mut self.seats[index];
        let (id, standing) = (seat.instance.id(), &mut seat.standing);
        self.standings.set_suspect(id, standing, false);
        self.standings.forget_suspect_trials(standing);
        seat.stats.succeeded(now);
        let stats = Arc::clone(&seat.stats);
        if let Some(evidence) = self.evidence(latency) {
            stats.latency().restart(Some(evidence), now);
        }
        self.all_fail = false;
        self.dirty = true;
    }

    /// The trial of a suspect failed.
    fn stay_suspect(&mut self, index: usize, unanswered: bool, peers: PeersNow<'_>, now: u64) {
        Branch::SuspectTried.reach();
        self.dirty = true;
        let seat = &mut self.seats[index];
        let (id, stats) = (seat.instance.id().clone(), Arc::clone(&seat.stats));
        let trials = self.standings.fail_suspect(&id, &mut seat.standing);
        let Some(config) = self.config.outlier() else {
            return;
        };
        let own = stats.record(seat.instance.weight().get().into(), now);
        let reason = suspect::detect(&own, trials, unanswered, &peers(config), config);
        if let Some(reason) = reason {
            self.detected(&id, &stats, reason, now);
        }
    }

    /// Gives up trials that hang.
    pub(super) fn give_up_trials(&mut self, peers: PeersNow<'_>, now: u64) {
        let mean = self.shared.pool.mean();
        for id in std::mem::take(&mut self.offered) {
            let Some(index) = self.find(&id) else {
                continue;
            };
            let stats = Arc::clone(&self.seats[index].stats);
            let stalled = |since| self.shared.stalls.spans_stall(since, now);
            match stats
                .trial()
                .give_up(&self.shared.tokens, mean, now, stalled)
            {
                // In panic mode, or as a suspect, it has other requests as well, and answers them.
                Some(TrialEnd::Unanswered)
                    if now.saturating_sub(stats.answered_at()) < patience(mean) => {}
                Some(end) => {
                    Branch::TrialGivenUp.reach();
                    stats.count_outcome();
                    self.tried(&id, &stats, end, peers, now);
                }
                None => {}
            }
            if self.seats[index].standing.awaits_trial() || stats.trial().is_in_flight() {
                self.offered.insert(id);
            }
        }
    }

    /// Lets others on probation have their turn, once a second.
    pub(super) fn pass_turn(&mut self, now: u64) {
        if now.saturating_sub(self.turned_at) >= TURN {
            self.turned_at = now;
            self.dirty |= self.standings.pass_turn(WAITING);
        }
    }

    /// The members that wait for a trial: those on probation, in turn, then suspects; the first few of each.
    pub(super) fn waiting(&mut self) -> Vec<Arc<Member<T>>> {
        let seat = |id: &InstanceId| Some(&self.seats[self.find(id)?]);
        let probation = self.standings.on_probation().filter_map(seat);
        let suspects = self.standings.suspects().filter_map(seat);
        let suspects = suspects.filter(|seat| seat.position.is_some());
        let probation = probation.filter_map(Seat::eligible).take(WAITING);
        let waiting = probation.chain(suspects.filter_map(Seat::eligible).take(WAITING));
        let waiting: Vec<_> = waiting.map(Arc::clone).collect();
        let ids = waiting.iter().map(|member| member.instance.id().clone());
        self.offered.extend(ids);
        waiting
    }

    /// Whether a trial does no worse than an ordinary pick.
    pub(super) fn trials_are_free(&self) -> bool {
        self.listing.is_panic_mode() || self.all_fail
    }
}
