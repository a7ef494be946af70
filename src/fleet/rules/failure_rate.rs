//! The failure rate: finds a member that fails often, but succeeds in between and so ends every run of failures.
//!
//! A member is an outlier if it had at least `request_volume` outcomes within ten seconds and `failure_percentage` of them
//! failed. Its rate must also be twice that of the other members. A rate that [chance](super::chance) explains does not
//! count, and the largest [pause](super::unresponsive) of the instance is left out.

use crate::fleet::measures::failures::Tally;

/// A member must fail at this many times the rate of the others.
const TIMES_OTHERS: f32 = 2.0;

/// The share of failures that makes an outlier. `others`: the rate at which the other members fail.
pub(crate) fn threshold(percentage: u32, others: f32) -> f32 {
    (percentage as f32 / 100.0).max(TIMES_OTHERS * others)
}

/// Whether the outcomes reach the threshold. Fewer than `volume` never do.
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
    fn half_of_ten_is_enough_if_the_others_are_healthy() {
        let threshold = threshold(50, 0.001);
        assert!(reaches(own(10.0, 5.0), 10, threshold));
        assert!(!reaches(own(10.0, 4.0), 10, threshold));
        assert!(!reaches(own(9.0, 9.0), 10, threshold), "too few to tell");
    }

    #[test]
    fn a_member_must_fail_at_twice_the_rate_of_the_others() {
        let threshold = threshold(50, 0.4);
        assert!(!reaches(own(100.0, 70.0), 10, threshold));
        assert!(reaches(own(100.0, 80.0), 10, threshold));
    }
}
