//! How often each member is picked: shares in fleets whose members have weights, latencies and faults.

#![expect(clippy::unwrap_used, reason = "a test")]

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::time::{Duration, Instant};

use rand::SeedableRng;
use rand::rngs::SmallRng;
use rolecall::fleet::{Fleet, Pick, PickError, Rng};
use rolecall::{
    BalanceConfig, ConfigBuilder, Hints, Instance, InstanceId, InstanceSet, Load, MemberState,
    Weight,
};

const MS: u64 = 1_000_000;
const SECOND: u64 = 1000 * MS;

/// A generator that counts its numbers. A pick draws two members by one number, and each further member by another.
struct Counting(SmallRng, u64);

impl Rng for Counting {
    fn next_u64(&mut self) -> u64 {
        self.1 += 1;
        rand::Rng::next_u64(&mut self.0)
    }
}

struct Sim {
    fleet: Fleet<()>,
    rng: Counting,
    start: Instant,
    nanos: u64,
    picks: BTreeMap<String, u64>,
}

impl Sim {
    fn new(config: ConfigBuilder, weights: &[u16]) -> Self {
        Self::seeded(config, weights, 7)
    }

    fn seeded(config: ConfigBuilder, weights: &[u16], seed: u64) -> Self {
        #[expect(
            clippy::disallowed_methods,
            reason = "an Instant has to come from somewhere"
        )]
        let start = Instant::now();
        let sim = Self {
            fleet: Fleet::new(config.build().unwrap(), seed, start),
            rng: Counting(SmallRng::seed_from_u64(seed), 0),
            start,
            nanos: 0,
            picks: BTreeMap::new(),
        };
        sim.announce(weights);
        sim
    }

    fn announce(&self, weights: &[u16]) {
        let set: InstanceSet = weights
            .iter()
            .enumerate()
            .map(|(n, &weight)| {
                Instance::new(format!("{n:04}"), ([127, 0, 0, 1], 80))
                    .with_weight(Weight::new(weight))
            })
            .collect();
        let dials = self.fleet.apply(set.confirmed(), self.now());
        let tickets = dials.into_iter().map(|dial| (dial.ticket, ()));
        self.fleet.connected(tickets, self.now());
    }

    fn now(&self) -> Instant {
        self.start + Duration::from_nanos(self.nanos)
    }

    /// Lets time pass, and meets the fleet's deadlines meanwhile.
    fn pass_until(&mut self, nanos: u64) {
        let until = self.start + Duration::from_nanos(nanos);
        while let Some(due) = self.fleet.next_deadline().filter(|due| *due <= until) {
            self.fleet.on_deadline(due);
        }
        self.nanos = nanos;
    }

    fn pick(&mut self) -> Pick<()> {
        let now = self.now();
        let pick = self.fleet.pick(now, &mut self.rng, &[]).unwrap();
        *self
            .picks
            .entry(pick.instance().id().to_string())
            .or_default() += 1;
        pick
    }

    /// An open loop of this many requests, `gap` apart. `answer` returns how long the member takes, or that it fails at
    /// once.
    fn run(&mut self, requests: u64, gap: u64, answer: impl Fn(usize) -> Option<u64>) {
        let mut ends: BinaryHeap<Reverse<(u64, u64)>> = BinaryHeap::new();
        let mut held: BTreeMap<u64, (Pick<()>, bool)> = BTreeMap::new();
        self.picks.clear();
        let begin = self.nanos;
        for number in 0..requests {
            let at = begin + number * gap;
            while let Some(&Reverse((end, ended))) = ends.peek()
                && end <= at
            {
                ends.pop();
                self.pass_until(end);
                finish(held.remove(&ended).unwrap(), self.now());
            }
            self.pass_until(at);
            let pick = self.pick();
            let member = pick.instance().id().as_str().parse().unwrap();
            let took = answer(member);
            held.insert(number, (pick, took.is_some()));
            ends.push(Reverse((at + took.unwrap_or(MS / 10), number)));
        }
        while let Some(Reverse((end, ended))) = ends.pop() {
            self.pass_until(end);
            finish(held.remove(&ended).unwrap(), self.now());
        }
    }

    /// A member's picks, divided by an equal share.
    fn share(&self, member: usize) -> f64 {
        let all: u64 = self.picks.values().sum();
        let own = self
            .picks
            .get(&format!("{member:04}"))
            .copied()
            .unwrap_or(0);
        let members = self.fleet.status(self.now()).members.len();
        own as f64 * members as f64 / all as f64
    }
}

