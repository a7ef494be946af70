//! How often rare branches of the rules were reached since the process began, by all fleets together.
//!
//! A simulation in which nobody is ejected shows nothing about ejections. It lists the branches that it never reached, as
//! FoundationDB does with its `CODE_PROBE`.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

macro_rules! branches {
    ($($name:ident: $text:literal,)*) => {
        /// A rare branch of the rules, for simulations to say which ones they reached. `Display` says what happens there.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[non_exhaustive]
        pub enum Branch {
            $(#[doc = concat!("It happened that ", $text, ".")] $name,)*
        }

        impl Branch {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$name),*];
        }

        impl fmt::Display for Branch {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(match self {
                    $(Self::$name => $text,)*
                })
            }
        }
    };
}

branches! {
    Ejected: "a member was ejected",
    WithheldByCap: "the cap kept an outlier in play",
    PanicModeBegan: "every eligible member was out, and all were listed",
    PanicModeEnded: "a member was in play again after panic mode",
    SetDoubted: "a set was so much smaller that it was doubted",
    DoubtLifted: "a doubted set was followed by one that was believed",
    TrialBegan: "a trial began that a token paid for",
    FreeTrialBegan: "a trial began that needed no token",
    BucketEmpty: "a member waited for a trial, and there was no token",
    TrialFailed: "a trial of a member on probation failed",
    TrialGivenUp: "a trial hung and was given up",
    TrialsSilent: "callers went away from trials until their silence was long enough",
    SuspectCleared: "a suspect answered well",
    SuspectTried: "a trial of a suspect failed",
    OutlierTooSoon: "a run was long enough, and too young",
    NobodyCanTell: "a member looked bad, and no other one could tell what is usual",
    TriedEarly: "an ejected member was on probation early, since the cap kept another outlier",
    OverCap: "more members were out than the cap allows, and one of them was on probation early",
    MovedWhileEjected: "an ejected member had another address, and was on probation at once",
    SearchedForRoom: "the draws met only members that were full or to be avoided",
    Stalled: "this process stalled",
    LateForgiven: "an idle member was late and not slow, and its latency started anew",
}

static REACHED: [AtomicU64; Branch::ALL.len()] = [const { AtomicU64::new(0) }; Branch::ALL.len()];

impl Branch {
    /// How often it was reached since the process began.
    pub fn count(self) -> u64 {
        REACHED[self as usize].load(Relaxed)
    }

    /// Counts it. Not for the way of every request: all fleets of the process write to the same few cache lines.
    pub(crate) fn reach(self) {
        REACHED[self as usize].fetch_add(1, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_branch_counts_what_reached_it() {
        // Other tests of this process may reach it meanwhile.
        let before = Branch::SetDoubted.count();
        Branch::SetDoubted.reach();
        assert!(Branch::SetDoubted.count() > before);
        for (place, branch) in Branch::ALL.iter().enumerate() {
            assert_eq!(*branch as usize, place, "{branch}");
        }
    }
}
