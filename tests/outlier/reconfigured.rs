//! Reconfiguration of a fleet in use.

use std::collections::BTreeSet;

use rolecall::MemberState::{Ejected, Probation, Usable};
use rolecall::{BalanceConfig, ConfigBuilder, EjectionMode, Load};

use crate::scenario::{
    Does, MS, SECOND, Scenario, cold_fleet_with, fleet, fleet_with, name, rules,
};

fn off() -> ConfigBuilder {
    BalanceConfig::builder().outlier(None)
}

fn shadow() -> ConfigBuilder {
    rules(|rules| rules.shadow(true))
}

#[test]
fn switching_rules_off_restores_members_that_a_rule_ejected() {
    for quiet in [off, shadow] {
        let mut scenario = fleet(6);
        scenario
            .fail("a", 5)
            .outlast("a")
            .fail("b", 5)
            .eject("c", 100 * SECOND)
            .is("a", Probation)
            .reconfigure(quiet())
            .are([Usable, Usable, Ejected, Usable, Usable, Usable])
            .story_is("a", ["ejected", "probation", "returned"])
            .story_is("b", ["ejected", "returned"])
            .counted([2, 3, 0, 0, 2, 0]);
        scenario
            .pass(SECOND)
            .takes_nothing("c")
            .pass(100 * SECOND)
            .is("c", Probation);
    }
}

#[test]
fn the_status_shows_the_ejection_mode() {
    let mut scenario = fleet(3);
    for (config, mode, text) in [
        (BalanceConfig::builder(), EjectionMode::On, "usable; set"),
        (
            shadow(),
            EjectionMode::Shadow,
            "usable; ejection is in shadow",
        ),
        (off(), EjectionMode::Off, "usable; ejection is off"),
    ] {
        let status = scenario.reconfigure(config).status();
        assert_eq!(status.ejection_mode, mode);
        assert!(status.to_string().contains(text), "{status}");
    }
}

#[test]
fn a_member_ejected_by_hand_after_a_rule_stays_out() {
    fleet(3)
        .fail("a", 5)
        .eject("a", 100 * SECOND)
        .reconfigure(off())
        .is("a", Ejected);
}

#[test]
fn without_rules_no_member_is_judged() {
    fleet(3)
        .reconfigure(off())
        .fail("a", 50)
        .is("a", Usable)
        .counted([0; 6])
        .reconfigure(BalanceConfig::builder())
        .fail("a", 1)
        .is("a", Ejected);
}

#[test]
fn after_shadow_mode_the_next_failure_ejects() {
    fleet_with(3, shadow())
        .fail("a", 5)
        .reconfigure(BalanceConfig::builder())
        .is("a", Usable)
        .pass(SECOND)
        .fail("a", 1)
        .is("a", Ejected);
}

#[test]
fn another_threshold_applies_to_the_next_failure() {
    fleet(3)
        .fail("a", 3)
        .reconfigure(rules(|rules| rules.failures_in_row(2)))
        .is("a", Usable)
        .fail("a", 1)
        .is("a", Ejected)
        .reconfigure(rules(|rules| rules.failures_in_row(9)))
        .is("a", Ejected);
}

#[test]
fn another_cap_applies_to_the_next_ejection() {
    fleet(4)
        .reconfigure(rules(|rules| rules.max_ejection_percentage(75)))
        .fail("a", 5)
        .fail("b", 5)
        .fail("c", 5)
        .are([Ejected, Ejected, Ejected, Usable])
        .reconfigure(rules(|rules| rules.max_ejection_percentage(25)))
        .are([Ejected, Ejected, Ejected, Usable])
        .restore("a")
        .restore("b")
        .fail("a", 24)
        .is("a", Usable);
}

#[test]
fn without_rules_suspects_are_not_tried() {
    for quiet in [off, shadow] {
        for seed in 0..5 {
            let mut scenario = crate::scenario::seeded_fleet(10, BalanceConfig::builder(), seed);
            for member in 0..10 {
                scenario.succeed(&crate::scenario::name(member), 10);
            }
            scenario.fail("a", 1);
            // A suspect by now. Requests are few, so it may not have been tried yet.
            scenario.traffic(1500 * MS, 250 * MS, |_| Does::Succeed(10 * MS));
            let trials = scenario.status().ejections.trials;
            scenario.reconfigure(quiet());
            scenario.traffic(5 * SECOND, MS, |_| Does::Succeed(MS));
            assert_eq!(scenario.status().ejections.trials, trials, "seed {seed}");
        }
    }
}

