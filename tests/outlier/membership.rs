//! Instances that leave, come back or are announced anew while they are out.

use rolecall::Availability::Draining;
use rolecall::MemberState::{Ejected, Probation, Usable};
use rolecall::Weight;

use crate::scenario::{MS, SECOND, fleet};

#[test]
fn an_ejected_member_that_leaves_has_no_history_when_it_comes_back() {
    let mut scenario = fleet(3);
    scenario.fail("a", 5).remove("a").pass(SECOND);
    assert_eq!(scenario.fleet.next_deadline(), None, "its end is forgotten");
    scenario
        .add("a")
        .is("a", Usable)
        .run_is("a", 0)
        .lately("a", 0, 0)
        .story_is("a", ["ejected"]);
    let member = scenario.member("a");
    assert_eq!((member.ejection, member.failures), (None, 0), "no history");
    scenario.pass(60 * SECOND).is("a", Usable).fail("a", 5);
    let remaining = scenario.remaining("a");
    assert!(remaining <= 10 * SECOND, "{remaining:?}: as the first time");
}

#[test]
fn a_member_that_leaves_on_probation_has_no_history_when_it_comes_back() {
    fleet(3)
        .fail("a", 5)
        .outlast("a")
        .remove("a")
        .add("a")
        .is("a", Usable)
        .story_is("a", ["ejected", "probation"]);
}

#[test]
fn a_member_that_left_on_probation_gets_no_trial() {
    fleet(3)
        .fail("a", 5)
        .outlast("a")
        .remove("a")
        .takes_nothing("a");
}

#[test]
fn the_trial_of_a_member_that_left_does_not_count_for_its_successor() {
    let mut scenario = fleet(5);
    scenario
        .fail("a", 5)
        .outlast("a")
        .begin("a")
        .remove("a")
        .add("a")
        .fail("a", 5)
        .outlast("a")
        .begin("a")
        .end("a", |pick, now| pick.success(now))
        .is("a", Probation)
        .end("a", |pick, now| pick.success(now))
        .is("a", Usable);
}

#[test]
fn a_doubted_set_forgets_no_ejection() {
    let mut scenario = fleet(8);
    scenario.fail("a", 5);
    let dials = scenario
        .fleet
        .apply([].into_iter().collect(), scenario.now());
    assert!(dials.is_empty());
    scenario.is("a", Ejected).add("a").is("a", Ejected);
}

#[test]
fn a_member_that_leaves_or_drains_during_its_trial_makes_room_at_once() {
    let two_on_probation = || {
        let mut scenario = fleet(5);
        scenario
            .fail("a", 5)
            .fail("b", 5)
            .pass(10 * SECOND)
            .begin("a");
        scenario
    };
    two_on_probation()
        .remove("a")
        .succeed("b", 1)
        .is("b", Usable);
    two_on_probation()
        .say("a", Draining)
        .succeed("b", 1)
        .is("b", Usable);
    two_on_probation()
        .restore("a")
        .succeed("b", 1)
        .is("b", Usable);
    two_on_probation()
        .eject("a", SECOND)
        .succeed("b", 1)
        .is("b", Usable);
}

#[test]
fn a_verdict_on_a_member_that_left_does_not_count_for_its_successor() {
    fleet(3)
        .fail("a", 5)
        .outlast("a")
        .begin("a")
        .remove("a")
        .add("a")
        .end("a", |pick, now| pick.failure(now))
        .is("a", Usable)
        .run_is("a", 0)
        .in_flight_is("a", 0)
        .counted([1, 1, 0, 0, 0, 0]);
}

#[test]
fn a_change_of_weight_or_metadata_changes_no_standing() {
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
    scenario.outlast("a").is("a", Probation);
}

#[test]
fn a_returned_member_that_leaves_has_no_history_when_it_comes_back() {
    let mut scenario = fleet(3);
    scenario
        .fail("a", 5)
        .outlast("a")
        .succeed("a", 1)
        .remove("a")
        .add("a")
        .is("a", Usable);
    assert_eq!(scenario.member("a").ejection, None, "no history");
}

#[test]
fn members_that_come_and_go_while_ejected_leave_no_deadline_behind() {
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
