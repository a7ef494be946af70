//! How many members may be out at once.

use rolecall::MemberState::{Ejected, Probation, Usable};
use rolecall::{Availability, Event, OutlierBuilder, Withheld};

use crate::scenario::{Does, MS, SECOND, Scenario, fleet, fleet_with, name, rules};

/// Lets one member after another fail long enough for any rule, while the others answer. Returns how many are out in the
/// end.
fn fail_all(scenario: &mut Scenario, members: usize) -> usize {
    for member in 0..members {
        let id = name(member);
        scenario.fail(&id, 5);
        if scenario.member(&id).state == Usable {
            // Ends its run, which would excuse the next ones.
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
fn at_most_half_are_ejected_and_never_the_last() {
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
fn the_configured_share_applies_except_to_the_first_and_the_last() {
    let percent =
        |percentage| move |rules: OutlierBuilder| rules.max_ejection_percentage(percentage);
    assert_eq!(capped(10, percent(1)), 1, "one may always be ejected");
    assert_eq!(capped(10, percent(30)), 3);
    assert_eq!(
        capped(10, percent(39)),
        3,
        "within the share after ejecting"
    );
    assert_eq!(capped(10, percent(100)), 9, "the last one is never ejected");
    assert_eq!(capped(1, percent(100)), 0, "the last one is never ejected");
    assert_eq!(capped(2, percent(100)), 1, "the last one is never ejected");
}

#[test]
fn the_only_member_is_detected_and_stays_in_play() {
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
    assert!(
        scenario.events().iter().any(by_cap),
        "the event says that the cap withheld it"
    );
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

/// A fleet of three in which `a` is out, and the cap keeps `b` in play.
fn one_out_and_one_kept() -> Scenario {
    let mut scenario = fleet(3);
    scenario
        .fail("a", 5)
        .fail("b", 5)
        .is("a", Ejected)
        .is("b", Usable)
        .counted([2, 1, 1, 0, 0, 0])
        // A member whose ejection was withheld is judged again after a second.
        .pass(SECOND);
    scenario
}

#[test]
fn an_ejected_member_that_leaves_makes_room_for_another() {
    one_out_and_one_kept()
        .remove("a")
        .fail("b", 1)
        .is("b", Ejected);
}

#[test]
fn a_member_that_returns_makes_room_for_another() {
    one_out_and_one_kept()
        .restore("a")
        .fail("b", 1)
        .is("b", Ejected);
}

#[test]
fn an_ejected_member_that_loses_its_weight_makes_room_for_another() {
    one_out_and_one_kept()
        .weigh("a", 0)
        .fail("b", 1)
        .is("b", Ejected)
        .weigh("a", 1)
        .are([Probation, Ejected, Usable]);
}

#[test]
fn other_changes_to_a_member_over_the_cap_cause_no_trial() {
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
fn a_member_out_for_long_is_tried_while_the_cap_keeps_another_that_fails() {
    let mut scenario = fleet(2);
    scenario.fail("a", 5);
    let fails = |failing: &'static str| {
        move |id: &str| match id == failing {
            true => Does::Fail(5 * MS),
            false => Does::Succeed(5 * MS),
        }
    };
    // While the cap keeps no outlier in play, `a` is tried only after its ejection time, which grows.
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

    // If both fail, one trial in ten seconds is enough.
    let before = scenario.story("b").len();
    scenario.traffic(100 * SECOND, 10 * MS, |_| Does::Fail(5 * MS));
    let story = &scenario.story("b")[before..];
    let trials = story.iter().filter(|word| **word == "probation").count();
    assert!((3..=20).contains(&trials), "{story:?}");
}

/// A fleet of four in which `a` and `b` are ejected and disconnected, and `c` was ejected in their place.
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
fn members_that_reconnect_over_the_cap_are_tried_at_once() {
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
fn a_member_that_reconnects_within_the_cap_stays_ejected() {
    let mut scenario = fleet(4);
    replaced(&mut scenario)
        .restore("c")
        .let_dials_through()
        .are([Ejected, Ejected, Usable, Usable]);
}

#[test]
fn a_member_ejected_by_hand_stays_ejected_over_the_cap() {
    let mut scenario = fleet(4);
    replaced(&mut scenario)
        .eject("a", 100 * SECOND)
        .let_dials_through()
        .are([Ejected, Probation, Ejected, Usable]);
}

#[test]
fn a_member_on_probation_counts_for_the_cap() {
    let mut scenario = one_out_and_one_kept();
    scenario.outlast("a").is("a", Probation);
    scenario.fail("b", 6).is("b", Usable);
}

#[test]
fn a_member_ejected_by_hand_counts_for_the_cap() {
    fleet(3)
        .eject("a", 100 * SECOND)
        .fail("b", 5)
        .is("b", Usable)
        .counted([1, 1, 1, 0, 0, 0]);
}

#[test]
fn a_withheld_ejection_is_reported_and_counted_once_a_second() {
    let mut scenario = one_out_and_one_kept();
    scenario.fail("b", 50).counted([3, 1, 2, 0, 0, 0]);
    scenario
        .pass(SECOND)
        .fail("b", 1)
        .counted([4, 1, 3, 0, 0, 0]);
    scenario.story_is("b", ["withheld"; 3]);
}
