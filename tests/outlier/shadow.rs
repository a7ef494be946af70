//! Shadow mode: outliers are detected, counted and reported, and nothing else.

use rolecall::MemberState::{Ejected, Usable};
use rolecall::{ConfigBuilder, Event, Withheld};

use crate::scenario::{Does, MS, SECOND, fleet_with, rules};

fn shadow() -> ConfigBuilder {
    rules(|rules| rules.shadow(true))
}

#[test]
fn an_outlier_is_reported_and_stays_in_play() {
    let mut scenario = fleet_with(3, shadow());
    scenario
        .fail("a", 5)
        .is("a", Usable)
        .counted([1, 0, 0, 0, 0, 0])
        .story_is("a", ["withheld"]);
    assert_eq!(scenario.member("a").ejection, None, "it was not ejected");
    let in_shadow = |event: &Event| {
        matches!(
            event,
            Event::EjectionWithheld {
                by: Withheld::InShadow,
                ..
            }
        )
    };
    assert!(
        scenario.events().iter().any(in_shadow),
        "the event says that shadow mode withheld it"
    );
    scenario.pick("a").success(scenario.now());
}

#[test]
fn an_outlier_is_reported_once_a_second() {
    fleet_with(3, shadow())
        .fail("a", 50)
        .counted([1, 0, 0, 0, 0, 0])
        .fail("a", 100)
        .counted([2, 0, 0, 0, 0, 0]);
}

#[test]
fn all_members_may_be_outliers_at_once() {
    fleet_with(2, shadow())
        .fail("a", 30)
        .succeed("a", 1)
        .fail("b", 30)
        .are([Usable; 2])
        .in_panic_mode(false)
        .counted([2, 0, 0, 0, 0, 0]);
}

#[test]
fn suspects_are_not_tried() {
    let mut scenario = fleet_with(10, shadow());
    scenario.fail("a", 1);
    scenario.traffic(5 * SECOND, MS, |_| Does::Succeed(MS));
    scenario.counted([0; 6]);
}

#[test]
fn ejection_by_hand_still_works() {
    fleet_with(3, shadow())
        .eject("a", SECOND)
        .is("a", Ejected)
        .pass(SECOND)
        .succeed("a", 1)
        .is("a", Usable);
}
