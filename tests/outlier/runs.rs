//! Failures in a row, and callers that give up without an answer.

use crate::scenario::Reason::{FailuresInRow, Unresponsive};
use rolecall::MemberState::{Ejected, Usable};

use crate::scenario::{
    Does, MS, SECOND, USUAL, cold_fleet_with, fleet, fleet_with, rules, seeded_fleet,
};

const FIVE: crate::scenario::Reason = FailuresInRow {
    failures: 5,
    threshold: 5,
};
const UNRESPONSIVE: crate::scenario::Reason = Unresponsive {
    failures: 5,
    threshold: 5,
};
/// Twenty times the latency of a warm fleet.
const LONG: std::time::Duration = std::time::Duration::from_millis(200);

#[test]
fn five_failures_in_a_row_eject() {
    fleet(3)
        .fail("a", 4)
        .is("a", Usable)
        .fail("a", 1)
        .is("a", Ejected)
        .reason_is("a", FIVE)
        .takes_nothing("a")
        .counted([1, 1, 0, 0, 0, 0])
        .story_is("a", ["ejected"]);
}

#[test]
fn no_member_is_judged_until_another_one_has_succeeded() {
    cold_fleet_with(3, Default::default())
        .fail("a", 60)
        .is("a", Usable)
        .counted([0; 6])
        .fail("b", 60)
        .are([Usable; 3])
        .succeed("a", 1)
        .fail("a", 30)
        .is("a", Usable);
    cold_fleet_with(3, Default::default())
        .fail("a", 60)
        .succeed("b", 1)
        .fail("a", 1)
        .is("a", Ejected);
}

#[test]
fn failures_of_requests_picked_just_now_do_not_eject() {
    let mut scenario = fleet(3);
    for _ in 0..20 {
        scenario.begin("a");
    }
    scenario.pass(29 * MS);
    for _ in 0..10 {
        scenario.end("a", |pick, now| pick.failure(now));
    }
    scenario.run_is("a", 10).is("a", Usable).pass(MS);
    scenario
        .end("a", |pick, now| pick.failure(now))
        .is("a", Ejected);
    // A server that sheds load still serves some requests, and their success ends the run.
    let mut scenario = fleet_with(3, rules(|rules| rules.failure_percentage(100)));
    for _ in 0..50 {
        scenario
            .begin("a")
            .each("a", 9, MS, |pick, now| pick.failure(now));
        scenario.pass(MS).end("a", |pick, now| pick.success(now));
    }
    scenario.is("a", Usable);
}

#[test]
fn a_success_ends_a_run() {
    fleet(3)
        .fail("a", 4)
        .succeed("a", 1)
        .run_is("a", 0)
        .fail("a", 4)
        .is("a", Usable)
        .fail("a", 1)
        .is("a", Ejected);
}

#[test]
fn an_abandoned_answer_ends_a_run_and_is_an_outcome() {
    let mut scenario = fleet(3);
    for _ in 0..20 {
        scenario.fail("a", 1);
        for _ in 0..5 {
            scenario.begin("a").pass(5 * MS).answer("a").pass(5 * MS);
            scenario.end("a", |pick, now| pick.cancelled(now));
        }
        scenario.run_is("a", 0).is("a", Usable);
    }
}

#[test]
fn abandoning_an_answer_is_no_sign_of_life() {
    let mut scenario = fleet(3);
    scenario.begin("a").pass(5 * MS).answer("a").pass(SECOND);
    let waiting = scenario.pick("a");
    scenario.pass(LONG);
    scenario.end("a", |pick, now| pick.cancelled(now));
    waiting.cancelled(scenario.now());
    scenario.run_is("a", 1);
}

#[test]
fn each_member_has_its_own_run() {
    fleet(5)
        .fail("a", 4)
        .fail("b", 4)
        .are([Usable; 5])
        .succeed("a", 1)
        .run_is("b", 4)
        .succeed("b", 1)
        .fail("c", 5)
        .are([Usable, Usable, Ejected, Usable, Usable]);
}

