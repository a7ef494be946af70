//! How a returned member gets back to its full share.

use std::time::Duration;

use rolecall::MemberState::Usable;
use rolecall::{BalanceConfig, ConfigBuilder, Load};

use crate::scenario::{Does, MS, SECOND, Scenario, fleet_with, name};

/// A fleet in which `a` has just returned after a trial.
fn returned(members: usize, config: ConfigBuilder) -> Scenario {
    let mut scenario = fleet_with(members, config);
    scenario
        .fail("a", 5)
        .outlast("a")
        .succeed("a", 1)
        .is("a", Usable);
    scenario
}

/// The share of `a` in this time. Requests take 10 ms, and about `under_way` of them are in flight to each member.
fn share(scenario: &mut Scenario, members: usize, time: Duration, under_way: u32) -> f64 {
    let gap = 10 * MS / members as u32 / under_way;
    let picks = scenario.traffic(time, gap, |_| Does::Succeed(10 * MS));
    picks.share("a", members)
}

#[test]
fn a_returned_member_begins_with_a_tenth_and_has_its_full_share_after_five_seconds() {
    for members in [2, 3, 10] {
        for load in [Load::latency(), Load::least_in_flight()] {
            let mut scenario = returned(members, BalanceConfig::builder().load(load.clone()));
            let shares: Vec<_> = (0..6)
                .map(|_| share(&mut scenario, members, SECOND, 1))
                .collect();
            let all = format!("{load:?}, N = {members}: {shares:.2?}");
            assert!(
                (0.05..0.6).contains(&shares[0]),
                "a small share at first; {all}"
            );
            assert!((0.3..0.95).contains(&shares[2]), "half way; {all}");
            assert!(
                (0.8..1.25).contains(&shares[5]),
                "the full share in the end; {all}"
            );
        }
    }
}

#[test]
fn a_returned_member_is_not_flooded_while_all_others_have_a_queue() {
    for load in [Load::latency(), Load::least_in_flight()] {
        let members = 10;
        let mut scenario = fleet_with(members, BalanceConfig::builder().load(load.clone()));
        scenario.eject("a", SECOND);
        let gap = 10 * MS / 9 / 8;
        scenario.traffic(SECOND - 10 * MS, gap, |_| Does::Succeed(10 * MS));
        let picks = scenario.traffic(500 * MS, gap, |_| Does::Succeed(10 * MS));
        let share = picks.share("a", members);
        assert!(share > 0.0, "it has returned");
        assert!(
            share < 0.5,
            "{load:?}: it has {share:.2} of its share in its first half second"
        );
    }
}

#[test]
fn members_may_return_together() {
    let mut scenario = fleet_with(10, BalanceConfig::builder());
    for member in 0..5 {
        scenario.eject(&name(member), 100 * SECOND);
    }
    for member in 0..5 {
        scenario.restore(&name(member));
    }
    let picks = scenario.traffic(SECOND, MS / 2, |_| Does::Succeed(10 * MS));
    let back: f64 = (0..5).map(|member| picks.share(&name(member), 10)).sum();
    assert!(
        (0.2..3.0).contains(&back),
        "five returned members have {back:.2} shares"
    );
    scenario.pass(5 * SECOND);
    let picks = scenario.traffic(SECOND, MS / 2, |_| Does::Succeed(10 * MS));
    let back: f64 = (0..5).map(|member| picks.share(&name(member), 10)).sum();
    assert!((4.2..5.8).contains(&back), "{back:.2}");
}

#[test]
fn if_all_members_are_returning_all_are_picked() {
    let mut scenario = fleet_with(2, BalanceConfig::builder());
    scenario
        .eject("a", 100 * SECOND)
        .eject("b", 100 * SECOND)
        .restore("a")
        .restore("b");
    let picks = scenario.traffic(SECOND, MS, |_| Does::Succeed(10 * MS));
    assert!((0.8..1.2).contains(&picks.share("a", 2)));
}

#[test]
fn the_only_usable_member_gets_all_requests_at_once() {
    let mut scenario = fleet_with(2, BalanceConfig::builder());
    scenario
        .eject("a", 100 * SECOND)
        .eject("b", 100 * SECOND)
        .restore("a");
    let picks = scenario.traffic(SECOND / 10, MS, |_| Does::Succeed(10 * MS));
    assert_eq!(picks.share("a", 1), 1.0);
}

#[test]
fn without_slow_start_a_member_has_its_full_share_at_once() {
    let mut scenario = returned(10, BalanceConfig::builder().slow_start(Duration::ZERO));
    let share = share(&mut scenario, 10, SECOND, 1);
    assert!(share > 0.8, "{share:.2}");
}

#[test]
fn another_length_applies_to_a_member_in_slow_start() {
    let minute = BalanceConfig::builder().slow_start(60 * SECOND);
    let mut scenario = returned(10, minute);
    scenario.pass(6 * SECOND);
    let slow = share(&mut scenario, 10, SECOND, 1);
    // It is drawn a fifth as often as at its full share, but found idle each time.
    assert!(slow < 0.65, "{slow:.2}");
    scenario.reconfigure(BalanceConfig::builder().slow_start(SECOND));
    let whole = share(&mut scenario, 10, SECOND, 1);
    assert!(whole > 0.8, "{whole:.2}");
}

#[test]
fn new_members_have_no_slow_start() {
    let mut scenario = fleet_with(9, BalanceConfig::builder());
    scenario.add("z");
    let picks = scenario.traffic(SECOND, MS, |_| Does::Succeed(10 * MS));
    let share = picks.share("z", 10);
    assert!(share > 0.7, "{share:.2}");
}

#[test]
fn it_ends_on_time_without_traffic() {
    let mut scenario = returned(10, BalanceConfig::builder());
    scenario.pass(5 * SECOND);
    let share = share(&mut scenario, 10, SECOND, 1);
    assert!(share > 0.8, "{share:.2}");
}

#[test]
fn members_that_come_and_go_do_not_change_it() {
    let mut scenario = returned(10, BalanceConfig::builder());
    scenario.remove("b").remove("c").add("z").remove("j");
    let picks = scenario.traffic(SECOND, MS, |_| Does::Succeed(10 * MS));
    let share = picks.share("a", 8);
    assert!((0.02..0.65).contains(&share), "{share:.2}");
    for id in ["d", "e", "f", "g", "h", "i", "z"] {
        let share = picks.share(id, 8);
        assert!(share > 0.8, "{id}: {share:.2}");
    }
}
