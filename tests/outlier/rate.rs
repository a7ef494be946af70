//! The failure rate within ten seconds.

use crate::scenario::Reason::{FailureRate, FailuresInRow};
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};
use rolecall::MemberState::{Ejected, Usable};
use rolecall::{BalanceConfig, Load};

use crate::scenario::{Does, MS, SECOND, Scenario, cold_fleet_with, fleet, fleet_with, rules};

/// A fleet in which only `b` has had a request, a single one.
fn cold(members: usize) -> Scenario {
    let mut scenario = cold_fleet_with(members, Default::default());
    scenario.succeed("b", 1);
    scenario
}

/// Sends requests that end in this order of `s`uccesses and `f`ailures.
trait Outcomes {
    fn outcomes(&mut self, id: &str, outcomes: &str) -> &mut Self;
}

impl Outcomes for Scenario {
    #[track_caller]
    fn outcomes(&mut self, id: &str, outcomes: &str) -> &mut Self {
        for outcome in outcomes.chars() {
            match outcome {
                's' => self.succeed(id, 1),
                'f' => self.fail(id, 1),
                _ => continue,
            };
        }
        self
    }
}

#[test]
fn half_of_ten_requests_eject_without_a_long_run() {
    cold(3)
        .outcomes("a", "sfsfsfsfs")
        .is("a", Usable)
        .outcomes("a", "f")
        .is("a", Ejected)
        .reason_is(
            "a",
            FailureRate {
                requests: 10,
                failures: 5,
                threshold_percentage: 50,
            },
        )
        .counted([1, 1, 0, 0, 0, 0]);
}

#[test]
fn nine_requests_are_too_few_for_a_rate() {
    cold(3)
        .outcomes("a", "ffff s ffff")
        .is("a", Usable)
        .outcomes("a", "s f")
        .is("a", Ejected);
}

#[test]
fn less_than_half_is_not_enough() {
    cold(3)
        .outcomes("a", "ssf".repeat(30).as_str())
        .is("a", Usable);
}

#[test]
fn a_member_must_fail_twice_as_often_as_the_others() {
    let mut scenario = cold_fleet_with(3, Default::default());
    let third = "fssfssfsss".repeat(20);
    scenario.outcomes("b", &third).outcomes("c", &third);
    // Of 400 requests 120 failed: 0.30, and a deviation of 0.023.
    scenario
        .outcomes("a", &"sf".repeat(50))
        .outcomes("a", &"ffs".repeat(33))
        .outcomes("a", &"ffffs".repeat(15))
        .outcomes("a", "ff")
        .is("a", Usable)
        .outcomes("a", "f")
        .reason_is(
            "a",
            FailureRate {
                requests: 277,
                failures: 179,
                threshold_percentage: 65,
            },
        );
    scenario.is("b", Usable).is("c", Usable);
}

#[test]
fn a_member_must_fail_more_often_than_chance_explains() {
    // A third of the others' requests fail, and three quarters of its own. Among so few requests, twice the usual rate is
    // not rare.
    let mut scenario = cold_fleet_with(3, Default::default());
    let third = "fss".repeat(100);
    scenario.outcomes("b", &third).outcomes("c", &third);
    scenario
        .outcomes("a", &"sfff".repeat(10))
        .outcomes("a", "sf")
        .is("a", Usable)
        .outcomes("a", "f")
        .reason_is(
            "a",
            FailureRate {
                requests: 43,
                failures: 32,
                threshold_percentage: 71,
            },
        );
}

