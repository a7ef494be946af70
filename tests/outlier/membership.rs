//! Instances that leave, come back or are announced anew while they are out.

use rolecall::Availability::Draining;
use rolecall::MemberState::{Ejected, Probing, Usable};
use rolecall::Weight;

use crate::scenario::{MS, SECOND, fleet};

#[test]
fn one_that_leaves_and_comes_back_while_it_is_ejected_is_probed_at_once() {
    fleet(3)
        .fail("a", 5)
        .remove("a")
        .pass(SECOND)
        .add("a")
        .is("a", Probing)
        .succeed("a", 1)
        .is("a", Usable)
        .story_is("a", ["ejected", "probing", "returned"]);
}

#[test]
fn one_that_fails_its_probe_after_coming_back_is_out_for_twice_as_long() {
    let mut scenario = fleet(3);
    scenario
        .fail("a", 5)
        .remove("a")
        .add("a")
        .fail("a", 1)
        .is("a", Ejected);
    let remaining = scenario.remaining("a");
    assert!(
        (10 * SECOND..=20 * SECOND).contains(&remaining),
        "{remaining:?}: its history left with it"
    );
}

#[test]
fn one_that_leaves_while_it_is_probing_is_probed_when_it_comes_back() {
    fleet(3)
        .fail("a", 5)
        .outlast("a")
        .remove("a")
        .pass(SECOND)
        .add("a")
        .is("a", Probing);
}

#[test]
fn one_that_left_while_it_was_probing_gets_no_probe() {
    fleet(3)
        .fail("a", 5)
        .outlast("a")
        .remove("a")
        .takes_nothing("a");
}

#[test]
fn one_that_stays_away_for_the_time_of_its_ejection_is_forgotten() {
    let mut scenario = fleet(3);
    scenario.fail("a", 5).remove("a").pass(10 * SECOND);
    assert_eq!(
        scenario.fleet.next_deadline(),
        None,
        "nothing is left to do"
    );
    scenario.add("a").is("a", Usable);
    assert_eq!(scenario.member("a").ejection, None, "a new one");
}

#[test]
fn one_that_leaves_with_its_probe_makes_room_for_the_next_probe() {
    let mut scenario = fleet(5);
    scenario
        .fail("a", 5)
        .fail("b", 5)
        .pass(10 * SECOND)
        .begin("a")
        .remove("a")
        .end("a", |pick, now| pick.success(now))
        .add("a")
        .is("a", Probing)
        .succeed("b", 1)
        .is("b", Usable);
}

#[test]
fn one_that_leaves_or_drains_in_the_middle_of_its_probe_makes_room_at_once() {
    let two_probing = || {
        let mut scenario = fleet(5);
        scenario
            .fail("a", 5)
            .fail("b", 5)
            .pass(10 * SECOND)
            .begin("a");
        scenario
    };
    two_probing().remove("a").succeed("b", 1).is("b", Usable);
    two_probing()
        .say("a", Draining)
        .succeed("b", 1)
        .is("b", Usable);
    two_probing().restore("a").succeed("b", 1).is("b", Usable);
    two_probing()
        .eject("a", SECOND)
        .succeed("b", 1)
        .is("b", Usable);
}

#[test]
fn a_verdict_on_one_that_left_is_not_for_its_successor() {
    fleet(3)
        .fail("a", 5)
        .outlast("a")
        .begin("a")
        .remove("a")
        .add("a")
        .end("a", |pick, now| pick.failure(now))
        .is("a", Probing)
        .counted([1, 1, 0, 0, 0, 0]);
}

#[test]
fn another_weight_or_metadata_change_nothing() {
    let mut scenario = fleet(3);
    scenario
        .fail("a", 4)
        .change("a", |instance| instance.with_metadata("version", "2"));
    scenario.run_is("a", 4).fail("a", 1).is("a", Ejected);
    let before = scenario.ejection("a");
    scenario.hold_dials().change("a", |instance| {
        instance
            .with_metadata("version", "3")
            .with_weight(Weight::new(5))
    });
    scenario.is("a", Ejected).in_flight_is("a", 0);
    assert_eq!(scenario.ejection("a"), before, "{}", scenario.table());
    scenario.outlast("a").is("a", Probing);
}

#[test]
fn one_that_comes_back_after_its_return_has_no_history() {
    let mut scenario = fleet(3);
    scenario
        .fail("a", 5)
        .outlast("a")
        .succeed("a", 1)
        .remove("a")
        .add("a")
        .is("a", Usable);
    assert_eq!(scenario.member("a").ejection, None, "a new one");
}

#[test]
fn many_that_come_and_go_while_they_are_ejected_leave_no_deadline_behind() {
    let mut scenario = fleet(8);
    for round in 0..20 {
        for id in ["a", "b", "c"] {
            scenario.eject(id, SECOND * (round % 3 + 1)).remove(id);
        }
        scenario.pass(round * 100 * MS);
        for id in ["a", "b", "c"] {
            scenario.add(id);
        }
    }
    for id in ["a", "b", "c"] {
        scenario.remove(id);
    }
    scenario.pass(60 * SECOND);
    assert_eq!(scenario.fleet.next_deadline(), None, "{}", scenario.table());
}
