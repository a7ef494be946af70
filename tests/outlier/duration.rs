//! How long an ejection lasts.

use std::time::Duration;

use rolecall::BalanceConfig;
use rolecall::MemberState::{Ejected, Probation};

use crate::scenario::{
    MS, SECOND, Scenario, cold_fleet_with, fleet, fleet_with, rules, seeded_fleet,
};

/// Within the longest time and half of it: what jitter leaves.
#[track_caller]
fn lasts(scenario: &Scenario, id: &str, longest: Duration) {
    let remaining = scenario.remaining(id);
    assert!(
        (longest / 2..=longest).contains(&remaining),
        "{remaining:?} is not within {:?} and {longest:?}\n{}",
        longest / 2,
        scenario.table()
    );
}

#[test]
fn the_first_one_lasts_from_five_to_ten_seconds_evenly() {
    let times: Vec<_> = (0..400)
        .map(|seed| {
            let mut scenario = seeded_fleet(3, BalanceConfig::builder(), seed);
            scenario.succeed("b", 1).fail("a", 5);
            lasts(&scenario, "a", 10 * SECOND);
            scenario.remaining("a")
        })
        .collect();
    for tenth in 0..10 {
        let from = 5 * SECOND + tenth * SECOND / 2;
        let within = times
            .iter()
            .filter(|time| (from..from + SECOND / 2).contains(time));
        let within = within.count();
        assert!(
            (20..65).contains(&within),
            "{within} of 400 within the tenth from {from:?}"
        );
    }
}

#[test]
fn two_that_are_ejected_together_return_apart() {
    let mut scenario = fleet(5);
    scenario.fail("a", 5).fail("b", 5);
    let (a, b) = (scenario.remaining("a"), scenario.remaining("b"));
    assert!(a.abs_diff(b) > 100 * MS, "{a:?} and {b:?}");
}

#[test]
fn each_failed_trial_doubles_it_up_to_a_minute() {
    let mut scenario = fleet(3);
    scenario.fail("a", 5);
    for longest in [10, 20, 40, 60, 60, 60] {
        lasts(&scenario, "a", longest * SECOND);
        scenario
            .outlast("a")
            .is("a", Probation)
            .earn_trials()
            .fail("a", 1)
            .is("a", Ejected);
    }
    let multiplier = scenario.ejection("a").multiplier;
    assert_eq!(multiplier, 4, "at a minute there is nothing more to double");
    assert_eq!(scenario.ejection("a").ejections, 1, "it was never back");
}

#[test]
fn base_and_ceiling_are_as_configured() {
    let rules = rules(|rules| {
        rules
            .base_ejection_time(100 * MS)
            .max_ejection_time(300 * MS)
    });
    let mut scenario = fleet_with(3, rules);
    scenario.fail("a", 5);
    for longest in [100, 200, 300, 300] {
        lasts(&scenario, "a", longest * MS);
        scenario.outlast("a").earn_trials().fail("a", 1);
    }
}

/// Was ejected, failed its trial thrice, and is back.
fn notorious() -> Scenario {
    let mut scenario = fleet(3);
    scenario.fail("a", 5);
    for _ in 0..3 {
        scenario.outlast("a").fail("a", 1);
    }
    scenario.earn_trials().outlast("a").succeed("a", 1);
    scenario
}

#[test]
fn one_that_is_back_and_fails_again_is_out_for_twice_as_long() {
    let mut scenario = fleet(3);
    scenario
        .fail("a", 5)
        .outlast("a")
        .succeed("a", 1)
        .fail("a", 5);
    lasts(&scenario, "a", 20 * SECOND);
    assert_eq!(scenario.ejection("a").ejections, 2);
    let mut scenario = notorious();
    scenario.fail("a", 5);
    assert_eq!(
        scenario.ejection("a").multiplier,
        4,
        "three after its return, and this one"
    );
    lasts(&scenario, "a", 60 * SECOND);
}

#[test]
fn an_idle_hour_is_no_evidence_of_health() {
    let mut scenario = notorious();
    scenario.pass(3600 * SECOND).fail("a", 5);
    assert_eq!(scenario.ejection("a").multiplier, 4);
}

