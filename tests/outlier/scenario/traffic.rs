//! Many requests at once, from callers that never wait for each other.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::time::Duration;

use super::Scenario;

/// What a member does with a request.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Does {
    Succeed(Duration),
    Fail(Duration),
    /// No answer; the caller gives up after this time.
    Nothing(Duration),
}

/// How often each member was picked.
#[derive(Debug, Default)]
pub(crate) struct Picks(BTreeMap<String, u64>);

impl Picks {
    pub(crate) fn of(&self, id: &str) -> u64 {
        self.0.get(id).copied().unwrap_or(0)
    }

    /// A member's part of all picks, times the number of members: 1 is fair.
    pub(crate) fn share(&self, id: &str, members: usize) -> f64 {
        let all: u64 = self.0.values().sum();
        self.of(id) as f64 * members as f64 / all as f64
    }
}

impl Scenario {
    /// Sends a request every `gap`, for `time`, to any member. Requests still in flight then are ended, too.
    pub(crate) fn traffic(
        &mut self,
        time: Duration,
        gap: Duration,
        mut does: impl FnMut(&str) -> Does,
    ) -> Picks {
        let mut picks = Picks::default();
        let mut ends = BinaryHeap::new();
        let mut under_way = BTreeMap::new();
        let begin = self.now;
        let mut number = 0;
        while gap * number < time {
            self.end_until(begin + gap * number, &mut ends, &mut under_way);
            let Ok(pick) = self.fleet.pick(self.now, &mut self.rng, &[]) else {
                number += 1;
                continue;
            };
            let id = pick.instance().id().to_string();
            let does = does(&id);
            let (Does::Succeed(takes) | Does::Fail(takes) | Does::Nothing(takes)) = does;
            *picks.0.entry(id).or_default() += 1;
            under_way.insert(number, (pick, does));
            ends.push(Reverse((self.now + takes, number)));
            number += 1;
        }
        let last = ends.iter().map(|Reverse((at, _))| *at).max();
        self.end_until(
            last.unwrap_or(begin).max(begin + time),
            &mut ends,
            &mut under_way,
        );
        picks
    }

    fn end_until(
        &mut self,
        until: std::time::Instant,
        ends: &mut BinaryHeap<Reverse<(std::time::Instant, u32)>>,
        under_way: &mut BTreeMap<u32, (rolecall::fleet::Pick<()>, Does)>,
    ) {
        while let Some(&Reverse((at, number))) = ends.peek()
            && at <= until
        {
            ends.pop();
            self.pass(at.saturating_duration_since(self.now));
            let (pick, does) = under_way.remove(&number).unwrap();
            match does {
                Does::Succeed(_) => pick.success(self.now),
                Does::Fail(_) => pick.failure(self.now),
                Does::Nothing(_) => pick.cancelled(self.now),
            };
        }
        self.pass(until.saturating_duration_since(self.now));
    }
}