#[test]
fn two_of_four_that_often_fail_do_not_excuse_each_other() {
    for load in [Load::latency(), Load::least_in_flight()] {
        let mut scenario = cold_fleet_with(4, BalanceConfig::builder().load(load.clone()));
        let mut rng = SmallRng::seed_from_u64(14);
        // For a minute, because the silence before each further trial doubles, and the run of one excuses that of the other.
        scenario.traffic(60 * SECOND, 10 * MS, |id| {
            if matches!(id, "a" | "b") && rng.random_bool(0.7) {
                Does::Fail(2 * MS)
            } else {
                Does::Succeed(10 * MS)
            }
        });
        let status = scenario.status();
        let found = status.members.iter().map(|m| m.ejection.is_some());
        let found: Vec<_> = found.collect();
        assert_eq!(found, [true, true, false, false], "{status}");
        let failed: u64 = status.members.iter().map(|m| m.failures).sum();
        assert!(failed < 40, "{failed} of 6000 failed\n{status}");
    }
}

#[test]
fn the_status_shows_the_requests_that_a_rate_is_judged_by() {
    let mut scenario = cold_fleet_with(3, Default::default());
    scenario
        .lately("a", 0, 0)
        .outcomes("a", "sfsfsf sss")
        .lately("a", 9, 3)
        .cancel("a", 5, 40 * MS)
        .lately("a", 9, 3)
        .succeed("b", 16)
        .lately("b", 16, 0)
        .outcomes("a", "ff")
        .lately("a", 11, 5)
        .is("a", Usable)
        .outcomes("a", "f")
        .is("a", Ejected)
        .lately("a", 12, 6);
    // Long lines are wrapped.
    let table = scenario.table();
    let table = table.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(
        table.contains("6 of 12 failed lately, 3 in a row"),
        "{table}"
    );
    assert_eq!(table.matches("lately").count(), 1, "{table}");
    scenario
        .restore("a")
        .lately("a", 0, 0)
        .outcomes("a", "sssf")
        .lately("a", 4, 1)
        .pass(14 * SECOND)
        .lately("b", 9, 0)
        .pass(10 * SECOND)
        .lately("a", 0, 0)
        .lately("b", 0, 0);
}

#[test]
fn outcomes_of_long_ago_no_longer_count() {
    cold(3)
        .outcomes("a", &"s".repeat(100))
        .pass(20 * SECOND)
        .outcomes("a", &"sf".repeat(5))
        .is("a", Ejected);
}

#[test]
fn volume_and_share_are_as_configured() {
    let rules = rules(|rules| rules.request_volume(4).failure_percentage(75));
    cold_fleet_with(3, rules)
        .succeed("b", 1)
        .outcomes("a", "fsf")
        .is("a", Usable)
        .outcomes("a", "f")
        .is("a", Ejected);
}

#[test]
fn at_a_hundred_percent_only_members_that_always_fail_are_ejected_by_rate() {
    let rules = rules(|rules| rules.failures_in_row(1000).failure_percentage(100));
    cold_fleet_with(3, rules.clone())
        .succeed("b", 1)
        .outcomes("a", "s")
        .fail("a", 200)
        .is("a", Usable);
    cold_fleet_with(3, rules)
        .succeed("b", 1)
        .fail("a", 9)
        .is("a", Usable)
        .fail("a", 1)
        .reason_is(
            "a",
            FailureRate {
                requests: 10,
                failures: 10,
                threshold_percentage: 100,
            },
        );
}

#[test]
fn a_member_is_ejected_once_if_two_rules_fire_at_once() {
    cold(3)
        .outcomes("a", "sssss ffff")
        .is("a", Usable)
        .outcomes("a", "f")
        .reason_is(
            "a",
            FailuresInRow {
                failures: 5,
                threshold: 5,
            },
        )
        .counted([1, 1, 0, 0, 0, 0])
        .story_is("a", ["ejected"]);
}

#[test]
fn unanswered_waits_count_in_the_rate() {
    let mut scenario = cold(3);
    for _ in 0..5 {
        scenario.succeed("a", 1).cancel("a", 1, SECOND);
    }
    scenario.is("a", Ejected);
}

