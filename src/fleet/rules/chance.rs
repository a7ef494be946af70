//! Which failures chance explains.
//!
//! A member that is no worse than the others fails at their rate `f`, and by chance sometimes more often. The probability
//! that at least a share `s` of `m` requests fails is at most `exp(-m * D)` (Chernoff's bound); `D` is the divergence of `s`
//! from `f`. For `m` failures in a row it is `f^m`.
//!
//! A result is not chance if it is less likely than one in a thousand, divided by the number of requests in the fleet's
//! window. So in a fleet of equally bad members each rule finds one outlier in a thousand windows, about three hours,
//! however many members there are. That holds from about fifty requests per window on; with fewer, `f` is too uncertain.
//!
//! If no other member fails, chance explains nothing, and the rules apply as configured.

use crate::fleet::measures::failures::Tally;

/// `-ln(1/1000)`.
const IMPROBABLE: f32 = 6.9;

/// What chance explains, at a given failure rate.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Chance {
    /// The rate at which an ordinary member fails.
    rate: f32,
    /// Failures with a probability below `exp(-improbable)` are not chance.
    improbable: f32,
}

impl Chance {
    /// `rate`: at which the other members fail. `requests`: among how many the failures were found.
    pub(crate) fn new(rate: f32, requests: f32) -> Self {
        Self {
            rate,
            improbable: IMPROBABLE + requests.max(1.0).ln(),
        }
    }

    /// The shortest run of failures that chance does not explain.
    pub(crate) fn in_row(self) -> f32 {
        self.improbable / self.divergence(1.0)
    }

    /// Whether chance explains this tally of one member.
    pub(crate) fn explains(self, own: Tally) -> bool {
        let share = own.failures / own.outcomes.max(1.0);
        own.outcomes * self.divergence(share) < self.improbable
    }

    /// The divergence of a share from the rate (Kullback and Leibler); zero if the share is lower.
    fn divergence(self, share: f32) -> f32 {
        // No share is larger.
        if self.rate >= 1.0 {
            return 0.0;
        }
        let part = |of: f32, expected: f32| {
            if of > 0.0 {
                of * (of / expected).ln()
            } else {
                0.0
            }
        };
        if share > self.rate {
            part(share, self.rate) + part(1.0 - share, 1.0 - self.rate)
        } else {
            0.0
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tally(outcomes: f32, failures: f32) -> Tally {
        Tally { outcomes, failures }
    }

    #[test]
    fn the_probability_of_a_run_is_a_power_of_the_rate() {
        let chance = |rate, requests| Chance::new(rate, requests).in_row();
        for (rate, requests) in [(0.1_f32, 1.0), (0.3, 1.0), (0.3, 6000.0), (0.5, 100.0)] {
            let row = chance(rate, requests);
            let improbable = 1e-3 / f64::from(requests);
            let probability = f64::from(rate).powf(f64::from(row));
            assert!(
                (probability / improbable - 1.0).abs() < 0.02,
                "{rate}^{row} is not {improbable}"
            );
        }
    }

    #[test]
    fn it_explains_shares_likelier_than_one_in_a_thousand() {
        let chance = Chance::new(0.28, 1.0);
        // If 28 of 100 fail on average, the probability of at least 43 is 0.0009, and of at least 45 it is 0.0002.
        assert!(chance.explains(tally(100.0, 42.0)));
        assert!(!chance.explains(tally(100.0, 46.0)));
        assert!(chance.explains(tally(100.0, 10.0)), "fewer than usual");
        // The same share of more requests.
        assert!(chance.explains(tally(30.0, 13.0)));
        assert!(!chance.explains(tally(300.0, 130.0)));
    }

    #[test]
    fn it_explains_nothing_if_no_other_member_fails() {
        let chance = Chance::new(0.0, 1e6);
        assert_eq!(chance.in_row(), 0.0);
        assert!(!chance.explains(tally(10.0, 1.0)));
        assert!(Chance::new(0.0, 0.0).explains(Tally::default()));
    }

    #[test]
    fn it_explains_everything_if_all_members_fail() {
        let chance = Chance::new(1.0, 1e3);
        assert_eq!(chance.in_row(), f32::INFINITY);
        assert!(chance.explains(tally(1e6, 1e6)));
    }
}
