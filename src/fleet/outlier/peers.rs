//! What is usual: how the other members in play fail.
//!
//! A member is judged by the others, and only by such as can tell: a *yardstick* has been in play for a whole window, or has
//! had half a fair share of the fleet's requests in it. A member that has just returned has an empty window and a tenth of
//! its share; it looks better than anybody, and would eject the rest of a small fleet that is overloaded. Where nobody else
//! can tell, nobody is judged. The only member in play is judged as if nobody else failed: the cap keeps it, and asks an
//! ejected one sooner.
//!
//! A member that by itself looks like an outlier says nothing of what is usual either: the bad half of a fleet would excuse
//! each other. But if more than half of the others look like that, the fault is seldom theirs, and all are asked.
//!
//! Until any of them has succeeded once, nobody knows that it is not a fault of all, and nobody is judged.
//!
//! How often the others fail is the larger of two figures: the failure rate of their windows, and how they fail right now,
//! told by their runs of failures. The window alone learns of a fault that all share too late: half of the fleet would be
//! ejected in its first second. A run says nothing of right now once its member has got no request for ten times as long as a
//! fair share takes, and a second: members that load keeps requests away from would else excuse each other.

use super::super::member::Stats;
use super::super::window::{MIN_SAMPLE, Tally, WINDOW};
use super::{OutlierConfig, failure_rate};

/// The part of a fair share of the window's requests that makes a yardstick of a member that is new in play.
const YARDSTICK_SHARE: f32 = 0.5;
/// Fair gaps between requests, and nanoseconds, after which a run is no news.
const STALE_GAPS: u64 = 10;
const STALE_AFTER: u64 = 1_000_000_000;
/// Members and failures in a row below which the present rate is as uncertain as of this many.
const MIN_RUNS: f32 = 4.0;

/// Members in play, added up.
#[derive(Clone, Copy, Debug, Default)]
pub(in super::super) struct Peers {
    in_play: usize,
    all: Group,
    /// Those that do not look like outliers.
    ordinary: Group,
    /// The least outcomes that make a yardstick of a new member of weight one.
    least_outcomes: f32,
    now: u64,
}

/// Yardsticks, added up.
#[derive(Clone, Copy, Debug, Default)]
struct Group {
    members: usize,
    tally: Tally,
    /// The sum of their runs of failures.
    runs: f32,
    /// Whether any of them ever succeeded.
    succeeded: bool,
}

/// What one member shows.
#[derive(Clone, Copy, Debug)]
pub(super) struct Shown {
    tally: Tally,
    run: u32,
    weight: f32,
    judged_from: u64,
    succeeded: bool,
}

impl Peers {
    /// `members`: each with its weight. `gap`: nanoseconds in which one of them gets a request on average.
    pub(in super::super) fn of<'a>(
        members: impl Iterator<Item = (&'a Stats, f32)> + Clone,
        config: &OutlierConfig,
        gap: u64,
        now: u64,
    ) -> Self {
        let stale = STALE_AFTER.max(gap.saturating_mul(STALE_GAPS));
        let (mut outcomes, mut weights) = (0.0, 0.0);
        for (stats, weight) in members.clone() {
            outcomes += stats.recent(now).outcomes;
            weights += weight;
        }
        let mut peers = Self {
            least_outcomes: YARDSTICK_SHARE * outcomes / weights.max(1.0),
            now,
            ..Self::default()
        };
        for (stats, weight) in members {
            peers.in_play += 1;
            let run = stats.failures_in_row();
            let shown = Shown::of(stats, run, weight, now);
            if peers.is_yardstick(shown) {
                let is_present = now.saturating_sub(stats.failed_at()) <= stale;
                peers.all.add(shown, is_present);
                if !looks_bad(stats, run, config, now) {
                    peers.ordinary.add(shown, is_present);
                }
            }
        }
        peers
    }

    /// All that was asked of members in play.
    pub(super) fn requests(&self) -> f32 {
        self.all.tally.outcomes
    }

    /// How often the others fail, beside a member that shows this and looks bad or not: the larger of their two rates, each a
    /// standard deviation above what was seen. `None` where nobody can tell.
    pub(super) fn rate(&self, own: Shown, looks_bad: bool) -> Option<f32> {
        if self.in_play <= 1 {
            return Some(0.0);
        }
        let group = self.others(own, looks_bad)?;
        Some(group.window_rate().max(group.present_rate()))
    }

