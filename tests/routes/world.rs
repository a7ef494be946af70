//! A fleet under an open loop of requests, in simulated time.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, VecDeque};
use std::io;
use std::time::{Duration, Instant};

use rand::SeedableRng;
use rand::rngs::SmallRng;
use rolecall::fleet::{Dial, Fleet, Pick, PickError};
use rolecall::{ConfigBuilder, Instance, InstanceId, InstanceSet, RankStatus, Status};

pub(crate) const MS: u64 = 1_000_000;
pub(crate) const SECOND: u64 = 1000 * MS;

/// How a member answers: after so many nanoseconds, well or with a failure.
pub(crate) type Answer = Result<u64, u64>;

pub(crate) struct World {
    pub(crate) fleet: Fleet<()>,
    pub(crate) rng: SmallRng,
    start: Instant,
    pub(crate) nanos: u64,
    /// Dials whose outcome is not reported yet.
    dials: VecDeque<Dial>,
}

/// What became of the requests of one run.
#[derive(Default)]
pub(crate) struct Counts {
    pub(crate) picks: BTreeMap<String, u64>,
    pub(crate) failed: u64,
    pub(crate) all: u64,
}

impl World {
    pub(crate) fn new(config: ConfigBuilder) -> Self {
        #[expect(
            clippy::disallowed_methods,
            reason = "an Instant has to come from somewhere"
        )]
        let start = Instant::now();
        Self {
            fleet: Fleet::new(config.build().unwrap(), 7, start),
            rng: SmallRng::seed_from_u64(7),
            start,
            nanos: 0,
            dials: VecDeque::new(),
        }
    }

    pub(crate) fn now(&self) -> Instant {
        self.start + Duration::from_nanos(self.nanos)
    }

    /// Announces a set. Its dials wait for [`connect`](Self::connect) or [`refuse`](Self::refuse).
    pub(crate) fn announce(&mut self, instances: impl IntoIterator<Item = Instance>) {
        let set: InstanceSet = instances.into_iter().collect();
        let dials = self.fleet.apply(set.confirmed(), self.now());
        self.dials.extend(dials);
    }

    /// Announces a set and connects all of it.
    pub(crate) fn connect_all(&mut self, instances: impl IntoIterator<Item = Instance>) {
        self.announce(instances);
        self.connect(|_| true);
    }

    /// Connects the instances that are being dialled, if their ids are among these.
    pub(crate) fn connect(&mut self, is_it: impl Fn(&str) -> bool) {
        for dial in self.take_dials(is_it) {
            self.fleet.connected([(dial.ticket, ())], self.now());
        }
    }

    /// Refuses the connections to the instances that are being dialled, if their ids are among these.
    pub(crate) fn refuse(&mut self, is_it: impl Fn(&str) -> bool) {
        for dial in self.take_dials(is_it) {
            let refused = io::Error::from(io::ErrorKind::ConnectionRefused);
            self.fleet.dial_failed(dial.ticket, refused, self.now());
        }
    }

    fn take_dials(&mut self, is_it: impl Fn(&str) -> bool) -> Vec<Dial> {
        let dials = std::mem::take(&mut self.dials).into_iter();
        let (now, later) = dials.partition(|dial| is_it(dial.instance.id().as_str()));
        self.dials = later;
        Vec::from(now)
    }

    /// Loses the connections to these members, which happens at a pick.
    pub(crate) fn lose(&mut self, is_it: impl Fn(&str) -> bool) {
        let ids: Vec<_> = (self.status().members.iter())
            .map(|member| member.instance.id().clone())
            .filter(|id| is_it(id.as_str()))
            .collect();
        for id in ids {
            let others: Vec<InstanceId> = (self.status().members.iter())
                .map(|member| member.instance.id().clone())
                .filter(|other| *other != id)
                .collect();
            let pick = self.fleet.pick(self.now(), &mut self.rng, &others).unwrap();
            assert_eq!(*pick.instance().id(), id, "the others are avoided");
            pick.unsent(self.now());
        }
    }

    /// Lets time pass, and meets the fleet's deadlines meanwhile.
    pub(crate) fn pass_until(&mut self, nanos: u64) {
        let until = self.start + Duration::from_nanos(nanos);
        while let Some(due) = self.fleet.next_deadline().filter(|due| *due <= until) {
            self.dials.extend(self.fleet.on_deadline(due));
        }
        self.nanos = self.nanos.max(nanos);
    }

    pub(crate) fn status(&self) -> Status {
        self.fleet.status(self.now())
    }

    pub(crate) fn rank(&self, rank: u8) -> RankStatus {
        let ranks = self.status().ranks;
        *ranks.iter().find(|status| status.rank == rank).unwrap()
    }

    /// The sentence about one member.
    pub(crate) fn explain(&self, id: &str) -> String {
        let explanation = self.fleet.explain(self.now());
        let member = explanation.members.iter();
        let mut member = member.filter(|member| member.instance.id().as_str() == id);
        member.next().unwrap().to_string()
    }

    pub(crate) fn pick(&mut self) -> Result<Pick<()>, PickError> {
        let now = self.now();
        self.fleet.pick(now, &mut self.rng, &[])
    }

    /// Picks once for each request and ends it at once, well. Time stands still.
    pub(crate) fn picks(&mut self, requests: u64) -> Counts {
        self.run(requests, 0, |_| Ok(0))
    }

    /// An open loop of this many requests, `gap` nanoseconds apart.
    pub(crate) fn run(
        &mut self,
        requests: u64,
        gap: u64,
        answer: impl Fn(&str) -> Answer,
    ) -> Counts {
        let mut counts = Counts::default();
        let mut ends: BinaryHeap<Reverse<(u64, u64)>> = BinaryHeap::new();
        let mut held: BTreeMap<u64, (Pick<()>, Answer)> = BTreeMap::new();
        let begin = self.nanos;
        for number in 0..=requests {
            let at = if number < requests {
                begin + number * gap
            } else {
                u64::MAX
            };
            while let Some(&Reverse((end, ended))) = ends.peek()
                && end <= at
            {
                ends.pop();
                self.pass_until(end);
                match held.remove(&ended).unwrap() {
                    (pick, Ok(_)) => pick.success(self.now()),
                    (pick, Err(_)) => {
                        counts.failed += 1;
                        pick.failure(self.now())
                    }
                };
            }
            if number == requests {
                break;
            }
            self.pass_until(at);
            let pick = self.pick().unwrap();
            let id = pick.instance().id().to_string();
            let answer = answer(&id);
            let (Ok(took) | Err(took)) = answer;
            held.insert(number, (pick, answer));
            ends.push(Reverse((at + took, number)));
            *counts.picks.entry(id).or_default() += 1;
            counts.all += 1;
        }
        counts
    }
}

impl Counts {
    /// The part of requests that went to members whose ids begin like this.
    pub(crate) fn part(&self, prefix: &str) -> f64 {
        let own = self.picks.iter().filter(|(id, _)| id.starts_with(prefix));
        own.map(|(_, count)| count).sum::<u64>() as f64 / self.all as f64
    }

    /// The largest part of requests that went to one member.
    pub(crate) fn largest(&self) -> f64 {
        self.picks.values().copied().max().unwrap_or(0) as f64 / self.all as f64
    }
}
