//! How often chance alone makes an outlier of a member that is no worse than the others.

use std::time::Duration;

use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};

use crate::scenario::{MS, SECOND, rules, seeded_fleet};

const WINDOW: Duration = Duration::from_secs(10);

/// Sends `requests` requests, one every `gap`, to `members` members that all fail at the same rate. Returns how many
/// outliers were detected, and in how many windows. In shadow all members stay in play, and none is a suspect.
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

/// The most outliers that chance may detect in this many windows, if the mean is one in a thousand: the mean plus four
/// standard deviations, each the root of the mean. More are detected in one of 30 000 cases; the seeds are fixed.
fn by_chance(windows: f64) -> f64 {
    let mean = windows / 1000.0;
    mean + 4.0 * mean.sqrt()
}

/// From 50 requests in ten seconds to 10 000.
fn assert_at_most_one_in_a_thousand_windows(shadow: bool) {
    for (gap, requests) in [(MS, 150_000), (10 * MS, 100_000), (200 * MS, 50_000)] {
        let rates = [0.03, 0.1, 0.3, 0.5, 0.7];
        let fleets = [2, 3, 10].map(|members| rates.map(|rate| (members, rate)));
        for (members, rate) in fleets.concat() {
            let (detected, windows) = detections(shadow, members, rate, requests, gap);
            let most = by_chance(windows);
            assert!(
                detected <= most,
                "of {members} that fail at a rate of {rate}, asked every {gap:?}, {detected} were detected in {windows} windows: \
                 more than {most:.1}"
            );
        }
    }
}

#[test]
fn a_member_no_worse_than_the_others_is_detected_in_one_of_a_thousand_windows() {
    assert_at_most_one_in_a_thousand_windows(true);
}

#[test]
fn a_suspect_no_worse_than_the_others_is_detected_no_more_often() {
    assert_at_most_one_in_a_thousand_windows(false);
}

#[test]
fn ten_requests_in_a_window_are_too_few_for_that_rate() {
    // The rate of the others is known from nine requests at most. When so few counted for nothing, an outlier was detected
    // in a third of the windows.
    for rate in [0.1, 0.3, 0.5] {
        let (detected, windows) = detections(true, 10, rate, 10_000, SECOND);
        assert!(
            detected <= windows / 20.0,
            "at a rate of {rate} {detected} were detected in {windows} windows"
        );
    }
}
