//! Which members are yardsticks, and faults that all members share.

use rolecall::MemberState::{Ejected, Usable};
use rolecall::{BalanceConfig, Load};

use crate::scenario::{Does, MS, SECOND, Scenario, cold_fleet_with, fleet, seeded_fleet};

/// A fleet of two in which `a` has just returned.
fn returned() -> Scenario {
    let mut scenario = fleet(2);
    scenario.eject("a", SECOND).restore("a").pass(MS);
    scenario
}

#[test]
fn a_member_that_has_just_returned_is_no_yardstick() {
    let mut scenario = returned();
    scenario.succeed("a", 20).fail("b", 40).are([Usable; 2]);
    scenario.counted([0, 1, 0, 0, 1, 0]);
}

#[test]
fn a_returned_member_is_a_yardstick_after_half_its_share_of_requests() {
    let mut scenario = returned();
    scenario.succeed("a", 40).fail("b", 4).is("b", Usable);
    scenario.fail("b", 1).is("b", Ejected);
}

#[test]
fn a_returned_member_is_a_yardstick_after_ten_seconds() {
    let mut scenario = returned();
    scenario.pass(10 * SECOND).succeed("b", 30).succeed("a", 1);
    scenario.fail("b", 5).is("b", Ejected);
}

#[test]
fn a_returned_member_is_judged_by_the_others() {
    let mut scenario = returned();
    scenario.fail("a", 5).are([Ejected, Usable]);
}

fn works(_: &str) -> Does {
    Does::Succeed(10 * MS)
}

#[test]
fn a_fault_that_all_share_ejects_no_member() {
    for load in [Load::latency(), Load::least_in_flight()] {
        for members in [2, 3, 10] {
            for seed in 0..5 {
                let config = BalanceConfig::builder().load(load.clone());
                let mut scenario = seeded_fleet(members, config, seed);
                scenario.traffic(20 * SECOND, 5 * MS, works);
                scenario.traffic(5 * SECOND, 5 * MS, |_| Does::Fail(2 * MS));
                let status = scenario.status();
                assert_eq!(
                    status.ejections.ejected, 0,
                    "{load:?}, seed {seed}: {status}"
                );
                let after = scenario.traffic(5 * SECOND, 5 * MS, works);
                let status = scenario.status();
                assert_eq!(
                    status.ejections.ejected, 0,
                    "{load:?}, seed {seed}: {status}"
                );
                assert_eq!(status.usable, members);
                let picked = status
                    .members
                    .iter()
                    .map(|m| after.of(m.instance.id().as_str()));
                assert!(picked.min() > Some(0), "{load:?}, seed {seed}: {after:?}");
            }
        }
    }
}

#[test]
fn a_fleet_that_starts_during_a_shared_fault_ejects_no_member() {
    for load in [Load::latency(), Load::least_in_flight()] {
        for members in [1, 2, 10] {
            let config = BalanceConfig::builder().load(load.clone());
            let mut scenario = cold_fleet_with(members, config);
            scenario.traffic(10 * SECOND, 5 * MS, |_| Does::Fail(2 * MS));
            scenario.traffic(5 * SECOND, 5 * MS, works);
            let status = scenario.status();
            assert_eq!(status.ejections.ejected, 0, "{load:?}: {status}");
            assert_eq!(status.usable, members);
        }
    }
}

#[test]
fn a_member_that_still_fails_after_a_shared_fault_is_ejected() {
    let mut scenario = fleet(10);
    scenario.traffic(20 * SECOND, 5 * MS, works);
    scenario.traffic(5 * SECOND, 5 * MS, |_| Does::Fail(2 * MS));
    scenario.traffic(30 * SECOND, 5 * MS, |id| match id {
        "a" => Does::Fail(2 * MS),
        _ => works(id),
    });
    let status = scenario.status();
    assert_eq!(status.ejections.ejected, 1, "{status}");
    assert!(status.members[0].ejection.is_some(), "{status}");
}

#[test]
fn the_only_member_in_play_is_detected_and_kept() {
    let mut scenario = fleet(2);
    scenario.fail("a", 5).pass(SECOND).fail("b", 5);
    scenario
        .are([Ejected, Usable])
        .counted([2, 1, 1, 0, 0, 0])
        .story_is("b", ["withheld"]);
}
