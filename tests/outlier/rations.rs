//! How many trials may do harm.

use rolecall::InstanceId;
use rolecall::MemberState::{Ejected, Probation, Usable};

use crate::scenario::{
    Does, MS, SECOND, Scenario, cold_fleet_with, fleet, fleet_with, on_probation, rules,
};

/// A fleet of three in which `a` is on probation, and failed trials have emptied the bucket.
fn emptied_bucket() -> Scenario {
    let mut scenario = fleet(3);
    scenario.fail("a", 5);
    for _ in 0..3 {
        scenario.outlast("a").fail("a", 1).is("a", Ejected);
    }
    scenario.outlast("a").is("a", Probation).takes_nothing("a");
    scenario
}

#[test]
fn after_three_failed_trials_the_next_waits_for_two_hundred_requests() {
    let mut scenario = emptied_bucket();
    scenario.succeed("b", 190).pass(100 * MS).takes_nothing("a");
    scenario.succeed("b", 15).pass(100 * MS);
    let trial = scenario.next();
    assert_eq!(trial.instance().id().as_str(), "a");
    scenario.takes_nothing("a").pass(MS);
    trial.failure(scenario.now());
    scenario.is("a", Ejected).outlast("a").takes_nothing("a");
}

#[test]
fn a_successful_trial_costs_nothing() {
    let mut scenario = fleet(3);
    for _ in 0..20 {
        scenario
            .eject("a", SECOND)
            .pass(SECOND)
            .succeed("a", 1)
            .is("a", Usable);
    }
    scenario.counted([0, 20, 0, 20, 20, 0]);
}

#[test]
fn an_unanswered_trial_costs_as_much_as_a_failed_one() {
    let mut scenario = on_probation();
    scenario.cancel("a", 3, 100 * MS).is("a", Probation);
    scenario.takes_nothing("a");
}

#[test]
fn a_trial_cancelled_soon_costs_nothing_even_before_the_mean_is_known() {
    let mut scenario = cold_fleet_with(3, Default::default());
    scenario
        .eject("a", SECOND)
        .pass(SECOND)
        .cancel("a", 20, 40 * MS)
        .is("a", Probation)
        .succeed("a", 1)
        .is("a", Usable);
}

#[test]
fn at_one_request_a_minute_one_in_two_hundred_meets_a_bad_member() {
    let mut scenario = fleet(2);
    let mut failed = 0;
    for _ in 0..1000 {
        let pick = scenario.next();
        scenario.pass(10 * MS);
        if pick.instance().id().as_str() == "a" {
            failed += 1;
            pick.failure(scenario.now());
        } else {
            pick.success(scenario.now());
        }
        scenario.pass(60 * SECOND);
    }
    assert!(
        failed <= 3 + 1000 / 200 + 5,
        "{failed} of 1000 failed\n{}",
        scenario.table()
    );
    let trials = scenario.status().ejections.trials;
    assert!(trials >= 5, "{trials}: it is still tried");
}

#[test]
fn trials_are_free_in_panic_mode() {
    let mut scenario = fleet(2);
    scenario.eject("b", 100_000 * SECOND).eject("a", SECOND);
    for trials in 1..=20 {
        scenario.outlast("a").in_panic_mode(true).fail("a", 1);
        scenario.is("a", Ejected).counted([0, 2, 0, trials, 0, 1]);
    }
    scenario.outlast("a").succeed("a", 1).is("a", Usable);
    scenario.in_panic_mode(false);
}

#[test]
fn trials_are_free_while_every_usable_member_fails() {
    let mut scenario = emptied_bucket();
    scenario.fail("b", 2).pass(100 * MS).takes_nothing("a");
    scenario.fail("c", 2).pass(100 * MS);
    for _ in 0..5 {
        scenario.fail("a", 1).is("a", Ejected).outlast("a");
    }
    // Until the next tick finds that one of them answers.
    scenario.succeed("c", 1).pass(100 * MS).takes_nothing("a");
    scenario.fail("c", 2).pass(100 * MS).succeed("a", 1);
    scenario.is("a", Usable);
}

#[test]
fn a_request_that_avoids_any_instance_is_no_trial() {
    let mut scenario = on_probation();
    for avoid in ["a", "b", "unknown"] {
        let avoid = [InstanceId::from(avoid)];
        for _ in 0..50 {
            let now = scenario.now();
            let pick = scenario.fleet.pick(now, &mut scenario.rng, &avoid).unwrap();
            assert_ne!(pick.instance().id().as_str(), "a", "avoiding {avoid:?}");
        }
    }
    scenario.is("a", Probation).succeed("a", 1).is("a", Usable);
}

#[test]
fn a_suspect_and_a_member_on_probation_share_the_tokens() {
    let mut scenario = fleet_with(5, rules(|rules| rules.suspect_failures(9)));
    scenario
        .eject("a", SECOND)
        .fail("b", 1)
        .begin("c")
        .pass(1500 * MS);
    scenario.end("c", |pick, _| pick.neutral());
    for id in ["a", "b"] {
        let trial = scenario.next();
        assert_eq!(trial.instance().id().as_str(), id);
        trial.failure(scenario.now());
    }
    scenario
        .counted([0, 1, 0, 2, 0, 0])
        .outlast("a")
        .fail("a", 1);
    scenario.outlast("a").takes_nothing("a");
}

#[test]
fn failures_in_panic_mode_make_no_later_trial_free() {
    let mut scenario = fleet(2);
    scenario
        .fail("a", 5)
        .hold_dials()
        .begin("b")
        .end("b", |pick, now| pick.unsent(now))
        .in_panic_mode(true)
        .pass(300 * MS)
        .let_dials_through()
        .in_panic_mode(false);
    let picks = scenario.traffic(100 * SECOND, 200 * MS, |id| match id {
        "a" => Does::Fail(MS),
        _ => Does::Succeed(MS),
    });
    let failed = picks.of("a");
    assert!(
        failed <= 3 + 500 / 200,
        "{failed} of 500 failed\n{}",
        scenario.table()
    );
}
