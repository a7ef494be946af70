//! How often the other members in play fail.
//!
//! A member is compared only with *yardsticks*: members that have been in play for a whole window, or have had half of their
//! fair share of the window's requests. A member that has just returned has an empty window and a tenth of its share. It
//! looks better than any other, and comparing with it would eject the rest of a small, overloaded fleet. Without a
//! yardstick, no member is judged. The only member in play is judged as if the others did not fail: the cap keeps it in
//! play, and an ejected one is tried sooner.
//!
//! A member that looks like an outlier by itself is no yardstick either; otherwise the bad half of a fleet would excuse each
//! other. But if more than half of the others look like that, the members are seldom the cause, and all of them are
//! yardsticks.
//!
//! Until another member has succeeded once, a fault shared by all cannot be ruled out, and no member is judged.
//!
//! The rate of the others is the larger of two: the failure rate over their windows, and the present rate, which follows
//! from their runs of failures. The window alone shows a fault shared by all too late: half of the fleet would be ejected in
//! the first second. A run counts as present until its member has had no request for ten mean gaps between its requests, and
//! at least for a second. Otherwise members that get no requests because of their load would excuse each other.

use super::failure_rate;
use crate::fleet::config::outlier::OutlierConfig;
use crate::fleet::measures::failures::{MIN_SAMPLE, Run, Tally, WINDOW};

/// The part of its fair share of the window's requests that makes a new member in play a yardstick.
const YARDSTICK_SHARE: f32 = 0.5;
/// Mean gaps between a member's requests after which its run no longer counts as present.
const STALE_GAPS: u64 = 10;
/// The same in nanoseconds, at least.
const STALE_AFTER: u64 = 1_000_000_000;
/// The least sample of the present rate, in members plus failures in a row.
const MIN_RUNS: f32 = 4.0;

/// The record of one member, as the rules see it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Record {
    /// The outcomes of its window.
    pub(crate) window: Tally,
    /// The same without its largest pause, for the failure rate rule.
    pub(crate) without_pause: Tally,
    pub(crate) run: Run,
    pub(crate) failed_at: u64,
    /// Only picks made from this moment on count; zero: all.
    pub(crate) judged_from: u64,
    pub(crate) has_succeeded: bool,
    /// Of its last failure.
    pub(crate) label: Option<&'static str>,
    pub(crate) weight: f32,
}

/// Sums over the members in play.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Peers {
    in_play: usize,
    /// All yardsticks.
    all: Group,
    /// The yardsticks that do not look like outliers.
    ordinary: Group,
    /// The least outcomes that make a new member of weight one a yardstick.
    least_outcomes: f32,
    now: u64,
}

/// Sums over yardsticks.
#[derive(Clone, Copy, Debug, Default)]
struct Group {
    members: usize,
    tally: Tally,
    /// The sum of their runs of failures.
    runs: f32,
    /// Whether any of them ever succeeded.
    has_succeeded: bool,
}

impl Record {
    /// Whether it would be an outlier if no other member failed.
    pub(crate) fn looks_bad(&self, config: &OutlierConfig) -> bool {
        let least = failure_rate::threshold(config.failure_percentage(), 0.0);
        self.run.failures >= config.failures_in_row()
            || failure_rate::reaches(self.without_pause, config.request_volume(), least)
    }

    /// The window, extended by the part of the run that is older. A member that gets few requests because it fails is still
    /// failing.
    fn tally(&self) -> Tally {
        let earlier = (self.run.failures as f32 - self.window.failures).max(0.0);
        self.window.with(Tally {
            outcomes: earlier,
            failures: earlier,
        })
    }
}

impl Peers {
    /// Adds up members. `gap`: the mean time between two requests of a member, in nanoseconds.
    pub(crate) fn of(
        members: impl Iterator<Item = Record>,
        config: &OutlierConfig,
        gap: u64,
        now: u64,
    ) -> Self {
        let stale = STALE_AFTER.max(gap.saturating_mul(STALE_GAPS));
        let members: Vec<_> = members.collect();
        let outcomes: f32 = members.iter().map(|member| member.window.outcomes).sum();
        let weights: f32 = members.iter().map(|member| member.weight).sum();
        let mut peers = Self {
            least_outcomes: YARDSTICK_SHARE * outcomes / weights.max(1.0),
            now,
            ..Self::default()
        };
        for member in &members {
            peers.in_play += 1;
            if peers.is_yardstick(member) {
                let is_present = now.saturating_sub(member.failed_at) <= stale;
                peers.all.add(member, is_present);
                if !member.looks_bad(config) {
                    peers.ordinary.add(member, is_present);
                }
            }
        }
        peers
    }

