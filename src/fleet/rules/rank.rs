//! Which rank gets a request: the backups take what the ranks before them cannot.
//!
//! A rank takes everything while at least 70 % of its announced weight is pickable. Below that it takes its pickable part
//! divided by 0.7, and the next rank takes the rest by the same rule:
//!
//! | pickable in rank 0 | 100 % | 70 % | 60 % | 35 % | 10 % | none |
//! |---|---|---|---|---|---|---|
//! | requests to rank 0 | 100 % | 100 % | 86 % | 50 % | 14 % | none |
//!
//! So no member of a rank ever gets more than 1/0.7 of its share by weight, however many of its rank fail or return, and in
//! whatever order: traffic moves between ranks by one member's capacity at a time. If all ranks together are too small, they
//! divide the requests by what each could take.
//!
//! Announced weight is that of all instances that are not draining. Of it, connected members that are in play are pickable,
//! busy ones included, and so are instances whose first dial is still running: otherwise backups would get the first
//! requests of every process. A rank without any member to pick passes its requests on, except while nothing has been usable
//! yet.
//!
//! All ranks are dialled. A rank that gets no requests is not judged, and sends no trials.

/// The part of its announced weight that must be pickable for a rank to take everything.
const ENOUGH: f64 = 0.7;

/// The weight of one rank.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Capacity {
    pub(crate) announced: u64,
    pub(crate) pickable: u64,
}

/// What a rank takes.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Share {
    /// Its part of all requests.
    pub(crate) part: f64,
    /// Whether the ranks before it leave anything, so that its members have to be in order.
    pub(crate) is_needed: bool,
}

impl Capacity {
    /// The part of all requests that it could take.
    fn part(self) -> f64 {
        if self.announced == 0 {
            return 0.0;
        }
        (self.pickable as f64 / self.announced as f64 / ENOUGH).min(1.0)
    }
}

/// What each rank takes, the best rank first. The parts add up to one, or are all zero if no rank has a pickable member.
pub(crate) fn shares(ranks: impl Iterator<Item = Capacity>) -> Vec<Share> {
    let mut rest = 1.0;
    let mut shares: Vec<_> = ranks
        .map(|rank| {
            let part = rank.part().min(rest);
            let is_needed = rest > 0.0;
            rest -= part;
            Share { part, is_needed }
        })
        .collect();
    let taken = 1.0 - rest;
    if taken > 0.0 {
        shares.iter_mut().for_each(|share| share.part /= taken);
    }
    shares
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts(ranks: &[(u64, u64)]) -> Vec<f64> {
        let ranks = ranks.iter().map(|&(announced, pickable)| Capacity {
            announced,
            pickable,
        });
        let shares = shares(ranks).into_iter();
        shares
            .map(|share| (share.part * 1000.0).round() / 1000.0)
            .collect()
    }

    #[test]
    fn a_rank_takes_everything_from_seven_tenths_and_less_below() {
        assert_eq!(parts(&[(10, 10), (10, 10)]), [1.0, 0.0]);
        assert_eq!(parts(&[(10, 7), (10, 10)]), [1.0, 0.0]);
        assert_eq!(parts(&[(10, 6), (10, 10)]), [0.857, 0.143]);
        assert_eq!(parts(&[(10, 1), (10, 10)]), [0.143, 0.857]);
        assert_eq!(parts(&[(10, 0), (10, 10)]), [0.0, 1.0]);
    }

    #[test]
    fn further_ranks_take_what_is_left_and_small_ones_divide_everything() {
        assert_eq!(
            parts(&[(10, 4), (10, 2), (1, 1)]),
            [0.571, 0.286, 0.143],
            "the third takes the rest"
        );
        assert_eq!(parts(&[(10, 1), (10, 1)]), [0.5, 0.5]);
        assert_eq!(parts(&[(10, 1)]), [1.0]);
        assert_eq!(parts(&[(10, 0), (0, 0)]), [0.0, 0.0]);
    }

    #[test]
    fn a_rank_is_needed_while_those_before_it_leave_something() {
        let capacity = |pickable| Capacity {
            announced: 10,
            pickable,
        };
        let needed = |ranks: [u64; 3]| {
            let shares = shares(ranks.into_iter().map(capacity));
            shares
                .iter()
                .map(|share| share.is_needed)
                .collect::<Vec<_>>()
        };
        assert_eq!(needed([7, 0, 9]), [true, false, false]);
        assert_eq!(needed([6, 0, 9]), [true, true, true]);
        assert_eq!(needed([0, 9, 9]), [true, true, false]);
    }
}
