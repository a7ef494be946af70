//! One update of a catalog.

use crate::discovery::announcement::{Announcement, AnnouncementKey};
use crate::error::discovery::DiscoveryError;
use crate::model::name::{Boundary, EndpointName, Role};

/// One update of a [`Catalog`](super::Catalog).
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum CatalogUpdate {
    /// Adds an announcement, or replaces the one of its key.
    Put(Announcement),
    /// Removes the announcement of this key; nothing happens if it is not there.
    Remove(AnnouncementKey),
    /// Replaces everything in the scope, after a backend has listed it. Announcements outside the scope are put.
    Replace(Scope, Vec<Announcement>),
    /// Makes a role known, or an endpoint of it, that may have no instance yet.
    Known(Boundary, Role, Option<EndpointName>),
    /// Sets whether sets from now on are [confirmed](crate::InstanceSet::confirmed).
    Confirmed(bool),
    /// The backend fails. Every watch tells the error once; sets stay as they are.
    Fault(DiscoveryError),
    /// The backend works again. Watches that told the fault tell their set again.
    Recovered,
}

/// What a [replacement](CatalogUpdate::Replace) is about.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Scope {
    /// Everything; it also ends a fault.
    All,
    /// One boundary.
    Boundary(Boundary),
    /// One role of a boundary.
    Role(Boundary, Role),
}

impl Scope {
    pub(super) fn contains(&self, key: &AnnouncementKey) -> bool {
        match self {
            Self::All => true,
            Self::Boundary(boundary) => key.boundary == *boundary,
            Self::Role(boundary, role) => key.boundary == *boundary && key.role == *role,
        }
    }
}
