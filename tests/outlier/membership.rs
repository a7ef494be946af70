//! Instances that leave, come back, move, lose their connection or drain while they are out.

use rolecall::Availability::{Available, Draining};
use rolecall::MemberState::{self, Connecting, Ejected, Probing, Usable};
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
fn a_new_address_is_dialled_and_probed_at_once() {
    fleet(3)
        .fail("a", 5)
        .readdress("a", 81)
        .is("a", Probing)
        .succeed("a", 1)
        .is("a", Usable)
        .story_is("a", ["ejected", "probing", "returned"]);
}

#[test]
fn until_its_new_address_is_connected_it_is_ejected_as_before() {
    fleet(3)
        .fail("a", 5)
        .hold_dials()
        .readdress("a", 81)
        .is("a", Ejected)
        .takes_nothing("a")
        .let_dials_through()
        .is("a", Probing);
}

#[test]
fn what_the_old_address_did_while_the_new_one_is_dialled_is_not_held_against_the_new_one() {
    fleet(3)
        .hold_dials()
        .readdress("a", 81)
        .fail("a", 5)
        .is("a", Ejected)
        .let_dials_through()
        .is("a", Probing);
}

#[test]
fn a_failed_probe_of_the_old_address_is_not_held_against_the_new_one() {
    fleet(3)
        .fail("a", 5)
        .outlast("a")
        .hold_dials()
        .readdress("a", 81)
        .fail("a", 1)
        .is("a", Ejected)
        .let_dials_through()
        .is("a", Probing);
}

#[test]
fn one_that_was_ejected_by_hand_is_probed_at_its_new_address() {
    fleet(3)
        .eject("a", 100 * SECOND)
        .readdress("a", 81)
        .is("a", Probing);
}

#[test]
fn a_new_address_begins_with_no_run() {
    fleet(3)
        .fail("a", 4)
        .readdress("a", 81)
        .run_is("a", 0)
        .fail("a", 4)
        .is("a", Usable);
}

#[test]
fn a_new_address_begins_with_no_run_also_where_the_connection_to_the_old_one_is_gone() {
    fleet(3)
        .fail("a", 4)
        .hold_dials()
        .each("a", 1, MS, |pick, now| pick.unsent(now))
        .readdress("a", 81)
        .let_dials_through()
        .run_is("a", 0);
    fleet(3)
        .fail("a", 4)
        .say("a", Draining)
        .readdress("a", 81)
        .say("a", Available)
        .run_is("a", 0);
}

#[test]
fn a_new_connection_to_the_same_address_keeps_the_run() {
    fleet(3)
        .fail("a", 4)
        .each("a", 1, MS, |pick, now| pick.unsent(now))
        .pass(SECOND)
        .run_is("a", 4)
        .fail("a", 1)
        .is("a", Ejected);
}

#[test]
fn one_that_loses_its_connection_while_it_is_ejected_stays_ejected() {
    let mut scenario = fleet(3);
    scenario
        .begin("a")
        .fail("a", 5)
        .end("a", |pick, now| pick.unsent(now));
    scenario.pass(SECOND).is("a", Ejected).takes_nothing("a");
    scenario
        .outlast("a")
        .is("a", Probing)
        .succeed("a", 1)
        .is("a", Usable);
}

#[test]
fn an_ejection_ends_also_while_it_is_not_connected() {
    fleet(3)
        .begin("a")
        .fail("a", 5)
        .hold_dials()
        .end("a", |pick, now| pick.unsent(now))
        .pass(60 * SECOND)
        .is("a", Connecting)
        .let_dials_through()
        .is("a", Probing);
}

#[test]
fn one_that_loses_its_connection_to_its_probe_is_probed_again() {
    fleet(3)
        .fail("a", 5)
        .outlast("a")
        .each("a", 1, MS, |pick, now| pick.unsent(now))
        .pass(SECOND)
        .is("a", Probing)
        .succeed("a", 1)
        .is("a", Usable);
}

#[test]
fn the_next_one_is_probed_while_the_first_is_not_connected() {
    fleet(5)
        .fail("a", 5)
        .fail("b", 5)
        .pass(10 * SECOND)
        .hold_dials()
        .each("a", 1, MS, |pick, now| pick.unsent(now))
        .succeed("b", 1)
        .is("b", Usable);
}

#[test]
fn one_that_drains_while_it_is_ejected_is_ejected_when_it_is_back() {
    let mut scenario = fleet(3);
    scenario
        .fail("a", 5)
        .say("a", Draining)
        .is("a", MemberState::Draining)
        .pass(SECOND)
        .say("a", Available)
        .is("a", Ejected)
        .takes_nothing("a");
    scenario.outlast("a").is("a", Probing);
}

#[test]
fn one_that_drains_longer_than_it_is_ejected_is_probed_when_it_is_back() {
    fleet(3)
        .fail("a", 5)
        .say("a", Draining)
        .pass(10 * SECOND)
        .takes_nothing("a")
        .say("a", Available)
        .is("a", Probing)
        .succeed("a", 1)
        .is("a", Usable);
}

#[test]
fn one_that_drains_with_its_probe_is_probed_again_when_it_is_back() {
    fleet(3)
        .fail("a", 5)
        .outlast("a")
        .begin("a")
        .say("a", Draining)
        .end("a", |pick, now| pick.success(now))
        .say("a", Available)
        .is("a", Probing);
}

#[test]
fn one_that_lost_its_weight_is_not_probed() {
    fleet(3)
        .fail("a", 5)
        .weigh("a", 0)
        .pass(10 * SECOND)
        .takes_nothing("a")
        .weigh("a", 1)
        .is("a", Probing)
        .succeed("a", 1);
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
