//! The failure rate: half of all requests fail, with successes in between that end every run.
//!
//! At least `request_volume` outcomes within ten seconds, of which `failure_percentage` failed, and twice the rate of the other
//! members. What [chance](super::chance) explains does not count,
//! nor does the largest [pause](super::unresponsive) of the instance.

use crate::fleet::measures::failures::Tally;

/// How many times the rate of the others makes an outlier.
const TIMES_OTHERS: f32 = 2.0;

/// The share of failures that makes an outlier, where the others fail at the rate `others`.
pub(crate) fn threshold(percentage: u32, others: f32) -> f32 {
    (percentage as f32 / 100.0).max(TIMES_OTHERS * others)
}

/// Whether the outcomes reach the threshold. Fewer than `volume` of them say nothing.
pub(crate) fn reaches(own: Tally, volume: u32, threshold: f32) -> bool {
    own.outcomes >= volume as f32 && own.failures >= threshold * own.outcomes
}

#[cfg(test)]
mod tests {
    use super::*;

    fn own(outcomes: f32, failures: f32) -> Tally {
        Tally { outcomes, failures }
    }

    #[test]
    fn half_of_ten_is_enough_where_others_are_well() {
        let threshold = threshold(50, 0.001);
        assert!(reaches(own(10.0, 5.0), 10, threshold));
        assert!(!reaches(own(10.0, 4.0), 10, threshold));
        assert!(!reaches(own(9.0, 9.0), 10, threshold), "too few to tell");
    }

    #[test]
    fn where_others_fail_too_it_must_be_twice_as_bad() {
        let threshold = threshold(50, 0.4);
        assert!(!reaches(own(100.0, 70.0), 10, threshold));
        assert!(reaches(own(100.0, 80.0), 10, threshold));
    }
}
