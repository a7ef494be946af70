//! What affects all members of a target.

use std::fmt;
use std::time::Duration;

use crate::runtime::duration::Rounded;
#[cfg(feature = "serde")]
use crate::runtime::duration::seconds;
use crate::runtime::text::Counted;
use crate::status::{EjectionMode, MemberState, MemberStatus, Status, SubsetStatus};

/// What affects all members of a target. `Display` is a part of a sentence.
#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[cfg_attr(
    feature = "serde",
    serde(rename_all = "kebab-case", tag = "circumstance")
)]
#[non_exhaustive]
pub enum Circumstance {
    /// Discovery has not answered with a set yet.
    #[non_exhaustive]
    Unresolved {
        /// Its last error, with causes.
        error: Option<String>,
    },
    /// No instance is announced.
    Empty,
    /// Members that are not usable, by state.
    #[non_exhaustive]
    Unusable {
        /// Their state.
        state: MemberState,
        /// How many.
        members: usize,
    },
    /// Every eligible member is ejected or on probation. Picks choose among all of them.
    #[non_exhaustive]
    PanicMode {
        /// How many.
        members: usize,
    },
    /// Discovery fails. The fleet stays as it is.
    #[non_exhaustive]
    DiscoveryFails {
        /// Its last error, with causes.
        error: String,
        /// The age of the set in force.
        #[cfg_attr(feature = "serde", serde(serialize_with = "seconds::serialize"))]
        set_age: Duration,
    },
    /// Discovery's newest answer lacks too many instances. They are kept for a while.
    #[non_exhaustive]
    SetDoubted {
        /// How many instances it lacks.
        missing: usize,
        /// For how long they are still kept.
        #[cfg_attr(feature = "serde", serde(serialize_with = "seconds::serialize"))]
        remaining: Duration,
    },
    /// The set is a stand-in, cached or of another discovery.
    ProvisionalSet,
    /// Only a part of the instances is dialled.
    #[non_exhaustive]
    Subset {
        /// How many.
        size: usize,
        /// How many are announced.
        of: usize,
    },
    /// The rules eject nobody, because ejection is off.
    EjectionOff,
    /// The rules only report.
    EjectionInShadow,
    /// No time limit tells when an instance hangs.
    NoTimeLimit,
    /// This process stalled, which excused all instances.
    #[non_exhaustive]
    Stalls {
        /// How often.
        stalls: u64,
    },
}

/// The states that are counted, in the order of the sentence.
const COUNTED: [MemberState; 7] = [
    MemberState::Ejected,
    MemberState::Probation,
    MemberState::Disconnected,
    MemberState::Connecting,
    MemberState::Draining,
    MemberState::Busy,
    MemberState::Weightless,
];

impl Circumstance {
    pub(super) fn of(status: &Status) -> Vec<Self> {
        let mut found = Vec::new();
        match (status.set_age, &status.discovery_error) {
            (None, error) => found.push(Self::Unresolved {
                error: error.clone(),
            }),
            (Some(_), _) if status.members.is_empty() => found.push(Self::Empty),
            _ => {}
        }
        if status.panic_mode {
            found.push(Self::PanicMode {
                members: status.usable,
            });
        }
        for state in COUNTED {
            let is_it = |member: &&MemberStatus| member.state == state;
            let members = status.members.iter().filter(is_it).count();
            if members > 0 {
                found.push(Self::Unusable { state, members });
            }
        }
        if let (Some(set_age), Some(error)) = (status.set_age, &status.discovery_error) {
            let error = error.clone();
            found.push(Self::DiscoveryFails { error, set_age });
        }
        if let Some(remaining) = status.doubted_for {
            let is_missing = |member: &&MemberStatus| member.is_missing;
            let missing = status.members.iter().filter(is_missing).count();
            found.push(Self::SetDoubted { missing, remaining });
        }
        if status.is_provisional {
            found.push(Self::ProvisionalSet);
        }
        if let Some(SubsetStatus { size, of }) =
            status.subset.filter(|subset| subset.size < subset.of)
        {
            found.push(Self::Subset { size, of });
        }
        match status.ejection_mode {
            EjectionMode::On if status.target.is_some() && status.attempt_timeout.is_none() => {
                found.push(Self::NoTimeLimit);
            }
            EjectionMode::On => {}
            EjectionMode::Shadow => found.push(Self::EjectionInShadow),
            EjectionMode::Off => found.push(Self::EjectionOff),
        }
        if status.stalls > 0 {
            let stalls = status.stalls;
            found.push(Self::Stalls { stalls });
        }
        found
    }
}

