//! The values that a configuration accepts, and what extreme values do.

use std::time::Duration;

use rolecall::MemberState::{Ejected, Usable};
use rolecall::{BalanceConfig, OutlierBuilder, OutlierConfig};

use crate::scenario::{MS, SECOND, fleet_with, rules};

const HOUR: Duration = Duration::from_secs(3600);

#[test]
fn the_defaults_are_what_the_docs_say() {
    let rules = OutlierConfig::default();
    assert_eq!((rules.failures_in_row(), rules.suspect_failures()), (5, 2));
    assert_eq!(rules.unanswered_after(), 50 * MS);
    assert_eq!(
        (rules.failure_percentage(), rules.request_volume()),
        (50, 10)
    );
    assert_eq!(rules.base_ejection_time(), 10 * SECOND);
    assert_eq!(rules.max_ejection_time(), 60 * SECOND);
    assert_eq!(rules.max_ejection_percentage(), 50);
    assert!(!rules.is_shadow());
    assert_eq!(BalanceConfig::default().outlier(), Some(&rules), "on");
    assert_eq!(BalanceConfig::default().slow_start(), 5 * SECOND);
    assert_eq!(rules.to_builder().build(), Ok(rules));
}

#[test]
fn suspect_failures_follows_failures_in_row_unless_it_is_set() {
    let suspect_failures = |rules: OutlierBuilder| rules.build().unwrap().suspect_failures();
    let rules = || OutlierConfig::builder().failures_in_row(7);
    assert_eq!(suspect_failures(rules()), 7);
    assert_eq!(suspect_failures(rules().suspect_failures(3)), 3);
}

#[test]
fn each_field_is_checked_against_its_range() {
    type Change = fn(OutlierBuilder) -> OutlierBuilder;
    let cases: [(&str, Change, Change); 15] = [
        (
            "failures_in_row",
            |r| r.failures_in_row(0),
            |r| r.failures_in_row(1),
        ),
        (
            "failures_in_row",
            |r| r.failures_in_row(1001),
            |r| r.failures_in_row(1000),
        ),
        (
            "suspect_failures",
            |r| r.suspect_failures(0),
            |r| r.suspect_failures(1),
        ),
        (
            "suspect_failures",
            |r| r.suspect_failures(1001),
            |r| r.suspect_failures(1000),
        ),
        (
            "unanswered_after",
            |r| r.unanswered_after(MS / 2),
            |r| r.unanswered_after(MS),
        ),
        (
            "unanswered_after",
            |r| r.unanswered_after(HOUR + MS),
            |r| r.unanswered_after(HOUR),
        ),
        (
            "failure_percentage",
            |r| r.failure_percentage(0),
            |r| r.failure_percentage(1),
        ),
        (
            "failure_percentage",
            |r| r.failure_percentage(101),
            |r| r.failure_percentage(100),
        ),
        (
            "request_volume",
            |r| r.request_volume(0),
            |r| r.request_volume(1),
        ),
        (
            "request_volume",
            |r| r.request_volume(1_000_001),
            |r| r.request_volume(1_000_000),
        ),
        (
            "base_ejection_time",
            |r| r.base_ejection_time(MS / 2),
            |r| r.base_ejection_time(MS),
        ),
        (
            "max_ejection_time",
            |r| r.max_ejection_time(9 * SECOND),
            |r| r.max_ejection_time(10 * SECOND),
        ),
        (
            "max_ejection_time",
            |r| r.max_ejection_time(24 * HOUR + MS),
            |r| r.max_ejection_time(24 * HOUR),
        ),
        (
            "max_ejection_percentage",
            |r| r.max_ejection_percentage(0),
            |r| r.max_ejection_percentage(1),
        ),
        (
            "max_ejection_percentage",
            |r| r.max_ejection_percentage(101),
            |r| r.max_ejection_percentage(100),
        ),
    ];
    for (field, bad, good) in cases {
        let error = bad(OutlierConfig::builder()).build().unwrap_err();
        assert_eq!(error.field(), format!("outlier.{field}"));
        assert!(error.to_string().contains("must be within"), "{error}");
        assert!(
            good(OutlierConfig::builder()).build().is_ok(),
            "the limit of {field}"
        );
    }
    let long = OutlierConfig::builder()
        .base_ejection_time(HOUR)
        .max_ejection_time(24 * HOUR);
    assert!(long.build().is_ok());
}

#[test]
fn the_mildest_rules_eject_no_member_soon_and_the_strictest_at_once() {
    let mild = rules(|rules| {
        rules
            .failures_in_row(1000)
            .request_volume(1_000_000)
            .unanswered_after(HOUR)
    });
    fleet_with(2, mild)
        .fail("a", 999)
        .is("a", Usable)
        .fail("a", 1)
        .is("a", Ejected);
    let strict = rules(|rules| {
        rules
            .failures_in_row(1)
            .request_volume(1)
            .failure_percentage(1)
    });
    fleet_with(2, strict)
        .each("a", 1, 30 * MS, |pick, now| pick.failure(now))
        .is("a", Ejected);
}

#[test]
fn the_shortest_ejection_grows_to_the_longest() {
    let rules = rules(|rules| rules.base_ejection_time(MS).max_ejection_time(24 * HOUR));
    let mut scenario = fleet_with(2, rules);
    scenario.fail("a", 5);
    for _ in 0..40 {
        scenario.outlast("a").earn_trials();
        scenario.fail("a", 1).is("a", Ejected);
    }
    assert!(scenario.remaining("a") >= 12 * HOUR, "{}", scenario.table());
}
