//! Which members are picked from: the available ones, else the busy ones, else all of them in panic mode.
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

    /// The tier that picks draw from, given those of all eligible members.
    pub(crate) fn best(eligible: impl Iterator<Item = Self>) -> Self {
        eligible.min().unwrap_or(Self::Available)
    }

    /// Whether it is picked from while `best` is the best tier. In panic mode all tiers are.
    pub(crate) fn is_picked(self, best: Self) -> bool {
        self == best || best.is_panic_mode()
    }

    /// Whether panic mode is on while this is the best tier.
    pub(crate) fn is_panic_mode(self) -> bool {
        self == Self::Out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_best_tier_is_picked_from_and_all_in_panic_mode() {
        use Tier::{Available, Busy, Out};
        assert_eq!(Tier::best([Out, Busy, Available].into_iter()), Available);
        assert_eq!(Tier::best([Out, Busy].into_iter()), Busy);
        assert!(!Out.is_picked(Busy) && !Busy.is_picked(Available));
        assert_eq!(Tier::best([Out, Out].into_iter()), Out);
        assert!(Busy.is_picked(Out) && Out.is_picked(Out));
        assert_eq!(Tier::best([].into_iter()), Available);
        assert_eq!(Tier::of(true, true), Out);
    }
}
