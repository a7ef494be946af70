//! Members that failed recently and have had no requests since.

use crate::scenario::Reason::{FailuresInRow, Unresponsive};
use rolecall::Availability::Busy;
use rolecall::MemberState::{Ejected, Usable};
use rolecall::{BalanceConfig, ConfigBuilder};

use crate::scenario::{Does, MS, SECOND, Scenario, name, rules, seeded_fleet};
use std::time::Duration;

const MEMBERS: usize = 10;

/// A fleet of ten in which `a` has just failed. While requests come one after another, each taking a millisecond, it wins no
/// draw.
fn starved_by(config: ConfigBuilder, seed: u64) -> Scenario {
    let mut scenario = seeded_fleet(MEMBERS, config, seed);
    for member in 0..MEMBERS {
        scenario.each(&name(member), 30, MS, |pick, now| pick.success(now));
    }
    scenario.fail("a", 1);
    scenario
}

fn starved() -> Scenario {
    starved_by(BalanceConfig::builder(), 7)
}

/// Lets time pass without requests, until the failure of `a` is long enough ago.
fn suspected(scenario: &mut Scenario) -> &mut Scenario {
    scenario.begin("b").pass(1500 * MS);
    scenario.end("b", |pick, _| pick.neutral()).run_is("a", 1)
}

/// The next trial of `a`, while 200 requests are answered each second.
#[track_caller]
fn next_trial(scenario: &mut Scenario) -> rolecall::fleet::Pick<()> {
    for _ in 0..500 {
        for _ in 0..20 {
            (0..10).for_each(|_| _ = scenario.begin("b"));
            scenario.pass(50 * MS);
            (0..10).for_each(|_| _ = scenario.end("b", |pick, now| pick.success(now)));
        }
        let pick = scenario.next();
        if pick.instance().id().as_str() == "a" {
            return pick;
        }
        pick.neutral();
    }
    panic!("never tried\n{}", scenario.table())
}

/// Sends requests one after another until one goes to `a`. Returns that one, and how many came before it.
fn until_tried(scenario: &mut Scenario, most: u32) -> Option<(rolecall::fleet::Pick<()>, u32)> {
    for before in 0..most {
        let pick = scenario.next();
        if pick.instance().id().as_str() == "a" {
            return Some((pick, before));
        }
        scenario.pass(MS);
        pick.success(scenario.now());
    }
    None
}

#[track_caller]
fn trial(scenario: &mut Scenario) -> rolecall::fleet::Pick<()> {
    let trial = until_tried(scenario, 4000);
    trial
        .unwrap_or_else(|| panic!("never tried\n{}", scenario.table()))
        .0
}

#[test]
fn a_suspect_is_found_after_a_second_of_silence_and_not_before() {
    for seed in 0..20 {
        let mut scenario = starved_by(BalanceConfig::builder(), seed);
        assert!(
            until_tried(&mut scenario, 950).is_none(),
            "seed {seed}: too soon"
        );
        assert!(
            until_tried(&mut scenario, 3000).is_some(),
            "seed {seed}: never"
        );
    }
}

#[test]
fn a_trial_without_a_verdict_is_repeated_at_once_and_costs_nothing() {
    let mut scenario = starved();
    let mut others = suspected(&mut scenario);
    for _ in 0..50 {
        let pick = others.next();
        assert_eq!(pick.instance().id().as_str(), "a", "its trial");
        pick.neutral();
        others = others.pass(Duration::ZERO);
    }
    scenario.run_is("a", 1).counted([0; 6]);
}

#[test]
fn no_rule_acts_below_the_number_that_was_set() {
    for (config, needed) in [
        (rules(|rules| rules.suspect_failures(3)), 3),
        (rules(|rules| rules.failures_in_row(4)), 4),
        (
            rules(|rules| rules.failures_in_row(9).suspect_failures(2)),
            2,
        ),
    ] {
        let mut scenario = starved_by(config, 7);
        for failures in 2..=needed {
            scenario.is("a", Usable);
            next_trial(&mut scenario).failure(scenario.now());
            scenario.run_is("a", failures);
        }
        scenario.is("a", Ejected).reason_is(
            "a",
            FailuresInRow {
                failures: needed,
                threshold: needed,
            },
        );
    }
    let config = rules(|rules| rules.failures_in_row(1000).failure_percentage(100));
    let mut scenario = starved_by(config, 7);
    for failures in 2..=9 {
        next_trial(&mut scenario).failure(scenario.now());
        scenario.run_is("a", failures).is("a", Usable);
    }
}

#[test]
fn a_success_clears_a_suspect() {
    let mut scenario = starved();
    let pick = trial(&mut scenario);
    scenario.pass(MS);
    pick.success(scenario.now());
    scenario
        .run_is("a", 0)
        .is("a", Usable)
        .counted([0, 0, 0, 1, 0, 0]);
    let picks = scenario.traffic(SECOND, MS, |_| Does::Succeed(MS));
    let share = picks.share("a", MEMBERS);
    assert!(share > 0.7, "no effect of its failure is left: {share:.2}");
}

#[test]
fn a_slow_success_ends_the_run_only() {
    let mut scenario = starved();
    let before = scenario.member("a").latency.unwrap();
    let pick = trial(&mut scenario);
    scenario.pass(50 * MS);
    pick.success(scenario.now());
    scenario.run_is("a", 0).is("a", Usable);
    let after = scenario.member("a").latency.unwrap();
    assert!(
        after > before / 2,
        "{after:?} after {before:?}: its latency still counts"
    );
}

