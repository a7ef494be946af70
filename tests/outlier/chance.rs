//! How often members are found by chance that are no worse than the others.

use std::time::Duration;

use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};

use crate::scenario::{MS, SECOND, rules, seeded_fleet};

const WINDOW: Duration = Duration::from_secs(10);

/// So many requests, one every `gap`, to so many members that all fail at the same rate. How many outliers were found, and in
/// how many windows. In shadow all stay in play, and nobody is a suspect.
fn detections(shadow: bool, members: usize, rate: f64, requests: u32, gap: Duration) -> (f64, f64) {
    let mut scenario = seeded_fleet(members, rules(|rules| rules.shadow(shadow)), 11);
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

/// The most outliers that are found by chance in so many windows, where one in a thousand is in the mean: that, and four
/// deviations, which is its root. More are found in one of 30 000 cases; the seeds are fixed.
fn by_chance(windows: f64) -> f64 {
    let mean = windows / 1000.0;
    mean + 4.0 * mean.sqrt()
}

/// From fifty in ten seconds to ten thousand.
fn are_found_once_in_a_thousand_windows_at_most(shadow: bool) {
    for (gap, requests) in [(MS, 150_000), (10 * MS, 100_000), (200 * MS, 50_000)] {
        let rates = [0.03, 0.1, 0.3, 0.5, 0.7];
        let fleets = [2, 3, 10].map(|members| rates.map(|rate| (members, rate)));
        for (members, rate) in fleets.concat() {
            let (detected, windows) = detections(shadow, members, rate, requests, gap);
            let most = by_chance(windows);
            assert!(
                detected <= most,
                "of {members} that fail at a rate of {rate}, asked every {gap:?}, {detected} were found in {windows} windows: \
                 more than {most:.1}"
            );
        }
    }
}

#[test]
fn one_that_fails_as_often_as_the_others_is_found_once_in_a_thousand_windows_at_most() {
    are_found_once_in_a_thousand_windows_at_most(true);
}

#[test]
fn a_suspect_that_fails_as_often_as_the_others_is_found_no_more_often() {
    are_found_once_in_a_thousand_windows_at_most(false);
}

#[test]
fn of_ten_in_a_window_too_few_are_seen_to_promise_that() {
    // The rate of the others is known from nine requests at most. That was once nothing at all, and a third was found.
    for rate in [0.1, 0.3, 0.5] {
        let (detected, windows) = detections(true, 10, rate, 10_000, SECOND);
        assert!(
            detected <= windows / 20.0,
            "at a rate of {rate} {detected} were found in {windows} windows"
        );
    }
}
