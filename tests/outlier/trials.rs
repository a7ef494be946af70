//! How a trial decides about the return.

use std::time::Duration;

use rolecall::MemberState::{Ejected, Probation, Usable};
use rolecall::{BalanceConfig, Load};

use crate::scenario::{Does, MS, SECOND, USUAL, cold_fleet_with, fleet_with, name, on_probation};

#[test]
fn the_next_request_is_the_trial_and_the_only_one() {
    let mut scenario = on_probation();
    let trial = scenario.next();
    assert_eq!(
        trial.instance().id().as_str(),
        "a",
        "the next request is the trial"
    );
    scenario
        .takes_nothing("a")
        .is("a", Probation)
        .in_flight_is("a", 1);
    trial.success(scenario.now());
    scenario
        .is("a", Usable)
        .in_flight_is("a", 0)
        .run_is("a", 0)
        .counted([1, 1, 0, 1, 1, 0])
        .story_is("a", ["ejected", "probation", "returned"]);
}

#[test]
fn a_failed_trial_keeps_a_member_out() {
    let mut scenario = on_probation();
    scenario
        .fail("a", 1)
        .is("a", Ejected)
        .takes_nothing("a")
        .counted([1, 1, 0, 1, 0, 0])
        .story_is("a", ["ejected", "probation", "trial failed"]);
    scenario.outlast("a").succeed("a", 1).is("a", Usable);
}

#[test]
fn an_overloaded_outcome_answers_a_trial() {
    on_probation()
        .each("a", 1, USUAL, |pick, now| pick.overloaded(None, now))
        .is("a", Usable)
        .counted([1, 1, 0, 1, 1, 0]);
}

#[test]
fn waits_add_up_over_trials_whose_callers_give_up_early() {
    let mut scenario = on_probation();
    scenario
        .cancel("a", 3, 190 * MS)
        .earn_trials()
        .cancel("a", 2, 190 * MS)
        .is("a", Probation)
        .cancel("a", 1, 190 * MS)
        .is("a", Ejected)
        .counted([1, 1, 0, 1, 0, 0]);
    scenario
        .earn_trials()
        .outlast("a")
        .cancel("a", 1, 100 * MS)
        .is("a", Probation)
        .cancel("a", 500, 9 * MS)
        .is("a", Probation);
}

#[test]
fn a_caller_that_gives_up_soon_ends_the_trial_without_a_verdict() {
    on_probation()
        .cancel("a", 2, 100 * MS)
        .cancel("a", 3, 9 * MS)
        .is("a", Probation)
        .each("a", 3, USUAL, |pick, _| pick.neutral())
        .each("a", 3, USUAL, |pick, _| {
            drop(pick);
            false
        })
        .is("a", Probation)
        .in_flight_is("a", 0)
        .counted([1, 1, 0, 0, 0, 0])
        .succeed("a", 1)
        .is("a", Usable);
}

#[test]
fn a_long_unanswered_wait_is_a_failed_trial() {
    on_probation()
        .cancel("a", 1, 201 * MS)
        .is("a", Ejected)
        .story_is("a", ["ejected", "probation", "trial failed"]);
}

#[test]
fn a_trial_that_hangs_for_a_second_has_failed() {
    on_probation()
        .begin("a")
        .pass(SECOND - MS)
        .is("a", Probation)
        .pass(102 * MS)
        .is("a", Ejected)
        .counted([1, 1, 0, 1, 0, 0])
        .end("a", |pick, now| pick.cancelled(now))
        .is("a", Ejected)
        .in_flight_is("a", 0)
        .counted([1, 1, 0, 1, 0, 0]);
}

