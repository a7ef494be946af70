//! Who is probed, where several wait for it.

use rolecall::BalanceConfig;
use rolecall::MemberState::{Probing, Usable};

use crate::scenario::{MS, SECOND, cold_fleet_with, fleet, probing};

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
    cold_fleet_with(3, BalanceConfig::builder().max_in_flight(2))
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
    cold_fleet_with(5, BalanceConfig::builder().max_in_flight(1))
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
        let probe = scenario.next();
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
    let first = scenario.next();
    let other = if first.instance().id().as_str() == "a" {
        "b"
    } else {
        "a"
    };
    scenario.takes_nothing(other);
    first.success(scenario.now());
    let second = scenario.next();
    assert_eq!(second.instance().id().as_str(), other, "its turn");
    second.success(scenario.now());
    scenario.is("a", Usable).is("b", Usable);
}
