//! The search for suspects. In a large fleet, each tick searches a part of the members.

use super::Roster;
use crate::fleet::config::outlier::OutlierConfig;
use crate::fleet::rules::suspect::is_suspect;

/// How many seats one tick checks. The next tick continues with the others.
const SEATS_AT_ONCE: usize = 1024;

impl<T> Roster<T> {
    /// Marks the suspects, and finds out whether all members in play fail.
    pub(crate) fn find_suspects(&mut self, now: u64) {
        let acts = |config: &&OutlierConfig| !config.is_shadow();
        let Some(config) = self.config.outlier().filter(acts) else {
            return;
        };
        let from = self.suspects_from;
        if from == 0 && !self.shared.take_suspicion() {
            return;
        }
        let to = (from + SEATS_AT_ONCE).min(self.seats.len());
        let looked_at_all = from == 0 && to == self.seats.len();
        self.suspects_from = if to < self.seats.len() { to } else { 0 };
        let fair_share = self.shared.pool.rate() / self.listing.in_use().max(1) as f32;
        let (mut in_play, mut failing) = (0, 0);
        for seat in &mut self.seats[from.min(to)..to] {
            let stats = &seat.stats;
            let failures = stats.failures_in_row();
            let (id, is_out) = (seat.instance.id(), seat.standing.is_out());
            // Each failed trial adds a failure in a row. If there are no more of these than failed trials, a request succeeded
            // since it became a suspect.
            if !is_out && failures <= seat.standing.suspect_trials() {
                self.standings.forget_suspect_trials(&mut seat.standing);
            }
            let is_in_play = self.listing.uses(seat) && !is_out;
            in_play += usize::from(is_in_play);
            failing += usize::from(is_in_play && failures >= config.suspect_failures());
            if failures > 0 && !is_out {
                // It may become a suspect later, for example when it is connected again or has been silent for long enough.
                self.shared.suspect();
            }
            let silence = now.saturating_sub(stats.answered_at());
            let is_suspect = failures > 0
                && is_in_play
                && stats.in_flight() == 0
                && is_suspect(silence, seat.standing.suspect_trials(), fair_share);
            self.dirty |= self
                .standings
                .set_suspect(id, &mut seat.standing, is_suspect);
        }
        let all_fail = looked_at_all && in_play > 0 && failing == in_play;
        if all_fail {
            // Keeps the search going, to see when that is over.
            self.shared.suspect();
        }
        self.dirty |= all_fail != self.all_fail;
        self.all_fail = all_fail;
    }
}
