//! A run of failures that chance does not explain.
//!
//! A member that fails at the fleet's own rate `f` has a run of `c` failures with probability `f^c`. One is ejected when
//! its run is less likely than one in a thousand: `c >= ln(1/1000) / ln(f)`, and never below a floor that keeps a few
//! unlucky requests from ejecting anybody. So one bad member of a healthy fleet goes after five failures, and while half of
//! everything fails, ten in a row are needed.

/// `-ln(1/1000)`.
const IMPROBABLE: f32 = 6.9;

/// How many failures in a row make an outlier where the others fail at rate `others`.
///
/// `floor` is the least, from configuration; a member that gets no traffic and is probed for its failures has a lower one.
pub(super) fn threshold(floor: u32, others: f32) -> u32 {
    let improbable = (IMPROBABLE / -others.ln()).ceil();
    // At most a few dozen: rates are clamped.
    floor.max(improbable as u32)
}

#[cfg(test)]
mod tests {
    use super::super::super::window::Tally;
    use super::*;

    fn others(outcomes: f32, failures: f32) -> f32 {
        Tally { outcomes, failures }.rate()
    }

    #[test]
    fn a_healthy_fleet_needs_the_floor() {
        assert_eq!(threshold(5, others(1000.0, 0.0)), 5);
        assert_eq!(threshold(5, others(1000.0, 200.0)), 5, "0.2^5 < 1/1000");
        assert_eq!(threshold(1, others(1000.0, 0.0)), 1);
    }

    #[test]
    fn the_more_others_fail_the_longer_a_run_must_be() {
        assert_eq!(threshold(5, others(1000.0, 300.0)), 6);
        assert_eq!(threshold(5, others(1000.0, 500.0)), 10);
        assert_eq!(
            threshold(5, others(1000.0, 1000.0)),
            24,
            "as if three of four did"
        );
    }

    #[test]
    fn too_few_outcomes_say_nothing_of_the_others() {
        assert_eq!(threshold(5, others(19.0, 19.0)), 5);
        assert_eq!(threshold(5, others(20.0, 20.0)), 24);
    }
}
