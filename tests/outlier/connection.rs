//! Members that lose their connection, or drain, while they are out.

use rolecall::Availability::{Available, Draining};
use rolecall::MemberState::{self, Connecting, Ejected, Probation, Usable};

use crate::scenario::{MS, SECOND, cold_fleet_with, fleet};

#[test]
fn a_member_stays_ejected_until_its_new_address_is_connected() {
    fleet(3)
        .fail("a", 5)
        .hold_dials()
        .readdress("a", 81)
        .is("a", Ejected)
        .takes_nothing("a")
        .let_dials_through()
        .is("a", Probation);
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
fn requests_in_flight_on_a_lost_connection_count_for_the_instance() {
    for is_back in [true, false] {
        let mut scenario = fleet(3);
        scenario.begin("a");
        (0..5).for_each(|_| _ = scenario.begin("a"));
        scenario.hold_dials();
        scenario.end("a", |pick, now| pick.unsent(now)).pass(SECOND);
        if is_back {
            scenario.let_dials_through().is("a", Usable);
        }
        scenario.in_flight_is("a", 5);
        for failures in 1..=5 {
            scenario.run_is("a", failures - 1);
            scenario.end("a", |pick, now| pick.failure(now));
        }
        scenario.run_is("a", 5).in_flight_is("a", 0);
        assert_eq!(scenario.member("a").failures, 5);
        if is_back {
            scenario.is("a", Ejected);
        } else {
            scenario.let_dials_through().is("a", Usable);
            scenario.fail("a", 1).is("a", Ejected);
        }
    }
}

#[test]
fn requests_in_flight_on_a_lost_connection_use_slots_of_the_next() {
    let config = rolecall::BalanceConfig::builder().max_in_flight(3);
    let mut scenario = cold_fleet_with(2, config);
    scenario.begin("a").begin("a").begin("a");
    scenario.end("a", |pick, now| pick.unsent(now)).pass(SECOND);
    scenario.is("a", Usable).in_flight_is("a", 2);
    let third = scenario.pick("a");
    assert!(scenario.try_pick("a").is_err(), "three slots are in use");
    scenario.end("a", |pick, now| pick.success(now));
    let fourth = scenario.pick("a");
    drop((third, fourth));
    scenario.in_flight_is("a", 1);
    // At a new address the same instance still has them in flight.
    scenario.readdress("a", 81).in_flight_is("a", 1);
    scenario.end("a", |pick, now| pick.success(now));
    scenario.in_flight_is("a", 0);
}

#[test]
fn an_ejected_member_that_loses_its_connection_stays_ejected() {
    let mut scenario = fleet(3);
    scenario
        .begin("a")
        .fail("a", 5)
        .end("a", |pick, now| pick.unsent(now));
    scenario.pass(SECOND).is("a", Ejected).takes_nothing("a");
    scenario
        .outlast("a")
        .is("a", Probation)
        .succeed("a", 1)
        .is("a", Usable);
}

#[test]
fn an_ejection_ends_while_its_member_is_disconnected() {
    fleet(3)
        .begin("a")
        .fail("a", 5)
        .hold_dials()
        .end("a", |pick, now| pick.unsent(now))
        .pass(60 * SECOND)
        .is("a", Connecting)
        .let_dials_through()
        .is("a", Probation);
}

#[test]
fn a_member_that_loses_its_connection_during_its_trial_is_tried_again() {
    fleet(3)
        .fail("a", 5)
        .outlast("a")
        .each("a", 1, MS, |pick, now| pick.unsent(now))
        .pass(SECOND)
        .is("a", Probation)
        .succeed("a", 1)
        .is("a", Usable);
}

#[test]
fn the_next_member_is_tried_while_the_first_is_disconnected() {
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
fn an_ejected_member_that_drains_is_ejected_when_it_is_available_again() {
    let mut scenario = fleet(3);
    scenario
        .fail("a", 5)
        .say("a", Draining)
        .is("a", MemberState::Draining)
        .pass(SECOND)
        .say("a", Available)
        .is("a", Ejected)
        .takes_nothing("a");
    scenario.outlast("a").is("a", Probation);
}

#[test]
fn a_member_that_drains_longer_than_its_ejection_is_tried_when_available_again() {
    fleet(3)
        .fail("a", 5)
        .say("a", Draining)
        .pass(10 * SECOND)
        .takes_nothing("a")
        .say("a", Available)
        .is("a", Probation)
        .succeed("a", 1)
        .is("a", Usable);
}

#[test]
fn a_member_that_drains_during_its_trial_is_tried_again_when_available_again() {
    fleet(3)
        .fail("a", 5)
        .outlast("a")
        .begin("a")
        .say("a", Draining)
        .end("a", |pick, now| pick.success(now))
        .say("a", Available)
        .is("a", Probation);
}

#[test]
fn a_member_that_lost_its_weight_is_not_tried() {
    fleet(3)
        .fail("a", 5)
        .weigh("a", 0)
        .pass(10 * SECOND)
        .takes_nothing("a")
        .weigh("a", 1)
        .is("a", Probation)
        .succeed("a", 1);
}
