//! Failures in a row: finds a member that answers every request with an error.
//!
//! A run of at least [`failures_in_row`](crate::OutlierBuilder::failures_in_row) failures makes an outlier. If other members
//! fail as well, it must be longer than [chance](super::chance) explains: 21 in a row if half of a thousand requests fail.
//!
//! The run must also have lasted for three mean latencies. A server that sheds load may reject five requests within a
//! millisecond while it serves others, and the first success among those ends the run.

use super::chance::Chance;

/// The least age of a run, in mean latencies.
const MIN_AGE_X_MEAN: f32 = 3.0;

/// Whether a run has outlasted the requests that were in flight when it began. `age` and the mean latency `mean` are in
/// nanoseconds.
pub(crate) fn outlasts_answers(age: u64, mean: f32) -> bool {
    age as f32 >= MIN_AGE_X_MEAN * mean
}

/// How many failures in a row make an outlier.
///
/// `floor` is the configured number. It is lower for a suspect.
pub(crate) fn threshold(floor: u32, chance: Chance) -> u32 {
    // Saturates if all members fail: then no run makes an outlier.
    floor.max(chance.in_row().ceil() as u32)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fleet::measures::failures::MIN_SAMPLE;

    /// The threshold in a fleet with this many requests, of which this many failed.
    fn needed(floor: u32, requests: f32, failures: f32) -> u32 {
        let sample = requests.max(MIN_SAMPLE);
        let rate = failures / sample;
        let deviation = (rate * (1.0 - rate) / sample).sqrt();
        threshold(floor, Chance::new(rate + deviation, requests))
    }

    #[test]
    fn a_healthy_fleet_needs_the_floor() {
        assert_eq!(needed(5, 1000.0, 0.0), 5);
        assert_eq!(needed(1, 1000.0, 0.0), 1);
        assert_eq!(needed(5, 1000.0, 40.0), 5, "0.05^5 < 1/1000 / 1000");
        assert_eq!(needed(5, 1_000_000.0, 10_000.0), 5);
    }

    #[test]
    fn the_more_others_fail_the_longer_a_run_must_be() {
        assert_eq!(needed(5, 1000.0, 100.0), 7);
        assert_eq!(needed(5, 1000.0, 300.0), 12);
        assert_eq!(needed(5, 1000.0, 500.0), 21);
        assert_eq!(needed(5, 1000.0, 1000.0), u32::MAX, "all fail");
    }

    #[test]
    fn the_more_requests_there_are_the_longer_a_run_must_be() {
        assert_eq!(needed(5, 100.0, 20.0), 9);
        assert_eq!(needed(5, 1000.0, 200.0), 9);
        assert_eq!(needed(5, 1_000_000.0, 200_000.0), 13);
    }

    #[test]
    fn fewer_than_ten_outcomes_count_as_ten() {
        assert_eq!(needed(5, 1.0, 1.0), 5);
        assert_eq!(needed(5, 5.0, 5.0), 21, "as if five of ten failed");
        assert_eq!(needed(5, 8.0, 8.0), 118, "as if eight of ten failed");
        assert_eq!(needed(5, 10.0, 10.0), u32::MAX, "all fail");
    }
}
