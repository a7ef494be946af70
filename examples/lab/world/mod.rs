//! The simulated world: servers, clients with their balancers, and the events between them, in order of time.
//!
//! ```text
//!   arrival ──▶ pick ── network ──▶ server: queue, service ── network ──▶ answer ──▶ balancer told
//!      └──────────────────── timeout: the caller gives up, the server works on ────▶ balancer told
//! ```

mod course;
mod request;
mod schedule;
mod traffic;

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::rc::Rc;

use rand::RngExt;

use self::request::Requests;
use self::schedule::{Event, Scheduled};
use crate::chance::{Stream, stream};
use crate::contestants::{Balancer, Connection, Errands, Listed, server_of};
use crate::measures::Measures;
use crate::moment::{Moment, SECOND, nanos};
use crate::scenario::{Answer, Scenario};
use crate::server::{Condition, Server};
use crate::timeline::{Change, changes};
use crate::workload::Workload;

/// Why a run cannot begin.
pub(crate) type WorldError = Box<dyn std::error::Error + Send + Sync>;

pub(crate) struct World<B: Balancer> {
    now: Moment,
    timeout: Moment,
    retries: usize,
    /// Time of one way over the network, without jitter.
    delay: Moment,
    workload: std::iter::Peekable<Workload>,
    changes: VecDeque<(Moment, Change)>,
    /// When callers give up an attempt, in order: all wait equally long.
    timeouts: VecDeque<(Moment, u64)>,
    events: BinaryHeap<Reverse<Scheduled>>,
    scheduled: u64,
    servers: Vec<Server>,
    /// The completion that is scheduled for each server; others are stale.
    completions: Vec<Option<Moment>>,
    clients: Vec<Client<B>>,
    requests: Requests<B::Attempt>,
    /// What discovery said last.
    listed: Rc<[Listed]>,
    /// What it says instead, while it is out of order.
    silence: Option<Answer>,
    measures: Measures,
}

struct Client<B> {
    balancer: B,
    /// Requests that wait for somebody to be usable.
    parked: Vec<u64>,
    wake: Option<Moment>,
    /// How long news of discovery takes to get here.
    hears_after: Moment,
    zone: Option<Rc<str>>,
}

impl<B: Balancer> World<B> {
    pub(crate) fn new(scenario: &Scenario, seed: u64, balancer: impl Fn(usize) -> B) -> Self {
        let servers: Vec<_> = scenario
            .servers()
            .map(|(_, group)| Server::new(group))
            .collect();
        let mut rng = stream(seed, Stream::News);
        let clients = (0..scenario.clients.count).map(|client| Client {
            balancer: balancer(client),
            parked: Vec::new(),
            wake: None,
            hears_after: nanos(scenario.discovery.delay.mul_f64(rng.random_range(0.5..1.5))),
            zone: scenario.clients.zone(client).map(Rc::from),
        });
        Self {
            now: 0,
            timeout: nanos(scenario.timeout),
            retries: scenario.clients.retries,
            delay: nanos(scenario.network.delay),
            workload: Workload::new(scenario, seed).peekable(),
            changes: changes(scenario, seed).into(),
            timeouts: VecDeque::new(),
            events: BinaryHeap::new(),
            scheduled: 0,
            completions: vec![None; servers.len()],
            clients: clients.collect(),
            requests: Requests::new(),
            listed: Rc::new([]),
            silence: None,
            measures: Measures::new(scenario),
            servers,
        }
    }

    /// Runs until every request has ended for its caller.
    pub(crate) fn run(mut self) -> Result<Measures, WorldError> {
        self.change();
        self.listed = self.announced();
        for client in 0..self.clients.len() {
            self.clients[client].balancer.announce(&self.listed, 0);
            self.attend(client);
        }
        let mut sample = 0;
        loop {
            let arrival = self.workload.peek().map(|arrival| arrival.at);
            let timeout = self.timeouts.front().map(|&(at, _)| at);
            if arrival.is_none() && timeout.is_none() {
                break;
            }
            let event = self.events.peek().map(|Reverse(scheduled)| scheduled.at);
            let change = self.changes.front().map(|&(at, _)| at);
            let next = [change, event, arrival, timeout]
                .into_iter()
                .flatten()
                .min();
            self.now = self.now.max(next.unwrap_or(self.now));
            while sample <= self.now {
                self.sample(sample);
                sample += SECOND / 4;
            }
            if change == next {
                self.change();
                self.publish();
            } else if event == next {
                self.happen();
            } else if arrival == next {
                self.arrive();
            } else {
                self.give_up();
            }
        }
        for client in &self.clients {
            self.measures.tally(client.balancer.tally());
        }
        Ok(self.measures)
    }

    fn schedule(&mut self, at: Moment, event: Event) {
        let number = self.scheduled;
        self.scheduled += 1;
        self.events.push(Reverse(Scheduled { at, number, event }));
    }

