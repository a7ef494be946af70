//! Which members wait for a trial, and what the end of a trial changes.

use std::sync::Arc;

use super::seat::Seat;
use super::{PeersNow, Roster};
use crate::fleet::branch::Branch;
use crate::fleet::members::member::Member;
use crate::fleet::members::stats::Stats;
use crate::fleet::rules::suspect;
use crate::fleet::rules::trial::{TrialEnd, patience};
use crate::model::instance::InstanceId;

/// The most members of each kind, on probation and suspects, that are offered for the next trial. If only one were offered, a
/// member without a free slot, or whose callers always give up, would block the rest. If all were offered, each snapshot would
/// copy the whole list.
const WAITING: usize = 8;
/// Nanoseconds after which the turn passes to other members.
const TURN: u64 = 1_000_000_000;

impl<T> Roster<T> {
    /// Applies the end of a trial to its member.
    pub(crate) fn apply_trial_end(
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
        self.seats[index].check.forget();
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
            (_, false) => self.fail_suspect(index, unanswered, peers, now),
        }
    }

    /// Clears a suspect whose trial succeeded.
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

    /// Counts a failed trial of a suspect, and ejects the suspect if that is enough.
    fn fail_suspect(&mut self, index: usize, unanswered: bool, peers: PeersNow<'_>, now: u64) {
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

    /// Gives up trials that took too long.
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
                // In panic mode, or as a suspect, a member gets ordinary requests too. It answered one recently, so the trial
                // ends without a verdict.
                Some(TrialEnd::Unanswered)
                    if now.saturating_sub(stats.answered_at()) < patience(mean) => {}
                Some(end) => {
                    Branch::TrialGivenUp.reach();
                    stats.count_outcome();
                    self.apply_trial_end(&id, &stats, end, peers, now);
                }
                None => {}
            }
            if self.seats[index].standing.awaits_trial() || stats.trial().is_in_flight() {
                self.offered.insert(id);
            }
        }
    }

    /// Passes the turn to other members on probation, once a second.
    pub(super) fn pass_turn(&mut self, now: u64) {
        if now.saturating_sub(self.turned_at) >= TURN {
            self.turned_at = now;
            self.dirty |= self.standings.pass_turn(WAITING);
        }
    }

    /// The members that wait for a trial: the first few of those on probation, in turn, then the first few suspects.
    pub(super) fn waiting(&mut self) -> Vec<Arc<Member<T>>> {
        let needed = |seat: &&Seat<T>| self.listing.needs(seat);
        let seat = |id: &InstanceId| Some(&self.seats[self.find(id)?]).filter(needed);
        let probation = self.standings.on_probation().filter_map(seat);
        let suspects = self.standings.suspects().filter_map(seat);
        let suspects = suspects.filter(|seat| seat.place.is_some());
        let probation = probation.filter_map(Seat::eligible).take(WAITING);
        let waiting = probation.chain(suspects.filter_map(Seat::eligible).take(WAITING));
        let mut waiting: Vec<_> = waiting.map(Arc::clone).collect();
        self.keep_checked(&mut waiting);
        let ids = waiting.iter().map(|member| member.instance.id().clone());
        self.offered.extend(ids);
        waiting
    }

    /// Whether trials need no token, because an ordinary pick does no better.
    pub(super) fn trials_are_free(&self) -> bool {
        self.listing.is_panic_mode() || self.all_fail
    }
}