fn finish((pick, good): (Pick<()>, bool), now: Instant) {
    if good {
        pick.success(now);
    } else {
        pick.failure(now);
    }
}

/// A configuration without ejection.
fn defaults() -> ConfigBuilder {
    BalanceConfig::builder().outlier(None)
}

#[test]
fn an_idle_fleet_of_equals_is_shared_evenly_by_two_draws() {
    let mut sim = Sim::new(defaults(), &[1; 10]);
    sim.run(1000, 2 * MS, |_| Some(2 * MS));
    let before = sim.rng.1;
    sim.run(20_000, 2 * MS, |member| {
        Some(2 * MS + member as u64 * MS / 50)
    });
    for member in 0..10 {
        let share = sim.share(member);
        assert!(
            (0.85..1.16).contains(&share),
            "{member} has {share:.2} of its share"
        );
    }
    let draws = 1.0 + (sim.rng.1 - before) as f64 / 20_000.0;
    assert!(draws <= 2.3, "{draws:.2} draws where two would do");
}

#[test]
fn a_slow_member_keeps_a_tenth_of_its_share_at_most() {
    let mut sim = Sim::new(defaults(), &[1; 4]);
    sim.run(2000, MS, |_| Some(5 * MS));
    sim.run(2000, MS, |member| {
        Some(if member == 0 { 100 * MS } else { 5 * MS })
    });
    assert!(sim.share(0) < 0.1, "{:.2}", sim.share(0));
    sim.pass_until(sim.nanos + 30 * SECOND);
    sim.run(8000, MS, |_| Some(5 * MS));
    assert!(
        sim.share(0) > 0.7,
        "forgiven once it is fast again: {:.2}",
        sim.share(0)
    );
}

#[test]
fn three_slow_members_of_ten_are_not_picked_by_two_bad_draws() {
    let slow = |member| Some(if member < 3 { 100 * MS } else { 10 * MS });
    let bad = |config| {
        let mut sim = Sim::new(config, &[1; 10]);
        sim.run(3000, 5 * MS, slow);
        sim.run(10_000, 5 * MS, slow);
        (0..3).map(|member| sim.share(member)).sum::<f64>() / 10.0
    };
    let (escalating, classic) = (bad(defaults()), bad(defaults().max_choices(2)));
    assert!(
        escalating < 0.02,
        "{escalating:.3} of the requests went to slow members"
    );
    assert!(
        classic > 0.04,
        "two draws meet two slow members in 6.7 % of all cases: {classic:.3}"
    );
}

#[test]
fn a_member_that_fails_at_once_attracts_no_requests() {
    for members in [2, 3, 10] {
        let mut sim = Sim::new(defaults(), &vec![1; members]);
        sim.run(1000, 2 * MS, |_| Some(5 * MS));
        sim.run(2000, 2 * MS, |member| (member > 0).then_some(5 * MS));
        let share = sim.share(0) / members as f64;
        assert!(share < 0.02, "N = {members}: {share:.3} of all requests");
    }
}

#[test]
fn callers_that_give_up_raise_the_load_at_once() {
    let mut sim = Sim::new(defaults(), &[1; 3]);
    sim.run(1000, 2 * MS, |_| Some(5 * MS));
    let latency = |sim: &Sim| sim.fleet.status(sim.now()).members[0].latency.unwrap();
    let (before, mut short) = (latency(&sim), 0);
    while short < 5 {
        let pick = sim.pick();
        if *pick.instance().id() == *"0000" {
            sim.pass_until(sim.nanos + MS);
            pick.cancelled(sim.now());
            short += 1;
        }
    }
    assert!(latency(&sim) <= before, "a short wait is no evidence");
    let pick = loop {
        let pick = sim.pick();
        if *pick.instance().id() == *"0000" {
            break pick;
        }
    };
    sim.pass_until(sim.nanos + 80 * MS);
    pick.cancelled(sim.now());
    assert!(latency(&sim) > before, "a long one is");
}

#[test]
fn a_newcomer_is_neither_starved_nor_flooded() {
    let mut sim = Sim::new(defaults(), &[1; 5]);
    sim.run(2000, MS, |_| Some(10 * MS));
    sim.announce(&[1; 6]);
    sim.run(600, MS, |_| Some(10 * MS));
    let share = sim.share(5);
    assert!((0.7..1.3).contains(&share), "{share:.2}");
}

