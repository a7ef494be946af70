//! Properties that always hold, checked on random fleets from many seeds. A failure names its seed.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::time::Duration;

use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};
use rolecall::fleet::Pick;
use rolecall::{Availability, BalanceConfig, EjectionReason, Load, MemberState, MemberStatus};

use crate::scenario::{Does, MS, SECOND, Scenario, name, seeded_fleet};

fn for_each_seed(seeds: u64, property: impl Fn(u64)) {
    for seed in 0..seeds {
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| property(seed))) {
            eprintln!("seed {seed}");
            resume_unwind(panic);
        }
    }
}

/// Members that work, fail or hang at random, and the requests in flight to them.
struct World {
    scenario: Scenario,
    rng: SmallRng,
    members: usize,
    /// The probabilities that a request fails, and that it is not answered at all.
    faults: Vec<(f64, f64)>,
    held: Vec<Pick<()>>,
}

impl World {
    fn new(seed: u64) -> Self {
        let mut rng = SmallRng::seed_from_u64(seed);
        let members = rng.random_range(1..9);
        let load = match rng.random_range(0..2) {
            0 => Load::latency(),
            _ => Load::least_in_flight(),
        };
        let cap = [None, Some(3)][rng.random_range(0..2)];
        let config = BalanceConfig::builder().load(load).max_in_flight(cap);
        Self {
            scenario: seeded_fleet(members, config, seed),
            rng,
            members,
            faults: vec![(0.0, 0.0); members],
            held: Vec::new(),
        }
    }

    fn faults_change(&mut self, from: usize) {
        for faults in &mut self.faults[from.min(self.members)..] {
            *faults = match self.rng.random_range(0..4) {
                0 => (1.0, 0.0),
                1 => (0.0, 1.0),
                2 => (self.rng.random(), self.rng.random()),
                _ => (0.0, 0.0),
            };
        }
    }

    fn step(&mut self) {
        match self.rng.random_range(0..100) {
            0..45 => self.begin(),
            45..90 => self.end(),
            90..99 => {
                let millis = self.rng.random_range(0..30);
                self.scenario.pass(millis * MS);
            }
            _ => {
                let millis = self.rng.random_range(0..3000);
                self.scenario.pass(millis * MS);
            }
        }
    }

    fn begin(&mut self) {
        let now = self.scenario.now();
        let pick = self.scenario.fleet.pick(now, &mut self.scenario.rng, &[]);
        self.held.extend(pick.ok());
    }

    fn end(&mut self) {
        if self.held.is_empty() {
            return;
        }
        let held = self.rng.random_range(0..self.held.len());
        let pick = self.held.swap_remove(held);
        let member = (0..self.members).find(|&m| *pick.instance().id() == *name(m));
        let (fails, hangs) = member.map_or((0.0, 0.0), |member| self.faults[member]);
        if self.rng.random_bool(hangs) {
            let wait = [5 * MS, 400 * MS][self.rng.random_range(0..2)];
            self.scenario.pass(wait);
            pick.cancelled(self.scenario.now());
        } else if self.rng.random_bool(fails) {
            pick.failure(self.scenario.now());
        } else {
            pick.success(self.scenario.now());
        }
    }

    /// Random changes by discovery and by hand.
    fn meddle(&mut self) {
        let id = name(self.rng.random_range(0..self.members));
        let known = self.scenario.status().members;
        let known = known.iter().any(|member| *member.instance.id() == *id);
        match self.rng.random_range(0..8) {
            _ if !known => self.scenario.add(&id),
            0 => self
                .scenario
                .eject(&id, self.rng.random_range(0..20) * SECOND),
            1 => {
                self.scenario.fleet.restore(&id.into(), self.scenario.now());
                &mut self.scenario
            }
            2 if self.members > 1 => self.scenario.remove(&id),
            3 => self.scenario.readdress(&id, self.rng.random_range(80..83)),
            4 => self.scenario.say(&id, Availability::Draining),
            5 => self.scenario.say(&id, Availability::Busy),
            6 => self.scenario.say(&id, Availability::Available),
            _ => self.scenario.weigh(&id, self.rng.random_range(0..3)),
        };
        if self.rng.random_bool(0.2)
            && let Some(pick) = self.held.pop()
        {
            pick.unsent(self.scenario.now());
        }
        if self.rng.random_bool(0.1) {
            let millis = self.rng.random_range(0..2000);
            self.scenario.stall(millis * MS).meet_deadline();
        }
    }

    /// From now on everything works, and all instances are announced and available.
    fn heal(&mut self) {
        for pick in self.held.drain(..) {
            pick.cancelled(self.scenario.now());
        }
        for member in 0..self.members {
            let id = name(member);
            self.scenario.change(&id, |instance| {
                instance
                    .with_weight(1)
                    .with_availability(Availability::Available)
            });
        }
        // The longest ejection, and a trial for each.
        for _ in 0..8 {
            self.scenario
                .traffic(10 * SECOND, 20 * MS, |_| Does::Succeed(5 * MS));
        }
    }
}

fn is_out_by_rule(member: &MemberStatus) -> bool {
    let ejection = member.ejection.as_ref();
    ejection.is_some_and(|e| !e.is_over && e.reason != EjectionReason::Manual)
}

