//! Members that failed lately and are silent since, for want of traffic: in play, and probed all the same.

use std::sync::Arc;

use super::super::member::Stats;
use super::super::outlier::{Health, OutlierConfig, detect_suspect};
use super::super::shared::Shared;
use super::Roster;
use super::probing::evidence;

/// Nanoseconds from sweep to sweep for suspects; and after which a silent member is one.
pub(super) const SWEEP: u64 = 1_000_000_000;
/// The longest silence between two probes of a suspect.
const LONGEST_SILENCE: u64 = 60_000_000_000;

impl<S> Roster<S> {
    /// A suspect answered well.
    pub(super) fn clear(&mut self, index: usize, latency: u64, shared: &Shared, now: u64) {
        let seat = &mut self.seats[index];
        let id = seat.instance.id().clone();
        if let Some(health) = &mut seat.health {
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

    pub(super) fn stay_suspect(&mut self, index: usize, unanswered: bool, now: u64) {
        let seat = &mut self.seats[index];
        let health = seat.health_mut();
        health.stays_suspect();
        let probes = health.suspected();
        let id = seat.instance.id().clone();
        self.ejections.suspects.retain(|suspect| *suspect != id);
        self.dirty = true;
        let Some(member) = self.seats[index].member().map(Arc::clone) else {
            return;
        };
        let run = member.stats.failures_in_row();
        let config = self.config.outlier();
        let reason =
            config.and_then(|c| detect_suspect(&member.record, c, run, probes, unanswered, now));
        if let Some(reason) = reason {
            self.detected(&id, member.generation, reason, now);
        }
        self.garbage.members.push(member);
    }

    /// Finds those that failed lately, and are silent since for want of traffic.
    pub(super) fn find_suspects(&mut self, shared: &Shared, now: u64) {
        let acts = |config: &OutlierConfig| !config.is_shadow();
        if !self.config.outlier().is_some_and(acts) || !shared.take_suspicion() {
            return;
        }
        let before = std::mem::take(&mut self.ejections.suspects);
        for seat in &mut self.seats {
            if seat.is_out() {
                continue;
            }
            let failures = seat.stats().map_or(0, Stats::failures_in_row);
            // As many or fewer than its probes that failed: some other request was answered since.
            if let Some(health) = &mut seat.health
                && failures <= health.suspected()
            {
                health.clear_suspicion();
            }
            if failures == 0 {
                continue;
            }
            // Also of one that is disconnected or busy, and as such has its reason to be silent.
            shared.suspect();
            let is_listed = seat.position.is_some();
            let Some(member) = seat.eligible().filter(|_| is_listed) else {
                continue;
            };
            let probed = seat.health().map_or(0, Health::suspected).min(32);
            let patience = (SWEEP << probed).min(LONGEST_SILENCE);
            let silent = now.saturating_sub(member.stats.answered_at()) >= patience;
            if silent && member.stats.in_flight() == 0 {
                self.ejections.suspects.push(seat.instance.id().clone());
            }
        }
        self.dirty |= self.ejections.suspects != before;
    }
}
