//! Counts how often rare branches of the rules were reached, by all fleets of the process together.
//!
//! A simulation that ejects no member shows nothing about ejections. So a simulation lists the branches that it never
//! reached, as FoundationDB does with its `CODE_PROBE`.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

macro_rules! branches {
    ($($name:ident: $text:literal,)*) => {
        /// A rare branch of the rules. Simulations report which branches they reached. `Display` describes the branch.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[non_exhaustive]
        pub enum Branch {
            $(#[doc = concat!("Reached when ", $text, ".")] $name,)*
        }

        impl Branch {
            /// All branches.
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
    PanicModeBegan: "panic mode began, because every eligible member was out",
    PanicModeEnded: "panic mode ended, because a member was in play again",
    SetDoubted: "a set was doubted, because it was much smaller than the one before",
    DoubtLifted: "a doubted set was followed by one that was believed",
    TrialBegan: "a trial began and took a token",
    FreeTrialBegan: "a trial began that needed no token",
    BucketEmpty: "a member waited for a trial, but there was no token",
    TrialFailed: "the trial of a member on probation failed",
    TrialGivenUp: "a trial was given up because it took too long",
    TrialsSilent: "callers gave up on trials of a member until their waits added up to a failure",
    SuspectCleared: "the trial of a suspect succeeded",
    SuspectTried: "the trial of a suspect failed",
    OutlierTooSoon: "a run had enough failures to eject its member, but was too young",
    NobodyCanTell: "a member looked bad, but there was no other to compare it with",
    TriedEarly: "an ejected member was put on probation early, because the cap kept another outlier in play",
    OverCap: "a member was put on probation early, because more were out than the cap allows",
    MovedWhileEjected: "an ejected member was put on probation at once, because it had another address",
    LeftZone: "a request left its zone, because a member elsewhere was cheaper by the price",
    SearchedForRoom: "all members drawn were full or to be avoided",
    Stalled: "this process stalled",
    CheckFailed: "the check of a member that waits for a trial failed",
    CheckToldNothing: "a check told nothing, because this process lacked a resource or stalled",
    LateForgiven: "the latency of an idle member was reset, because it was late but not slow",
}

static REACHED: [AtomicU64; Branch::ALL.len()] = [const { AtomicU64::new(0) }; Branch::ALL.len()];

impl Branch {
    /// How often this branch was reached since the process started.
    pub fn count(self) -> u64 {
        REACHED[self as usize].load(Relaxed)
    }

    /// Counts one visit. Not for code that every request runs: all fleets of the process write to the same few cache lines.
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
