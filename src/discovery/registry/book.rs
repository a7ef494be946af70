//! What the registry knows, behind its lock.

use std::collections::{BTreeMap, HashMap, HashSet};

use tokio::sync::watch as signal;

use super::super::backend::Listing;
use super::super::{Announcement, RegisterError};
use crate::model::instance::{InstanceId, InstanceSet};
use crate::model::name::{Boundary, EndpointName, Role};

/// Every boundary, its roles and who is in them.
#[derive(Default)]
pub(in crate::discovery) struct Book {
    boundaries: HashMap<Boundary, Page>,
}

#[derive(Default)]
struct Page {
    roles: HashMap<Role, Entry>,
    peers: Listing,
}

/// A known role. It stays when its last instance leaves, and so do its endpoint names.
#[derive(Default)]
pub(super) struct Entry {
    live: HashSet<InstanceId>,
    endpoints: BTreeMap<EndpointName, Listing>,
    changed: signal::Sender<()>,
}

impl Book {
    /// Enters an instance; what rings for its role comes back.
    pub(in crate::discovery) fn add(
        &mut self,
        announced: &Announcement,
    ) -> Result<signal::Sender<()>, RegisterError> {
        let page = self.page(announced);
        let entry = page.roles.entry(announced.role().clone()).or_default();
        if !entry.live.insert(announced.id().clone()) {
            return Err(RegisterError::id_taken(
                announced.boundary(),
                announced.role(),
                announced.id(),
            ));
        }
        Ok(page.update(None, Some(announced), announced.role()))
    }

    /// Makes a role known, or an endpoint of it, although nobody has it.
    #[cfg(feature = "file")]
    pub(in crate::discovery) fn know(
        &mut self,
        boundary: Boundary,
        role: Role,
        endpoint: Option<EndpointName>,
    ) -> signal::Sender<()> {
        let page = self.boundaries.entry(boundary).or_default();
        let entry = page.roles.entry(role).or_default();
        if let Some(endpoint) = endpoint {
            entry.endpoints.entry(endpoint).or_default();
        }
        entry.changed.clone()
    }

    /// Changes what an instance announces; both announcements are of the same one.
    pub(in crate::discovery) fn replace(
        &mut self,
        before: &Announcement,
        after: &Announcement,
    ) -> signal::Sender<()> {
        self.page(before)
            .update(Some(before), Some(after), before.role())
    }

    /// Strikes an instance out.
    pub(in crate::discovery) fn remove(&mut self, announced: &Announcement) -> signal::Sender<()> {
        let page = self.page(announced);
        if let Some(entry) = page.roles.get_mut(announced.role()) {
            entry.live.remove(announced.id());
        }
        page.update(Some(announced), None, announced.role())
    }

    pub(super) fn role(&mut self, boundary: &Boundary, role: &Role) -> Option<&mut Entry> {
        self.boundaries.get_mut(boundary)?.roles.get_mut(role)
    }

    /// The version and the set of a boundary's peers; nobody is there yet in a boundary never heard of.
    pub(super) fn peers(&mut self, boundary: &Boundary) -> (u64, InstanceSet) {
        match self.boundaries.get_mut(boundary) {
            Some(page) => (page.peers.version(), page.peers.set()),
            None => (0, InstanceSet::empty()),
        }
    }

    fn page(&mut self, announced: &Announcement) -> &mut Page {
        self.boundaries
            .entry(announced.boundary().clone())
            .or_default()
    }
}

impl Page {
    fn update(
        &mut self,
        before: Option<&Announcement>,
        after: Option<&Announcement>,
        role: &Role,
    ) -> signal::Sender<()> {
        let entry = self.roles.entry(role.clone()).or_default();
        for (name, instance) in before.iter().flat_map(|before| before.endpoints()) {
            if !after.is_some_and(|after| after.has_endpoint(name))
                && let Some(listing) = entry.endpoints.get_mut(name)
            {
                listing.remove(instance.id(), listing.version() + 1);
            }
        }
        for (name, instance) in after.iter().flat_map(|after| after.endpoints()) {
            let listing = entry.endpoints.entry(name.clone()).or_default();
            listing.insert(instance, listing.version() + 1);
        }
        match (
            before.and_then(Announcement::peer),
            after.and_then(Announcement::peer),
        ) {
            (_, Some(peer)) => self.peers.insert(peer, self.peers.version() + 1),
            (Some(peer), None) => self.peers.remove(peer.id(), self.peers.version() + 1),
            (None, None) => {}
        }
        entry.changed.clone()
    }
}

impl Entry {
    pub(super) fn listing(&mut self, endpoint: &EndpointName) -> Option<&mut Listing> {
        self.endpoints.get_mut(endpoint)
    }

    pub(super) fn endpoint_names(&self) -> impl Iterator<Item = &EndpointName> {
        self.endpoints.keys()
    }

    pub(super) fn subscribe(&self) -> signal::Receiver<()> {
        self.changed.subscribe()
    }
}
