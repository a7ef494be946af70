//! A clock that stands still, goes back, or reaches its end.

use std::time::Duration;

use rolecall::BalanceConfig;
use rolecall::MemberState::{Ejected, Probation, Usable};

use crate::scenario::{MS, SECOND, USUAL, fleet, fleet_with, rules};

#[test]
fn an_ejection_ends_on_time_without_traffic() {
    let mut scenario = fleet(3);
    scenario.fail("a", 5).pass(SECOND);
    let end = scenario.now() + scenario.remaining("a");
    assert_eq!(
        scenario.fleet.next_deadline(),
        Some(end),
        "the end of the ejection"
    );
    scenario
        .pass(end - scenario.now() - MS)
        .is("a", Ejected)
        .pass(MS)
        .is("a", Probation);
    assert_eq!(
        scenario.fleet.next_deadline(),
        None,
        "the next request is the trial"
    );
}

#[test]
fn a_verdict_that_ejects_reports_that_the_deadline_moved_earlier() {
    let mut scenario = fleet_with(3, rules(|rules| rules.base_ejection_time(10 * MS)));
    scenario.begin("b").begin("b").begin("b");
    for failure in 1..=5 {
        let pick = scenario.pick("a");
        scenario.pass(9 * MS);
        let before = scenario.fleet.next_deadline();
        let reported = pick.failure(scenario.now());
        let moved = scenario.fleet.next_deadline() < before;
        assert_eq!(
            (reported, moved),
            (failure == 5, failure == 5),
            "failure {failure}"
        );
    }
}

#[test]
fn early_calls_change_nothing() {
    let mut scenario = fleet(3);
    scenario.fail("a", 5);
    for _ in 0..100 {
        scenario.meet_deadline();
    }
    scenario.is("a", Ejected);
}

#[test]
fn everything_may_happen_in_one_instant() {
    let mut scenario = fleet(3);
    let still = Duration::ZERO;
    for _ in 0..3 {
        scenario
            .each("a", 5, still, |pick, now| pick.failure(now))
            .is("a", Usable)
            .eject("a", still)
            .meet_deadline()
            .is("a", Probation)
            .each("a", 1, still, |pick, now| pick.failure(now))
            .is("a", Ejected)
            .restore("a")
            .is("a", Usable)
            .run_is("a", 0);
    }
    scenario.in_flight_is("a", 0);
}

#[test]
fn two_thousand_trials_in_one_instant_do_not_mix_up_their_verdicts() {
    let mut scenario = fleet(3);
    scenario.fail("a", 5).outlast("a");
    scenario.each("a", 2000, Duration::ZERO, |pick, _| pick.neutral());
    scenario
        .is("a", Probation)
        .counted([1, 1, 0, 0, 0, 0])
        .succeed("a", 1)
        .is("a", Usable);
}

#[test]
fn a_clock_that_goes_back_ends_nothing_early_and_everything_in_the_end() {
    let mut scenario = fleet(3);
    scenario.pass(100 * SECOND).fail("a", 5);
    let end = scenario.now() + scenario.remaining("a");
    scenario
        .go_back(50 * SECOND)
        .meet_deadline()
        .is("a", Ejected);
    assert!(scenario.now() < end, "it did go back");
    scenario.pass(60 * SECOND).is("a", Probation);
    scenario.go_back(90 * SECOND).begin("a").go_back(5 * SECOND);
    scenario
        .end("a", |pick, now| pick.success(now))
        .is("a", Usable);
    scenario.pass(200 * SECOND).fail("a", 5).is("a", Ejected);
}

#[test]
fn a_run_continues_while_the_clock_goes_back() {
    let mut scenario = fleet(3);
    scenario.pass(100 * SECOND);
    for _ in 0..5 {
        scenario.fail("a", 1).go_back(SECOND);
    }
    scenario
        .run_is("a", 5)
        .is("a", Usable)
        // By now the run is old enough.
        .pass(5 * SECOND)
        .fail("a", 1)
        .is("a", Ejected);
}

#[test]
fn the_largest_instant_breaks_nothing() {
    let mut scenario = fleet(4);
    let age = Duration::from_secs(200 * 365 * 86_400);
    scenario
        .eject("a", Duration::MAX)
        .fail("b", 5)
        .begin("c")
        .stall(age)
        .meet_deadline()
        .is("a", Ejected)
        .is("b", Probation)
        .end("c", |pick, now| pick.failure(now))
        .succeed("b", 1)
        .fail("c", 5)
        .eject("d", Duration::MAX)
        .pass(100 * SECOND);
    scenario.table();
    scenario.restore("a").succeed("a", 1);
}

#[test]
fn instants_before_the_start_count_as_the_start() {
    let mut scenario = fleet_with(4, BalanceConfig::builder());
    scenario.go_back(50_000 * SECOND);
    scenario
        .each("a", 5, USUAL, |pick, now| pick.failure(now))
        .meet_deadline()
        .run_is("a", 5)
        .is("a", Usable)
        .eject("b", SECOND)
        .pass(49_990 * SECOND)
        .is("b", Ejected)
        .pass(20 * SECOND)
        .is("b", Probation)
        .fail("a", 1)
        .is("a", Ejected);
}
