//! What the graphs draw: one sample a second of each member, for two minutes.

use std::collections::{HashMap, VecDeque};

use crate::model::instance::InstanceId;
use crate::status::{MemberStatus, Status};

/// How many samples a graph has.
pub(super) const SAMPLES: usize = 120;

/// One second of a member, or of all of them.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Sample {
    /// Requests that it was picked for.
    pub(super) picks: u32,
    pub(super) failures: u32,
    /// In seconds; zero if it is unknown.
    pub(super) latency: f32,
}

#[derive(Debug)]
struct Series {
    samples: VecDeque<Sample>,
    /// The counters at the last sample.
    picks: u64,
    failures: u64,
    /// The sample that it was seen in last.
    seen: u64,
}

/// The samples of all members of one balancer.
#[derive(Debug, Default)]
pub(super) struct History {
    members: HashMap<InstanceId, Series>,
    all: VecDeque<Sample>,
    taken: u64,
}

impl History {
    /// Adds a sample. The history of instances that are gone is dropped.
    pub(super) fn add(&mut self, status: &Status) {
        self.taken += 1;
        let mut sum = Sample::default();
        for member in &status.members {
            let sample = self.add_member(member);
            sum.picks = sum.picks.saturating_add(sample.picks);
            sum.failures = sum.failures.saturating_add(sample.failures);
        }
        sum.latency = status.mean_latency.unwrap_or_default().as_secs_f32();
        push(&mut self.all, sum);
        if self.members.len() > status.members.len() {
            self.members.retain(|_, series| series.seen == self.taken);
        }
    }

    fn add_member(&mut self, member: &MemberStatus) -> Sample {
        let id = member.instance.id();
        // Two look-ups for a new one, but no clone of the id for each sample.
        if !self.members.contains_key(id) {
            let series = Series {
                samples: VecDeque::new(),
                picks: member.picks,
                failures: member.failures,
                seen: 0,
            };
            self.members.insert(id.clone(), series);
        }
        let Some(series) = self.members.get_mut(id) else {
            return Sample::default();
        };
        let since = |now: u64, before: u64| {
            // An instance that left and came back counts from zero.
            u32::try_from(now.saturating_sub(before)).unwrap_or(u32::MAX)
        };
        let sample = Sample {
            picks: since(member.picks, series.picks),
            failures: since(member.failures, series.failures),
            latency: member.latency.unwrap_or_default().as_secs_f32(),
        };
        series.picks = member.picks;
        series.failures = member.failures;
        series.seen = self.taken;
        push(&mut series.samples, sample);
        sample
    }

    /// The samples of one member, the oldest first.
    pub(super) fn of(&self, id: &InstanceId) -> impl ExactSizeIterator<Item = Sample> + Clone {
        static NONE: VecDeque<Sample> = VecDeque::new();
        let samples = self.members.get(id).map_or(&NONE, |series| &series.samples);
        samples.iter().copied()
    }

    /// The sums over all members, with the mean latency.
    pub(super) fn all(&self) -> impl ExactSizeIterator<Item = Sample> + Clone {
        self.all.iter().copied()
    }
}

fn push(samples: &mut VecDeque<Sample>, sample: Sample) {
    if samples.len() == SAMPLES {
        samples.pop_front();
    }
    samples.push_back(sample);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::explain::member::tests;
    use crate::model::instance::Instance;
    use crate::status::MemberState;

    fn two_members() -> Status {
        let mut status = tests::status([MemberState::Usable, MemberState::Usable]);
        status.members[1].instance = Instance::new("pay-2", ([10, 0, 0, 8], 80));
        status
    }

    #[test]
    fn a_sample_is_what_was_counted_since_the_one_before() {
        let mut status = two_members();
        let mut history = History::default();
        history.add(&status);
        (status.members[0].picks, status.members[0].failures) =
            (status.members[0].picks + 7, status.members[0].failures + 2);
        history.add(&status);
        let id = status.members[0].instance.id();
        let figures = |sample: Sample| (sample.picks, sample.failures);
        let samples: Vec<_> = history.of(id).map(figures).collect();
        assert_eq!(samples, [(0, 0), (7, 2)]);
        assert_eq!(history.all().last().map(figures), Some((7, 2)));
    }

    #[test]
    fn it_is_bounded_and_forgets_who_is_gone() {
        let mut status = two_members();
        let mut history = History::default();
        for _ in 0..SAMPLES + 5 {
            history.add(&status);
        }
        let gone = status.members.remove(0);
        history.add(&status);
        assert_eq!(history.of(status.members[0].instance.id()).len(), SAMPLES);
        assert_eq!(history.of(gone.instance.id()).len(), 0);
        assert_eq!(history.all().len(), SAMPLES);
    }
}
