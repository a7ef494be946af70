//! The search for late members. In a large fleet, each tick searches a part of them.

use super::Roster;
use crate::fleet::branch::Branch;
use crate::fleet::members::pick::band;
use crate::fleet::rules::late::is_late;

/// How many seats one tick checks.
const SEATS_AT_ONCE: usize = 1024;

impl<T> Roster<T> {
    /// Reports the members' latencies to the pool, and resets those of late members.
    pub(crate) fn look_at_latencies(&mut self, now: u64) {
        let Some((_, high)) = band(&self.shared.pool, self.listing.in_use()) else {
            return;
        };
        let mean = self.shared.pool.mean();
        let from = if self.late_from < self.seats.len() {
            self.late_from
        } else {
            0
        };
        let to = (from + SEATS_AT_ONCE).min(self.seats.len());
        self.late_from = to;
        let listed = || {
            self.seats[from..to]
                .iter()
                .filter(|seat| self.listing.uses(seat))
        };
        let latencies = listed().map(|seat| seat.stats.latency().read(now, mean));
        self.shared.pool.look_at_latencies(latencies);
        for seat in listed() {
            let stats = &seat.stats;
            if stats.in_flight() > 0 || stats.failures_in_row() > 0 {
                continue;
            }
            let idle_for = now.saturating_sub(stats.answered_at());
            let latency = stats.latency().read(now, mean);
            if is_late(idle_for, latency, stats.typical().read(mean), high) {
                Branch::LateForgiven.reach();
                stats.latency().restart(Some(mean), now);
            }
        }
    }
}
