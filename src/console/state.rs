//! How urgent a member is, and the words for its state.

use std::fmt::Write as _;

use super::timeline::Clocks;
use crate::explain::member::MemberExplanation;
use crate::explain::reason::{Percent, ShareReason};
use crate::runtime::duration::Rounded;
use crate::status::{MemberState, MemberStatus, Status};

/// From the most urgent to the least. Members are listed in this order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Urgency {
    /// Out of play: ejected, on probation, or not connected.
    Out,
    /// In play, and something is wrong with it.
    Wrong,
    /// Not picked, as it or its operator wishes.
    Aside,
    Fine,
}

impl Urgency {
    pub(super) fn of(member: &MemberStatus, explained: &MemberExplanation) -> Self {
        match member.state {
            MemberState::Ejected | MemberState::Probation | MemberState::Disconnected => Self::Out,
            MemberState::Connecting if member.error.is_some() => Self::Out,
            MemberState::Draining | MemberState::Weightless | MemberState::Connecting => {
                Self::Aside
            }
            MemberState::Busy => Self::Aside,
            MemberState::Usable if !explained.reasons.iter().all(is_intended) => Self::Wrong,
            MemberState::Usable => Self::Fine,
        }
    }

    /// The class of its rows.
    pub(super) fn class(self) -> &'static str {
        match self {
            Self::Out => "out",
            Self::Wrong => "wrong",
            Self::Aside => "aside",
            Self::Fine => "fine",
        }
    }
}

/// Whether an uneven share is what the configuration asks for.
fn is_intended(reason: &ShareReason) -> bool {
    matches!(
        reason,
        ShareReason::Backup { .. } | ShareReason::OtherZone { .. }
    )
}

/// Writes the state in a word or two.
pub(super) fn write_state(to: &mut String, member: &MemberStatus) {
    let _ = match member.state {
        MemberState::Usable if member.is_suspect => write!(to, "suspect"),
        MemberState::Usable if member.slow_start.is_some() => write!(to, "slow start"),
        MemberState::Usable if member.overloaded_for.is_some() => write!(to, "overloaded"),
        state => write!(to, "{state}"),
    };
}

/// Writes until when the state lasts, or for how long it has.
pub(super) fn write_time(to: &mut String, member: &MemberStatus, status: &Status, clocks: Clocks) {
    let since = Rounded(member.since);
    let remaining = member
        .ejection
        .as_ref()
        .and_then(|ejection| ejection.remaining);
    let _ = match member.state {
        MemberState::Ejected => match remaining {
            Some(rest) => {
                write!(to, "until {}, {} more", clocks.after(rest), Rounded(rest))
            }
            None => write!(to, "until a trial succeeds"),
        },
        MemberState::Probation => match status.next_trial_in {
            0 => write!(to, "trial with the next request"),
            requests => write!(to, "trial within {requests} requests"),
        },
        MemberState::Disconnected => match member.redial_in {
            Some(wait) => write!(to, "for {since}, next dial in {}", Rounded(wait)),
            None => write!(to, "for {since}"),
        },
        MemberState::Usable => match (member.slow_start, member.overloaded_for) {
            (Some(part), _) if !member.is_suspect => write!(to, "{} of its share", Percent(part)),
            (_, Some(rest)) if !member.is_suspect => write!(to, "for {} more", Rounded(rest)),
            _ => write!(to, "up {since}"),
        },
        MemberState::Draining if !member.is_connected() => write!(to, "down {since}"),
        MemberState::Connecting => write!(to, "for {since}"),
        _ => write!(to, "up {since}"),
    };
}
