//! What a catalog contains: pure state behind its lock.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::watch as signal;

use super::listing::Listing;
use super::update::{CatalogUpdate, Scope};
use crate::discovery::announcement::{Announcement, AnnouncementKey};
use crate::discovery::lease::LeaseEdit;
use crate::error::discovery::{DiscoveryError, RegisterError};
use crate::model::instance::InstanceSet;
use crate::model::name::{Boundary, EndpointName, Role};

/// Names of roles and endpoints without instances that are remembered: more than a platform of people has, and a bound
/// where every job has a role of its own.
const MOST_EMPTY_NAMES: usize = 1024;

#[derive(Default)]
pub(super) struct Contents {
    announced: BTreeMap<AnnouncementKey, Announcement>,
    boundaries: HashMap<Boundary, Contained>,
    empty_names: EmptyNames,
    /// Rises with every change.
    version: u64,
    pub(super) is_listed: bool,
    pub(super) is_confirmed: bool,
    /// With the version of the contents in which it began.
    pub(super) fault: Option<(u64, DiscoveryError)>,
}

/// What a boundary contains.
#[derive(Default)]
struct Contained {
    roles: HashMap<Role, Known>,
    peers: Listing,
}

/// A role that is known, with or without instances.
#[derive(Default)]
pub(super) struct Known {
    live: usize,
    endpoints: BTreeMap<EndpointName, Named>,
    empty_since: Option<u64>,
    rung_at: u64,
    changed: signal::Sender<()>,
}

/// An endpoint name that is known.
#[derive(Default)]
struct Named {
    listing: Listing,
    empty_since: Option<u64>,
}

/// Names without instances, in the order in which they lost the last one.
#[derive(Default)]
struct EmptyNames {
    places: BTreeMap<u64, Place>,
    noted: u64,
}

type Place = (Boundary, Role, Option<EndpointName>);

impl EmptyNames {
    /// Follows whether a name has instances; `since` is its place in the order.
    fn note(&mut self, is_empty: bool, since: &mut Option<u64>, place: impl FnOnce() -> Place) {
        match *since {
            Some(at) if !is_empty => {
                self.places.remove(&at);
                *since = None;
            }
            None if is_empty => {
                self.noted += 1;
                self.places.insert(self.noted, place());
                *since = Some(self.noted);
            }
            _ => {}
        }
    }
}

impl Contents {
    pub(super) fn complete() -> Self {
        Self {
            is_listed: true,
            is_confirmed: true,
            ..Self::default()
        }
    }

    #[cfg(all(feature = "folder", unix))]
    pub(super) fn is_empty(&self) -> bool {
        self.announced.is_empty()
    }

    pub(super) fn role(&mut self, boundary: &Boundary, role: &Role) -> Option<&mut Known> {
        self.boundaries.get_mut(boundary)?.roles.get_mut(role)
    }

    /// The version and the set of a boundary's peers; a boundary that nobody is in has none.
    pub(super) fn peers(&mut self, boundary: &Boundary) -> (u64, InstanceSet) {
        match self.boundaries.get_mut(boundary) {
            Some(contained) => (contained.peers.version(), contained.peers.set()),
            None => (0, InstanceSet::empty()),
        }
    }

    /// Forgets the names that have been without instances for longest.
    fn forget_names(&mut self) {
        let mut excess = self
            .empty_names
            .places
            .len()
            .saturating_sub(MOST_EMPTY_NAMES);
        let oldest: Vec<_> = self
            .empty_names
            .places
            .iter()
            .map(|(at, place)| (*at, place.clone()))
            .take(excess.saturating_mul(2))
            .collect();
        for (at, (boundary, role, endpoint)) in oldest {
            if excess == 0 {
                break;
            }
            let Some(contained) = self.boundaries.get_mut(&boundary) else {
                continue;
            };
            let Some(known) = contained.roles.get_mut(&role) else {
                continue;
            };
            if known.changed.receiver_count() > 0 {
                continue;
            }
            match &endpoint {
                Some(name) => drop(known.endpoints.remove(name)),
                // Its endpoint names are older news than it is, or go with the next batch.
                None if known.endpoints.is_empty() => drop(contained.roles.remove(&role)),
                None => continue,
            }
            self.empty_names.places.remove(&at);
            excess -= 1;
        }
    }
}