#[test]
fn outcomes_before_an_ejection_do_not_count_after_it() {
    let rules = rules(|rules| rules.base_ejection_time(SECOND));
    let mut scenario = cold_fleet_with(3, rules);
    scenario
        .succeed("b", 30)
        .outcomes("a", &"sf".repeat(5))
        .is("a", Ejected)
        .outlast("a")
        .succeed("a", 1)
        .fail("a", 1)
        .is("a", Usable)
        .outcomes("a", "ssfsfsf")
        .is("a", Usable)
        .story_is("a", ["ejected", "probation", "returned"])
        .outcomes("a", "f")
        .outcomes("a", "f")
        .is("a", Ejected);
}

/// Lets this many callers wait together, and give up together.
fn pause(scenario: &mut Scenario, callers: usize) -> &mut Scenario {
    for _ in 0..callers {
        scenario.begin("a");
    }
    scenario.pass(800 * MS);
    for _ in 0..callers {
        scenario.end("a", |pick, now| pick.cancelled(now));
    }
    scenario.is("a", Usable)
}

#[test]
fn callers_that_gave_up_in_one_pause_do_not_count_in_the_rate() {
    for after in [0, 4, 9, 15] {
        let mut scenario = fleet(3);
        pause(&mut scenario, 30)
            .pass(after * SECOND)
            .outcomes("a", "ssssss f")
            .is("a", Usable)
            .outcomes("a", "s")
            .cancel("a", 1, 300 * MS)
            .is("a", Usable);
    }
}

#[test]
fn a_member_kept_by_the_cap_is_not_ejected_for_a_silence_that_is_over() {
    let mut scenario = fleet(3);
    scenario.eject("b", 100 * SECOND);
    for _ in 0..30 {
        scenario.begin("a");
    }
    scenario.pass(1500 * MS);
    for _ in 0..30 {
        scenario.end("a", |pick, now| pick.cancelled(now));
    }
    scenario
        .counted([1, 1, 1, 0, 0, 0])
        .succeed("a", 1)
        .restore("b")
        .pass(SECOND)
        .outcomes("a", "ssssss f")
        .is("a", Usable);
}

#[test]
fn half_of_ten_requests_still_eject_after_a_pause() {
    let mut scenario = cold(3);
    pause(&mut scenario, 30)
        .outcomes("a", "sfsfsfsfs")
        .is("a", Usable)
        .outcomes("a", "f")
        .is("a", Ejected);
}

#[test]
fn a_member_that_pauses_again_and_again_is_ejected_by_its_rate() {
    let mut scenario = cold(3);
    scenario.succeed("b", 10).succeed("c", 10);
    pause(&mut scenario, 30).outcomes("a", "ss");
    for _ in 0..30 {
        scenario.begin("a");
    }
    scenario.pass(800 * MS);
    for _ in 0..30 {
        scenario.end("a", |pick, now| pick.cancelled(now));
    }
    scenario.is("a", Ejected);
}

#[test]
fn a_pause_before_an_ejection_excuses_nothing_after_it() {
    let rules = rules(|rules| rules.base_ejection_time(SECOND));
    let mut scenario = cold_fleet_with(3, rules);
    pause(&mut scenario, 30)
        .succeed("b", 30)
        .fail("a", 1)
        .is("a", Ejected)
        .outlast("a")
        .succeed("a", 1)
        .outcomes("a", "sfsfsfsfs")
        .is("a", Usable)
        .outcomes("a", "f")
        .is("a", Ejected);
}

#[test]
fn a_trial_that_is_given_up_counts_as_a_failed_request() {
    let rules = rules(|rules| rules.base_ejection_time(SECOND).max_ejection_time(SECOND));
    let mut scenario = fleet_with(5, rules);
    scenario.fail("a", 5).pass(40 * SECOND);
    for failed in 1..4 {
        scenario
            .begin("a")
            .pass(1150 * MS)
            .lately("a", failed, failed)
            .end("a", |pick, now| pick.cancelled(now))
            .lately("a", failed, failed)
            .pass(SECOND);
    }
    let member = scenario.member("a");
    assert_eq!((member.picks, member.failures), (108, 8));
}
