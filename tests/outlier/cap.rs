//! How many may be out at once.

use rolecall::MemberState::{Ejected, Probation, Usable};
use rolecall::{Availability, Event, OutlierBuilder, Withheld};

use crate::scenario::{Does, MS, SECOND, Scenario, fleet, fleet_with, name, rules};

/// Fails one after another long enough for any rule, while the others answer; tells how many are out in the end.
fn fail_all(scenario: &mut Scenario, members: usize) -> usize {
    for member in 0..members {
        let id = name(member);
        scenario.fail(&id, 5);
        if scenario.member(&id).state == Usable {
            // It would show the next ones what is usual.
            scenario.succeed(&id, 1);
        }
    }
    let members = scenario.status().members;
    members.iter().filter(|m| m.state == Ejected).count()
}

fn capped(members: usize, rule: impl FnOnce(OutlierBuilder) -> OutlierBuilder) -> usize {
    fail_all(&mut fleet_with(members, rules(rule)), members)
}

#[test]
fn half_of_them_at_most_one_of_two_and_never_the_last() {
    for (members, cap) in [(1, 0), (2, 1), (3, 1), (4, 2), (5, 2), (6, 3), (10, 5)] {
        let mut scenario = fleet(members);
        let out = fail_all(&mut scenario, members);
        assert_eq!(out, cap, "N = {members}\n{}", scenario.table());
        let (cap, refused) = (cap as u64, (members - cap) as u64);
        scenario
            .counted([cap + refused, cap, refused, 0, 0, 0])
            .in_panic_mode(false);
    }
}

#[test]
fn the_share_is_as_configured_but_for_the_first_and_the_last() {
    let percent =
        |percentage| move |rules: OutlierBuilder| rules.max_ejection_percentage(percentage);
    assert_eq!(capped(10, percent(1)), 1, "one may always go");
    assert_eq!(capped(10, percent(30)), 3);
    assert_eq!(
        capped(10, percent(39)),
        3,
        "within the share after ejecting"
    );
    assert_eq!(capped(10, percent(100)), 9, "the last one never");
    assert_eq!(capped(1, percent(100)), 0, "the last one never");
    assert_eq!(capped(2, percent(100)), 1, "the last one never");
}

#[test]
fn the_only_member_is_detected_and_stays() {
    let mut scenario = fleet(1);
    scenario
        .fail("a", 5)
        .is("a", Usable)
        .counted([1, 0, 1, 0, 0, 0])
        .story_is("a", ["withheld"]);
    let by_cap = |event: &Event| {
        matches!(
            event,
            Event::EjectionWithheld {
                by: Withheld::ByCap,
                ..
            }
        )
    };
    assert!(scenario.events().iter().any(by_cap), "told by whom");
}

#[test]
fn members_of_weight_zero_are_not_counted() {
    fleet(4)
        .weigh("d", 0)
        .fail("a", 5)
        .fail("b", 5)
        .is("a", Ejected)
        .is("b", Usable);
    fleet(3)
        .weigh("b", 0)
        .weigh("c", 0)
        .fail("a", 5)
        .is("a", Usable);
}

#[test]
fn draining_members_are_not_counted() {
    fleet(4)
        .say("d", Availability::Draining)
        .fail("a", 5)
        .fail("b", 5)
        .is("a", Ejected)
        .is("b", Usable);
}

#[test]
fn members_that_are_not_connected_are_not_counted() {
    let mut scenario = fleet(4);
    scenario
        .hold_dials()
        .begin("d")
        .end("d", |pick, now| pick.unsent(now))
        .fail("a", 5)
        .fail("b", 5)
        .is("a", Ejected)
        .is("b", Usable)
        .pass(SECOND)
        .let_dials_through()
        .fail("b", 1)
        .is("b", Ejected);
}

#[test]
fn busy_members_are_counted() {
    fleet(4)
        .say("d", Availability::Busy)
        .fail("a", 5)
        .fail("b", 5)
        .is("b", Ejected);
}

/// Of three `a` is out, and `b` would be, too.
fn one_out_and_one_waiting() -> Scenario {
    let mut scenario = fleet(3);
    scenario
        .fail("a", 5)
        .fail("b", 5)
        .is("a", Ejected)
        .is("b", Usable)
        .counted([2, 1, 1, 0, 0, 0])
        // Refused ones are looked at again after a second.
        .pass(SECOND);
    scenario
}

#[test]
fn one_that_leaves_while_it_is_ejected_gives_its_place_back() {
    one_out_and_one_waiting()
        .remove("a")
        .fail("b", 1)
        .is("b", Ejected);
}

