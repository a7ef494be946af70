use std::fmt;
use std::sync::{Arc, Mutex};

use tokio::sync::watch as signal;

use super::contents::{Contents, Shared};
use super::update::{CatalogUpdate, Scope};
use super::watch::{Subject, Watch};
use crate::discovery::announcement::{Announcement, AnnouncementKey};
use crate::discovery::lease::LeaseEdit;
use crate::discovery::{BoxStream, Discovery};
use crate::error::discovery::{DiscoveryError, RegisterError};
use crate::model::instance::InstanceSet;
use crate::model::name::Boundary;
use crate::model::target::Target;

/// Announcements that change one by one, and whole sets for everyone who watches: a [`Discovery`] that a backend feeds.
///
/// Clones share the contents. It needs no runtime and starts no task.
///
/// - A slow watcher gets the newest set, never a queue of old ones. Instances that did not change are shared between
///   successive sets.
/// - All updates of one [`apply`](Self::apply) become visible together.
/// - A role without instances stays known, and so does an endpoint name. Beyond 1024 such names the catalog forgets those
///   that lost their last instance first, unless somebody watches the role.
/// - An unknown role or endpoint is an error until the watch has given a set. After that it is an empty set.
///
/// An update costs a binary search for each endpoint; the set is made when a watcher asks.
///
/// # Examples
///
/// A backend that reads its instances from a table feeds the catalog, and hands out clones as its discovery:
///
/// ```
/// use futures::StreamExt;
/// use rolecall::discovery::backend::{Catalog, Scope};
/// use rolecall::{Discovery, Registration};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let catalog = Catalog::pending();
/// let rows = [([10, 0, 0, 7], 80), ([10, 0, 0, 8], 80)];
/// let table = rows.map(|row| Registration::new("worker").endpoint("http", row).validate());
/// catalog.replace(Scope::All, table.into_iter().collect::<Result<Vec<_>, _>>()?);
///
/// let mut sets = catalog.watch(&"worker:http".parse()?);
/// assert_eq!(sets.next().await.ok_or("ended")??.len(), 2);
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Catalog {
    shared: Arc<Shared>,
}

impl Catalog {
    /// An empty catalog that is complete as it is: its sets are confirmed, and every role is unknown.
    #[must_use]
    pub fn new() -> Self {
        Self::with(Contents::complete())
    }

    /// A catalog of which nothing is known yet: watches wait for the first [replacement](Self::replace) or
    /// [fault](Self::fault). Its sets are not confirmed unless that is [said](Self::confirmed).
    #[must_use]
    pub fn pending() -> Self {
        Self::with(Contents::default())
    }

    fn with(contents: Contents) -> Self {
        Self {
            shared: Arc::new(Shared {
                contents: Mutex::new(contents),
                changed: signal::Sender::default(),
            }),
        }
    }

    /// Makes many updates at once: no watcher sees a part of them.
    pub fn apply(&self, updates: impl IntoIterator<Item = CatalogUpdate>) {
        // Foreign iterators run before the lock.
        let updates: Vec<_> = updates.into_iter().collect();
        self.shared.edit(|batch| {
            updates.into_iter().for_each(|update| batch.apply(update));
        });
    }

    /// Adds an announcement, or replaces the one of its key.
    pub fn put(&self, announcement: Announcement) {
        self.apply([CatalogUpdate::Put(announcement)]);
    }

    /// Adds an announcement whose key is free.
    ///
    /// # Errors
    ///
    /// [`IdTaken`](crate::discovery::RegisterErrorKind::IdTaken), and nothing changes.
    pub fn put_new(&self, announcement: Announcement) -> Result<(), RegisterError> {
        self.shared.edit(|batch| {
            let key = announcement.key();
            if batch.has(&key) {
                return Err(RegisterError::id_taken(&key.boundary, &key.role, &key.id));
            }
            batch.put(announcement);
            Ok(())
        })
    }

    /// Removes the announcement of this key; nothing happens if it is not there.
    pub fn remove(&self, key: &AnnouncementKey) {
        self.apply([CatalogUpdate::Remove(key.clone())]);
    }

    /// Replaces everything in the scope, after a backend has listed it.
    pub fn replace(&self, scope: Scope, all: impl IntoIterator<Item = Announcement>) {
        self.apply([CatalogUpdate::Replace(scope, all.into_iter().collect())]);
    }

    /// Tells every watch that the backend fails; the same error again is told once.
    pub fn fault(&self, error: DiscoveryError) {
        self.apply([CatalogUpdate::Fault(error)]);
    }

    /// Sets whether sets from now on are [confirmed](InstanceSet::confirmed): cannot be a half answer.
    pub fn confirmed(&self, confirmed: bool) {
        self.apply([CatalogUpdate::Confirmed(confirmed)]);
    }

    /// Changes the announcement of this key, if there is one.
    pub(in crate::discovery) fn edit(
        &self,
        key: &AnnouncementKey,
        edit: LeaseEdit,
    ) -> Result<(), RegisterError> {
        self.shared.edit(|batch| batch.edit(key, edit))
    }

    /// Removes the announcement of this key; whether there was one.
    pub(in crate::discovery) fn take(&self, key: &AnnouncementKey) -> bool {
        self.shared.edit(|batch| {
            let was_there = batch.has(key);
            batch.remove(key);
            was_there
        })
    }

    /// Whether nothing is announced.
    #[cfg(all(feature = "folder", unix))]
    pub(in crate::discovery) fn is_empty(&self) -> bool {
        self.shared.contents().is_empty()
    }

    /// Makes watches that come now wait for the next replacement. Those that gave a set go on.
    pub(in crate::discovery) fn unlist(&self) {
        self.shared.edit(|batch| batch.unlist());
    }

    fn answer(&self, subject: Subject) -> BoxStream<'static, Result<InstanceSet, DiscoveryError>> {
        Watch::new(Arc::clone(&self.shared), subject).into_stream()
    }
}

impl Default for Catalog {
    fn default() -> Self {
        Self::new()
    }
}

impl Discovery for Catalog {
    fn watch(&self, target: &Target) -> BoxStream<'static, Result<InstanceSet, DiscoveryError>> {
        let boundary = target.boundary().cloned().unwrap_or_default();
        let target = target.clone();
        self.answer(Subject::Target { boundary, target })
    }

    fn peers(
        &self,
        boundary: &Boundary,
    ) -> BoxStream<'static, Result<InstanceSet, DiscoveryError>> {
        self.answer(Subject::Peers(boundary.clone()))
    }

    fn refresh(&self, _: &Target) {}
}

impl fmt::Debug for Catalog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Catalog").finish_non_exhaustive()
    }
}