#[test]
fn a_trial_may_take_eight_mean_latencies() {
    let mut scenario = cold_fleet_with(3, BalanceConfig::builder());
    for id in ["a", "b", "c"] {
        scenario.each(id, 10, 500 * MS, |pick, now| pick.success(now));
    }
    // A run must outlast three mean latencies.
    scenario.begin("a").pass(1400 * MS);
    scenario.end("a", |pick, now| pick.failure(now));
    scenario
        .fail("a", 4)
        .is("a", Usable)
        .pass(60 * MS)
        .fail("a", 1)
        .outlast("a")
        .begin("a")
        .pass(4 * SECOND - MS)
        .is("a", Probation)
        .pass(102 * MS)
        .is("a", Ejected);
}

#[test]
fn a_new_run_begins_after_the_return() {
    on_probation()
        .succeed("a", 1)
        .run_is("a", 0)
        .fail("a", 4)
        .is("a", Usable)
        .fail("a", 1)
        .is("a", Ejected);
}

#[test]
fn a_long_answer_that_has_begun_is_a_success() {
    on_probation()
        .begin("a")
        .pass(5 * MS)
        .answer("a")
        .pass(2 * SECOND)
        .is("a", Usable)
        .in_flight_is("a", 1)
        .pass(60 * SECOND)
        .end("a", |pick, now| pick.failure(now))
        .is("a", Usable)
        .run_is("a", 0)
        .in_flight_is("a", 0);
}

#[test]
fn an_answer_that_soon_breaks_off_is_a_failed_trial() {
    on_probation()
        .begin("a")
        .answer("a")
        .pass(100 * MS)
        .end("a", |pick, now| pick.failure(now))
        .is("a", Ejected);
}

#[test]
fn an_answer_that_its_caller_abandons_is_a_success() {
    on_probation()
        .begin("a")
        .answer("a")
        .pass(100 * MS)
        .end("a", |pick, now| pick.cancelled(now))
        .is("a", Usable);
}

#[test]
fn the_trial_is_the_only_sample_of_a_returned_member() {
    let latency = |takes: Duration| {
        let mut scenario = on_probation();
        scenario.each("a", 1, takes, |pick, now| pick.success(now));
        scenario.member("a").latency.unwrap()
    };
    // One sample beside two of the fleet's mean of 10 ms.
    let near = |latency: Duration, expected: Duration| {
        let off = latency.abs_diff(expected);
        assert!(off < MS / 10, "{latency:?} where {expected:?} is due");
    };
    near(latency(10 * MS), 10 * MS);
    near(latency(25 * MS), 15 * MS);
    near(latency(900 * MS), Duration::from_micros(16_667));
}

#[test]
fn failed_trials_count_as_failures_of_the_member() {
    let mut scenario = on_probation();
    scenario.fail("a", 1).outlast("a").cancel("a", 1, 300 * MS);
    scenario.outlast("a").begin("a").pass(2 * SECOND);
    assert_eq!(scenario.member("a").failures, 8, "{}", scenario.table());
}

#[test]
fn a_trial_after_an_ejection_by_hand_is_given_up_without_rules_too() {
    fleet_with(3, BalanceConfig::builder().outlier(None))
        .eject("a", SECOND)
        .pass(SECOND)
        .begin("a")
        .pass(1200 * MS)
        .is("a", Ejected)
        .outlast("a")
        .succeed("a", 1)
        .is("a", Usable);
}

#[test]
fn members_behind_many_without_a_free_slot_are_tried_too() {
    let config = BalanceConfig::builder().load(Load::least_in_flight());
    let mut scenario = fleet_with(20, config.max_in_flight(10));
    let ids: Vec<_> = (0..20).map(name).collect();
    for id in &ids[..19] {
        (0..10).for_each(|_| _ = scenario.begin(id));
    }
    for id in &ids[..19] {
        scenario.eject(id, SECOND).pass(MS);
    }
    scenario.end(&ids[18], |pick, now| pick.success(now));
    scenario.traffic(10 * SECOND, 100 * MS, |_| Does::Succeed(5 * MS));
    scenario.is(&ids[18], Usable);
}
