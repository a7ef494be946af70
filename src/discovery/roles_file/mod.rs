//! Instances in a file that people or their tools write.

mod document;

use std::fmt;
use std::future;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use tokio::time;

use super::backend::{Catalog, CatalogUpdate, Mirror, Scope};
use super::disk::{self, LATE, Stamp};
use super::fault::Fault;
use super::lease::Lease;
use super::registration::Registration;
use super::{BoxFuture, BoxStream, Discovery, Registrar};
use crate::error::discovery::{DiscoveryError, RegisterError};
use crate::model::instance::InstanceSet;
use crate::model::name::Boundary;
use crate::model::target::Target;
use crate::runtime::clock;

/// Instances in a TOML or JSON file that people or their tools write. JSON if the path ends in `.json`, else TOML.
///
/// ```toml
/// [[role]]
/// name = "worker"
/// boundary = "default"       # the default
/// endpoints = ["admin"]      # known although no instance has them; those of instances need not be here
///
/// [[role.instance]]
/// id = "worker-1"            # the only field without a default
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
/// The path is looked at four times a second while there are watches; what it names may be replaced, also through links, as
/// those of a Kubernetes `ConfigMap`. A file that was just written may be half of one, so the first sets after a change are
/// not confirmed. They are when the file has stood still for a second.
///
/// At most 8 MiB and 100 000 instances are read. If an id occurs twice, the last entry wins, and the stream reports it.
/// A registration is [left to the platform](Lease::by_platform): to whoever writes the file.
///
/// # Faults
///
/// If the file is missing, torn, invalid or too large, the last good sets stay, and the stream yields an error whose source
/// names the file, and line and field where there are any. A look that takes longer than 5 s is an error too.
///
/// # Panics
///
/// A watch has to be polled in a tokio runtime with timers; elsewhere it gives nothing.
///
/// # Examples
///
/// ```
/// use futures::StreamExt;
/// use rolecall::Discovery;
/// use rolecall::discovery::RolesFile;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let path = std::env::temp_dir().join(format!("rolecall-doc-{}.json", std::process::id()));
/// let instance = r#"{"id": "worker-1", "endpoints": {"http": "10.0.0.7:8080"}}"#;
/// std::fs::write(&path, format!(r#"{{"role": [{{"name": "worker", "instance": [{instance}]}}]}}"#))?;
///
/// let mut sets = RolesFile::new(&path).watch(&"worker:http".parse()?);
/// assert_eq!(sets.next().await.ok_or("ended")??.len(), 1);
/// # std::fs::remove_file(path)?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct RolesFile {
    path: PathBuf,
    mirror: Mirror,
}

/// Between two looks. A look is one `stat`: a few microseconds.
const PACE: Duration = Duration::from_millis(250);
/// Writes to a file in place are over when it has stood still for that long.
const STANDS_STILL: Duration = Duration::from_secs(1);
/// In that time after a change another write may not show in the file's times.
const SHOWS: Duration = Duration::from_secs(2);
/// Ten thousand instances take a fifth of it.
const LARGEST: u64 = 8 << 20;

impl RolesFile {
    /// The file at this path, which need not exist yet.
    pub fn new(path: impl AsRef<Path>) -> Self {
        let path = path.as_ref().to_owned();
        let followed = path.clone();
        let mirror = Mirror::fed_by(move |catalog| follow(followed.clone(), catalog));
        Self { path, mirror }
    }
}

async fn follow(path: PathBuf, catalog: Catalog) {
    let mut roles = Roles::new(path.clone());
    loop {
        let look = move || {
            let updates = roles.look(clock::now());
            (roles, updates)
        };
        let late = || {
            let text = format!("{}: no answer for {} s", path.display(), LATE.as_secs());
            catalog.fault(DiscoveryError::backend("reading a roles file", text));
        };
        match disk::looked(look, late).await {
            Ok((again, updates)) => {
                roles = again;
                catalog.apply(updates);
            }
            Err(error) => {
                catalog.fault(DiscoveryError::backend("reading a roles file", error));
                roles = Roles::new(path.clone());
            }
        }
        time::sleep(PACE).await;
    }
}

