//! Instances in files: one that people write, or a folder in which processes register themselves.

mod awake;
mod claim;
mod document;
mod edits;
mod entry;
mod eyes;
mod fault;
mod folder;
mod hub;
mod keeper;
mod lease;
mod lock;
mod name;
mod posts;
mod roles;
mod stamp;

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use futures_util::{StreamExt, future, stream};
use tokio::time;

use self::claim::registered;
use self::hub::Hub;
use super::{
    BoxFuture, BoxStream, Discovery, DiscoveryError, Lease, RegisterError, Registrar, Registration,
    Registry,
};
use crate::model::instance::InstanceSet;
use crate::model::name::Boundary;
use crate::model::target::Target;

/// Instances in files, in one of two forms; which one, the path tells.
///
/// Clones are the same. One thread of its own, which runs while there are watches or leases, does all work with the disk.
///
/// # A role environment: a path that ends in `.toml` or `.json`
///
/// Written by people or by their tools. It takes no registrations.
///
/// ```toml
/// [[role]]
/// name = "worker"
/// boundary = "default"       # the default
/// endpoints = ["admin"]      # known although nobody may have them yet; the instances' own need not be here
///
/// [[role.instance]]
/// id = "worker-1"            # the only field that has no default
/// endpoints = { http = "10.0.0.7:8080", grpc = "10.0.0.7:9090" }
/// peer_ip = "10.0.0.7"       # where its calls come from; default the ip of its first endpoint by name
/// weight = 1
/// zone = "eu-1a"             # default none
/// availability = "available" # or "busy", "draining"
/// visibility = "internal"    # or "public", { granted = ["media"] }
/// metadata = { version = "7" }
/// ```
///
/// JSON has the same names: `{"role": [{"name": "worker", "instance": [{"id": "worker-1"}]}]}`.
///
/// When anything changes in its folder, which includes renames onto it and the swapped symbolic links of a Kubernetes
/// `ConfigMap`, and once a second, it is looked at, and read again if its times, its size or the file itself are others; and in
/// the first seconds after that in any case, in which another write may not show in them. Replace it by a rename: a file caught half
/// written may be a good one with fewer instances, so its sets are not confirmed, and the balancer doubts one
/// that shrinks suddenly. At most 8 MiB and 100 000 instances are read. Of an id that is there twice the last stays, and
/// that is reported.
///
/// # A folder: any other path
///
/// The processes of one machine register themselves there, each instance in a file of its own that nobody else writes.
/// It is made by the first registration, and belongs to rolecall alone.
///
/// - A registration is written beside its place, and linked or renamed into it: there is never half of one.
/// - A fifth of the [`lease`](Self::lease) apart its file is touched. Of one that stays untouched for four fifths of it the
///   instance disappears, and the file is removed: within the lease, if a look at the folder takes less than the last
///   fifth. A look at ten thousand files takes a few hundredths of a second. Those who watch measure the time by a clock that
///   nobody sets, and only while they are awake: whoever was suspended or blocked first looks who is there.
/// - Its writer holds a lock on the file, which the system ends with the process. Hence the id of a crashed process is free
///   at once, and new watchers never see what crashed before them. Where the file system knows no locks the lease decides:
///   who registers under an id that is there waits until its file is touched, which refuses it, or the lease is over.
/// - Ids may be any text; in file names they are encoded.
/// - A file that somebody else removed, or all of them, are back with the next touch. When the folder is another one
///   suddenly, everybody has the length of the lease to come back.
/// - Each registration holds one file open.
/// - Limits: 100 000 files in the folder, 128 KiB for one registration, 64 MiB for all.
///
/// Who may write to the folder may announce anything: give it to those users only. Tested on Linux.
///
/// # Faults
///
/// Torn, invalid, unreadable and huge files, and a folder that is gone: the last good answer stays, and the stream yields an
/// error whose source names the file, and line and field where there are any. Where there never was a good answer
/// there are only errors. Of a folder that nobody made yet `peers` answers besides that nobody is there, which is not
/// confirmed.
///
/// # Examples
///
/// ```
/// use rolecall::discovery::File;
/// use rolecall::{Registrar, Registration};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let folder = std::env::temp_dir().join(format!("rolecall-doc-{}", std::process::id()));
/// let discovery = File::new(&folder);
/// let registration = Registration::new("worker").endpoint("http", "127.0.0.1:8080".parse()?);
/// let lease = discovery.register(registration).await?;
/// lease.deregister().await?;
/// # std::fs::remove_dir_all(folder)?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct File {
    shared: Arc<Shared>,
}