#[test]
fn weights_are_followed_under_load() {
    for load in [Load::latency(), Load::least_in_flight()] {
        for members in [2, 4, 10] {
            let mut weights = vec![100; members];
            weights[0] = 1;
            let mut sim = Sim::new(defaults().load(load.clone()), &weights);
            // Two hundred requests in flight per member, so that more than one goes to the lightest.
            sim.run(40_000, MS / members as u64, |_| Some(200 * MS));
            let fair = members as f64 / (100.0 * (members as f64 - 1.0) + 1.0);
            let share = sim.share(0);
            assert!(
                share < 4.0 * fair,
                "{load:?}, N = {members}: {share:.4} where {fair:.4} is fair"
            );
            assert!(
                share > 0.0,
                "{load:?}, N = {members}: light is not weightless"
            );
        }
    }
}

#[test]
fn more_draws_do_not_flood_light_members() {
    let weights = [10, 10, 10, 10, 10, 1, 1, 1, 1, 1];
    for choices in [2, 8] {
        let mut sim = Sim::new(defaults().max_choices(choices), &weights);
        // Three requests in flight at each heavy member, so that a light one has a third of a request.
        sim.run(40_000, 10 * MS / 15, |_| Some(10 * MS));
        let light: f64 = (5..10).map(|member| sim.share(member)).sum();
        // A share is relative to an equal one, a tenth.
        let of_fair = light / 10.0 * 55.0 / 5.0;
        assert!(
            (0.8..1.6).contains(&of_fair),
            "{choices} choices: {of_fair:.2} of fair"
        );
    }
}

#[test]
fn in_an_idle_fleet_weights_count_less_but_keep_their_order() {
    for members in [2, 4, 10] {
        let mut weights = vec![100; members];
        weights[0] = 1;
        let mut sim = Sim::new(defaults(), &weights);
        sim.run(20_000, 10 * MS, |_| Some(MS));
        let share = sim.share(0);
        assert!(share < 0.1, "N = {members}: {share:.3}");
    }
    let mut sim = Sim::new(defaults(), &[10, 1]);
    sim.run(20_000, 10 * MS, |_| Some(MS));
    let heavy = sim.share(0) / 2.0;
    assert!(
        (0.75..0.95).contains(&heavy),
        "10:1 at N = 2 is about 80:20 at idle: {heavy:.2}"
    );
}

#[test]
fn a_member_of_weight_zero_is_never_picked() {
    let mut sim = Sim::new(defaults(), &[0, 1, 0, 5]);
    sim.run(5000, MS, |_| Some(5 * MS));
    assert_eq!((sim.share(0), sim.share(2)), (0.0, 0.0));
    sim.announce(&[0; 4]);
    let error = sim.fleet.pick(sim.now(), &mut sim.rng, &[]).unwrap_err();
    assert!(matches!(&error, PickError::NoneUsable(_)), "{error}");
    assert_eq!(
        error.to_string(),
        "no instance is usable: 4 known: 4 weight 0"
    );
}

#[test]
fn avoided_members_are_picked_only_if_there_is_no_other() {
    for members in [1, 2, 3, 10, 16] {
        let mut sim = Sim::new(defaults(), &vec![1; members]);
        let all: Vec<_> = (0..members)
            .map(|n| InstanceId::from(format!("{n:04}")))
            .collect();
        for free in 0..members {
            let avoid: Vec<_> = all.iter().filter(|id| **id != all[free]).cloned().collect();
            let pick = sim.fleet.pick(sim.now(), &mut sim.rng, &avoid).unwrap();
            assert_eq!(pick.instance().id(), &all[free], "N = {members}");
        }
        assert!(
            sim.fleet.pick(sim.now(), &mut sim.rng, &all).is_ok(),
            "a preference, not a rule"
        );
    }
}

#[test]
fn in_a_large_fleet_sixteen_draws_look_for_a_member_that_is_not_avoided() {
    let mut sim = Sim::new(defaults(), &[1; 200]);
    let half: Vec<_> = (0..100)
        .map(|n| InstanceId::from(format!("{n:04}")))
        .collect();
    let avoided = |sim: &mut Sim| {
        let pick = sim.fleet.pick(sim.now(), &mut sim.rng, &half).unwrap();
        half.contains(pick.instance().id())
    };
    // Sixteen of sixteen draws are among the hundred once in a hundred thousand times.
    let picked = (0..10_000).filter(|_| avoided(&mut sim)).count();
    assert!(picked <= 1, "{picked} of 10000 picks");
}

