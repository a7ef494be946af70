//! What decides about the return.

use std::time::Duration;

use rolecall::BalanceConfig;
use rolecall::MemberState::{Ejected, Probing, Usable};

use crate::scenario::{MS, SECOND, Scenario, USUAL, fleet, fleet_with};

/// Of five, `a` is to be probed.
fn probing() -> Scenario {
    let mut scenario = fleet(5);
    scenario.fail("a", 5).outlast("a").is("a", Probing);
    scenario
}

/// Who is picked next, whatever the load says.
fn next(scenario: &mut Scenario) -> rolecall::fleet::Pick<()> {
    let now = scenario.now();
    scenario.fleet.pick(now, &mut scenario.rng, &[]).unwrap()
}

#[test]
fn the_very_next_request_is_the_probe_and_the_only_one() {
    let mut scenario = probing();
    let probe = next(&mut scenario);
    assert_eq!(
        probe.instance().id().as_str(),
        "a",
        "the next request probes"
    );
    scenario
        .takes_nothing("a")
        .is("a", Probing)
        .in_flight_is("a", 1);
    probe.success(scenario.now());
    scenario
        .is("a", Usable)
        .in_flight_is("a", 0)
        .run_is("a", 0)
        .counted([1, 1, 0, 1, 1, 0])
        .story_is("a", ["ejected", "probing", "returned"]);
}

#[test]
fn a_bad_answer_keeps_it_out() {
    let mut scenario = probing();
    scenario
        .fail("a", 1)
        .is("a", Ejected)
        .takes_nothing("a")
        .counted([1, 1, 0, 1, 0, 0])
        .story_is("a", ["ejected", "probing", "probe failed"]);
    scenario.outlast("a").succeed("a", 1).is("a", Usable);
}

#[test]
fn a_caller_that_goes_away_soon_frees_the_probe_and_judges_nobody() {
    probing()
        .cancel("a", 3, 100 * MS)
        .is("a", Probing)
        .each("a", 3, USUAL, |pick, _| pick.neutral())
        .each("a", 3, USUAL, |pick, now| pick.overloaded(None, now))
        .each("a", 3, USUAL, |pick, _| {
            drop(pick);
            false
        })
        .is("a", Probing)
        .in_flight_is("a", 0)
        .counted([1, 1, 0, 0, 0, 0])
        .succeed("a", 1)
        .is("a", Usable);
}

#[test]
fn a_caller_that_waited_for_nothing_is_a_failed_probe() {
    probing()
        .cancel("a", 1, 201 * MS)
        .is("a", Ejected)
        .story_is("a", ["ejected", "probing", "probe failed"]);
}

#[test]
fn one_that_hangs_for_a_second_has_failed() {
    probing()
        .begin("a")
        .pass(SECOND - MS)
        .is("a", Probing)
        .pass(102 * MS)
        .is("a", Ejected)
        .counted([1, 1, 0, 1, 0, 0])
        .end("a", |pick, now| pick.cancelled(now))
        .is("a", Ejected)
        .in_flight_is("a", 0)
        .counted([1, 1, 0, 1, 0, 0]);
}

#[test]
fn where_answers_are_slow_a_probe_may_take_eight_of_them() {
    let mut scenario = crate::scenario::cold_fleet_with(3, BalanceConfig::builder());
    for id in ["a", "b", "c"] {
        scenario.each(id, 10, 500 * MS, |pick, now| pick.success(now));
    }
    scenario
        .fail("a", 5)
        .outlast("a")
        .begin("a")
        .pass(4 * SECOND - MS)
        .is("a", Probing)
        .pass(102 * MS)
        .is("a", Ejected);
}

#[test]
fn a_late_answer_of_a_probe_that_was_given_up_is_nobodys() {
    for good in [true, false] {
        let mut scenario = probing();
        scenario.begin("a").pass(2 * SECOND).is("a", Ejected);
        let before = scenario.member("a");
        scenario.end("a", |pick, now| {
            if good {
                pick.success(now)
            } else {
                pick.failure(now)
            }
        });
        let after = scenario.member("a");
        assert_eq!(after.ejection, before.ejection, "{}", scenario.table());
        assert_eq!(after.failures, before.failures, "{}", scenario.table());
        scenario.in_flight_is("a", 0).counted([1, 1, 0, 1, 0, 0]);
    }
}

#[test]
fn a_late_answer_of_a_probe_that_was_given_up_charges_nobody_after_the_return() {
    let mut scenario = probing();
    scenario
        .begin("a")
        .pass(2 * SECOND)
        .outlast("a")
        .succeed("a", 1);
    let before = scenario.member("a");
    scenario
        .end("a", |pick, now| pick.failure(now))
        .is("a", Usable);
    let after = scenario.member("a");
    assert_eq!(after.latency, before.latency, "{}", scenario.table());
    assert_eq!(after.failures, before.failures, "{}", scenario.table());
}

#[test]
fn a_late_answer_of_a_probe_that_was_given_up_does_not_end_the_next_probe() {
    let mut scenario = probing();
    scenario
        .begin("a")
        .pass(2 * SECOND)
        .outlast("a")
        .begin("a")
        .end("a", |pick, now| pick.success(now))
        .is("a", Probing)
        .takes_nothing("a")
        .end("a", |pick, now| pick.success(now))
        .is("a", Usable);
}

#[test]
fn an_answer_to_a_request_from_before_the_ejection_is_no_verdict() {
    for good in [true, false] {
        fleet(3)
            .begin("a")
            .fail("a", 5)
            .outlast("a")
            .end("a", |pick, now| {
                if good {
                    pick.success(now)
                } else {
                    pick.failure(now)
                }
            })
            .is("a", Probing)
            .run_is("a", 5)
            .counted([1, 1, 0, 0, 0, 0]);
    }
}