    /// The same of a suspect, whose few trials are compared with what may be few requests: half a failure more was seen than
    /// there was (Jeffreys).
    pub(super) fn rate_beside_suspect(&self, own: Shown, looks_bad: bool) -> Option<f32> {
        let rate = self.rate(own, looks_bad)?;
        let others = self.others(own, looks_bad);
        let unseen = others.map_or(0.0, |group| 0.5 / (group.tally.outcomes + 1.0));
        Some(rate.max(unseen))
    }

    fn is_yardstick(&self, shown: Shown) -> bool {
        self.now.saturating_sub(shown.judged_from) >= WINDOW
            || shown.judged_from == 0
            || shown.tally.outcomes >= self.least_outcomes * shown.weight
    }

    fn others(&self, own: Shown, looks_bad: bool) -> Option<Group> {
        let counts = self.is_yardstick(own);
        let others = self.all.members.saturating_sub(usize::from(counts));
        let bad = self.all.members - self.ordinary.members;
        let bad_others = bad.saturating_sub(usize::from(counts && looks_bad));
        let group = if 2 * bad_others > others {
            self.all.without(counts.then_some(own))
        } else {
            self.ordinary.without((counts && !looks_bad).then_some(own))
        };
        (group.members > 0 && group.succeeded).then_some(group)
    }
}

impl Shown {
    /// What a member had lately, and its run of failures whole: one that is asked little since it fails, still fails.
    pub(super) fn of(stats: &Stats, run: u32, weight: f32, now: u64) -> Self {
        let recent = stats.recent(now);
        let earlier = (run as f32 - recent.failures).max(0.0);
        Self {
            tally: recent.with(Tally {
                outcomes: earlier,
                failures: earlier,
            }),
            run,
            weight,
            judged_from: stats.judged_from(),
            succeeded: stats.successes() > 0,
        }
    }
}

impl Group {
    fn add(&mut self, shown: Shown, is_present: bool) {
        self.members += 1;
        self.tally = self.tally.with(shown.tally);
        self.runs += if is_present { shown.run as f32 } else { 0.0 };
        self.succeeded |= shown.succeeded;
    }

    fn without(self, own: Option<Shown>) -> Self {
        let Some(own) = own else { return self };
        Self {
            members: self.members.saturating_sub(1),
            tally: self.tally.without(own.tally),
            runs: (self.runs - own.run as f32).max(0.0),
            ..self
        }
    }

    /// The share that failed in the window, a standard deviation above what was seen of it.
    fn window_rate(self) -> f32 {
        with_deviation(self.tally.rate(), self.tally.outcomes.max(MIN_SAMPLE))
    }

    /// The same of what fails right now: runs of failures, each ended by one success if it ended now.
    fn present_rate(self) -> f32 {
        let all = self.runs + self.members as f32;
        with_deviation(self.runs / all.max(1.0), all.max(MIN_RUNS))
    }
}

fn with_deviation(rate: f32, sample: f32) -> f32 {
    (rate + (rate * (1.0 - rate) / sample).max(0.0).sqrt()).min(1.0)
}

/// Whether one with such a run of failures would be an outlier where nobody else fails.
pub(super) fn looks_bad(stats: &Stats, run: u32, config: &OutlierConfig, now: u64) -> bool {
    let least = failure_rate::threshold(config.failure_percentage(), 0.0);
    run >= config.failures_in_row()
        || failure_rate::reaches(stats.judged(now), config.request_volume(), least)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn group(members: usize, runs: u32, outcomes: f32, failures: f32) -> Group {
        Group {
            members,
            tally: Tally { outcomes, failures },
            runs: runs as f32,
            succeeded: true,
        }
    }

    #[test]
    fn a_rate_that_few_outcomes_tell_is_taken_for_higher() {
        let rate = |outcomes| group(1, 0, outcomes, 0.3 * outcomes).window_rate();
        assert!((rate(21.0) - 0.4).abs() < 1e-3, "{}", rate(21.0));
        assert!((rate(2100.0) - 0.31).abs() < 1e-3, "{}", rate(2100.0));
        assert_eq!(
            group(1, 0, 5.0, 5.0).window_rate(),
            group(1, 0, 10.0, 5.0).window_rate()
        );
    }

    #[test]
    fn runs_tell_at_once_of_a_fault_that_all_share() {
        assert_eq!(group(9, 0, 1000.0, 0.0).present_rate(), 0.0);
        let everybody = group(9, 27, 1000.0, 27.0);
        assert!(everybody.present_rate() > 0.8 && everybody.window_rate() < 0.05);
        assert!(
            group(1, 1, 1.0, 1.0).present_rate() < 0.8,
            "a single failure"
        );
        assert!(group(9, 1_000_000, 1e6, 1e6).present_rate() <= 1.0);
    }
}
