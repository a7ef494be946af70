//! How latencies decide which member gets requests.

use crate::scenario::{Does, MS, SECOND, Scenario, cold_fleet_with, seeded_fleet};

const MEMBERS: usize = 10;

fn works(_: &str) -> Does {
    Does::Succeed(10 * MS)
}

/// A fleet of almost equally fast members that answer often enough to compare them.
fn even(seed: u64) -> Scenario {
    let mut scenario = seeded_fleet(MEMBERS, Default::default(), seed);
    scenario.traffic(20 * SECOND, 5 * MS, |id| match id {
        // Picks do not compare the part of a latency that even the fastest member takes: 8 of 10 ms here.
        "j" => Does::Succeed(8 * MS),
        _ => works(id),
    });
    scenario
}

#[test]
fn a_member_that_was_late_twice_gets_requests_again_within_two_seconds() {
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
fn the_latency_of_a_slow_member_is_not_reset_when_idle() {
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
