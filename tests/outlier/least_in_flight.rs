//! Ejection where load is the number of requests in flight.

use crate::scenario::Reason::{FailuresInRow, Unresponsive};
use rolecall::MemberState::{Ejected, Probation, Usable};
use rolecall::{BalanceConfig, ConfigBuilder, Load};

use crate::scenario::{Does, MS, SECOND, fleet_with};

fn least() -> ConfigBuilder {
    BalanceConfig::builder().load(Load::least_in_flight())
}

#[test]
fn a_member_is_ejected_and_returns_as_by_latency() {
    let mut scenario = fleet_with(3, least());
    assert!(scenario.fleet.reads_clock(), "ejection needs the clock");
    scenario
        .fail("a", 5)
        .reason_is(
            "a",
            FailuresInRow {
                failures: 5,
                threshold: 5,
            },
        )
        .takes_nothing("a")
        .outlast("a")
        .is("a", Probation)
        .succeed("a", 1)
        .is("a", Usable);
    assert_eq!(scenario.member("a").latency, None, "no latency is measured");
}

#[test]
fn unanswered_waits_are_compared_with_the_fleets_latency() {
    fleet_with(3, least())
        .cancel("a", 20, 199 * MS)
        .run_is("a", 0)
        .cancel("a", 5, 201 * MS)
        .reason_is(
            "a",
            Unresponsive {
                failures: 5,
                threshold: 5,
            },
        );
}

#[test]
fn an_instance_that_fails_at_once_is_ejected() {
    let mut scenario = fleet_with(3, least());
    let picks = scenario.traffic(10 * SECOND, 5 * MS, |id| match id {
        "a" => Does::Fail(MS),
        _ => Does::Succeed(10 * MS),
    });
    scenario.is("b", Usable).is("c", Usable);
    assert_eq!(scenario.ejection("a").ejections, 1, "{}", scenario.table());
    assert!(picks.of("a") <= 7, "{} of 2000", picks.of("a"));
}

#[test]
fn an_instance_that_hangs_is_ejected() {
    let mut scenario = fleet_with(3, least());
    scenario.traffic(10 * SECOND, 5 * MS, |id| match id {
        "a" => Does::Nothing(SECOND),
        _ => Does::Succeed(10 * MS),
    });
    scenario.is("a", Ejected);
    let reason = scenario.ejection("a").reason;
    assert!(
        matches!(reason, rolecall::EjectionReason::Unresponsive { .. }),
        "{reason}"
    );
}

#[test]
fn without_a_clock_the_status_has_no_recent_requests() {
    fleet_with(3, least().outlier(None))
        .fail("a", 5)
        .pass(15 * SECOND)
        .lately("a", 0, 0)
        .fail("a", 5)
        .lately("a", 0, 0);
}
