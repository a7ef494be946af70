//! The way back to a full share.

use std::time::Duration;

use rolecall::MemberState::Usable;
use rolecall::{BalanceConfig, ConfigBuilder, Load};

use crate::scenario::{Does, MS, SECOND, Scenario, fleet_with, name};

/// Of so many `a` came back just now, by a probe.
fn returned(members: usize, config: ConfigBuilder) -> Scenario {
    let mut scenario = fleet_with(members, config);
    scenario
        .fail("a", 5)
        .outlast("a")
        .succeed("a", 1)
        .is("a", Usable);
    scenario
}

/// Its share in this time, of requests that take 10 ms; so many of them are under way to each member.
fn share(scenario: &mut Scenario, members: usize, time: Duration, under_way: u32) -> f64 {
    let gap = 10 * MS / members as u32 / under_way;
    let picks = scenario.traffic(time, gap, |_| Does::Succeed(10 * MS));
    picks.share("a", members)
}

#[test]
fn where_all_are_on_their_way_back_all_are_picked() {
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
fn the_only_usable_one_takes_everything_at_once() {
    let mut scenario = fleet_with(2, BalanceConfig::builder());
    scenario
        .eject("a", 100 * SECOND)
        .eject("b", 100 * SECOND)
        .restore("a");
    let picks = scenario.traffic(SECOND / 10, MS, |_| Does::Succeed(10 * MS));
    assert_eq!(picks.share("a", 1), 1.0);
}

#[test]
fn without_slow_start_it_has_all_at_once() {
    let mut scenario = returned(10, BalanceConfig::builder().slow_start(Duration::ZERO));
    let share = share(&mut scenario, 10, SECOND, 1);
    assert!(share > 0.8, "{share:.2}");
}

#[test]
fn new_members_have_none() {
    let mut scenario = fleet_with(9, BalanceConfig::builder());
    scenario.add("z");
    let picks = scenario.traffic(SECOND, MS, |_| Does::Succeed(10 * MS));
    let share = picks.share("z", 10);
    assert!(share > 0.7, "{share:.2}");
}

#[test]
fn it_is_over_on_time_also_without_traffic() {
    let mut scenario = returned(10, BalanceConfig::builder());
    scenario.pass(5 * SECOND);
    let share = share(&mut scenario, 10, SECOND, 1);
    assert!(share > 0.8, "{share:.2}");
}