#[test]
fn switching_rules_off_forgets_earlier_ejections() {
    for quiet in [off, shadow] {
        let mut scenario = fleet(3);
        scenario.fail("a", 5).outlast("a").fail("a", 1);
        let multiplier = scenario.ejection("a").multiplier;
        assert_eq!(multiplier, 2);
        scenario
            .reconfigure(quiet())
            .reconfigure(BalanceConfig::builder());
        assert_eq!(scenario.ejection("a").multiplier, 0);
        scenario.fail("a", 5);
        let remaining = scenario.remaining("a");
        assert!(remaining <= 10 * SECOND, "{remaining:?}: as the first time");
    }
}

/// A fleet of two thousand of which nearly a thousand are out by a rule.
fn a_thousand_out() -> Scenario {
    let config = rules(|rules| rules.failures_in_row(1)).load(Load::least_in_flight());
    let mut scenario = cold_fleet_with(2000, config);
    let failing: BTreeSet<_> = (0..1000).map(name).collect();
    let picks: Vec<_> = (0..8000).map(|_| scenario.next()).collect();
    let (bad, good): (Vec<_>, Vec<_>) = picks
        .into_iter()
        .partition(|pick| failing.contains(pick.instance().id().as_str()));
    scenario.pass(10 * MS);
    good.into_iter()
        .for_each(|pick| _ = pick.success(scenario.now()));
    scenario.pass(50 * MS);
    bad.into_iter()
        .for_each(|pick| _ = pick.failure(scenario.now()));
    scenario
}

#[test]
fn a_thousand_members_return_at_once() {
    let mut scenario = a_thousand_out();
    let out = |scenario: &Scenario| {
        let members = scenario.status().members;
        members.iter().filter(|m| m.state == Ejected).count()
    };
    let ejected = out(&scenario);
    assert!(ejected > 950, "{ejected}");
    assert_eq!(scenario.status().usable, 2000 - ejected);
    let ejected = ejected as u64;
    scenario
        .reconfigure(off())
        .counted([ejected, ejected, 0, 0, ejected, 0]);
    assert_eq!((out(&scenario), scenario.status().usable), (0, 2000));
    scenario.pass(6 * SECOND);
    let picked: BTreeSet<String> = (0..20_000)
        .map(|_| scenario.next().instance().id().to_string())
        .collect();
    assert!(picked.len() > 1950, "{} of 2000 are picked", picked.len());
}

#[test]
fn a_trial_in_flight_when_rules_are_switched_off_is_no_verdict() {
    fleet(3)
        .fail("a", 5)
        .outlast("a")
        .begin("a")
        .reconfigure(off())
        .is("a", Usable)
        .end("a", |pick, now| pick.failure(now))
        .is("a", Usable)
        .run_is("a", 0);
}

#[test]
fn ejections_continue_with_another_kind_of_load() {
    let mut scenario = fleet(3);
    scenario
        .fail("a", 5)
        .reconfigure(BalanceConfig::builder().load(Load::least_in_flight()))
        .is("a", Ejected)
        .takes_nothing("a");
    scenario.outlast("a").succeed("a", 1).is("a", Usable);
}

#[test]
fn a_member_that_failed_before_rules_were_switched_on_is_judged_soon() {
    let mut scenario = fleet_with(2, BalanceConfig::builder().outlier(None));
    scenario
        .fail("a", 4)
        .reconfigure(BalanceConfig::builder())
        .traffic(15 * SECOND, MS, |id| match id {
            "a" => Does::Fail(MS),
            _ => Does::Succeed(MS),
        });
    scenario.is("a", Ejected);
}

/// A fleet in which ejection is switched on while five requests are in flight that were picked without a clock.
fn untimed_picks() -> Scenario {
    let least = || BalanceConfig::builder().load(Load::least_in_flight());
    let mut scenario = fleet_with(3, least().outlier(None));
    (0..5).for_each(|_| _ = scenario.begin("a"));
    scenario.reconfigure(least());
    scenario
}

#[test]
fn untimed_picks_do_not_count_after_an_ejection() {
    let mut scenario = untimed_picks();
    scenario
        .fail("a", 5)
        .outlast("a")
        .succeed("a", 1)
        .pass(SECOND);
    for _ in 0..5 {
        scenario.end("a", |pick, now| pick.failure(now));
    }
    scenario.is("a", Usable).run_is("a", 0);
}

#[test]
fn untimed_picks_do_not_count_after_a_stall() {
    let mut scenario = untimed_picks();
    scenario
        .succeed("b", 20)
        .begin("b")
        .stall(2 * SECOND)
        .meet_deadline();
    for _ in 0..5 {
        scenario.end("a", |pick, now| pick.failure(now));
    }
    scenario.is("a", Usable).run_is("a", 0);
}