#[test]
fn a_pick_is_saturated_once_enough_draws_met_full_members() {
    for (choices, members) in [(5, 16), (12, 24)] {
        let config = defaults().max_in_flight(1).max_choices(choices);
        let mut sim = Sim::new(config, &vec![1; members]);
        let _held: Vec<_> = (0..members).map(|_| sim.pick()).collect();
        let full = sim.fleet.pick(sim.now(), &mut sim.rng, &[]);
        assert!(matches!(full, Err(PickError::Saturated)));
    }
    // In a fleet of a thousand, only a few are checked: the last members with room are seldom found.
    let mut sim = Sim::new(defaults().max_in_flight(1), &[1; 1000]);
    let mut held = Vec::new();
    for _ in 0..3000 {
        held.extend(sim.fleet.pick(sim.now(), &mut sim.rng, &[]).ok());
    }
    assert!(held.len() > 950, "{} of 1000", held.len());
}

#[test]
fn the_cap_is_exact_between_threads() {
    let sim = Sim::new(defaults().max_in_flight(3), &[1; 10]);
    let now = sim.now();
    let taken: Vec<_> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..4)
            .map(|seed| {
                let fleet = &sim.fleet;
                scope.spawn(move || {
                    let mut rng = SmallRng::seed_from_u64(seed);
                    (0..20)
                        .filter_map(|_| fleet.pick(now, &mut rng, &[]).ok())
                        .collect::<Vec<_>>()
                })
            })
            .collect();
        threads
            .into_iter()
            .flat_map(|thread| thread.join().unwrap())
            .collect()
    });
    assert_eq!(taken.len(), 30, "every slot is found, and none twice");
    let members = sim.fleet.status(now).members;
    assert!(members.iter().all(|member| member.in_flight == 3));
    drop(taken);
    assert!(
        sim.fleet
            .status(now)
            .members
            .iter()
            .all(|member| member.in_flight == 0)
    );
}

#[test]
fn least_in_flight_picks_the_member_with_fewer() {
    let mut sim = Sim::new(defaults().load(Load::least_in_flight()), &[1; 2]);
    let first = sim.pick();
    for _ in 0..20 {
        let second = sim.pick();
        assert_ne!(first.instance().id(), second.instance().id());
    }
}

#[test]
fn equal_seeds_give_equal_picks() {
    let run = |seed| {
        let mut sim = Sim::seeded(defaults(), &[3, 1, 1, 2, 5], seed);
        sim.run(5000, MS, |member| Some((member as u64 + 1) * 2 * MS));
        sim.picks
    };
    assert_eq!(run(1), run(1));
    assert_ne!(run(1), run(2));
}

#[test]
fn extreme_latencies_and_times_break_nothing() {
    let mut sim = Sim::new(defaults(), &[1; 3]);
    for step in 0..2000_u64 {
        let pick = sim.pick();
        sim.nanos = match step % 5 {
            0 => sim.nanos,
            1 => sim.nanos / 2,
            2 => sim.nanos + 3600 * SECOND,
            3 => sim.nanos + 1,
            _ => sim.nanos.saturating_sub(10 * SECOND),
        };
        match step % 3 {
            0 => pick.success(sim.now()),
            1 => pick.cancelled(sim.now()),
            _ => pick.failure(sim.now()),
        };
    }
    assert!((0..3).all(|member| sim.share(member) > 0.0));
}

#[test]
fn a_pinned_pick_is_no_trial_and_sees_every_change_of_the_fleet() {
    let mut sim = Sim::new(BalanceConfig::builder(), &[1, 1, 1]);
    let id = InstanceId::from("0001");
    let pinned = |sim: &mut Sim| {
        let now = sim.now();
        sim.fleet.pick(now, &mut sim.rng, Hints::pin(&id))
    };
    for _ in 0..10 {
        let pick = pinned(&mut sim).unwrap();
        assert_eq!(pick.instance().id(), &id);
        pick.success(sim.now());
    }
    // On probation it would return with its first trial.
    sim.fleet.eject(&id, Duration::ZERO, sim.now());
    sim.pass_until(SECOND);
    let state = |sim: &Sim| sim.fleet.status(sim.now()).members[1].state;
    assert_eq!(state(&sim), MemberState::Probation);
    pinned(&mut sim).unwrap().success(sim.now());
    assert_eq!(state(&sim), MemberState::Probation);
    assert_eq!(sim.fleet.status(sim.now()).ejections.trials, 0);

    sim.announce(&[1]);
    let error = pinned(&mut sim).unwrap_err();
    assert_eq!(
        error.to_string(),
        "pinned to instance 0001, which is not announced"
    );
    sim.announce(&[1, 1]);
    pinned(&mut sim).unwrap().success(sim.now());
}
