//! Members that lose their connection, or drain, while they are out.

use rolecall::Availability::{Available, Draining};
use rolecall::MemberState::{self, Connecting, Ejected, Probing, Usable};

use crate::scenario::{MS, SECOND, fleet};

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
