//! Who is admitted: an immutable list that readers hold, published whole.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Instant;

use crate::error::discovery::DiscoveryError;
use crate::model::instance::{InstanceId, InstanceSet};
use crate::model::name::Boundary;

/// The allow-list: the boundaries that are admitted, and their peers as known last.
#[derive(Clone, Default)]
pub(super) struct AllowList(pub(super) Vec<Allowed>);

/// One admitted boundary.
#[derive(Clone)]
pub(super) struct Allowed {
    pub(super) boundary: Boundary,
    /// Which grant it is: a boundary that was revoked and allowed again is watched anew.
    pub(super) grant: u64,
    pub(super) peers: Arc<Peers>,
    /// When discovery last answered with a set; `None` if it never did.
    pub(super) synced: Option<Instant>,
    /// Whether discovery has no more news of it.
    pub(super) is_ended: bool,
    /// Its last error, if no set came after it.
    pub(super) error: Option<DiscoveryError>,
}

/// The addresses of a boundary's peers, each with one of those that have it.
#[derive(Default)]
pub(super) struct Peers(HashMap<IpAddr, InstanceId>);

impl AllowList {
    /// Who has this address, and the boundary they are of. The address has to be canonical.
    pub(super) fn find(&self, ip: IpAddr) -> Option<(&Boundary, &InstanceId)> {
        let mut boundaries = self.0.iter();
        boundaries.find_map(|allowed| Some((&allowed.boundary, allowed.peers.0.get(&ip)?)))
    }

    /// Whether discovery has answered for every boundary, or has said that it will not.
    pub(super) fn is_synced(&self) -> bool {
        let mut all = self.0.iter();
        all.all(|allowed| allowed.synced.is_some() || allowed.is_ended)
    }
}

impl Peers {
    pub(super) fn of(set: &InstanceSet) -> Self {
        // `::ffff:10.0.0.7` and `10.0.0.7` are one host: what a socket tells depends on how it listens.
        Self(
            set.iter()
                .filter_map(|peer| Some((peer.address().ip()?.to_canonical(), peer.id().clone())))
                .collect(),
        )
    }

    /// These and the other ones.
    pub(super) fn and(mut self, others: &Self) -> Self {
        let others = others.0.iter().map(|(ip, id)| (*ip, id.clone()));
        for (ip, id) in others {
            self.0.entry(ip).or_insert(id);
        }
        self
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// How many addresses of this list the other one lacks.
    pub(super) fn missing_in(&self, other: &Self) -> usize {
        self.0.keys().filter(|ip| !other.0.contains_key(ip)).count()
    }
}
