//! A folder in which the processes of one machine register.

mod events;
mod lock;
mod look;
mod names;
mod place;
mod registrants;
mod watcher;
mod writer;

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use self::place::Place;
use self::registrants::{Registrant, Registrants};
use super::backend::{Mirror, keep};
use super::lease::Lease;
use super::registration::Registration;
use super::{BoxFuture, BoxStream, Discovery, Registrar};
use crate::error::discovery::{DiscoveryError, RegisterError};
use crate::model::instance::InstanceSet;
use crate::model::name::Boundary;
use crate::model::target::Target;

/// A folder in which the processes of one machine register, each instance by a file of its own.
///
/// - An instance is alive while its process holds the lock on its file. The system releases the lock with the process,
///   also when that is killed, and tells who watches: a dead instance is gone within milliseconds, and its id is free.
/// - No clock is involved. A suspended machine expires nobody; a stopped process stays registered, and the balancer's
///   rules find that it does not answer.
/// - There is never half a registration: it is written beside its place, locked, and renamed into it. One that somebody
///   removes or overwrites is written again.
/// - Sets are confirmed while every record can be read.
/// - Each registration holds one file open.
///
/// # What belongs to it
///
/// Records are files whose name ends in `.rolecall` and whose content begins with `{"rolecall":`. Unfinished ones and locks
/// are in the folder `.rolecall`. Nothing else in the folder is opened for writing, locked, renamed or removed, nor counted.
/// Records of dead instances are removed by those who watch; the log says so.
///
/// # Who may write
///
/// The first registration makes the folder, with mode 0700, and files with mode 0600. Whoever may write to it can announce
/// anything. So a folder of another user, or one that others may write to, is refused unless
/// [`allow_other_writers`](Self::allow_other_writers) says otherwise. Whoever may only read can neither deny an id nor
/// be taken for an instance.
///
/// # Where
///
/// The file system needs locks: Linux's open-file-description locks, elsewhere `flock`. On ext4, XFS, Btrfs, tmpfs and
/// overlayfs, Linux tells every change; other file systems are looked at once a second, and the log says so. Outside Linux that
/// look is all there is, a death is seen within a second, and whoever may read a record can hold its lock.
/// A parent folder that is renamed is noticed at the next change inside the folder.
///
/// # Faults
///
/// A file that is damaged, too large, a link, a pipe or a folder hides no other: the others are read, and the stream yields an
/// error whose source names it. If the folder is gone, the last good sets stay. A look that takes longer than 5 s is an
/// error too. At most 100 000 records are read, each of at most 128 KiB; other files do not count, whatever they are called.
///
/// # Panics
///
/// Watches and leases have to be polled in a tokio runtime with timers. Without I/O in the runtime the folder is looked at
/// once a second.
///
/// # Examples
///
/// ```
/// use rolecall::discovery::Folder;
/// use rolecall::{Registrar, Registration};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let path = std::env::temp_dir().join(format!("rolecall-doc-folder-{}", std::process::id()));
/// let discovery = Folder::new(&path);
/// let registration = Registration::new("worker").endpoint("http", ([127, 0, 0, 1], 8080));
/// let lease = discovery.register(registration).await?;
/// lease.deregister().await?;
/// # std::fs::remove_dir_all(path)?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Folder {
    place: Place,
    registrants: Registrants,
    mirror: Mirror,
}

impl Folder {
    /// The folder at this path, which need not exist yet. Clones share one watch of it.
    pub fn new(path: impl AsRef<Path>) -> Self {
        Self::at(Place {
            path: path.as_ref().to_owned(),
            others_may_write: false,
        })
    }

    /// Takes a folder of another user, or one that others may write to: everybody who may write is trusted to announce
    /// anything. Files are then readable by all.
    #[must_use]
    pub fn allow_other_writers(self) -> Self {
        Self::at(Place {
            others_may_write: true,
            ..self.place
        })
    }

    fn at(place: Place) -> Self {
        let registrants = Registrants::default();
        let (followed, told) = (place.clone(), registrants.clone());
        let mirror =
            Mirror::fed_by(move |catalog| watcher::follow(followed.clone(), catalog, told.clone()));
        Self {
            place,
            registrants,
            mirror,
        }
    }
}

impl Discovery for Folder {
    fn watch(&self, target: &Target) -> BoxStream<'static, Result<InstanceSet, DiscoveryError>> {
        self.mirror.watch(target)
    }

    fn peers(
        &self,
        boundary: &Boundary,
    ) -> BoxStream<'static, Result<InstanceSet, DiscoveryError>> {
        self.mirror.peers(boundary)
    }

    fn refresh(&self, _: &Target) {}
}

impl Registrar for Folder {
    fn register(
        &self,
        registration: Registration,
    ) -> BoxFuture<'static, Result<Lease, RegisterError>> {
        let (place, registrants) = (self.place.clone(), self.registrants.clone());
        let registrant = Registrant::new(place, registrants, Arc::clone(self.mirror.task()));
        Box::pin(async move { keep(registrant, registration.validate()?).await })
    }
}

impl fmt::Debug for Folder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Folder")
            .field("path", &self.place.path)
            .field("others_may_write", &self.place.others_may_write)
            .finish_non_exhaustive()
    }
}
