//! Stalls of this process, for which no member is charged.

use rolecall::Event;
use rolecall::MemberState::{Ejected, Probation, Usable};
use rolecall::fleet::Pick;

use crate::scenario::{MS, SECOND, Scenario, fleet};

/// A fleet with five requests in flight, of a process that is about to stall.
fn under_way() -> Scenario {
    let mut scenario = fleet(3);
    for _ in 0..5 {
        scenario.begin("a");
    }
    scenario.pass(10 * MS);
    scenario
}

fn all_end(
    scenario: &mut Scenario,
    end: impl Fn(Pick<()>, std::time::Instant) -> bool,
) -> &mut Scenario {
    for _ in 0..5 {
        scenario.end("a", &end);
    }
    scenario
}

#[test]
fn outcomes_of_requests_that_span_a_stall_do_not_count() {
    for late_beat_first in [true, false] {
        for bad in [Pick::failure, Pick::cancelled] {
            let mut scenario = under_way();
            scenario.stall(2 * SECOND);
            if late_beat_first {
                scenario.meet_deadline().pass(MS);
            }
            all_end(&mut scenario, bad);
            scenario
                .is("a", Usable)
                .run_is("a", 0)
                .in_flight_is("a", 0)
                .counted([0; 6]);
            assert_eq!(scenario.member("a").failures, 0, "{}", scenario.table());
        }
    }
}

#[test]
fn a_success_that_spans_a_stall_does_not_count_either() {
    let mut scenario = under_way();
    let before = scenario.status().mean_latency;
    scenario.stall(2 * SECOND).meet_deadline();
    all_end(&mut scenario, Pick::success);
    scenario.succeed("b", 1).pass(SECOND);
    assert_eq!(
        scenario.status().mean_latency,
        before,
        "{}",
        scenario.table()
    );
}

#[test]
fn a_deadline_met_a_quarter_of_a_second_late_is_no_stall() {
    let mut scenario = under_way();
    // The next tick is at most 100 ms away.
    scenario.stall(250 * MS).meet_deadline();
    all_end(&mut scenario, Pick::failure).is("a", Ejected);
}

#[test]
fn requests_after_a_stall_count() {
    let mut scenario = under_way();
    scenario.stall(2 * SECOND).meet_deadline();
    all_end(&mut scenario, Pick::failure)
        .fail("a", 5)
        .is("a", Ejected);
}

#[test]
fn stalls_are_counted_and_long_ones_reported() {
    let reported = |scenario: &mut Scenario| {
        let events = scenario.events().iter();
        let times = events.filter_map(|event| match event {
            Event::Stalled { time, .. } => Some(*time),
            _ => None,
        });
        times.collect::<Vec<_>>()
    };
    let mut scenario = under_way();
    assert_eq!(scenario.status().stalls, 0);
    scenario.stall(800 * MS).meet_deadline();
    assert_eq!(scenario.status().stalls, 1);
    assert!(reported(&mut scenario).is_empty(), "a short one");
    scenario.stall(5 * SECOND).meet_deadline();
    assert_eq!(scenario.status().stalls, 2);
    let reported = reported(&mut scenario);
    assert_eq!(reported.len(), 1);
    assert!(reported[0].abs_diff(5 * SECOND) <= 100 * MS, "{reported:?}");
    // Without traffic the process is not watched for stalls.
    all_end(&mut scenario, |pick, _| pick.neutral()).pass(SECOND);
    scenario.stall(3600 * SECOND).meet_deadline();
    assert_eq!(scenario.status().stalls, 2);
}

#[test]
fn a_time_without_traffic_is_no_stall() {
    let mut scenario = fleet(3);
    scenario.pass(SECOND);
    assert_eq!(scenario.fleet.next_deadline(), None, "it rests");
    scenario.stall(3600 * SECOND).fail("a", 5).is("a", Ejected);
}

#[test]
fn a_trial_that_spans_a_stall_is_no_verdict() {
    for late_beat_first in [true, false] {
        for verdict in [Pick::success, Pick::failure, Pick::cancelled] {
            let mut scenario = fleet(3);
            scenario
                .fail("a", 5)
                .outlast("a")
                .begin("a")
                .stall(2 * SECOND);
            if late_beat_first {
                scenario.meet_deadline().is("a", Probation).pass(MS);
            }
            scenario
                .end("a", verdict)
                .is("a", Probation)
                .in_flight_is("a", 0)
                .pass(SECOND)
                .counted([1, 1, 0, 0, 0, 0])
                .succeed("a", 1)
                .is("a", Usable);
        }
    }
}

#[test]
fn a_trial_that_spans_a_stall_and_never_ends_makes_room_for_the_next() {
    fleet(3)
        .fail("a", 5)
        .outlast("a")
        .begin("a")
        .stall(2 * SECOND)
        .meet_deadline()
        .pass(2 * SECOND)
        .is("a", Probation)
        .succeed("a", 1)
        .is("a", Usable);
}

#[test]
fn an_ejection_due_to_end_during_a_stall_ends_after_it() {
    fleet(3)
        .fail("a", 5)
        .stall(3600 * SECOND)
        .meet_deadline()
        .is("a", Probation)
        .succeed("a", 1)
        .is("a", Usable);
}