impl Known {
    pub(super) fn listing(&mut self, endpoint: &EndpointName) -> Option<&mut Listing> {
        Some(&mut self.endpoints.get_mut(endpoint)?.listing)
    }

    pub(super) fn endpoint_names(&self) -> impl Iterator<Item = &EndpointName> {
        self.endpoints.keys()
    }

    pub(super) fn subscribe(&self) -> signal::Receiver<()> {
        self.changed.subscribe()
    }
}

/// Updates that become visible together.
pub(super) struct Batch<'a> {
    contents: &'a mut Contents,
    before: u64,
    bells: Vec<signal::Sender<()>>,
    rings_all: bool,
    errors: Vec<DiscoveryError>,
}

/// What is to be done once the lock is released.
pub(super) struct Done {
    /// Ring for the watches of the roles that changed.
    pub(super) bells: Vec<signal::Sender<()>>,
    pub(super) is_change: bool,
    /// Errors that no longer count.
    pub(super) errors: Vec<DiscoveryError>,
}

impl<'a> Batch<'a> {
    pub(super) fn new(contents: &'a mut Contents) -> Self {
        Self {
            before: contents.version,
            contents,
            bells: Vec::new(),
            rings_all: false,
            errors: Vec::new(),
        }
    }

    pub(super) fn finish(mut self) -> Done {
        if self.rings_all {
            let boundaries = self.contents.boundaries.values();
            let roles = boundaries.flat_map(|contained| contained.roles.values());
            self.bells = roles.map(|known| known.changed.clone()).collect();
        }
        self.contents.forget_names();
        Done {
            bells: self.bells,
            is_change: self.rings_all || self.contents.version != self.before,
            errors: self.errors,
        }
    }

    pub(super) fn has(&self, key: &AnnouncementKey) -> bool {
        self.contents.announced.contains_key(key)
    }

    pub(super) fn apply(&mut self, update: CatalogUpdate) {
        match update {
            CatalogUpdate::Put(announcement) => self.put(announcement),
            CatalogUpdate::Remove(key) => self.remove(&key),
            CatalogUpdate::Replace(scope, all) => self.replace(&scope, all),
            CatalogUpdate::Known(boundary, role, name) => self.know(&boundary, &role, name),
            CatalogUpdate::Confirmed(confirmed) => {
                self.rings_all |= confirmed && !self.contents.is_confirmed;
                self.contents.is_confirmed = confirmed;
            }
            CatalogUpdate::Fault(error) => self.fault(error),
            CatalogUpdate::Recovered => self.recover(),
        }
    }

    pub(super) fn put(&mut self, after: Announcement) {
        let key = after.key();
        if self.contents.announced.get(&key) != Some(&after) {
            let before = self.contents.announced.insert(key, after.clone());
            self.update(before.as_ref(), Some(&after));
        }
    }

    pub(super) fn edit(
        &mut self,
        key: &AnnouncementKey,
        edit: LeaseEdit,
    ) -> Result<(), RegisterError> {
        let Some(mut edited) = self.contents.announced.get(key).cloned() else {
            return Ok(());
        };
        edit.apply(&mut edited)?;
        self.put(edited);
        Ok(())
    }

    pub(super) fn remove(&mut self, key: &AnnouncementKey) {
        if let Some(before) = self.contents.announced.remove(key) {
            self.update(Some(&before), None);
        }
    }

    fn replace(&mut self, scope: &Scope, all: Vec<Announcement>) {
        self.rings_all |= !self.contents.is_listed;
        self.contents.is_listed = true;
        if *scope == Scope::All {
            self.recover();
        }
        // By key: then most insertions into sorted lists are at their end.
        let all: BTreeMap<_, _> = all.into_iter().map(|a| (a.key(), a)).collect();
        let announced = self.contents.announced.keys();
        let gone: Vec<_> = announced
            .filter(|key| scope.contains(key) && !all.contains_key(key))
            .cloned()
            .collect();
        gone.iter().for_each(|key| self.remove(key));
        all.into_values().for_each(|after| self.put(after));
    }

    fn know(&mut self, boundary: &Boundary, role: &Role, endpoint: Option<EndpointName>) {
        let is_known = self.contents.role(boundary, role).is_some_and(|known| {
            let has = |name| known.endpoints.contains_key(name);
            endpoint.as_ref().is_none_or(has)
        });
        if !is_known {
            self.edit_role(boundary, role, endpoint.as_slice(), |known, _| {
                if let Some(name) = &endpoint {
                    known.endpoints.entry(name.clone()).or_default();
                }
            });
        }
    }

