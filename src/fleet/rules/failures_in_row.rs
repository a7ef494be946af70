//! Failures in a row.
//!
//! A run of at least [`failures_in_row`](crate::OutlierBuilder::failures_in_row) failures makes an outlier. While others fail as
//! well, it must be longer than [chance](super::chance) explains: while half of a thousand requests fail, 21 in a row.
//!
//! The run must also have lasted for three mean latencies. A server that sheds load answers five requests by errors within a
//! millisecond while it serves others, and the success of one of those ends the run.

use super::chance::Chance;

/// Mean latencies that a run must have lasted.
const ANSWERS: f32 = 3.0;

/// Whether a run that is `age` nanoseconds old has outlasted what was in flight when it began, where the mean latency is `mean`
/// nanoseconds.
pub(crate) fn outlasts_answers(age: u64, mean: f32) -> bool {
    age as f32 >= ANSWERS * mean
}

/// How many failures in a row make an outlier.
///
/// `floor` is the configured number; a suspect has a lower one.
pub(crate) fn threshold(floor: u32, chance: Chance) -> u32 {
    // Saturates where all fail: no run makes an outlier there.
    floor.max(chance.in_row().ceil() as u32)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fleet::measures::failures::MIN_SAMPLE;

    /// Where this share of so many requests fails.
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
    fn the_more_was_asked_the_longer_a_run_must_be() {
        assert_eq!(needed(5, 100.0, 20.0), 9);
        assert_eq!(needed(5, 1000.0, 200.0), 9);
        assert_eq!(needed(5, 1_000_000.0, 200_000.0), 13);
    }

    #[test]
    fn too_few_outcomes_say_little_of_the_others() {
        assert_eq!(needed(5, 1.0, 1.0), 5);
        assert_eq!(needed(5, 5.0, 5.0), 21, "as if five of ten did");
        assert_eq!(needed(5, 8.0, 8.0), 118, "as if eight of ten did");
        assert_eq!(needed(5, 10.0, 10.0), u32::MAX, "all fail");
    }
}
