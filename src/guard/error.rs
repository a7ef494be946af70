use std::error::Error as StdError;
use std::fmt;

use crate::model::name::Boundary;

/// Why a guard could not be built.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GuardError {
    boundary: Boundary,
}

/// The kinds of [`GuardError`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum GuardErrorKind {
    /// The discovery cannot list the peers of a boundary, and no networks are allowed instead.
    NoPeers,
}

impl GuardError {
    pub(super) fn no_peers(boundary: Boundary) -> Self {
        Self { boundary }
    }

    /// The kind of error.
    #[must_use]
    pub fn kind(&self) -> GuardErrorKind {
        GuardErrorKind::NoPeers
    }
}

impl fmt::Display for GuardError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "the discovery cannot list the peers of boundary {}: allow networks instead, such as 10.0.0.0/8, or any",
            self.boundary
        )
    }
}

impl StdError for GuardError {}
