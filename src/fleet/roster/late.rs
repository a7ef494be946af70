//! Members that were late, and are idle for it.
//!
//! Two late answers, of a pause that all instances share or by bad luck, lift a member out of the band of ordinary latencies.
//! An idle dearer member never wins a draw, and its evidence fades by time alone: it would get nothing for 12 to 24 s. A member that
//! has answered nobody for a second although it is listed and idle, and whose [`Typical`](super::super::load::Typical) latency is
//! ordinary, was late and is not slow: what is known of its latency starts anew.
//!
//! Failure mode: a member that has just become slow gets a few more requests each second, until some ten answers in a row
//! have made its typical latency that of a slow one.

use super::super::pick::band;
use super::super::reached::Branch;
use super::super::shared::Shared;
use super::Roster;

/// Nanoseconds of silence after which a member counts as idle.
const SILENCE: u64 = 1_000_000_000;
/// Seats that are looked at in one tick.
const SEATS_AT_ONCE: usize = 1024;

impl<S> Roster<S> {
    /// Looks at the latencies of members, a part of a large fleet at a time: finds those that are idle because they were
    /// late, and tells the pool what a good member takes.
    pub(super) fn look_at_latencies(&mut self, shared: &Shared, now: u64) {
        let Some((_, high)) = band(&shared.pool, self.list.len()) else {
            return;
        };
        let mean = shared.pool.mean();
        let from = if self.late_from < self.seats.len() {
            self.late_from
        } else {
            0
        };
        let to = (from + SEATS_AT_ONCE).min(self.seats.len());
        self.late_from = to;
        let listed = self.seats[from..to]
            .iter()
            .filter(|seat| seat.position.is_some());
        shared
            .pool
            .look_at_latencies(listed.map(|seat| seat.stats.latency().read(now, mean)));
        for seat in &self.seats[from..to] {
            let stats = &seat.stats;
            let is_idle = seat.position.is_some()
                && stats.in_flight() == 0
                && now.saturating_sub(stats.answered_at()) >= SILENCE;
            if is_idle
                && stats.failures_in_row() == 0
                && stats.latency().read(now, mean) >= high
                && stats.typical().read(mean) < high
            {
                Branch::LateForgiven.reach();
                stats.latency().restart(Some(mean), now);
            }
        }
    }
}
