//! Ejecting and restoring by hand.

use std::time::Duration;

use crate::scenario::Reason::Manual;
use rolecall::MemberState::{Connecting, Ejected, Probation, Usable};
use rolecall::{BalanceConfig, Event, Load};

use crate::scenario::{MS, SECOND, cold_fleet_with, fleet, fleet_with};

#[test]
fn an_unknown_instance_is_neither_ejected_nor_restored() {
    let mut scenario = fleet(2);
    let unknown = "unknown".into();
    assert!(!scenario.fleet.eject(&unknown, SECOND, scenario.now()));
    assert!(!scenario.fleet.restore(&unknown, scenario.now()));
    assert!(
        !scenario.fleet.restore(&"a".into(), scenario.now()),
        "in play"
    );
    scenario
        .counted([0; 6])
        .story_is("unknown", [])
        .story_is("a", []);
}

#[test]
fn an_ejection_by_hand_ends_like_any_other() {
    let mut scenario = fleet(3);
    scenario
        .eject("a", 20 * SECOND)
        .is("a", Ejected)
        .reason_is("a", Manual)
        .takes_nothing("a")
        .counted([0, 1, 0, 0, 0, 0])
        .pass(20 * SECOND)
        .is("a", Probation)
        .fail("a", 1)
        .is("a", Ejected)
        .reason_is("a", Manual);
    scenario
        .outlast("a")
        .succeed("a", 1)
        .is("a", Usable)
        .story_is(
            "a",
            [
                "ejected",
                "probation",
                "trial failed",
                "probation",
                "returned",
            ],
        );
}

#[test]
fn the_cap_does_not_limit_ejections_by_hand() {
    fleet(3)
        .eject("a", 100 * SECOND)
        .eject("b", 100 * SECOND)
        .are([Ejected, Ejected, Usable]);
}

#[test]
fn ejecting_a_member_that_is_out_restarts_its_time() {
    for time in [SECOND, 500 * SECOND] {
        let mut scenario = fleet(3);
        scenario
            .fail("a", 5)
            .pass(2 * SECOND)
            .eject("a", time)
            .reason_is("a", Manual);
        assert_eq!(scenario.remaining("a"), time, "from now on");
        assert_eq!(
            scenario.fleet.next_deadline(),
            Some(scenario.now() + time),
            "{}",
            scenario.table()
        );
        scenario
            .pass(time - MS)
            .is("a", Ejected)
            .pass(MS)
            .is("a", Probation);
    }
}

#[test]
fn ejecting_a_member_that_is_out_counts_as_one_ejection() {
    let mut scenario = fleet(3);
    scenario
        .eject("a", SECOND)
        .eject("a", 2 * SECOND)
        .counted([0, 1, 0, 0, 0, 0]);
    assert_eq!(scenario.ejection("a").ejections, 1);
    scenario.restore("a").counted([0, 1, 0, 0, 1, 0]);
}

#[test]
fn a_member_on_probation_can_be_ejected_for_longer() {
    fleet(3)
        .eject("a", SECOND)
        .pass(SECOND)
        .is("a", Probation)
        .eject("a", SECOND)
        .is("a", Ejected)
        .takes_nothing("a")
        .pass(SECOND)
        .is("a", Probation);
}

#[test]
fn an_ejected_member_is_restored_without_a_trial() {
    let mut scenario = fleet(3);
    scenario
        .fail("a", 5)
        .restore("a")
        .is("a", Usable)
        .run_is("a", 0)
        .counted([1, 1, 0, 0, 1, 0])
        .story_is("a", ["ejected", "returned"])
        .pass(SECOND);
    assert_eq!(scenario.fleet.next_deadline(), None, "its end is forgotten");
    scenario.pass(20 * SECOND).is("a", Usable);
}

#[test]
fn a_member_on_probation_is_restored_without_a_trial() {
    fleet(3)
        .fail("a", 5)
        .outlast("a")
        .restore("a")
        .is("a", Usable)
        .counted([1, 1, 0, 0, 1, 0]);
}

#[test]
fn a_restored_member_is_judged_as_before() {
    fleet(3)
        .fail("a", 5)
        .restore("a")
        .fail("a", 4)
        .is("a", Usable)
        .fail("a", 1)
        .is("a", Ejected);
}

#[test]
fn an_instance_ejected_before_its_connection_is_ejected_after_it() {
    let mut scenario = fleet(3);
    scenario
        .hold_dials()
        .add("d")
        .eject("d", 10 * SECOND)
        .is("d", Connecting)
        .let_dials_through()
        .is("d", Ejected)
        .takes_nothing("d")
        .pass(10 * SECOND)
        .is("d", Probation);
}

#[test]
fn an_ejection_for_no_time_leads_to_a_trial_at_once() {
    let mut scenario = fleet(3);
    scenario.eject("a", Duration::ZERO);
    assert_eq!(
        scenario.fleet.next_deadline(),
        Some(scenario.now()),
        "due now"
    );
    scenario.pass(Duration::ZERO).is("a", Probation);
}

#[test]
fn the_longest_ejection_does_not_end() {
    let mut scenario = fleet(3);
    scenario
        .eject("a", Duration::MAX)
        .pass(1_000_000 * SECOND)
        .is("a", Ejected)
        .eject("b", 100_000_000 * SECOND);
    assert!(scenario.remaining("a") > scenario.remaining("b"));
    scenario.table();
    scenario.remove("a").add("a").is("a", Usable);
    scenario.restore("b").is("b", Usable);
}

#[test]
fn ejection_by_hand_works_without_rules_and_without_a_clock() {
    let config = BalanceConfig::builder()
        .outlier(None)
        .load(Load::least_in_flight());
    let mut scenario = cold_fleet_with(3, config);
    assert!(!scenario.fleet.reads_clock());
    scenario.eject("a", SECOND);
    assert!(scenario.fleet.reads_clock(), "for the trial");
    scenario
        .takes_nothing("a")
        .pass(SECOND)
        .succeed("a", 1)
        .is("a", Usable);
    assert!(scenario.fleet.reads_clock(), "for the slow start");
    scenario.pass(5 * SECOND).succeed("b", 20).pass(SECOND);
    assert!(
        !scenario.fleet.reads_clock(),
        "fully returned\n{}",
        scenario.table()
    );
}

#[test]
fn the_clock_is_not_read_for_a_member_that_left() {
    let config = BalanceConfig::builder()
        .outlier(None)
        .load(Load::least_in_flight());
    let mut scenario = fleet_with(3, config);
    scenario.eject("a", SECOND).remove("a").pass(2 * SECOND);
    assert!(!scenario.fleet.reads_clock(), "{}", scenario.table());
}

#[test]
fn the_time_out_counts_from_the_first_of_two_ejections() {
    let mut scenario = fleet(3);
    scenario
        .eject("a", 10 * SECOND)
        .pass(3 * SECOND)
        .eject("a", 100 * SECOND)
        .pass(4 * SECOND);
    let ejection = scenario.ejection("a");
    assert_eq!((ejection.since, ejection.ejections), (7 * SECOND, 1));
    scenario.restore("a");
    let returned = scenario.events().iter().find_map(|event| match event {
        Event::Returned { after, .. } => Some(*after),
        _ => None,
    });
    assert_eq!(returned, Some(7 * SECOND));
}

#[test]
fn a_verdict_on_a_pick_before_the_ejection_does_not_count() {
    fleet(3)
        .begin("a")
        .eject("a", SECOND)
        .end("a", |pick, now| pick.failure(now))
        .run_is("a", 0)
        .is("a", Ejected);
}