#[test]
fn a_failure_ejects_a_suspect() {
    let mut scenario = starved();
    let pick = trial(&mut scenario);
    pick.failure(scenario.now());
    scenario
        .is("a", Ejected)
        .reason_is(
            "a",
            FailuresInRow {
                failures: 2,
                threshold: 2,
            },
        )
        .counted([1, 1, 0, 1, 0, 0])
        .story_is("a", ["ejected"]);
}

#[test]
fn a_second_without_an_answer_ejects_a_suspect() {
    let mut scenario = starved();
    let _hangs = trial(&mut scenario);
    scenario.pass(1200 * MS).is("a", Ejected).reason_is(
        "a",
        Unresponsive {
            failures: 2,
            threshold: 2,
        },
    );
}

#[test]
fn a_caller_that_gives_up_soon_changes_nothing() {
    let mut scenario = starved();
    for _ in 0..3 {
        let pick = trial(&mut scenario);
        scenario.pass(MS);
        pick.cancelled(scenario.now());
    }
    scenario.is("a", Usable).run_is("a", 1).counted([0; 6]);
}

#[test]
fn a_member_with_a_request_in_flight_is_no_suspect() {
    let mut scenario = starved();
    scenario.begin("a");
    assert!(
        until_tried(&mut scenario, 4000).is_none(),
        "a request is in flight to it"
    );
}

/// The same while two of the others fail half of their requests.
fn starved_among_failing() -> Scenario {
    let mut scenario = starved_by(rules(|rules| rules.failure_percentage(100)), 7);
    for _ in 0..200 {
        for id in ["b", "c"] {
            scenario
                .each(id, 1, MS, |pick, now| pick.failure(now))
                .each(id, 1, MS, |pick, now| pick.success(now));
        }
    }
    // Makes recent picks fast again, so that load keeps away from `a`.
    scenario.each("d", 150, MS / 10, |pick, now| pick.success(now));
    scenario
}

#[test]
fn the_more_others_fail_the_more_failures_it_takes() {
    let mut scenario = starved_among_failing();
    let pick = trial(&mut scenario);
    pick.failure(scenario.now());
    scenario
        .is("a", Usable)
        .run_is("a", 2)
        .counted([0, 0, 0, 1, 0, 0]);
}

#[test]
fn a_failed_trial_is_charged_like_any_failure() {
    let mut scenario = starved_among_failing();
    let pick = trial(&mut scenario);
    let before = scenario.member("a").latency.unwrap();
    pick.failure(scenario.now());
    let after = scenario.member("a").latency.unwrap();
    scenario.counted([0, 0, 0, 1, 0, 0]);
    assert!(after > before, "{after:?} after {before:?}");
}

#[test]
fn the_silence_before_each_further_trial_doubles() {
    // The cap keeps it in play, however often its trial fails.
    let config = rules(|rules| rules.max_ejection_percentage(1));
    let mut scenario = starved_by(config, 7);
    scenario.eject("b", 10_000 * SECOND);
    let (mut at, mut gaps) = (None, Vec::new());
    while gaps.len() < 3 {
        let (pick, _) = until_tried(&mut scenario, 100_000).unwrap();
        let trials = scenario.status().ejections.trials;
        pick.failure(scenario.now());
        if scenario.status().ejections.trials > trials {
            gaps.extend(at.map(|at| scenario.now() - at));
            at = Some(scenario.now());
        }
    }
    for (gap, least) in gaps.iter().zip([2, 4, 8]) {
        let least: Duration = least * SECOND;
        assert!(*gap >= least, "{gap:?} where {least:?} is due: {gaps:?}");
    }
}

#[test]
fn a_busy_member_is_no_suspect() {
    let mut scenario = starved();
    suspected(&mut scenario).say("a", Busy);
    assert!(
        until_tried(&mut scenario, 4000).is_none(),
        "others are available"
    );
    scenario.run_is("a", 1).counted([0; 6]);
}

#[test]
fn a_member_that_left_is_no_suspect_when_it_comes_back() {
    let mut scenario = starved();
    suspected(&mut scenario).remove("a").add("a");
    for _ in 0..5000 {
        let pick = scenario.next();
        pick.success(scenario.now());
    }
    scenario.run_is("a", 0).counted([0; 6]);
}

#[test]
fn a_member_ejected_meanwhile_is_not_judged_by_its_old_trial() {
    let rules = rules(|rules| rules.base_ejection_time(10 * MS));
    let mut scenario = starved_by(rules, 7);
    let old = trial(&mut scenario);
    scenario.fail("a", 4).is("a", Ejected).outlast("a");
    old.success(scenario.now());
    scenario.story_is("a", ["ejected", "probation"]);
}

#[test]
fn a_member_disconnected_meanwhile_is_still_found() {
    for seed in 0..10 {
        let mut scenario = starved_by(BalanceConfig::builder(), seed);
        scenario
            .hold_dials()
            .begin("a")
            .end("a", |pick, now| pick.unsent(now))
            .pass(3 * SECOND);
        for _ in 0..3000 {
            let pick = scenario.next();
            scenario.pass(MS);
            pick.success(scenario.now());
        }
        scenario.let_dials_through().is("a", Usable).run_is("a", 1);
        assert!(
            until_tried(&mut scenario, 4000).is_some(),
            "seed {seed}: never\n{}",
            scenario.table()
        );
    }
}
