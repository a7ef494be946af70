//! Which members of a [rank](super::rank) are picked from: the available ones, else the busy ones, else none, or all of them in
//! panic mode.
//!
//! Panic mode is on while every eligible member is ejected or on probation. Picks then draw from all eligible members: one
//! that fails half of its requests is better than none. Their outcomes move their load and are counted, but eject no member.

/// Which picks a member is for. The best tier comes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Tier {
    /// Any pick.
    Available,
    /// Picks that find no available member.
    Busy,
    /// Picks in panic mode: it is ejected or on probation.
    Out,
}

impl Tier {
    /// The tier of an eligible member.
    pub(crate) fn of(is_out: bool, is_busy: bool) -> Self {
        match (is_out, is_busy) {
            (true, _) => Self::Out,
            (false, true) => Self::Busy,
            (false, false) => Self::Available,
        }
    }

    /// Whether it is picked from while `best` is the best tier of its rank.
    pub(crate) fn is_picked(self, best: Self, is_panic_mode: bool) -> bool {
        self == best && (self != Self::Out || is_panic_mode)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_best_tier_is_picked_from_and_members_that_are_out_in_panic_mode() {
        use Tier::{Available, Busy, Out};
        let best = |tiers: [Tier; 3]| tiers.into_iter().min();
        assert_eq!(best([Out, Busy, Available]), Some(Available));
        assert_eq!(best([Out, Busy, Out]), Some(Busy));
        assert!(Busy.is_picked(Busy, false) && !Busy.is_picked(Available, false));
        assert!(Out.is_picked(Out, true) && !Out.is_picked(Out, false));
        assert_eq!(Tier::of(true, true), Out);
    }
}