impl fmt::Display for Circumstance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unresolved { error: None } => f.write_str("discovery has not answered yet"),
            Self::Unresolved { error: Some(error) } => {
                write!(f, "discovery has given no set yet: {error}")
            }
            Self::Empty => f.write_str("no instance is announced"),
            Self::Unusable { state, members } => match state {
                MemberState::Probation => write!(f, "{members} on probation"),
                MemberState::Weightless => write!(f, "{members} with weight 0"),
                state => write!(f, "{members} {state}"),
            },
            Self::PanicMode { members: 1 } => {
                f.write_str("panic mode: the only one is out, and is picked anyway")
            }
            Self::PanicMode { members } => {
                write!(f, "panic mode: all {members} are out, and are picked anyway")
            }
            Self::DiscoveryFails { error, set_age } => write!(
                f,
                "discovery fails ({error}), and the set of {} ago stays in force",
                Rounded(*set_age)
            ),
            Self::SetDoubted { missing, remaining } => {
                let (missing, remaining) = (Counted(*missing, "instance"), Rounded(*remaining));
                write!(
                    f,
                    "discovery's newest answer is doubted for {remaining} more ({missing} missing)"
                )
            }
            Self::ProvisionalSet => f.write_str("the set is a stand-in until discovery answers"),
            Self::Subset { size, of } => {
                let (size, of) = (*size, *of);
                let percent = 100.0 * SubsetStatus { size, of }.unevenness(100);
                write!(
                    f,
                    "it dials a subset of {size} of {of} instances, whose loads differ by about {percent:.0} % if 100 callers do so"
                )
            }
            Self::EjectionOff => f.write_str("ejection is off"),
            Self::EjectionInShadow => f.write_str("ejection is in shadow: rules only report"),
            Self::NoTimeLimit => f.write_str(
                "no attempt_timeout is set, so a hung instance is noticed only when callers give up",
            ),
            Self::Stalls { stalls: 1 } => {
                f.write_str("this process stalled once; no instance was blamed for it")
            }
            Self::Stalls { stalls } => write!(
                f,
                "this process stalled {stalls} times; no instance was blamed for it"
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::explain::member::tests::{member, status};

    const SECOND: Duration = Duration::from_secs(1);

    fn sentence(status: &Status) -> String {
        let mut explained = status.explain();
        explained.members.clear();
        explained.to_string()
    }

    /// Golden sentences. A kind without a row does not compile, and each row has an example of its own kind.
    macro_rules! goldens {
        ($($kind:pat => $example:expr, $sentence:literal;)*) => {{
            fn has_row(circumstance: &Circumstance) {
                match circumstance {
                    $($kind => {})*
                }
            }
            vec![$({
                let example = $example;
                assert!(matches!(example, $kind), "{example}");
                has_row(&example);
                (example, $sentence)
            }),*]
        }};
    }

    #[test]
    fn each_circumstance_has_a_sentence() {
        use Circumstance as C;
        let error = || "no server".to_owned();
        let unusable = |state| C::Unusable { state, members: 3 };
        let goldens = goldens! {
            C::Unresolved { error: None } => C::Unresolved { error: None }, "discovery has not answered yet";
            C::Unresolved { error: Some(_) } => C::Unresolved { error: Some(error()) }, "discovery has given no set yet: no server";
            C::Empty => C::Empty, "no instance is announced";
            C::Unusable { state: MemberState::Usable, .. } => unusable(MemberState::Usable), "3 usable";
            C::Unusable { state: MemberState::Busy, .. } => unusable(MemberState::Busy), "3 busy";
            C::Unusable { state: MemberState::Weightless, .. } => unusable(MemberState::Weightless), "3 with weight 0";
            C::Unusable { state: MemberState::Ejected, .. } => unusable(MemberState::Ejected), "3 ejected";
            C::Unusable { state: MemberState::Probation, .. } => unusable(MemberState::Probation), "3 on probation";
            C::Unusable { state: MemberState::Draining, .. } => unusable(MemberState::Draining), "3 draining";
            C::Unusable { state: MemberState::Connecting, .. } => unusable(MemberState::Connecting), "3 connecting";
            C::Unusable { state: MemberState::Disconnected, .. } => unusable(MemberState::Disconnected), "3 disconnected";
            C::PanicMode { members: 1 } => C::PanicMode { members: 1 }, "panic mode: the only one is out, and is picked anyway";
            C::PanicMode { .. } => C::PanicMode { members: 3 }, "panic mode: all 3 are out, and are picked anyway";
            C::DiscoveryFails { .. } => C::DiscoveryFails { error: error(), set_age: 12 * SECOND }, "discovery fails (no server), and the set of 12 s ago stays in force";
            C::SetDoubted { .. } => C::SetDoubted { missing: 3, remaining: 12 * SECOND }, "discovery's newest answer is doubted for 12 s more (3 instances missing)";
            C::ProvisionalSet => C::ProvisionalSet, "the set is a stand-in until discovery answers";
            C::Subset { .. } => C::Subset { size: 20, of: 100 }, "it dials a subset of 20 of 100 instances, whose loads differ by about 20 % if 100 callers do so";
            C::EjectionOff => C::EjectionOff, "ejection is off";
            C::EjectionInShadow => C::EjectionInShadow, "ejection is in shadow: rules only report";
            C::NoTimeLimit => C::NoTimeLimit, "no attempt_timeout is set, so a hung instance is noticed only when callers give up";
            C::Stalls { stalls: 1 } => C::Stalls { stalls: 1 }, "this process stalled once; no instance was blamed for it";
            C::Stalls { .. } => C::Stalls { stalls: 3 }, "this process stalled 3 times; no instance was blamed for it";
        };
        for (circumstance, sentence) in goldens {
            assert_eq!(circumstance.to_string(), sentence);
        }
    }

    #[test]
    fn every_state_but_usable_is_counted_in_the_sentence() {
        for state in MemberState::ALL {
            assert_eq!(COUNTED.contains(&state), state != MemberState::Usable);
        }
    }

    #[test]
    fn every_state_that_is_not_usable_is_counted() {
        let mut status = status([]);
        status.members = COUNTED.map(member).into();
        status.attempt_timeout = Some(SECOND);
        assert_eq!(
            sentence(&status),
            "worker:http: 0 of 7 usable, 1 ejected, 1 on probation, 1 disconnected, 1 connecting, 1 draining, 1 busy, \
             1 with weight 0"
        );
    }

    #[test]
    fn the_sentence_of_a_target_names_what_affects_all() {
        let mut unresolved = status([]);
        unresolved.set_age = None;
        unresolved.discovery_error = Some("no server".into());
        unresolved.attempt_timeout = Some(SECOND);
        assert_eq!(
            sentence(&unresolved),
            "worker:http: 0 of 0 usable; discovery has given no set yet: no server"
        );
        let mut doubted = status([MemberState::Usable, MemberState::Ejected]);
        doubted.doubted_for = Some(7 * SECOND);
        doubted.members[1].is_missing = true;
        doubted.discovery_error = Some("no server".into());
        doubted.ejection_mode = EjectionMode::Shadow;
        assert_eq!(
            sentence(&doubted),
            "worker:http: 1 of 2 usable, 1 ejected; discovery fails (no server), and the set of 40 s ago stays in force; \
             discovery's newest answer is doubted for 7 s more (1 instance missing); ejection is in shadow: rules only report"
        );
    }
}
