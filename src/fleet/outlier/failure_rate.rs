//! Half of everything fails, with successes in between that break every run.
//!
//! Callers that gave up in one pause of their instance are one event, and no rate: see
//! [`unresponsive`](super::unresponsive).

use super::super::window::Tally;

/// How much worse than the others a member must be.
const TIMES_OTHERS: f32 = 2.0;

/// The share that has to fail before a member is an outlier where the others fail at rate `others`.
pub(super) fn threshold(percentage: u32, others: f32) -> f32 {
    (percentage as f32 / 100.0).max(TIMES_OTHERS * others)
}

/// Whether these outcomes of the last seconds reach the threshold; below `volume` of them they say nothing.
pub(super) fn reaches(own: Tally, volume: u32, threshold: f32) -> bool {
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
