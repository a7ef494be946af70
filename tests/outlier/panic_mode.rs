//! What is left when everybody is out.

use std::collections::BTreeSet;

use rolecall::MemberState::{Busy, Ejected, Probation, Usable};
use rolecall::fleet::Pick;
use rolecall::{Availability, Event};

use crate::scenario::{Does, MS, SECOND, Scenario, fleet, name};

/// Who is picked, of many picks.
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
fn all_are_picked_from_once_all_are_ejected_by_hand() {
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
    let told = scenario.events();
    let ejected = |event: &Event| matches!(event, Event::Ejected { id, .. } if *id == "c");
    let began = |event: &Event| matches!(event, Event::PanicModeBegan { members: 3, .. });
    let ejected = told.iter().position(ejected).expect("told");
    assert!(began(&told[ejected + 1]), "first why: {told:?}");
}

#[test]
fn it_ends_when_the_first_one_is_restored() {
    let mut scenario = fleet(2);
    scenario
        .eject("a", 100 * SECOND)
        .eject("b", 100 * SECOND)
        .restore("b")
        .in_panic_mode(false)
        .takes_nothing("a");
    let told = scenario.events();
    let ended = |event: &Event| matches!(event, Event::PanicModeEnded);
    let returned = |event: &Event| matches!(event, Event::Returned { id, .. } if *id == "b");
    let returned = told.iter().position(returned).expect("told");
    assert!(ended(&told[returned + 1]), "first why: {told:?}");
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
fn it_ends_when_a_new_one_is_connected() {
    fleet(2)
        .eject("a", 100 * SECOND)
        .eject("b", 100 * SECOND)
        .add("c")
        .in_panic_mode(false)
        .takes_nothing("a")
        .takes_nothing("b");
}

#[test]
fn it_ends_when_nobody_is_eligible() {
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
fn it_begins_when_the_last_good_one_leaves() {
    let mut scenario = fleet(2);
    scenario.fail("a", 5).remove("b").in_panic_mode(true);
    assert_eq!(picked(&mut scenario), "a");
    scenario.add("b").in_panic_mode(false).takes_nothing("a");
}

/// All ejected by hand for long.
fn all_out(members: usize) -> Scenario {
    let mut scenario = fleet(members);
    for id in (0..members).map(name) {
        scenario.eject(&id, 1000 * SECOND);
    }
    scenario.in_panic_mode(true).pass(MS);
    scenario
}

#[test]
fn what_is_answered_in_it_is_counted_and_judges_nobody() {
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
fn one_that_is_well_draws_the_requests_in_it() {
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
fn what_was_in_it_is_not_held_against_one_that_is_back() {
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
fn an_answer_from_before_it_or_from_within_it_is_nobodys_once_it_is_over() {
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
fn busy_ones_come_before_ejected_ones() {
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

/// Both of two are to be tried, and `a` answers so many while its trial is under way.
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
fn a_trial_that_is_cancelled_while_others_are_answered_is_no_failed_one() {
    let (mut scenario, trial) = answering_beside_its_trial(30);
    trial.cancelled(scenario.now());
    scenario.story_is("a", ["ejected", "probation"]);
}

#[test]
fn a_trial_that_hangs_while_others_are_answered_gives_way_to_the_next() {
    let (mut scenario, _trial) = answering_beside_its_trial(120);
    scenario.story_is("a", ["ejected", "probation", "returned"]);
}
