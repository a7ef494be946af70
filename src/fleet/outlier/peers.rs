//! What is usual: how the other members in play fail.
//!
//! One that by itself looks like an outlier, where nobody else would fail, says nothing of what is usual: the bad half of a
//! fleet would excuse each other. But where more than half of the others look like that, the fault is seldom theirs, and
//! all of them are asked.

use super::super::member::Stats;
use super::super::window::Tally;
use super::{OutlierConfig, failure_rate};

/// Members in play, added up.
#[derive(Clone, Copy, Debug, Default)]
pub(in super::super) struct Peers {
    all: Group,
    /// Those that do not look like outliers.
    ordinary: Group,
}

#[derive(Clone, Copy, Debug, Default)]
struct Group {
    members: usize,
    tally: Tally,
}

impl Peers {
    pub(in super::super) fn of<'a>(
        members: impl Iterator<Item = &'a Stats>,
        config: &OutlierConfig,
        now: u64,
    ) -> Self {
        let mut peers = Self::default();
        for stats in members {
            let run = stats.failures_in_row();
            let own = shown(stats, run, now);
            peers.all.add(own);
            if !looks_bad(stats, run, config, now) {
                peers.ordinary.add(own);
            }
        }
        peers
    }

    /// All that was asked of members in play.
    pub(super) fn requests(&self) -> f32 {
        self.all.tally.outcomes
    }

    /// What tells what is usual for one of them that has these outcomes, and looks bad or not.
    pub(super) fn others(&self, own: Tally, looks_bad: bool) -> Tally {
        let others = self.all.members.saturating_sub(1);
        let bad = self.all.members - self.ordinary.members;
        if 2 * bad.saturating_sub(usize::from(looks_bad)) > others {
            self.all.tally.without(own)
        } else if looks_bad {
            self.ordinary.tally
        } else {
            self.ordinary.tally.without(own)
        }
    }
}

impl Group {
    fn add(&mut self, own: Tally) {
        self.members += 1;
        self.tally = self.tally.with(own);
    }
}

/// What one had lately, and its run of failures whole: who is asked little since it fails, still fails.
pub(super) fn shown(stats: &Stats, run: u32, now: u64) -> Tally {
    let recent = stats.recent(now);
    let earlier = (run as f32 - recent.failures).max(0.0);
    recent.with(Tally {
        outcomes: earlier,
        failures: earlier,
    })
}

/// Whether one with such a run of failures would be an outlier where nobody else fails.
pub(super) fn looks_bad(stats: &Stats, run: u32, config: &OutlierConfig, now: u64) -> bool {
    let least = failure_rate::threshold(config.failure_percentage(), 0.0);
    run >= config.failures_in_row()
        || failure_rate::reaches(stats.judged(now), config.request_volume(), least)
}