    /// Outcomes of all yardsticks.
    pub(crate) fn requests(&self) -> f32 {
        self.all.tally.outcomes
    }

    /// The rate at which the other members fail: the larger of their two rates, each one standard deviation above the
    /// observed one. `None` without a yardstick.
    pub(crate) fn rate_of_others(&self, own: &Record, looks_bad: bool) -> Option<f32> {
        if self.in_play <= 1 {
            return Some(0.0);
        }
        let group = self.others(own, looks_bad)?;
        Some(group.window_rate().max(group.present_rate()))
    }

    /// The same for judging a suspect. Its few trials may be compared with few requests, so half a failure more than
    /// observed is assumed (Jeffreys' prior).
    pub(crate) fn rate_of_others_for_suspect(&self, own: &Record, looks_bad: bool) -> Option<f32> {
        let rate = self.rate_of_others(own, looks_bad)?;
        let others = self.others(own, looks_bad);
        let unseen = others.map_or(0.0, |group| 0.5 / (group.tally.outcomes + 1.0));
        Some(rate.max(unseen))
    }

    fn is_yardstick(&self, member: &Record) -> bool {
        self.now.saturating_sub(member.judged_from) >= WINDOW
            || member.judged_from == 0
            || member.tally().outcomes >= self.least_outcomes * member.weight
    }

    fn others(&self, own: &Record, looks_bad: bool) -> Option<Group> {
        let counts = self.is_yardstick(own);
        let others = self.all.members.saturating_sub(usize::from(counts));
        let bad = self.all.members - self.ordinary.members;
        let bad_others = bad.saturating_sub(usize::from(counts && looks_bad));
        let group = if 2 * bad_others > others {
            self.all.without(counts.then_some(own))
        } else {
            self.ordinary.without((counts && !looks_bad).then_some(own))
        };
        (group.members > 0 && group.has_succeeded).then_some(group)
    }
}

impl Group {
    fn add(&mut self, member: &Record, is_present: bool) {
        self.members += 1;
        self.tally = self.tally.with(member.tally());
        self.runs += if is_present {
            member.run.failures as f32
        } else {
            0.0
        };
        self.has_succeeded |= member.has_succeeded;
    }

    fn without(self, own: Option<&Record>) -> Self {
        let Some(own) = own else { return self };
        Self {
            members: self.members.saturating_sub(1),
            tally: self.tally.without(own.tally()),
            runs: (self.runs - own.run.failures as f32).max(0.0),
            ..self
        }
    }

    /// The share that failed in the window, plus one standard deviation.
    fn window_rate(self) -> f32 {
        with_deviation(self.tally.rate(), self.tally.outcomes.max(MIN_SAMPLE))
    }

    /// The share that fails at present, plus one standard deviation: the failures in all runs, and for each member the
    /// success that would end its run now.
    fn present_rate(self) -> f32 {
        let all = self.runs + self.members as f32;
        with_deviation(self.runs / all.max(1.0), all.max(MIN_RUNS))
    }
}

fn with_deviation(rate: f32, sample: f32) -> f32 {
    (rate + (rate * (1.0 - rate) / sample).max(0.0).sqrt()).min(1.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn group(members: usize, runs: u32, outcomes: f32, failures: f32) -> Group {
        Group {
            members,
            tally: Tally { outcomes, failures },
            runs: runs as f32,
            has_succeeded: true,
        }
    }

    #[test]
    fn the_rate_of_few_outcomes_is_assumed_to_be_higher() {
        let rate = |outcomes| group(1, 0, outcomes, 0.3 * outcomes).window_rate();
        assert!((rate(21.0) - 0.4).abs() < 1e-3, "{}", rate(21.0));
        assert!((rate(2100.0) - 0.31).abs() < 1e-3, "{}", rate(2100.0));
        assert_eq!(
            group(1, 0, 5.0, 5.0).window_rate(),
            group(1, 0, 10.0, 5.0).window_rate()
        );
    }

    #[test]
    fn runs_show_a_shared_fault_at_once() {
        assert_eq!(group(9, 0, 1000.0, 0.0).present_rate(), 0.0);
        let all_fail = group(9, 27, 1000.0, 27.0);
        assert!(all_fail.present_rate() > 0.8 && all_fail.window_rate() < 0.05);
        assert!(
            group(1, 1, 1.0, 1.0).present_rate() < 0.8,
            "a single failure"
        );
        assert!(group(9, 1_000_000, 1e6, 1e6).present_rate() <= 1.0);
    }
}
