//! What is known of latencies, where it decides who gets requests.

use crate::scenario::{Does, MS, SECOND, Scenario, cold_fleet_with, seeded_fleet};

const MEMBERS: usize = 10;

fn works(_: &str) -> Does {
    Does::Succeed(10 * MS)
}

/// All are as fast, and answer often enough to compare them.
fn even(seed: u64) -> Scenario {
    let mut scenario = seeded_fleet(MEMBERS, Default::default(), seed);
    scenario.traffic(20 * SECOND, 5 * MS, |id| match id {
        // What even the least takes is no part of what is compared.
        "j" => Does::Succeed(8 * MS),
        _ => works(id),
    });
    scenario
}

#[test]
fn one_that_was_late_twice_has_its_requests_again_within_two_seconds() {
    for seed in 0..10 {
        let mut scenario = even(seed);
        scenario.begin("a").begin("a").pass(500 * MS);
        for _ in 0..2 {
            scenario.end("a", |pick, now| pick.success(now));
        }
        let before = scenario.traffic(900 * MS, 5 * MS, works);
        assert_eq!(before.of("a"), 0, "seed {seed}: it was late");
        scenario.traffic(SECOND, 5 * MS, works);
        let after = scenario.traffic(5 * SECOND, 5 * MS, works);
        let share = after.share("a", MEMBERS);
        assert!(share > 0.7, "seed {seed}: {share:.2}\n{}", scenario.table());
    }
}

#[test]
fn one_that_is_slow_is_not_forgiven_for_being_idle() {
    for seed in 0..10 {
        let mut scenario = even(seed);
        let slow = |id: &str| match id {
            "a" => Does::Succeed(200 * MS),
            _ => works(id),
        };
        scenario.traffic(30 * SECOND, 5 * MS, slow);
        let picks = scenario.traffic(60 * SECOND, 5 * MS, slow);
        let share = picks.share("a", MEMBERS);
        assert!(
            share < 0.05,
            "seed {seed}: {share:.3}\n{}",
            scenario.table()
        );
    }
}

#[test]
fn the_mean_is_known_after_eight_successes_or_a_second() {
    let mean = |scenario: &Scenario| scenario.status().mean_latency;
    let mut scenario = cold_fleet_with(3, Default::default());
    scenario.succeed("a", 7);
    assert_eq!(mean(&scenario), None);
    scenario.succeed("b", 1);
    assert_eq!(mean(&scenario), Some(10 * MS));
    let mut scenario = cold_fleet_with(3, Default::default());
    scenario.succeed("a", 1).pass(900 * MS).succeed("a", 1);
    assert_eq!(mean(&scenario), None);
    scenario.pass(100 * MS).succeed("a", 1);
    assert_eq!(mean(&scenario), Some(10 * MS));
}