    fn happen(&mut self) {
        let Some(Reverse(Scheduled { event, .. })) = self.events.pop() else {
            return;
        };
        match event {
            Event::Reach(request) => self.reach(request),
            Event::Completion(server) => self.complete(server),
            Event::Answer(request, outcome) => self.settle(request, outcome),
            Event::News(client, set) => {
                self.clients[client].balancer.announce(&set, self.now);
                self.resume(client);
            }
            Event::Dialled(client, ticket, server) => {
                let up = !self.servers[server].is(Condition::Down);
                let incarnation = self.servers[server].incarnation;
                let connection = up.then_some(Connection {
                    server,
                    incarnation,
                });
                self.clients[client]
                    .balancer
                    .dialled(ticket, connection, self.now);
                self.resume(client);
            }
            Event::Wake(client) => {
                if self.clients[client].wake.is_some_and(|at| at <= self.now) {
                    self.clients[client].wake = None;
                    self.clients[client].balancer.wake(self.now);
                    self.resume(client);
                }
            }
        }
    }

    /// Does what a balancer wants done.
    fn attend(&mut self, client: usize) {
        let Errands {
            dials,
            wake,
            standings,
        } = self.clients[client].balancer.errands();
        for (server, standing) in standings {
            self.measures.standing(client, server, standing, self.now);
        }
        for dial in dials {
            let there_and_back = self.now + 2 * self.delay;
            self.schedule(
                there_and_back,
                Event::Dialled(client, dial.ticket, server_of(&dial.instance)),
            );
        }
        if let Some(at) = wake
            && self.clients[client].wake.is_none_or(|other| at < other)
        {
            self.clients[client].wake = Some(at);
            self.schedule(at.max(self.now), Event::Wake(client));
        }
    }

    /// Sends what waited, now that something has changed.
    fn resume(&mut self, client: usize) {
        self.attend(client);
        for id in std::mem::take(&mut self.clients[client].parked) {
            if self
                .requests
                .get(id)
                .is_some_and(|request| !request.is_settled())
            {
                self.send(id);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::contestants::Contestant;
    use crate::measures::Measures;
    use crate::moment::nanos;
    use crate::scenario::Scenario;
    use crate::workload::Workload;

    fn run(name: &str, contestant: Contestant) -> Measures {
        let mut scenario = Scenario::find(name).unwrap();
        scenario.clients.load = scenario.clients.load.map(|load| load / 10.0);
        contestant.run(&scenario, 7).unwrap()
    }

    #[test]
    fn every_contestant_meets_the_same_requests_and_each_ends_once() {
        for name in [
            "failer_3",
            "hanging",
            "rolling_restart",
            "discovery_outage",
            "overload",
        ] {
            let mut scenario = Scenario::find(name).unwrap();
            scenario.clients.load = scenario.clients.load.map(|load| load / 10.0);
            let measured = |at| at >= nanos(scenario.measure_from);
            let arrivals = Workload::new(&scenario, 7)
                .filter(|arrival| measured(arrival.at))
                .count();
            for &contestant in Contestant::ALL {
                let measures = run(name, contestant);
                let ended = measures.requests.len();
                assert_eq!(ended, arrivals, "{name}, {}", contestant.name());
            }
        }
    }

    /// A request that fails or times out at the one bad server is answered well by another.
    #[test]
    fn a_retry_goes_elsewhere() {
        for name in ["failer_2", "hanging"] {
            for &contestant in Contestant::ALL {
                // tower's balancer cannot avoid a server.
                if contestant.name().starts_with("tower") {
                    continue;
                }
                let mut scenario = Scenario::find(name).unwrap();
                scenario.clients.load = scenario.clients.load.map(|load| load / 10.0);
                let is_failed = |retries| {
                    scenario.clients.retries = retries;
                    let requests = contestant.run(&scenario, 7).unwrap().requests;
                    let count = Workload::new(&scenario, 7)
                        .filter(|arrival| arrival.at >= nanos(scenario.measure_from))
                        .count();
                    assert_eq!(requests.len(), count, "each request ends once");
                    requests.iter().any(|request| request.micros.is_none())
                };
                let (without, with) = [0, 1].map(is_failed).into();
                let is_oracle = contestant == Contestant::Oracle;
                assert_eq!((without, with), (!is_oracle, false), "{name}");
            }
        }
    }

    #[test]
    fn equal_seeds_give_equal_runs() {
        for &contestant in Contestant::ALL {
            let (one, other) = (run("failer_3", contestant), run("failer_3", contestant));
            assert_eq!(one.requests, other.requests, "{}", contestant.name());
            assert_eq!(one.sent, other.sent, "{}", contestant.name());
        }
    }

    /// Nobody waits at a tenth of the load, whoever balances: latency is network and service.
    #[test]
    fn idle_latencies_are_the_same_for_all() {
        let mean = |contestant| {
            let requests = run("homogeneous_70", contestant).requests;
            let micros = requests.iter().filter_map(|request| request.micros);
            let sum: f64 = micros.map(f64::from).sum();
            sum / requests.len() as f64
        };
        for &contestant in Contestant::ALL {
            let mean = mean(contestant);
            assert!(
                (mean / 10_500.0 - 1.0).abs() < 0.03,
                "{}: {mean} us",
                contestant.name()
            );
        }
    }
}