/// What was read last.
struct Roles {
    path: PathBuf,
    stamp: Option<Stamp>,
    /// The hash of what was read last, if that was good.
    read: Option<u64>,
    changed_at: Option<Instant>,
    is_confirmed: bool,
}

impl Roles {
    fn new(path: PathBuf) -> Self {
        Self {
            path,
            stamp: None,
            read: None,
            changed_at: None,
            is_confirmed: false,
        }
    }

    /// What is new.
    fn look(&mut self, now: Instant) -> Vec<CatalogUpdate> {
        let opened = disk::open(&self.path, true);
        let stamp = opened.as_ref().ok().map(|(_, there)| Stamp::of(there));
        let stood = self.changed_at.map(|at| now.saturating_duration_since(at));
        let may_hide = stood.is_none_or(|stood| stood < SHOWS);
        if stamp.is_some() && stamp == self.stamp && !may_hide {
            return self.confirmed(stood);
        }
        let read = opened.map_err(|error| Fault::io(&self.path, "it cannot be read", &error));
        let read = read.and_then(|(file, _)| disk::read(&file, &self.path, LARGEST));
        if stamp != self.stamp {
            self.changed_at = Some(now);
            self.is_confirmed = false;
        }
        self.stamp = stamp;
        match read.and_then(|bytes| self.take(&bytes)) {
            Ok(None) => self.confirmed(stood),
            Ok(Some(updates)) => {
                self.changed_at = Some(now);
                self.is_confirmed = false;
                updates
            }
            Err(fault) => {
                self.read = None;
                self.is_confirmed = false;
                vec![CatalogUpdate::Confirmed(false), told(fault)]
            }
        }
    }

    /// What the file says, unless it says what it said before.
    fn take(&mut self, bytes: &[u8]) -> Result<Option<Vec<CatalogUpdate>>, Fault> {
        let mut hasher = DefaultHasher::new();
        bytes.hash(&mut hasher);
        let hash = hasher.finish();
        if self.read == Some(hash) {
            return Ok(None);
        }
        let roles = document::roles(&self.path, bytes)?;
        self.read = Some(hash);
        let mut updates = vec![
            CatalogUpdate::Confirmed(false),
            CatalogUpdate::Replace(Scope::All, roles.announced),
        ];
        let known = roles.known.into_iter();
        updates.extend(known.map(|(b, r, e)| CatalogUpdate::Known(b, r, e)));
        updates.extend(roles.duplicate.map(told));
        Ok(Some(updates))
    }

    /// Once the file has stood still, that it was read whole.
    fn confirmed(&mut self, stood: Option<Duration>) -> Vec<CatalogUpdate> {
        let is_whole = self.read.is_some() && stood.is_some_and(|stood| stood >= STANDS_STILL);
        if is_whole && !self.is_confirmed {
            self.is_confirmed = true;
            return vec![CatalogUpdate::Confirmed(true)];
        }
        Vec::new()
    }
}

fn told(fault: Fault) -> CatalogUpdate {
    CatalogUpdate::Fault(DiscoveryError::backend("reading a roles file", fault))
}

impl Discovery for RolesFile {
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

impl Registrar for RolesFile {
    /// Announces nothing: whoever writes the file does.
    fn register(
        &self,
        registration: Registration,
    ) -> BoxFuture<'static, Result<Lease, RegisterError>> {
        let announcement = registration.validate();
        Box::pin(future::ready(announcement.map(|a| Lease::by_platform(&a))))
    }
}

impl fmt::Debug for RolesFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RolesFile")
            .field("path", &self.path)
            .finish_non_exhaustive()
    }
}
