//! Suspects: members in play that failed lately and get too little traffic since to be judged.
//!
//! Load keeps requests away from a member that failed, so it would never fail often enough to be ejected, and nobody would
//! be told. A member is a suspect if its last request failed, it has nothing in flight, and it has answered nobody for a second;
//! for twice as long after each such trial that failed, up to a minute. It is tried then, and ejected at
//! [`suspect_failures`](super::super::OutlierBuilder::suspect_failures).
//!
//! Meanwhile a fair share would have brought it a few requests. Callers with few requests have no suspects: load forgets a
//! failure before they would notice, and each trial would be a large part of what they send.

use std::sync::Arc;

use super::super::outlier::{Health, OutlierConfig, Peers, detect_suspect};
use super::super::reached::Branch;
use super::super::shared::Shared;
use super::Roster;
use super::trials::evidence;

/// Nanoseconds of silence that make a suspect.
const SILENCE: u64 = 1_000_000_000;
/// Requests that a fair share would have brought it in its silence.
const MISSED: f32 = 3.0;
/// Requests per second and member below which nobody is a suspect.
const FEW: f32 = 0.5;
/// The longest silence between two trials of a suspect.
const LONGEST_SILENCE: u64 = 60_000_000_000;
/// Seats that are looked at in one tick. Of a larger fleet some wait for their turn.
const SEATS_AT_ONCE: usize = 1024;

impl<S> Roster<S> {
    /// A suspect answered well.
    pub(super) fn clear(&mut self, index: usize, latency: u64, shared: &Shared, now: u64) {
        Branch::SuspectCleared.reach();
        let seat = &mut self.seats[index];
        if let Some(health) = &mut seat.health {
            health.clear_suspicion();
        }
        seat.stats.succeeded(now);
        if let Some(evidence) = evidence(latency, shared) {
            seat.stats.latency().restart(Some(evidence), now);
        }
        self.ejections.all_fail = false;
        self.ejections.suspects.remove(seat.instance.id());
        self.dirty = true;
    }

    pub(super) fn stay_suspect(
        &mut self,
        index: usize,
        unanswered: bool,
        shared: &Shared,
        now: u64,
    ) {
        Branch::SuspectTried.reach();
        let seat = &mut self.seats[index];
        let stats = Arc::clone(&seat.stats);
        let health = seat.health_mut();
        health.stays_suspect();
        let trials = health.suspected();
        let id = seat.instance.id().clone();
        let weight = f32::from(seat.instance.weight().get());
        self.ejections.suspects.remove(&id);
        self.dirty = true;
        let Some(config) = self.config.outlier() else {
            return;
        };
        let list = &self.list;
        let members = (0..list.len()).map(|at| (&*list.member(at).stats, list.weight(at)));
        let peers = Peers::of(members, config, shared.pool.gap(list.len()), now);
        let reason = detect_suspect(&stats, weight, &peers, config, trials, unanswered, now);
        if let Some(reason) = reason {
            let label = shared.labels.text(stats.last_failure());
            self.detected(&id, &stats, reason.labelled(label), now);
        }
    }

    /// Finds those that failed lately, and are silent since for lack of traffic.
    pub(super) fn find_suspects(&mut self, shared: &Shared, now: u64) {
        let acts = |config: &&OutlierConfig| !config.is_shadow();
        let Some(config) = self.config.outlier().filter(acts) else {
            return;
        };
        let from = self.ejections.searched_to;
        if from == 0 && !shared.take_suspicion() {
            return;
        }
        let to = (from + SEATS_AT_ONCE).min(self.seats.len());
        // Requests per second.
        let fair_share = shared.pool.rate() / self.list.len().max(1) as f32;
        let is_starved = |silence: u64| {
            fair_share >= FEW && silence as f32 * fair_share >= MISSED * SILENCE as f32
        };
        let looked_at_all = from == 0 && to == self.seats.len();
        self.ejections.searched_to = if to < self.seats.len() { to } else { 0 };
        let suspects = &mut self.ejections.suspects;
        let (mut listed, mut failing) = (0, 0);
        for seat in &mut self.seats[from.min(to)..to] {
            let failures = seat.stats.failures_in_row();
            // As many or fewer than its trials that failed: some other request was answered since.
            if let Some(health) = &mut seat.health
                && failures <= health.suspected()
                && !health.is_out()
            {
                health.clear_suspicion();
            }
            let is_listed = seat.position.is_some() && !seat.is_out();
            listed += usize::from(is_listed);
            failing += usize::from(is_listed && failures >= config.suspect_failures());
            let mut is_suspect = failures > 0 && !seat.is_out();
            if is_suspect {
                // Also of one that is disconnected or busy, and as such has its reason to be silent.
                shared.suspect();
                let trials = seat.health().map_or(0, Health::suspected).min(32);
                let patience = (SILENCE << trials).min(LONGEST_SILENCE);
                let silence = now.saturating_sub(seat.stats.answered_at());
                is_suspect = is_listed
                    && seat.stats.in_flight() == 0
                    && silence >= patience
                    && is_starved(silence);
            }
            let id = seat.instance.id();
            self.dirty |= if is_suspect {
                suspects.insert(id.clone())
            } else {
                !suspects.is_empty() && suspects.remove(id)
            };
        }
        let all_fail = looked_at_all && listed > 0 && failing == listed;
        if all_fail {
            // To see when that is over.
            shared.suspect();
        }
        self.dirty |= all_fail != self.ejections.all_fail;
        self.ejections.all_fail = all_fail;
    }
}