#[test]
fn an_answer_to_a_request_from_before_the_ejection_judges_nobody_after_the_return() {
    let mut scenario = fleet(3);
    for _ in 0..5 {
        scenario.begin("a");
    }
    scenario.fail("a", 5).outlast("a").succeed("a", 1);
    for _ in 0..5 {
        scenario.end("a", |pick, now| pick.failure(now));
    }
    scenario.is("a", Usable).run_is("a", 0).in_flight_is("a", 0);
}

#[test]
fn a_run_begins_anew_after_the_return() {
    probing()
        .succeed("a", 1)
        .run_is("a", 0)
        .fail("a", 4)
        .is("a", Usable)
        .fail("a", 1)
        .is("a", Ejected);
}

#[test]
fn a_request_that_is_to_avoid_it_is_no_probe() {
    let mut scenario = probing();
    for _ in 0..50 {
        let now = scenario.now();
        let pick = scenario.fleet.pick(now, &mut scenario.rng, &["a".into()]);
        assert_ne!(pick.unwrap().instance().id().as_str(), "a", "to be avoided");
    }
    scenario.is("a", Probing);
}

#[test]
fn a_member_without_a_free_slot_is_not_probed() {
    fleet_with(3, BalanceConfig::builder().max_in_flight(2))
        .begin("a")
        .begin("a")
        .eject("a", SECOND)
        .pass(SECOND)
        .is("a", Probing)
        .takes_nothing("a")
        .in_flight_is("a", 2)
        .end("a", |pick, _| pick.neutral())
        .succeed("a", 1)
        .is("a", Usable);
}

#[test]
fn a_member_without_a_free_slot_does_not_keep_others_from_their_probe() {
    fleet_with(5, BalanceConfig::builder().max_in_flight(1))
        .begin("a")
        .eject("a", SECOND)
        .eject("b", 2 * SECOND)
        .pass(2 * SECOND)
        .succeed("b", 1)
        .is("b", Usable)
        .is("a", Probing);
}

#[test]
fn a_member_to_be_avoided_does_not_keep_others_from_their_probe() {
    fleet(5)
        .eject("a", SECOND)
        .eject("b", 2 * SECOND)
        .pass(2 * SECOND)
        .succeed("b", 1)
        .is("b", Usable)
        .is("a", Probing);
}

#[test]
fn callers_that_go_away_from_one_probe_do_not_keep_others_from_theirs() {
    let mut scenario = fleet(6);
    for id in ["a", "b", "c"] {
        scenario.eject(id, SECOND);
    }
    scenario.pass(SECOND);
    let mut probed = Vec::new();
    for _ in 0..9 {
        let probe = next(&mut scenario);
        probed.push(probe.instance().id().to_string());
        scenario.pass(MS);
        probe.cancelled(scenario.now());
    }
    for id in ["a", "b", "c"] {
        let probes = probed.iter().filter(|probed| *probed == id).count();
        assert_eq!(probes, 3, "in turn: {probed:?}");
    }
}

#[test]
fn members_are_probed_one_after_another() {
    let mut scenario = fleet(5);
    scenario.fail("a", 5).fail("b", 5).pass(10 * SECOND);
    let first = next(&mut scenario);
    let other = if first.instance().id().as_str() == "a" {
        "b"
    } else {
        "a"
    };
    scenario.takes_nothing(other);
    first.success(scenario.now());
    let second = next(&mut scenario);
    assert_eq!(second.instance().id().as_str(), other, "its turn");
    second.success(scenario.now());
    scenario.is("a", Usable).is("b", Usable);
}

#[test]
fn an_answer_that_goes_on_and_on_has_begun_well() {
    probing()
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
fn an_answer_that_breaks_soon_is_a_failed_probe() {
    probing()
        .begin("a")
        .answer("a")
        .pass(100 * MS)
        .end("a", |pick, now| pick.failure(now))
        .is("a", Ejected);
}

#[test]
fn an_answer_whose_caller_leaves_in_the_middle_has_begun_well() {
    probing()
        .begin("a")
        .answer("a")
        .pass(100 * MS)
        .end("a", |pick, now| pick.cancelled(now))
        .is("a", Usable);
}

#[test]
fn a_returned_member_is_known_by_its_probe_alone() {
    let latency = |takes: Duration| {
        let mut scenario = probing();
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
fn failed_probes_are_failures_of_the_member() {
    let mut scenario = probing();
    scenario.fail("a", 1).outlast("a").cancel("a", 1, 300 * MS);
    scenario.outlast("a").begin("a").pass(2 * SECOND);
    assert_eq!(scenario.member("a").failures, 8, "{}", scenario.table());
}

#[test]
fn a_probe_of_one_ejected_by_hand_is_given_up_also_where_no_rule_ejects() {
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
fn a_probe_that_lost_its_member_to_another_ejection_is_no_verdict_on_that() {
    fleet(3)
        .eject("a", SECOND)
        .pass(SECOND)
        .begin("a")
        .eject("a", 10 * MS)
        .pass(10 * MS)
        .is("a", Probing)
        .end("a", |pick, now| pick.success(now))
        .is("a", Probing);
}

#[test]
fn a_probe_from_before_a_restoration_judges_nobody() {
    let mut scenario = probing();
    scenario
        .begin("a")
        .restore("a")
        .pass(MS)
        .end("a", |pick, now| pick.failure(now))
        .run_is("a", 0)
        .is("a", Usable)
        .counted([1, 1, 0, 0, 1, 0]);
}
