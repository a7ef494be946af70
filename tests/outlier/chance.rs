//! How often members are found by chance that are no worse than the others.

use std::time::Duration;

use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};
use rolecall::ConfigBuilder;

use crate::scenario::{MS, SECOND, rules, seeded_fleet};

const WINDOW: Duration = Duration::from_secs(10);

/// So many requests, one every `gap`, to ten members that all fail at the same rate. How many outliers were found, and in
/// how many windows.
fn detections(rate: f64, requests: u32, gap: Duration, config: ConfigBuilder) -> (f64, f64) {
    let mut scenario = seeded_fleet(10, config, 11);
    let mut rng = SmallRng::seed_from_u64(12);
    for _ in 0..requests {
        let now = scenario.now();
        let pick = scenario.fleet.pick(now, &mut scenario.rng, &[]).unwrap();
        scenario.pass(gap);
        if rng.random_bool(rate) {
            pick.failure(scenario.now());
        } else {
            pick.success(scenario.now());
        }
    }
    let windows = (requests * gap).as_secs_f64() / WINDOW.as_secs_f64();
    (scenario.status().ejections.detected as f64, windows)
}

/// Shadow leaves all in play.
fn in_shadow() -> ConfigBuilder {
    rules(|rules| rules.shadow(true))
}

/// The most outliers that are found by chance in so many windows, where one in a thousand is in the mean: that, and four
/// deviations, which is its root. More are found in one of 30 000 cases; the seeds are fixed.
fn by_chance(windows: f64) -> f64 {
    let mean = windows / 1000.0;
    mean + 4.0 * mean.sqrt()
}

#[test]
fn one_that_fails_as_often_as_the_others_is_found_once_in_a_thousand_windows_at_most() {
    // From twenty in ten seconds, two of each member, to ten thousand.
    for (gap, requests) in [
        (MS, 150_000),
        (10 * MS, 100_000),
        (50 * MS, 50_000),
        (500 * MS, 20_000),
    ] {
        for rate in [0.03, 0.1, 0.3, 0.5, 0.7] {
            let (detected, windows) = detections(rate, requests, gap, in_shadow());
            let most = by_chance(windows);
            assert!(
                detected <= most,
                "at a rate of {rate}, every {gap:?}, {detected} were found in {windows} windows: more than {most:.1}"
            );
        }
    }
}

#[test]
fn of_ten_in_a_window_too_few_are_seen_to_promise_that() {
    // The rate of the others is known from nine requests at most. That was once nothing at all, and a third was found.
    for rate in [0.1, 0.3, 0.5] {
        let (detected, windows) = detections(rate, 10_000, SECOND, in_shadow());
        assert!(
            detected <= windows / 50.0,
            "at a rate of {rate} {detected} were found in {windows} windows"
        );
    }
}
