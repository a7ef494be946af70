//! Callers that dial a part of a large role.

#![expect(clippy::unwrap_used, reason = "a test")]

use std::cmp::Reverse;
use std::collections::{BTreeSet, BinaryHeap};
use std::time::{Duration, Instant};

use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};
use rolecall::fleet::{Dial, Fleet, Pick};
use rolecall::{BalanceConfig, Event, Instance, InstanceSet, Subset};

const MS: u64 = 1_000_000;

struct Caller {
    fleet: Fleet<()>,
    start: Instant,
}

impl Caller {
    fn new(subset: Subset) -> Self {
        #[expect(
            clippy::disallowed_methods,
            reason = "an Instant has to come from somewhere"
        )]
        let start = Instant::now();
        let config = BalanceConfig::builder().subset(subset).build().unwrap();
        let fleet = Fleet::new(config, 1, start);
        Self { fleet, start }
    }

    fn at(&self, nanos: u64) -> Instant {
        self.start + Duration::from_nanos(nanos)
    }

    /// Applies a set and dials what it is told to. Returns the dialled ids.
    fn apply(&self, set: InstanceSet, nanos: u64) -> BTreeSet<String> {
        let now = self.at(nanos);
        let dials = self.fleet.apply(set, now);
        self.dial(dials, nanos)
    }

    fn dial(&self, dials: Vec<Dial>, nanos: u64) -> BTreeSet<String> {
        let ids = dials.iter().map(|dial| dial.instance.id().to_string());
        let ids = ids.collect();
        let tickets = dials.into_iter().map(|dial| (dial.ticket, ()));
        self.fleet.connected(tickets, self.at(nanos));
        ids
    }

    fn members(&self, nanos: u64) -> BTreeSet<String> {
        let members = self.fleet.status(self.at(nanos)).members;
        members
            .iter()
            .map(|member| member.instance.id().to_string())
            .collect()
    }
}

fn set(size: usize) -> InstanceSet {
    (0..size)
        .map(|n| Instance::new(format!("worker-{n}"), ([127, 0, 0, 1], 80)))
        .collect()
}

#[test]
fn only_the_subset_is_known_and_dialled() {
    let caller = Caller::new(Subset::fixed(20, "pod-7"));
    let dialled = caller.apply(set(1000), 0);
    assert_eq!(dialled.len(), 20);
    assert_eq!(caller.members(0), dialled);
    let status = caller.fleet.status(caller.at(0));
    let subset = status.subset.unwrap();
    assert_eq!((subset.size, subset.of), (20, 1000));
    // 20 of 1000 is a part of 2 %; 50 callers load an instance once on average.
    assert!((subset.unevenness(50) - 0.98_f64.sqrt()).abs() < 1e-9);
    assert!((subset.unevenness(1) - 49_f64.sqrt()).abs() < 1e-9);
    let text = caller.fleet.explain(caller.at(0)).to_string();
    assert!(text.contains("a subset of 20 of 1000 instances"), "{text}");

    // An instance outside of it changes nothing here.
    let outside = (0..1000).find(|n| !dialled.contains(&format!("worker-{n}")));
    let changed = |instance: &Instance| {
        if *instance.id() == *format!("worker-{}", outside.unwrap()) {
            instance.clone().with_metadata("version", "2")
        } else {
            instance.clone()
        }
    };
    caller.fleet.take_events();
    let changed = set(1000).iter().map(changed).collect();
    assert!(caller.apply(changed, MS).is_empty());
    assert!(caller.fleet.take_events().is_empty());
}

#[test]
fn a_caller_that_restarts_dials_the_same_instances() {
    let first = Caller::new(Subset::fixed(20, "pod-7")).apply(set(1000), 0);
    let second = Caller::new(Subset::fixed(20, "pod-7")).apply(set(1000), 0);
    assert_eq!(first, second);
}

#[test]
fn ejected_members_are_not_replaced() {
    let caller = Caller::new(Subset::fixed(20, "pod-7"));
    let dialled = caller.apply(set(1000), 0);
    for id in dialled.iter().take(2) {
        let hour = Duration::from_secs(3600);
        assert!(caller.fleet.eject(&id.as_str().into(), hour, caller.at(0)));
    }
    assert!(caller.apply(set(1000), MS).is_empty());
    assert_eq!(caller.members(MS), dialled);
}

#[test]
fn when_the_role_doubles_instance_by_instance_members_change_one_by_one() {
    let caller = Caller::new(Subset::fixed(20, "pod-7"));
    caller.apply(set(100), 0);
    let mut joined = 0;
    for size in 101..=200 {
        let dialled = caller.apply(set(size), size as u64 * MS);
        assert!(dialled.len() <= 1, "{dialled:?}");
        joined += dialled.len();
        assert_eq!(caller.members(size as u64 * MS).len(), 20);
    }
    assert!(joined > 0);
}

#[test]
fn a_doubtful_answer_is_judged_by_all_instances() {
    let caller = Caller::new(Subset::fixed(20, "pod-7"));
    let before = caller.apply(set(1000), 0);
    caller.fleet.take_events();
    caller.apply(set(400), MS);
    let events = caller.fleet.take_events();
    let is_doubt = |event: &Event| {
        matches!(
            event,
            Event::SetDoubted {
                known: 1000,
                answered: 400,
                ..
            }
        )
    };
    assert!(events.iter().any(is_doubt), "{events:?}");
    assert!(caller.members(MS).is_superset(&before), "kept for a while");
    // The whole set is there again.
    caller.apply(set(1000), 2 * MS);
    assert_eq!(caller.members(2 * MS), before);
    // Doubted until the grace period is over.
    caller.apply(set(400), 3 * MS);
    let over = 31_000 * MS;
    caller.fleet.on_deadline(caller.at(over));
    assert_eq!(caller.members(over).len(), 20);
    assert_eq!(caller.fleet.status(caller.at(over)).subset.unwrap().of, 400);
}