#[test]
fn rules_never_eject_more_than_the_cap_nor_the_last_nor_a_working_member() {
    for_each_seed(60, |seed| {
        let mut world = World::new(seed);
        let cap = (world.members / 2).max(1).min(world.members - 1);
        for step in 0..3000 {
            if step % 300 == 0 {
                // The first member always works.
                world.faults_change(1);
            }
            world.step();
            let status = world.scenario.status();
            let out = status.members.iter().filter(|m| is_out_by_rule(m)).count();
            assert!(out <= cap, "{out} are out of {}\n{status}", world.members);
            assert!(!status.panic_mode, "all are out\n{status}");
            assert!(status.usable > 0, "no member can be picked\n{status}");
            assert!(
                status.members[0].ejection.is_none(),
                "a member that answers everything was ejected\n{status}"
            );
        }
    });
}

/// How many members are eligible, how many of them are out by a rule, and how many of those are ejected.
fn counts(world: &World) -> (usize, usize, usize) {
    let members = world.scenario.status().members;
    let connected = |m: &&MemberStatus| {
        use MemberState::{Busy, Ejected, Probation, Usable};
        matches!(m.state, Busy | Ejected | Probation | Usable)
    };
    let connected: Vec<_> = members.iter().filter(connected).collect();
    let out = connected.iter().filter(|m| is_out_by_rule(m));
    let ejected = out.clone().filter(|m| m.state == MemberState::Ejected);
    (connected.len(), out.count(), ejected.count())
}

#[test]
fn rules_keep_to_the_cap_while_connections_come_and_go() {
    let cap = |eligible: usize| (eligible / 2).max(1).min(eligible.saturating_sub(1));
    for_each_seed(60, |seed| {
        let mut world = World::new(seed);
        world.scenario.hold_dials();
        for step in 0..3000 {
            if step % 200 == 0 {
                world.faults_change(0);
            }
            let before = world.scenario.status().ejections.ejected;
            world.step();
            let (eligible, out, _) = counts(&world);
            let table = world.scenario.table();
            let ejects = world.scenario.status().ejections.ejected > before;
            assert!(
                !ejects || out <= cap(eligible),
                "ejected beyond the cap\n{table}"
            );
            let lost = world.rng.random_bool(0.02).then(|| world.held.pop());
            if let Some(Some(pick)) = lost {
                pick.unsent(world.scenario.now());
            }
            if world.rng.random_bool(0.02) {
                let (_, _, before) = counts(&world);
                world.scenario.let_dials_through().hold_dials();
                let (eligible, _, ejected) = counts(&world);
                let table = world.scenario.table();
                assert!(
                    ejected <= cap(eligible).max(before),
                    "{before} were ejected, and are {ejected} of {eligible}\n{table}"
                );
            }
        }
    });
}

#[test]
fn every_ejection_ends_and_nothing_leaks() {
    for_each_seed(60, |seed| {
        let mut world = World::new(seed);
        for step in 0..2000 {
            if step % 200 == 0 {
                world.faults_change(0);
            }
            world.step();
            if step % 20 == 0 {
                world.meddle();
            }
        }
        world.heal();
        let mut scenario = world.scenario;
        let status = scenario.status();
        for member in &status.members {
            assert_eq!(member.in_flight, 0, "a slot leaked\n{status}");
            assert_eq!(
                member.state,
                MemberState::Usable,
                "it has not returned\n{status}"
            );
        }
        assert!(
            !status.panic_mode && status.usable == world.members,
            "{status}"
        );
        // If a trial still counted as in flight, this one could not begin.
        scenario.eject("a", SECOND).pass(SECOND);
        let now = scenario.now();
        let trial = scenario.fleet.pick(now, &mut scenario.rng, &[]).unwrap();
        assert_eq!(
            trial.instance().id().as_str(),
            "a",
            "a trial leaked\n{status}"
        );
        trial.success(now);
        scenario.is("a", MemberState::Usable).pass(100 * SECOND);
        assert_eq!(scenario.fleet.next_deadline(), None, "{}", scenario.table());
    });
}

#[test]
fn the_counters_add_up() {
    for_each_seed(30, |seed| {
        let mut world = World::new(seed);
        for step in 0..2000 {
            if step % 200 == 0 {
                world.faults_change(0);
            }
            world.step();
            let counted = world.scenario.status().ejections;
            assert_eq!(
                counted.detected,
                counted.ejected + counted.refused_by_cap,
                "each detected outlier is ejected or withheld: {counted:?}"
            );
            let members = world.scenario.status().members;
            let out = members.iter().filter(|m| is_out_by_rule(m)).count() as u64;
            assert_eq!(
                counted.ejected - counted.returned,
                out,
                "members that were ejected and did not return are out: {counted:?}"
            );
            let ejections = members.iter().flat_map(|m| &m.ejection);
            let each: u64 = ejections.map(|ejection| ejection.ejections).sum();
            assert_eq!(
                each, counted.ejected,
                "the members' ejections add up to the fleet's"
            );
        }
    });
}

#[test]
fn an_ejection_is_over_within_its_time_and_a_trial() {
    for_each_seed(40, |seed| {
        let mut scenario = seeded_fleet(4, BalanceConfig::builder(), seed);
        scenario.fail("a", 5);
        let longest: Duration = 10 * SECOND;
        scenario.traffic(longest + 100 * MS, 50 * MS, |_| Does::Succeed(5 * MS));
        scenario.is("a", MemberState::Usable);
    });
}
