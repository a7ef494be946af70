//! The file in which the last set of one target is stored, or the last peers of one boundary.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};

use crate::discovery::disk;
use crate::discovery::fault::Fault;
use crate::model::instance::{Instance, InstanceSet, Stored};
use crate::model::name::Boundary;
use crate::model::target::Target;
use crate::runtime::clock;

/// Twice what the largest set takes whose instances have no metadata.
const LARGEST: u64 = 64 << 20;

/// How the text of every file of ours begins.
const MARK: &[u8] = br#"{"rolecall_set":"#;

/// Raised when older programs can no longer read what newer ones write.
const VERSION: u32 = 1;

/// A temporary file is left by a process that was killed if it is older than that.
const LEFT_BEHIND: Duration = Duration::from_secs(60);

pub(super) struct CacheFile {
    folder: PathBuf,
    path: PathBuf,
    temporary: PathBuf,
}

/// The version comes first: it marks the text as ours.
#[derive(Serialize)]
struct Written<'a> {
    rolecall_set: u32,
    /// In milliseconds since 1970.
    stored_at: u64,
    instances: Vec<&'a Instance>,
}

#[derive(Deserialize)]
struct Found {
    rolecall_set: u32,
    stored_at: u64,
    instances: Vec<Stored>,
}

impl CacheFile {
    pub(super) fn of_target(folder: &Path, target: &Target) -> Self {
        let boundary = target.boundary().cloned().unwrap_or_default();
        let (role, endpoint) = (target.role(), target.endpoint());
        Self::named(folder, format!("{boundary}.{role}.{endpoint}.set.json"))
    }

    pub(super) fn of_peers(folder: &Path, boundary: &Boundary) -> Self {
        Self::named(folder, format!("{boundary}.peers.json"))
    }

    fn named(folder: &Path, name: String) -> Self {
        Self {
            folder: folder.to_owned(),
            path: folder.join(&name),
            temporary: folder.join(name + ".tmp"),
        }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn log_use(&self, set: &InstanceSet) {
        let (path, age) = (self.path.display(), set.provisional_age());
        let instances = set.len();
        tracing::info!(%path, ?age, instances, "using a cached set until discovery gives one");
    }

    /// The stored set, marked with its age; `None` if there is none.
    pub(super) fn read(&self) -> Result<Option<InstanceSet>, Fault> {
        let (file, metadata) = match disk::open(&self.path, false) {
            Ok(opened) => opened,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(self.fault("it cannot be opened", &error)),
        };
        self.check_folder()
            .and_then(|()| disk::private(&self.path, &metadata))
            .map_err(|error| Fault::new(&self.path, error))?;
        let bytes = disk::read(&file, &self.path, LARGEST)?;
        let read: Found =
            serde_json::from_slice(&bytes).map_err(|error| Fault::new(&self.path, error))?;
        if read.rolecall_set > VERSION {
            let problem = format_args!(
                "version {}; this program reads version {VERSION}",
                read.rolecall_set
            );
            return Err(Fault::new(&self.path, problem));
        }
        let stored_at = SystemTime::UNIX_EPOCH + Duration::from_millis(read.stored_at);
        let age = clock::wall().duration_since(stored_at);
        let instances = read.instances.into_iter().map(Instance::try_from);
        let set = instances.collect::<Result<InstanceSet, _>>();
        let set = set.map_err(|error| Fault::new(&self.path, error))?;
        Ok(Some(set.provisional(age.unwrap_or_default())))
    }

    /// Stores the set in place of an earlier one.
    pub(super) fn write(&self, set: &InstanceSet) -> Result<(), Fault> {
        let since = clock::wall().duration_since(SystemTime::UNIX_EPOCH);
        let since = since.unwrap_or_default().as_millis();
        let written = Written {
            rolecall_set: VERSION,
            stored_at: u64::try_from(since).unwrap_or(u64::MAX),
            instances: set.iter().collect(),
        };
        let text = serde_json::to_vec(&written).map_err(|error| Fault::new(&self.path, error))?;
        self.replace(&text)
            .map_err(|error| self.fault("it cannot be written", &error))
    }

    fn replace(&self, text: &[u8]) -> io::Result<()> {
        disk::make_private_folder(&self.folder)?;
        self.check_folder()?;
        match disk::open(&self.path, false) {
            Ok((file, _)) if is_ours(&file) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Ok(_) => return Err(io::Error::other("it is not a cached set of rolecall")),
            Err(error) => return Err(error),
        }
        let file = self.create()?;
        let replaced = write_all(file, text).and_then(|()| fs::rename(&self.temporary, &self.path));
        if replaced.is_err() {
            let _ = fs::remove_file(&self.temporary);
        }
        replaced
    }

    fn check_folder(&self) -> io::Result<()> {
        disk::private(&self.folder, &disk::folder(&self.folder)?)
    }

    /// Creates the temporary file, in place of one that a killed process left.
    fn create(&self) -> io::Result<File> {
        let mut options = OpenOptions::new();
        options.write(true).create_new(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        match options.open(&self.temporary) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                let (file, there) = disk::open(&self.temporary, false)?;
                let age = clock::wall().duration_since(there.modified()?);
                // One of the future has no age.
                if !is_ours(&file) || age.is_ok_and(|age| age < LEFT_BEHIND) {
                    return Err(error);
                }
                tracing::info!(path = %self.temporary.display(), "removing a file that a killed process left");
                fs::remove_file(&self.temporary)?;
                options.open(&self.temporary)
            }
            opened => opened,
        }
    }

    fn fault(&self, doing: &str, error: &io::Error) -> Fault {
        Fault::io(&self.path, doing, error)
    }
}

fn write_all(mut file: File, text: &[u8]) -> io::Result<()> {
    file.write_all(text)?;
    // Else a power failure could leave an empty file behind the rename.
    file.sync_data()
}

/// Whether the text begins as ours does, as far as it goes: the first write may have been cut short.
fn is_ours(file: &File) -> bool {
    let mut start = Vec::with_capacity(MARK.len());
    let most = u64::try_from(MARK.len()).unwrap_or(u64::MAX);
    let read = file.take(most).read_to_end(&mut start);
    read.is_ok() && MARK.starts_with(&start)
}