#[test]
fn one_that_comes_back_gives_its_place_back() {
    one_out_and_one_waiting()
        .restore("a")
        .fail("b", 1)
        .is("b", Ejected);
}

#[test]
fn one_that_loses_its_weight_gives_its_place_back() {
    one_out_and_one_waiting()
        .weigh("a", 0)
        .fail("b", 1)
        .is("b", Ejected)
        .weigh("a", 1)
        .are([Probation, Ejected, Usable]);
}

#[test]
fn what_else_is_announced_of_one_beyond_the_cap_is_no_reason_to_ask_it() {
    fleet(4)
        .fail("a", 5)
        .fail("b", 5)
        .remove("d")
        .are([Ejected, Ejected, Usable])
        .weigh("a", 2)
        .say("a", Availability::Busy)
        .say("a", Availability::Available)
        .are([Ejected, Ejected, Usable]);
}

#[test]
fn who_is_out_for_long_is_asked_while_the_cap_keeps_those_that_fail() {
    let mut scenario = fleet(2);
    scenario.fail("a", 5);
    let fails = |failing: &'static str| {
        move |id: &str| match id == failing {
            true => Does::Fail(5 * MS),
            false => Does::Succeed(5 * MS),
        }
    };
    // As long as nobody is kept by the cap its time runs, which grows.
    scenario.traffic(100 * SECOND, 10 * MS, fails("a"));
    assert!(
        scenario.ejection("a").multiplier > 3,
        "{}",
        scenario.table()
    );
    let picks = scenario.traffic(100 * SECOND, 10 * MS, fails("b"));
    let failed = picks.of("b");
    assert!(
        failed < 1000,
        "{failed} of 10000 failed\n{}",
        scenario.table()
    );

    // Where both fail, once in ten seconds is enough.
    let told = scenario.story("b").len();
    scenario.traffic(100 * SECOND, 10 * MS, |_| Does::Fail(5 * MS));
    let story = &scenario.story("b")[told..];
    let trials = story.iter().filter(|word| **word == "probation").count();
    assert!((3..=20).contains(&trials), "{story:?}");
}

/// Of four `a` and `b` are ejected and not connected, and `c` is ejected in their place.
fn replaced(scenario: &mut Scenario) -> &mut Scenario {
    scenario
        .begin("a")
        .begin("b")
        .fail("a", 5)
        .fail("b", 5)
        .hold_dials()
        .end("a", |pick, now| pick.unsent(now))
        .end("b", |pick, now| pick.unsent(now))
        .fail("c", 5)
        .is("c", Ejected)
        .pass(SECOND)
}

#[test]
fn those_that_are_connected_again_with_their_places_taken_are_tried_at_once() {
    let mut scenario = fleet(4);
    replaced(&mut scenario)
        .let_dials_through()
        .are([Probation, Probation, Ejected, Usable])
        .in_panic_mode(false)
        .succeed("a", 1)
        .fail("b", 1)
        .are([Usable, Ejected, Ejected, Usable]);
}

#[test]
fn one_that_is_connected_again_with_its_place_free_stays_ejected() {
    let mut scenario = fleet(4);
    replaced(&mut scenario)
        .restore("c")
        .let_dials_through()
        .are([Ejected, Ejected, Usable, Usable]);
}

#[test]
fn one_that_was_ejected_by_hand_is_so_whoever_has_its_place() {
    let mut scenario = fleet(4);
    replaced(&mut scenario)
        .eject("a", 100 * SECOND)
        .let_dials_through()
        .are([Ejected, Probation, Ejected, Usable]);
}

#[test]
fn one_that_is_on_probation_keeps_its_place() {
    let mut scenario = one_out_and_one_waiting();
    scenario.outlast("a").is("a", Probation);
    scenario.fail("b", 6).is("b", Usable);
}

#[test]
fn one_that_was_ejected_by_hand_takes_a_place() {
    fleet(3)
        .eject("a", 100 * SECOND)
        .fail("b", 5)
        .is("b", Usable)
        .counted([1, 1, 1, 0, 0, 0]);
}

#[test]
fn a_refusal_is_told_and_counted_once_a_second() {
    let mut scenario = one_out_and_one_waiting();
    scenario.fail("b", 50).counted([3, 1, 2, 0, 0, 0]);
    scenario
        .pass(SECOND)
        .fail("b", 1)
        .counted([4, 1, 3, 0, 0, 0]);
    scenario.story_is("b", ["withheld"; 3]);
}
