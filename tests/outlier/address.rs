//! Instances that move to another address while they are out.

use rolecall::Availability::{Available, Draining};
use rolecall::MemberState::{Ejected, Probation, Usable};

use crate::scenario::{MS, SECOND, fleet};

#[test]
fn a_new_address_is_dialled_and_tried_at_once() {
    fleet(3)
        .fail("a", 5)
        .readdress("a", 81)
        .is("a", Probation)
        .succeed("a", 1)
        .is("a", Usable)
        .story_is("a", ["ejected", "probation", "returned"]);
}

#[test]
fn failures_of_the_old_address_during_the_dial_do_not_count_for_the_new_one() {
    fleet(3)
        .hold_dials()
        .readdress("a", 81)
        .fail("a", 5)
        .is("a", Ejected)
        .let_dials_through()
        .is("a", Probation);
}

#[test]
fn a_failed_trial_of_the_old_address_does_not_count_for_the_new_one() {
    fleet(3)
        .fail("a", 5)
        .outlast("a")
        .hold_dials()
        .readdress("a", 81)
        .fail("a", 1)
        .is("a", Ejected)
        .let_dials_through()
        .is("a", Probation);
}

#[test]
fn a_member_ejected_by_hand_is_tried_at_its_new_address() {
    fleet(3)
        .eject("a", 100 * SECOND)
        .readdress("a", 81)
        .is("a", Probation);
}

#[test]
fn a_new_address_starts_without_a_run() {
    fleet(3)
        .fail("a", 4)
        .readdress("a", 81)
        .run_is("a", 0)
        .fail("a", 4)
        .is("a", Usable);
}

#[test]
fn a_new_address_starts_without_a_run_after_the_old_connection_is_lost() {
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
fn a_new_address_starts_without_a_run_if_the_old_connection_is_lost_during_the_dial() {
    fleet(3)
        .fail("a", 4)
        .hold_dials()
        .readdress("a", 81)
        .each("a", 1, MS, |pick, now| pick.unsent(now))
        .let_dials_through()
        .run_is("a", 0);
    fleet(3)
        .fail("a", 4)
        .hold_dials()
        .readdress("a", 81)
        .say("a", Draining)
        .say("a", Available)
        .let_dials_through()
        .run_is("a", 0);
}