#[test]
fn many_answers_at_once_are_no_evidence_of_health() {
    let mut scenario = notorious();
    scenario
        .each("a", 1000, MS, |pick, now| pick.success(now))
        .fail("a", 5);
    assert_eq!(scenario.ejection("a").multiplier, 4);
}

#[test]
fn answers_over_time_are_evidence_of_health_step_by_step() {
    let mut scenario = notorious();
    scenario.pass(25 * SECOND).succeed("a", 20).fail("a", 5);
    assert_eq!(
        scenario.ejection("a").multiplier,
        2,
        "two steps for twice ten seconds with twice ten answers"
    );
    let mut scenario = notorious();
    scenario.pass(3600 * SECOND).succeed("a", 1000).fail("a", 5);
    lasts(&scenario, "a", 10 * SECOND);
    assert_eq!(
        scenario.ejection("a").multiplier,
        1,
        "as if it were the first"
    );
}

#[test]
fn failures_are_no_evidence_of_health() {
    let mut scenario = notorious();
    scenario.pass(20 * SECOND);
    for _ in 0..7 {
        scenario
            .succeed("b", 20)
            .succeed("a", 1)
            .fail("a", 4)
            .pass(20 * SECOND);
    }
    scenario.fail("a", 1);
    assert_eq!(scenario.ejection("a").multiplier, 4, "{}", scenario.table());
}

#[test]
fn evidence_counts_also_at_a_new_address() {
    let mut scenario = fleet(3);
    scenario.succeed("a", 500).fail("a", 5);
    for _ in 0..3 {
        scenario.outlast("a").fail("a", 1);
    }
    scenario
        .earn_trials()
        .outlast("a")
        .succeed("a", 1)
        .readdress("a", 81)
        .pass(3600 * SECOND)
        .succeed("a", 100)
        .fail("a", 5);
    assert_eq!(
        scenario.ejection("a").multiplier,
        1,
        "as if it were the first"
    );
}

#[test]
fn one_that_failed_many_trials_lives_that_down_as_soon_as_one_that_reached_the_longest_time() {
    let mut scenario = fleet(3);
    scenario.fail("a", 5);
    for _ in 0..10 {
        scenario.outlast("a").earn_trials().fail("a", 1);
    }
    scenario.outlast("a").earn_trials().succeed("a", 1);
    assert_eq!(scenario.ejection("a").multiplier, 3, "ten, twenty, forty");
    scenario.pass(30 * SECOND).succeed("a", 30);
    assert_eq!(scenario.ejection("a").multiplier, 0, "{}", scenario.table());
    scenario.fail("a", 5);
    lasts(&scenario, "a", 10 * SECOND);
}

#[test]
fn one_by_hand_lasts_as_long_as_was_said() {
    let mut scenario = fleet(3);
    scenario.eject("a", 17 * SECOND);
    assert_eq!(scenario.remaining("a"), 17 * SECOND);
    scenario
        .pass(17 * SECOND - MS)
        .is("a", Ejected)
        .pass(MS)
        .is("a", Probation);
}

#[test]
fn one_by_hand_does_not_lengthen_the_next_one_by_a_rule() {
    let mut scenario = cold_fleet_with(3, BalanceConfig::builder());
    scenario.succeed("b", 1);
    scenario.eject("a", SECOND).restore("a").fail("a", 5);
    lasts(&scenario, "a", 10 * SECOND);
    let mut scenario = cold_fleet_with(3, BalanceConfig::builder());
    scenario
        .succeed("b", 1)
        .eject("a", SECOND)
        .pass(SECOND)
        .succeed("a", 1)
        .fail("a", 5);
    lasts(&scenario, "a", 10 * SECOND);
}

#[test]
fn one_by_hand_does_not_wipe_out_evidence_of_health() {
    let mut scenario = notorious();
    scenario
        .pass(3600 * SECOND)
        .succeed("a", 1000)
        .eject("a", SECOND)
        .restore("a")
        .fail("a", 5);
    lasts(&scenario, "a", 10 * SECOND);
}

#[test]
fn what_was_lived_down_shows_before_the_next_one() {
    let mut scenario = notorious();
    let before = scenario.ejection("a").multiplier;
    scenario.pass(3600 * SECOND).succeed("a", 1000);
    assert!(before > 0);
    assert_eq!(scenario.ejection("a").multiplier, 0);
}