struct Shared {
    path: PathBuf,
    lease: Duration,
    hub: Mutex<Weak<Hub>>,
}

/// Heartbeats of a busy machine come that late.
const SHORTEST_LEASE: Duration = Duration::from_secs(1);
/// How long a crashed process may be called at most.
const LONGEST_LEASE: Duration = Duration::from_secs(3600);
const LEASE: Duration = Duration::from_secs(10);

impl File {
    /// The role environment or the folder at this path, which need not exist yet.
    pub fn new(path: impl AsRef<Path>) -> Self {
        Self::with(path.as_ref(), LEASE)
    }

    fn with(path: &Path, lease: Duration) -> Self {
        Self {
            shared: Arc::new(Shared {
                path: path.to_owned(),
                lease,
                hub: Mutex::default(),
            }),
        }
    }

    /// Sets how long a crashed process stays announced: 1 s to 1 h, and the nearer bound outside. Default 10 s.
    ///
    /// A registrant writes it down, so that those who watch need not know it: their looks are a tenth of the shortest lease
    /// apart that they know of, at most a second.
    #[must_use]
    pub fn lease(self, lease: Duration) -> Self {
        let lease = lease.clamp(SHORTEST_LEASE, LONGEST_LEASE);
        Self::with(&self.shared.path, lease)
    }

    fn watch(
        &self,
        lists_all: bool,
        watch: impl Fn(&Registry) -> BoxStream<'static, Answer> + Send + 'static,
    ) -> BoxStream<'static, Answer> {
        let shared = self.shared.clone();
        let is_roles = !shared.is_folder();
        let tries = stream::unfold(Some(shared), |shared| async move {
            let shared = shared?;
            Some(match shared.hub() {
                Ok(hub) => (Ok(hub), None),
                Err(error) => {
                    // A machine that has no thread left today may have one tomorrow.
                    time::sleep(Duration::from_secs(1)).await;
                    let error = DiscoveryError::backend("starting the thread for files", error);
                    (Err(error), Some(shared))
                }
            })
        });
        let mut watch = Some(watch);
        Box::pin(tries.flat_map(move |hub| {
            match (hub, watch.take()) {
                (Ok(hub), Some(watch)) => hub
                    .follow(lists_all, watch)
                    .map(move |answer| match answer {
                        Ok(set) if is_roles => Ok(set.unconfirmed()),
                        answer => answer,
                    })
                    .boxed(),
                (Err(error), unused) => {
                    watch = unused;
                    stream::once(future::ready(Err(error))).boxed()
                }
                (Ok(_), None) => stream::empty().boxed(),
            }
        }))
    }
}

type Answer = Result<InstanceSet, DiscoveryError>;

impl Shared {
    fn is_folder(&self) -> bool {
        let ending = self.path.extension();
        !ending.is_some_and(|ending| ending == "toml" || ending == "json")
    }

    /// The thread, started if nobody needed one before.
    fn hub(&self) -> io::Result<Arc<Hub>> {
        let mut current = self.hub.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(hub) = current.upgrade() {
            return Ok(hub);
        }
        let hub = Hub::start(&self.path, self.is_folder(), self.lease)?;
        *current = Arc::downgrade(&hub);
        Ok(hub)
    }
}

impl Discovery for File {
    fn watch(&self, target: &Target) -> BoxStream<'static, Answer> {
        let target = target.clone();
        self.watch(false, move |registry| Discovery::watch(registry, &target))
    }

    fn peers(&self, boundary: &Boundary) -> BoxStream<'static, Answer> {
        let boundary = boundary.clone();
        self.watch(true, move |registry| registry.peers(&boundary))
    }

    fn refresh(&self, _: &Target) {}
}

impl Registrar for File {
    fn register(
        &self,
        registration: Registration,
    ) -> BoxFuture<'static, Result<Lease, RegisterError>> {
        let shared = self.shared.clone();
        Box::pin(async move {
            if !shared.is_folder() {
                return Ok(Lease::by_platform(&registration.validate()?));
            }
            let announced = registration.validate()?;
            let hub = shared
                .hub()
                .map_err(|error| RegisterError::backend("starting the thread for files", error))?;
            Ok(Lease::new(registered(&hub, &announced).await?))
        })
    }
}

impl fmt::Debug for File {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("File")
            .field("path", &self.shared.path)
            .field("lease", &self.shared.lease)
            .finish_non_exhaustive()
    }
}