#[test]
fn a_run_follows_the_order_of_answers_and_not_of_picks() {
    let mut scenario = fleet(3);
    for _ in 0..6 {
        scenario.begin("a");
    }
    for _ in 0..4 {
        scenario.end("a", |pick, now| pick.failure(now));
    }
    scenario
        .end("a", |pick, now| pick.success(now))
        .end("a", |pick, now| pick.failure(now))
        .is("a", Usable)
        .run_is("a", 1);
}

#[test]
fn answers_after_the_ejection_do_not_count() {
    let mut scenario = fleet(3);
    for _ in 0..8 {
        scenario.begin("a");
    }
    scenario.pass(30 * MS);
    for _ in 0..6 {
        scenario.end("a", |pick, now| pick.failure(now));
    }
    scenario.end("a", |pick, now| pick.success(now));
    scenario.end("a", |pick, now| pick.cancelled(now));
    scenario
        .is("a", Ejected)
        .run_is("a", 5)
        .in_flight_is("a", 0)
        .counted([1, 1, 0, 0, 0, 0]);
    assert_eq!(
        scenario.member("a").failures,
        5,
        "the sixth failure does not count"
    );
}

#[test]
fn neutral_outcomes_leave_a_run_unchanged() {
    fleet(3)
        .fail("a", 4)
        .each("a", 1, USUAL, |pick, _| pick.neutral())
        .each("a", 1, USUAL, |pick, now| pick.overloaded(None, now))
        .each("a", 1, USUAL, |pick, _| {
            drop(pick);
            false
        })
        .each("a", 1, USUAL, |pick, now| pick.unsent(now))
        .pass(SECOND)
        .run_is("a", 4)
        .fail("a", 1)
        .is("a", Ejected);
}

#[test]
fn callers_that_give_up_soon_leave_a_run_unchanged() {
    fleet(3)
        .fail("a", 4)
        .cancel("a", 10, 5 * MS)
        .cancel("a", 10, 150 * MS)
        .run_is("a", 4)
        .is("a", Usable);
}

#[test]
fn unanswered_waits_are_a_run_of_failures() {
    fleet(3)
        .cancel("a", 4, LONG)
        .is("a", Usable)
        .cancel("a", 1, LONG)
        .is("a", Ejected)
        .reason_is("a", UNRESPONSIVE);
}

#[test]
fn the_last_failure_of_a_mixed_run_names_the_rule() {
    fleet(3)
        .fail("a", 4)
        .pass(SECOND)
        .cancel("a", 1, LONG)
        .reason_is("a", UNRESPONSIVE);
    fleet(3)
        .cancel("a", 4, LONG)
        .fail("a", 1)
        .reason_is("a", FIVE);
}

#[test]
fn a_wait_counts_from_twenty_mean_latencies() {
    fleet(3)
        .cancel("a", 20, LONG - MS)
        .run_is("a", 0)
        .cancel("a", 1, LONG + MS)
        .run_is("a", 1);
}

#[test]
fn a_wait_counts_from_fifty_milliseconds_if_the_mean_is_unknown() {
    cold_fleet_with(3, Default::default())
        .cancel("a", 20, 49 * MS)
        .run_is("a", 0)
        .cancel("a", 4, 50 * MS)
        .pass(SECOND)
        .succeed("b", 1)
        .cancel("a", 1, 50 * MS)
        .reason_is("a", UNRESPONSIVE);
}

#[test]
fn waits_within_a_second_are_a_pause_for_the_rate_too() {
    cold_fleet_with(3, Default::default())
        .succeed("b", 1)
        .cancel("a", 19, 50 * MS)
        .run_is("a", 19)
        .is("a", Usable)
        .cancel("a", 1, 50 * MS)
        .is("a", Ejected);
}

