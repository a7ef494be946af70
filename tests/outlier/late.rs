//! Answers that come too late to count.

use rolecall::MemberState::{Ejected, Probation, Usable};

use crate::scenario::{MS, SECOND, fleet, on_probation};

#[test]
fn a_late_answer_to_a_trial_that_was_given_up_does_not_count() {
    for good in [true, false] {
        let mut scenario = on_probation();
        scenario.begin("a").pass(2 * SECOND).is("a", Ejected);
        let before = scenario.member("a");
        scenario.end("a", |pick, now| {
            if good {
                pick.success(now)
            } else {
                pick.failure(now)
            }
        });
        let after = scenario.member("a");
        assert_eq!(after.ejection, before.ejection, "{}", scenario.table());
        assert_eq!(after.failures, before.failures, "{}", scenario.table());
        scenario.in_flight_is("a", 0).counted([1, 1, 0, 1, 0, 0]);
    }
}

#[test]
fn a_late_answer_to_a_trial_that_was_given_up_does_not_count_after_the_return() {
    let mut scenario = on_probation();
    scenario
        .begin("a")
        .pass(2 * SECOND)
        .outlast("a")
        .succeed("a", 1);
    let before = scenario.member("a");
    scenario
        .end("a", |pick, now| pick.failure(now))
        .is("a", Usable);
    let after = scenario.member("a");
    assert_eq!(after.latency, before.latency, "{}", scenario.table());
    assert_eq!(after.failures, before.failures, "{}", scenario.table());
}

#[test]
fn a_late_answer_to_a_trial_that_was_given_up_does_not_end_the_next_trial() {
    let mut scenario = on_probation();
    scenario
        .begin("a")
        .pass(2 * SECOND)
        .outlast("a")
        .begin("a")
        .end("a", |pick, now| pick.success(now))
        .is("a", Probation)
        .takes_nothing("a")
        .end("a", |pick, now| pick.success(now))
        .is("a", Usable);
}

#[test]
fn an_answer_to_a_request_from_before_the_ejection_is_no_verdict() {
    for good in [true, false] {
        fleet(3)
            .begin("a")
            .fail("a", 5)
            .outlast("a")
            .end("a", |pick, now| {
                if good {
                    pick.success(now)
                } else {
                    pick.failure(now)
                }
            })
            .is("a", Probation)
            .run_is("a", 5)
            .counted([1, 1, 0, 0, 0, 0]);
    }
}

#[test]
fn an_answer_to_a_request_from_before_the_ejection_does_not_count_after_the_return() {
    let mut scenario = fleet(3);
    for _ in 0..5 {
        scenario.begin("a");
    }
    scenario.fail("a", 5).outlast("a").succeed("a", 1);
    for _ in 0..5 {
        scenario.end("a", |pick, now| pick.failure(now));
    }
    scenario.is("a", Usable).run_is("a", 0).in_flight_is("a", 0);
}

#[test]
fn a_trial_from_before_another_ejection_is_no_verdict() {
    fleet(3)
        .eject("a", SECOND)
        .pass(SECOND)
        .begin("a")
        .eject("a", 10 * MS)
        .pass(10 * MS)
        .is("a", Probation)
        .end("a", |pick, now| pick.success(now))
        .is("a", Probation);
}

#[test]
fn a_trial_from_before_a_restore_is_no_verdict() {
    let mut scenario = on_probation();
    scenario
        .begin("a")
        .restore("a")
        .pass(MS)
        .end("a", |pick, now| pick.failure(now))
        .run_is("a", 0)
        .is("a", Usable)
        .counted([1, 1, 0, 0, 1, 0]);
}