#[test]
fn a_subset_that_leaves_nothing_out_is_told_once() {
    let caller = Caller::new(Subset::fixed(20, "pod-7"));
    caller.apply(set(20), 0);
    let told = |caller: &Caller| {
        let events = caller.fleet.take_events();
        let is_told = |event: &&Event| {
            matches!(
                event,
                Event::WithoutEffect {
                    setting: "subset",
                    ..
                }
            )
        };
        events.iter().filter(is_told).count()
    };
    assert_eq!(told(&caller), 1);
    caller.apply(set(19), MS);
    assert_eq!(told(&caller), 0);
    let caller = Caller::new(Subset::fixed(20, "pod-7"));
    caller.apply(set(21), 0);
    assert_eq!(told(&caller), 0);
}

#[test]
fn a_subset_is_checked_when_the_configuration_is_built() {
    for (subset, field) in [
        (Subset::fixed(0, "pod"), "subset.size"),
        (Subset::fixed(20, ""), "the length of subset.key"),
    ] {
        let error = BalanceConfig::builder().subset(subset).build().unwrap_err();
        assert_eq!(error.field(), field);
    }
}

/// What 200 callers of 17 requests a second do to 100 servers, each of which serves one request at a time, 10 ms on average.
struct Outcome {
    p99: Duration,
    connections: usize,
    max_over_mean: f64,
}

fn simulate(subset_of: impl Fn(usize) -> Subset) -> Outcome {
    const CALLERS: usize = 200;
    const SERVERS: usize = 100;
    let until = 20_000 * MS;
    let mut rng = SmallRng::seed_from_u64(9);
    let callers: Vec<_> = (0..CALLERS).map(|n| Caller::new(subset_of(n))).collect();
    let connections = callers
        .iter()
        .map(|caller| caller.apply(set(SERVERS), 0).len());
    let connections = connections.sum();
    let mut exponential = |mean: f64| {
        let unit: f64 = rng.random_range(f64::MIN_POSITIVE..1.0);
        (mean * -unit.ln()) as u64
    };
    // The next arrival of each caller, and the ends of requests.
    let mut arrivals: BinaryHeap<_> = (0..CALLERS)
        .map(|n| Reverse((exponential(1e9 / 17.0), n)))
        .collect();
    let mut ends: BinaryHeap<Reverse<(u64, usize)>> = BinaryHeap::new();
    let mut held: Vec<Option<(usize, Pick<()>)>> = Vec::new();
    let mut free_at = vec![0_u64; SERVERS];
    let mut load = vec![0_u32; SERVERS];
    let mut latencies = Vec::new();
    let mut draws = SmallRng::seed_from_u64(10);
    while let Some(Reverse((at, n))) = arrivals.pop().filter(|Reverse((at, _))| *at < until) {
        while let Some(&Reverse((end, request))) = ends.peek()
            && end <= at
        {
            ends.pop();
            let (caller, pick) = held[request].take().unwrap();
            pick.success(callers[caller].at(end));
        }
        let caller = &callers[n];
        while let Some(due) = caller
            .fleet
            .next_deadline()
            .filter(|due| *due <= caller.at(at))
        {
            caller.fleet.on_deadline(due);
        }
        let pick = caller.fleet.pick(caller.at(at), &mut draws, &[]).unwrap();
        let server = pick.instance().id().as_str()["worker-".len()..]
            .parse::<usize>()
            .unwrap();
        let end = free_at[server].max(at) + exponential(10e6);
        free_at[server] = end;
        load[server] += 1;
        latencies.push(end - at);
        ends.push(Reverse((end, held.len())));
        held.push(Some((n, pick)));
        arrivals.push(Reverse((at + exponential(1e9 / 17.0), n)));
    }
    latencies.sort_unstable();
    let p99 = latencies[latencies.len() * 99 / 100];
    let mean = f64::from(load.iter().sum::<u32>()) / SERVERS as f64;
    Outcome {
        p99: Duration::from_nanos(p99),
        connections,
        max_over_mean: f64::from(*load.iter().max().unwrap()) / mean,
    }
}

#[test]
fn two_hundred_callers_of_a_hundred_servers() {
    let all = simulate(|_| Subset::All);
    let fixed = simulate(|n| Subset::fixed(20, format!("pod-{n}")));
    for (name, outcome) in [("all", &all), ("20 of 100", &fixed)] {
        println!(
            "{name}: p99 {:.1?}, {} connections, max over mean {:.2}",
            outcome.p99, outcome.connections, outcome.max_over_mean
        );
    }
    assert_eq!((all.connections, fixed.connections), (20_000, 4_000));
    // One standard deviation is 14 % by the choice of the callers; the largest of 100 is two and a half away.
    assert!(fixed.max_over_mean < 1.5, "{}", fixed.max_over_mean);
    assert!(fixed.p99 < all.p99 * 3 / 2, "{:?} {:?}", fixed.p99, all.p99);
}