#[test]
fn callers_that_give_up_within_one_pause_are_one_event() {
    let mut fleet = fleet(3);
    for _ in 0..5 {
        fleet.begin("a");
    }
    fleet.pass(SECOND - 100 * MS);
    for _ in 0..5 {
        fleet.end("a", |pick, now| pick.cancelled(now));
    }
    fleet.run_is("a", 5).is("a", Usable);
    fleet.pass(100 * MS).cancel("a", 1, LONG).is("a", Ejected);
}

#[test]
fn a_wait_counts_from_the_configured_time() {
    fleet_with(3, rules(|rules| rules.unanswered_after(SECOND)))
        .cancel("a", 20, SECOND - MS)
        .run_is("a", 0)
        .cancel("a", 5, SECOND)
        .is("a", Ejected);
}

#[test]
fn a_wait_during_which_the_member_answered_is_no_failure() {
    fleet(3)
        .begin("a")
        .pass(LONG)
        .succeed("a", 1)
        .pass(LONG)
        .end("a", |pick, now| pick.cancelled(now))
        .run_is("a", 0);
    fleet(3)
        .begin("a")
        .pass(LONG)
        .fail("a", 1)
        .pass(LONG)
        .end("a", |pick, now| pick.cancelled(now))
        .run_is("a", 1);
}

#[test]
fn an_overloaded_outcome_is_an_answer() {
    fleet(3)
        .begin("a")
        .pass(LONG)
        .each("a", 1, USUAL, |pick, now| pick.overloaded(None, now))
        .pass(LONG)
        .end("a", |pick, now| pick.cancelled(now))
        .run_is("a", 0);
}

#[test]
fn a_caller_that_abandons_an_answer_is_no_failure() {
    let mut scenario = fleet(3);
    for _ in 0..10 {
        scenario
            .begin("a")
            .answer("a")
            .pass(SECOND)
            .end("a", |pick, now| pick.cancelled(now));
    }
    scenario.run_is("a", 0).is("a", Usable);
}

#[test]
fn fewer_failures_are_enough_if_configured() {
    fleet_with(3, rules(|rules| rules.failures_in_row(1)))
        .each("a", 1, 30 * MS, |pick, now| pick.failure(now))
        .is("a", Ejected);
    fleet_with(3, rules(|rules| rules.failures_in_row(7)))
        .fail("a", 6)
        .is("a", Usable)
        .fail("a", 1)
        .is("a", Ejected);
}

#[test]
fn a_hung_member_is_found_if_callers_wait_for_ten_mean_latencies() {
    for mean in [2, 20, 60, 120] {
        let mut scenario = seeded_fleet(4, Default::default(), 3);
        let answers = |_: &str| Does::Succeed(mean * MS);
        scenario.traffic(20 * SECOND, 5 * MS, answers);
        let picks = scenario.traffic(60 * SECOND, 5 * MS, |id| match id {
            "a" => Does::Nothing(SECOND),
            _ => Does::Succeed(mean * MS),
        });
        let table = scenario.table();
        assert!(
            scenario.status().ejections.ejected > 0,
            "{mean} ms\n{table}"
        );
        assert!(
            picks.of("a") < 40,
            "{mean} ms: {} lost\n{table}",
            picks.of("a")
        );
    }
}

#[test]
fn abandoning_an_earlier_answer_ends_no_run() {
    let mut scenario = fleet(3);
    let mut streams: Vec<_> = (0..50)
        .map(|_| {
            let mut stream = scenario.pick("a");
            stream.answered(scenario.now());
            stream
        })
        .collect();
    scenario.pass(SECOND);
    for failures in 1..5 {
        scenario.cancel("a", 1, 300 * MS).run_is("a", failures);
        for stream in streams.drain(..10) {
            stream.cancelled(scenario.now());
        }
        scenario.run_is("a", failures);
    }
    scenario.cancel("a", 1, 300 * MS).is("a", Ejected);
}

#[test]
fn abandoning_a_present_answer_ends_a_run() {
    let mut scenario = fleet(3);
    scenario.fail("a", 4).pass(MS).begin("a").answer("a");
    scenario
        .end("a", |pick, now| pick.cancelled(now))
        .run_is("a", 0);
}
