//! Panic mode: every eligible member is out.

use std::collections::BTreeSet;

use rolecall::MemberState::{Busy, Ejected, Probation, Usable};
use rolecall::fleet::Pick;
use rolecall::{Availability, Event};

use crate::scenario::{Does, MS, SECOND, Scenario, fleet, name};

/// The members that many picks choose.
fn picked(scenario: &mut Scenario) -> String {
    let ids: BTreeSet<_> = (0..200)
        .map(|_| {
            let pick = scenario.next();
            pick.instance().id().to_string()
        })
        .collect();
    ids.into_iter().collect()
}

#[test]
fn all_members_are_picked_once_all_are_ejected_by_hand() {
    let mut scenario = fleet(3);
    scenario
        .eject("a", 100 * SECOND)
        .eject("b", 100 * SECOND)
        .in_panic_mode(false)
        .eject("c", 100 * SECOND)
        .in_panic_mode(true)
        .are([Ejected; 3])
        .counted([0, 3, 0, 0, 0, 1]);
    assert_eq!(picked(&mut scenario), "abc");
    let events = scenario.events();
    let ejected = |event: &Event| matches!(event, Event::Ejected { id, .. } if *id == "c");
    let began = |event: &Event| matches!(event, Event::PanicModeBegan { members: 3, .. });
    let ejected = events.iter().position(ejected).expect("an event");
    assert!(
        began(&events[ejected + 1]),
        "the cause comes first: {events:?}"
    );
}

#[test]
fn it_ends_when_the_first_member_is_restored() {
    let mut scenario = fleet(2);
    scenario
        .eject("a", 100 * SECOND)
        .eject("b", 100 * SECOND)
        .restore("b")
        .in_panic_mode(false)
        .takes_nothing("a");
    let events = scenario.events();
    let ended = |event: &Event| matches!(event, Event::PanicModeEnded);
    let returned = |event: &Event| matches!(event, Event::Returned { id, .. } if *id == "b");
    let returned = events.iter().position(returned).expect("an event");
    assert!(
        ended(&events[returned + 1]),
        "the cause comes first: {events:?}"
    );
}

#[test]
fn it_ends_with_the_first_good_trial() {
    fleet(2)
        .eject("a", SECOND)
        .eject("b", 100 * SECOND)
        .pass(SECOND)
        .is("a", Probation)
        .in_panic_mode(true)
        .succeed("a", 1)
        .in_panic_mode(false)
        .takes_nothing("b");
}

#[test]
fn it_ends_when_a_new_member_is_connected() {
    fleet(2)
        .eject("a", 100 * SECOND)
        .eject("b", 100 * SECOND)
        .add("c")
        .in_panic_mode(false)
        .takes_nothing("a")
        .takes_nothing("b");
}

#[test]
fn it_ends_when_no_member_is_eligible() {
    let mut scenario = fleet(1);
    scenario
        .eject("a", 100 * SECOND)
        .in_panic_mode(true)
        .weigh("a", 0)
        .in_panic_mode(false);
    assert!(scenario.fleet.unusable_since().is_some(), "nothing usable");
    scenario.weigh("a", 1).in_panic_mode(true);
    assert!(scenario.fleet.unusable_since().is_none());
}

#[test]
fn it_begins_when_the_last_member_in_play_leaves() {
    let mut scenario = fleet(2);
    scenario.fail("a", 5).remove("b").in_panic_mode(true);
    assert_eq!(picked(&mut scenario), "a");
    scenario.add("b").in_panic_mode(false).takes_nothing("a");
}

/// A fleet of which all members are ejected by hand for a long time.
fn all_out(members: usize) -> Scenario {
    let mut scenario = fleet(members);
    for id in (0..members).map(name) {
        scenario.eject(&id, 1000 * SECOND);
    }
    scenario.in_panic_mode(true).pass(MS);
    scenario
}

#[test]
fn outcomes_in_it_are_counted_and_eject_no_member() {
    let mut scenario = all_out(2);
    scenario
        .fail("a", 20)
        .lately("a", 120, 20)
        .cancel("b", 20, SECOND)
        .run_is("a", 20)
        .run_is("b", 20)
        .are([Ejected, Ejected])
        .succeed("a", 1)
        .run_is("a", 0)
        .is("a", Ejected)
        .counted([0, 2, 0, 0, 0, 1]);
    assert_eq!(scenario.member("a").failures, 20);
    assert_eq!(scenario.member("b").failures, 20);
}

#[test]
fn a_healthy_member_gets_the_requests_in_it() {
    for broken in [Does::Fail(MS), Does::Nothing(SECOND)] {
        let mut scenario = all_out(4);
        let picks = scenario.traffic(10 * SECOND, 5 * MS, |id| match id {
            "a" => Does::Succeed(10 * MS),
            _ => broken,
        });
        let share = picks.share("a", 1);
        assert!(share > 0.95, "{share} of all\n{}", scenario.table());
    }
}

#[test]
fn failures_in_it_do_not_count_after_a_return() {
    all_out(3)
        .fail("a", 4)
        .restore("a")
        .in_panic_mode(false)
        .lately("a", 0, 0)
        .pass(MS)
        .fail("a", 4)
        .counted([0, 3, 0, 0, 1, 1])
        .fail("a", 1)
        .counted([1, 3, 1, 0, 1, 1]);
}

#[test]
fn answers_to_picks_before_it_or_in_it_do_not_count_once_it_is_over() {
    fleet(2)
        .begin("a")
        .eject("a", 1000 * SECOND)
        .eject("b", 1000 * SECOND)
        .pass(MS)
        .end("a", |pick, now| pick.failure(now))
        .run_is("a", 0)
        .begin("a")
        .pass(MS)
        .restore("a")
        .end("a", |pick, now| pick.failure(now))
        .run_is("a", 0);
}

#[test]
fn busy_members_are_picked_before_ejected_ones() {
    let mut scenario = fleet(3);
    scenario
        .say("c", Availability::Busy)
        .eject("a", 100 * SECOND)
        .are([Ejected, Usable, Busy]);
    assert_eq!(picked(&mut scenario), "b");
    scenario.eject("b", 100 * SECOND).in_panic_mode(false);
    assert_eq!(picked(&mut scenario), "c");
    scenario.eject("c", 100 * SECOND).in_panic_mode(true);
    assert_eq!(picked(&mut scenario), "abc");
}

/// A fleet of two in which both await a trial, and `a` answers this many requests during its own.
fn answering_beside_its_trial(requests: usize) -> (Scenario, Pick<()>) {
    let mut scenario = fleet(2);
    scenario
        .eject("a", SECOND)
        .eject("b", SECOND)
        .pass(SECOND)
        .in_panic_mode(true);
    let trial = scenario.pick("a");
    for _ in 0..requests {
        let pick = scenario.pick("a");
        scenario.pass(10 * MS);
        pick.success(scenario.now());
    }
    (scenario, trial)
}

#[test]
fn a_trial_cancelled_while_other_requests_are_answered_has_not_failed() {
    let (mut scenario, trial) = answering_beside_its_trial(30);
    trial.cancelled(scenario.now());
    scenario.story_is("a", ["ejected", "probation"]);
}

#[test]
fn a_trial_that_hangs_while_other_requests_are_answered_makes_way_for_the_next() {
    let (mut scenario, _trial) = answering_beside_its_trial(120);
    scenario.story_is("a", ["ejected", "probation", "returned"]);
}
