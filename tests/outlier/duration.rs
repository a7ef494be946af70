//! How long an ejection lasts.

use std::time::Duration;

use rolecall::BalanceConfig;
use rolecall::MemberState::{Ejected, Probation};

use crate::scenario::{
    MS, SECOND, Scenario, cold_fleet_with, fleet, fleet_with, rules, seeded_fleet,
};

/// Checks that the remaining time is between half of `longest` and `longest`, the range of the jitter.
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
fn a_first_ejection_lasts_five_to_ten_seconds_uniformly() {
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
fn members_ejected_together_return_apart() {
    let mut scenario = fleet(5);
    scenario.fail("a", 5).fail("b", 5);
    let (a, b) = (scenario.remaining("a"), scenario.remaining("b"));
    assert!(a.abs_diff(b) > 100 * MS, "{a:?} and {b:?}");
}

#[test]
fn each_failed_trial_doubles_the_time_up_to_a_minute() {
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
    assert_eq!(multiplier, 4, "a minute needs no more doublings");
    assert_eq!(scenario.ejection("a").ejections, 1, "it never returned");
}

#[test]
fn base_and_maximum_are_as_configured() {
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

/// A fleet in which `a` was ejected, failed three trials and returned.
fn returned_after_three_failed_trials() -> Scenario {
    let mut scenario = fleet(3);
    scenario.fail("a", 5);
    for _ in 0..3 {
        scenario.outlast("a").fail("a", 1);
    }
    scenario.earn_trials().outlast("a").succeed("a", 1);
    scenario
}

#[test]
fn a_returned_member_that_fails_again_is_out_for_twice_as_long() {
    let mut scenario = fleet(3);
    scenario
        .fail("a", 5)
        .outlast("a")
        .succeed("a", 1)
        .fail("a", 5);
    lasts(&scenario, "a", 20 * SECOND);
    assert_eq!(scenario.ejection("a").ejections, 2);
    let mut scenario = returned_after_three_failed_trials();
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
    let mut scenario = returned_after_three_failed_trials();
    scenario.pass(3600 * SECOND).fail("a", 5);
    assert_eq!(scenario.ejection("a").multiplier, 4);
}

#[test]
fn many_answers_at_once_are_no_evidence_of_health() {
    let mut scenario = returned_after_three_failed_trials();
    scenario
        .each("a", 1000, MS, |pick, now| pick.success(now))
        .fail("a", 5);
    assert_eq!(scenario.ejection("a").multiplier, 4);
}

#[test]
fn answers_over_time_are_evidence_of_health_step_by_step() {
    let mut scenario = returned_after_three_failed_trials();
    scenario.pass(25 * SECOND).succeed("a", 20).fail("a", 5);
    assert_eq!(
        scenario.ejection("a").multiplier,
        2,
        "two steps for twice ten seconds with twice ten answers"
    );
    let mut scenario = returned_after_three_failed_trials();
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
    let mut scenario = returned_after_three_failed_trials();
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
fn evidence_of_health_also_counts_at_a_new_address() {
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
fn failed_trials_at_the_longest_time_add_no_doublings() {
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
fn an_ejection_by_hand_lasts_as_long_as_requested() {
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
fn an_ejection_by_hand_does_not_lengthen_the_next_one_by_a_rule() {
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
fn an_ejection_by_hand_keeps_evidence_of_health() {
    let mut scenario = returned_after_three_failed_trials();
    scenario
        .pass(3600 * SECOND)
        .succeed("a", 1000)
        .eject("a", SECOND)
        .restore("a")
        .fail("a", 5);
    lasts(&scenario, "a", 10 * SECOND);
}

#[test]
fn the_status_shows_a_reduced_multiplier_before_the_next_ejection() {
    let mut scenario = returned_after_three_failed_trials();
    let before = scenario.ejection("a").multiplier;
    scenario.pass(3600 * SECOND).succeed("a", 1000);
    assert!(before > 0);
    assert_eq!(scenario.ejection("a").multiplier, 0);
}
