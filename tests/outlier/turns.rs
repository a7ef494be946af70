//! Which member is tried next, if several wait for a trial.

use std::collections::BTreeSet;

use rolecall::BalanceConfig;
use rolecall::MemberState::{Probation, Usable};

use crate::scenario::{MS, SECOND, USUAL, cold_fleet_with, fleet, name, on_probation};

#[test]
fn a_request_that_avoids_a_member_is_no_trial_of_it() {
    let mut scenario = on_probation();
    for _ in 0..50 {
        let now = scenario.now();
        let pick = scenario.fleet.pick(now, &mut scenario.rng, &["a".into()]);
        assert_ne!(pick.unwrap().instance().id().as_str(), "a", "to be avoided");
    }
    scenario.is("a", Probation);
}

#[test]
fn a_member_without_a_free_slot_is_not_tried() {
    cold_fleet_with(3, BalanceConfig::builder().max_in_flight(2))
        .begin("a")
        .begin("a")
        .eject("a", SECOND)
        .pass(SECOND)
        .is("a", Probation)
        .takes_nothing("a")
        .in_flight_is("a", 2)
        .end("a", |pick, _| pick.neutral())
        .succeed("a", 1)
        .is("a", Usable);
}

#[test]
fn a_member_without_a_free_slot_does_not_keep_others_from_their_trial() {
    cold_fleet_with(5, BalanceConfig::builder().max_in_flight(1))
        .begin("a")
        .eject("a", SECOND)
        .eject("b", 2 * SECOND)
        .pass(2 * SECOND)
        .succeed("b", 1)
        .is("b", Usable)
        .is("a", Probation);
}

#[test]
fn a_member_to_be_avoided_does_not_keep_others_from_their_trial() {
    fleet(5)
        .eject("a", SECOND)
        .eject("b", 2 * SECOND)
        .pass(2 * SECOND)
        .succeed("b", 1)
        .is("b", Usable)
        .is("a", Probation);
}

#[test]
fn callers_that_give_up_on_one_trial_do_not_keep_others_from_theirs() {
    for out in [2, 3, 8, 9] {
        let mut scenario = fleet(2 * out);
        for member in 0..out {
            scenario.eject(&name(member), SECOND);
        }
        scenario.pass(SECOND);
        let mut tried = BTreeSet::new();
        for _ in 0..2500 * out {
            let trial = scenario.next();
            tried.insert(trial.instance().id().to_string());
            scenario.pass(MS);
            trial.cancelled(scenario.now());
        }
        assert_eq!(tried.len(), out, "each has its turn: {tried:?}");
    }
}

#[test]
fn several_members_are_tried_at_once_and_each_once() {
    let mut scenario = fleet(5);
    scenario.fail("a", 5).fail("b", 5).pass(10 * SECOND);
    let trials = [scenario.next(), scenario.next()];
    let tried: BTreeSet<_> = trials.iter().map(|t| t.instance().id().as_str()).collect();
    assert_eq!(tried, BTreeSet::from(["a", "b"]));
    scenario
        .takes_nothing("a")
        .takes_nothing("b")
        .in_flight_is("a", 1)
        .in_flight_is("b", 1);
    for trial in trials {
        trial.success(scenario.now());
    }
    scenario
        .is("a", Usable)
        .is("b", Usable)
        .counted([2, 2, 0, 2, 2, 0]);
}

#[test]
fn the_longest_waiting_member_is_tried_first_and_suspects_last() {
    let mut scenario = fleet(6);
    scenario.fail("d", 1).pass(SECOND);
    // A tick finds the suspect.
    scenario.begin("e").pass(200 * MS);
    scenario.end("e", |pick, now| pick.success(now));
    scenario.eject("b", MS).eject("a", 2 * MS).pass(3 * MS);
    for id in ["b", "a", "d"] {
        let trial = scenario.next();
        assert_eq!(trial.instance().id().as_str(), id);
        scenario.pass(USUAL);
        trial.success(scenario.now());
        scenario.is(id, Usable).run_is(id, 0);
    }
}