    pub(super) fn unlist(&mut self) {
        self.contents.is_listed = false;
        self.contents.is_confirmed = false;
        self.recover();
    }

    fn fault(&mut self, error: DiscoveryError) {
        let text = error.with_causes();
        if let Some((_, told)) = &self.contents.fault
            && told.with_causes() == text
        {
            self.errors.push(error);
            return;
        }
        self.contents.version += 1;
        let fault = (self.contents.version, error);
        let earlier = self.contents.fault.replace(fault);
        self.errors.extend(earlier.map(|(_, error)| error));
        self.rings_all = true;
    }

    fn recover(&mut self) {
        if let Some((_, error)) = self.contents.fault.take() {
            self.errors.push(error);
            self.rings_all = true;
        }
    }

    /// Brings the lists from one announcement of an instance to the next.
    fn update(&mut self, before: Option<&Announcement>, after: Option<&Announcement>) {
        let Some(either) = after.or(before) else {
            return;
        };
        let names: Vec<_> = before
            .iter()
            .chain(&after)
            .flat_map(|announcement| announcement.endpoints())
            .map(|(name, _)| name.clone())
            .collect();
        self.edit_role(
            either.boundary(),
            either.role(),
            &names,
            |known, version| {
                for (name, instance) in before.iter().flat_map(|before| before.endpoints()) {
                    if !after.is_some_and(|after| after.has_endpoint(name))
                        && let Some(named) = known.endpoints.get_mut(name)
                    {
                        named.listing.remove(instance.id(), version);
                    }
                }
                for (name, instance) in after.iter().flat_map(|after| after.endpoints()) {
                    let named = known.endpoints.entry(name.clone()).or_default();
                    named.listing.insert(instance, version);
                }
                known.live += usize::from(after.is_some());
                known.live -= usize::from(before.is_some());
            },
        );
        let version = self.contents.version;
        let contained = self.contents.boundaries.entry(either.boundary().clone());
        let peers = &mut contained.or_default().peers;
        match (
            before.and_then(Announcement::peer),
            after.and_then(Announcement::peer),
        ) {
            (_, Some(peer)) => peers.insert(peer, version),
            (Some(peer), None) => peers.remove(peer.id(), version),
            (None, None) => {}
        }
    }

    /// Edits a role, rings for it once in each batch, and notes which of the names `touched` have no instance now.
    fn edit_role(
        &mut self,
        boundary: &Boundary,
        role: &Role,
        touched: &[EndpointName],
        edit: impl FnOnce(&mut Known, u64),
    ) {
        let contents = &mut *self.contents;
        contents.version += 1;
        let contained = contents.boundaries.entry(boundary.clone()).or_default();
        let known = contained.roles.entry(role.clone()).or_default();
        edit(known, contents.version);
        let empty = &mut contents.empty_names;
        let place = |name| (boundary.clone(), role.clone(), name);
        for name in touched {
            if let Some(named) = known.endpoints.get_mut(name) {
                let is_empty = named.listing.is_empty();
                empty.note(is_empty, &mut named.empty_since, || {
                    place(Some(name.clone()))
                });
            }
        }
        empty.note(known.live == 0, &mut known.empty_since, || place(None));
        if known.rung_at <= self.before {
            known.rung_at = contents.version;
            self.bells.push(known.changed.clone());
        }
    }
}

/// What all clones and watches of a catalog share.
pub(super) struct Shared {
    pub(super) contents: Mutex<Contents>,
    /// Rings at any change, for watches that cannot follow one known role.
    pub(super) changed: signal::Sender<()>,
}

impl Shared {
    pub(super) fn contents(&self) -> MutexGuard<'_, Contents> {
        // No foreign code runs under the lock, so poisoned contents are whole.
        self.contents.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn edit<R>(&self, edit: impl FnOnce(&mut Batch<'_>) -> R) -> R {
        let mut contents = self.contents();
        let mut batch = Batch::new(&mut contents);
        let result = edit(&mut batch);
        let done = batch.finish();
        drop(contents);
        // Errors and wakers are foreign: with no lock held.
        drop(done.errors);
        for role in &done.bells {
            role.send_replace(());
        }
        if done.is_change {
            self.changed.send_replace(());
        }
        result
    }
}
