//! How long a run must be while the others fail too.

use std::time::Duration;

use rolecall::ConfigBuilder;
use rolecall::MemberState::{Ejected, Usable};

use crate::scenario::{MS, Reason, SECOND, Scenario, cold_fleet_with, fleet, name, rules};

/// Rules that never eject by the failure rate.
fn runs_only() -> ConfigBuilder {
    rules(|rules| rules.failure_percentage(100))
}

/// Sends requests of which every second one fails.
fn half_bad(scenario: &mut Scenario, id: &str, requests: usize) {
    for _ in 0..requests / 2 {
        scenario.fail(id, 1).succeed(id, 1);
    }
}

#[test]
fn while_half_of_the_others_requests_fail_many_in_a_row_are_needed() {
    let mut scenario = cold_fleet_with(3, runs_only());
    half_bad(&mut scenario, "b", 200);
    half_bad(&mut scenario, "c", 200);
    scenario
        .fail("a", 20)
        .is("a", Usable)
        .fail("a", 1)
        .reason_is(
            "a",
            Reason::FailuresInRow {
                failures: 21,
                threshold: 21,
            },
        );
}

#[test]
fn the_more_requests_there_are_the_longer_a_run_must_be() {
    // Chance produces longer runs among more requests. A tenth of them fails: of a hundred here, and of ten thousand there.
    for (requests, needed) in [(10, 6), (1000, 8)] {
        let mut scenario = cold_fleet_with(3, runs_only());
        for _ in 0..requests {
            scenario.each("b", 1, MS / 10, |pick, now| pick.failure(now));
            scenario.each("b", 9, MS / 10, |pick, now| pick.success(now));
        }
        scenario
            .fail("a", needed - 1)
            .is("a", Usable)
            .fail("a", 1)
            .is("a", Ejected);
    }
}

#[test]
fn fewer_than_ten_outcomes_of_the_others_count_as_ten() {
    for (others, needed) in [(0, 5), (1, 6), (2, 9)] {
        cold_fleet_with(3, runs_only())
            .fail("b", others)
            .succeed("b", 1)
            .fail("a", needed - 1)
            .is("a", Usable)
            .fail("a", 1)
            .is("a", Ejected);
    }
}

#[test]
fn two_failing_members_of_four_do_not_excuse_each_other() {
    cold_fleet_with(4, runs_only())
        .succeed("c", 10)
        .succeed("d", 10)
        .fail("a", 4)
        .fail("b", 4)
        .fail("a", 1)
        .is("a", Usable)
        // By now `a` looks like an outlier itself, so it is no yardstick.
        .fail("b", 1)
        .is("b", Ejected)
        .fail("a", 1)
        .is("a", Ejected);
}

#[test]
fn if_most_of_the_others_fail_too_no_member_is_ejected() {
    let mut scenario = cold_fleet_with(4, runs_only());
    scenario.succeed("d", 10);
    for failures in [4, 3] {
        for id in ["a", "b", "c"] {
            scenario.fail(id, failures);
        }
    }
    scenario.are([Usable; 4]);
}

#[test]
fn the_others_of_a_large_fleet_count_from_its_first_moments() {
    let mut scenario = cold_fleet_with(128, runs_only());
    let fails = |scenario: &mut Scenario, id: &str| {
        scenario.each(id, 1, MS / 100, |pick, now| pick.failure(now));
    };
    (1..60).for_each(|other| fails(&mut scenario, &name(other)));
    (0..10).for_each(|_| fails(&mut scenario, "a"));
    scenario.is("a", Usable);
}

#[test]
fn a_members_own_failures_do_not_raise_its_threshold() {
    let mut scenario = cold_fleet_with(3, runs_only());
    scenario.succeed("b", 20).succeed("c", 20);
    half_bad(&mut scenario, "a", 100);
    scenario
        .fail("a", 4)
        .is("a", Usable)
        .fail("a", 1)
        .reason_is(
            "a",
            Reason::FailuresInRow {
                failures: 5,
                threshold: 5,
            },
        );
}

#[test]
fn failures_of_ten_seconds_ago_are_forgotten() {
    let mut scenario = cold_fleet_with(3, runs_only());
    half_bad(&mut scenario, "b", 40);
    scenario.pass(20 * SECOND).succeed("b", 20);
    scenario.fail("a", 5).is("a", Ejected);
}

#[test]
fn if_all_fail_no_member_is_an_outlier() {
    for place_left in [true, false] {
        let mut scenario = cold_fleet_with(3, Default::default());
        for id in ["a", "b", "c"] {
            scenario.succeed(id, 30);
        }
        if !place_left {
            scenario.eject("c", 1000 * SECOND);
        }
        for _ in 0..200 {
            scenario.fail("a", 1).fail("b", 1);
            if place_left {
                scenario.fail("c", 1);
            }
        }
        scenario.run_is("a", 200).run_is("b", 200);
        assert_eq!(scenario.status().ejections.detected, 0);
    }
}

#[test]
fn runs_of_the_others_show_a_shared_fault_at_once() {
    let mut scenario = fleet(4);
    scenario.fail("b", 2).fail("c", 2).fail("a", 20);
    scenario.is("a", Usable);
    // One run less.
    scenario.succeed("b", 1).succeed("c", 1).fail("a", 1);
    scenario.is("a", Ejected);
}

#[test]
fn failed_trials_of_a_member_do_not_raise_its_own_threshold() {
    let mut scenario = cold_fleet_with(
        2,
        rules(|rules| {
            rules
                .base_ejection_time(Duration::from_millis(1))
                .max_ejection_time(Duration::from_millis(1))
                .failure_percentage(100)
        }),
    );
    scenario.succeed("b", 30).fail("a", 5);
    for _ in 0..30 {
        scenario.outlast("a").earn_trials();
        scenario.fail("a", 1).is("a", Ejected);
    }
    scenario
        .outlast("a")
        .succeed("a", 1)
        .fail("a", 5)
        .reason_is(
            "a",
            Reason::FailuresInRow {
                failures: 5,
                threshold: 5,
            },
        );
}
