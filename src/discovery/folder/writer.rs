//! The record of one registrant: written beside its place, locked, and renamed into it.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::SystemTime;

use super::place::{Found, Identity, LARGEST, Place, identity};
use super::{lock, names};
use crate::discovery::announcement::Announcement;
use crate::discovery::backend::Record;
use crate::error::discovery::RegisterError;
use crate::runtime::random;

pub(super) struct Writer {
    place: Place,
    held: Option<Held>,
}

/// The record that is in place; its lock is held while the file is open.
struct Held {
    name: String,
    file: File,
    identity: Identity,
    content: (u64, Option<SystemTime>),
}

/// Others may remove a temporary file before it is locked.
const TRIES: u32 = 3;

impl Writer {
    pub(super) fn new(place: Place) -> Self {
        Self { place, held: None }
    }

    /// Announces it, or what it has changed to.
    pub(super) fn put(&mut self, announcement: &Announcement) -> Result<(), RegisterError> {
        let failed = |doing: &str, error: io::Error| {
            let path = self.place.path.display();
            RegisterError::backend(format!("{doing} {path}"), error)
        };
        let mut text = serde_json::to_vec(&Record::from(announcement))
            .map_err(|error| failed("writing to", error.into()))?;
        text.push(b'\n');
        if u64::try_from(text.len()).unwrap_or(u64::MAX) > LARGEST {
            let problem = format!("a registration of {} bytes, at most {LARGEST}", text.len());
            return Err(failed("writing to", io::Error::other(problem)));
        }
        // A folder that was moved away comes back with what is in it; one that was removed is made anew.
        let makes = self.held.as_ref().is_none_or(Held::is_removed);
        let prepared = self.place.prepare(makes);
        prepared.map_err(|error| failed("preparing", error))?;
        let key = announcement.key();
        let claim = self.place.claimed(&key);
        let claim = claim.map_err(|error| failed("claiming an id in", error))?;

        let mut candidates = Vec::new();
        for name in names::records(&key) {
            match self.place.find(&name) {
                Found::Absent => candidates.push((name, None)),
                Found::Record {
                    metadata, is_held, ..
                } => {
                    let identity = identity(&metadata);
                    if self.is_own(identity) {
                        candidates.insert(0, (name, Some(identity)));
                    } else if is_held {
                        return Err(RegisterError::id_taken(&key.boundary, &key.role, &key.id));
                    } else {
                        candidates.push((name, Some(identity)));
                    }
                }
                // Ours, and overwritten in place.
                Found::Foreign {
                    identity: Some(identity),
                    ..
                } if self.is_own(identity) => candidates.insert(0, (name, Some(identity))),
                Found::Foreign { .. } => {}
                Found::Unknown(fault) => {
                    return Err(failed("claiming an id in", io::Error::other(fault)));
                }
            }
        }
        let placed = self.write(&text, candidates);
        let held = placed.map_err(|error| failed("writing to", error))?;
        // Only now is the lock on the record that was replaced released.
        let replaced = self.held.replace(held);
        drop(claim);
        drop(replaced);
        Ok(())
    }

    fn is_own(&self, identity: Identity) -> bool {
        let held = self.held.as_ref();
        held.is_some_and(|held| held.identity == identity)
    }

    fn write(&self, text: &[u8], candidates: Vec<(String, Option<Identity>)>) -> io::Result<Held> {
        let mut last = None;
        for (name, there) in candidates {
            for _ in 0..TRIES {
                match self.write_as(text, &name, there) {
                    Ok(held) => return Ok(held),
                    Err(error) => {
                        let is_swept = error.kind() == io::ErrorKind::NotFound;
                        last = Some(error);
                        if !is_swept {
                            break;
                        }
                    }
                }
            }
        }
        let taken = || io::Error::other("files that are not ours have all names of this id");
        Err(last.unwrap_or_else(taken))
    }

    /// In place of what was there, if that is there still.
    fn write_as(&self, text: &[u8], name: &str, there: Option<Identity>) -> io::Result<Held> {
        let temporary = self.temporary();
        let file = self
            .place
            .create(OpenOptions::new().create_new(true), &temporary)?;
        let unfinished = Unfinished(&temporary);
        let path = self.place.record(name);
        (&file).write_all(text)?;
        if !lock::take(&file)? {
            return Err(io::Error::other("somebody else locked the new file"));
        }
        match there {
            None => rename_into_free(&temporary, &path)?,
            Some(before) => {
                let now = fs::symlink_metadata(&path)?;
                if identity(&now) != before {
                    return Err(io::Error::other("somebody else replaced the file"));
                }
                fs::rename(&temporary, &path)?;
            }
        }
        std::mem::forget(unfinished);
        let metadata = file.metadata()?;
        Ok(Held {
            name: name.to_owned(),
            file,
            identity: identity(&metadata),
            content: (metadata.len(), metadata.modified().ok()),
        })
    }

    fn temporary(&self) -> PathBuf {
        static WRITTEN: AtomicU64 = AtomicU64::new(0);
        // In other containers there are other processes of this number.
        let number = random::seed() ^ WRITTEN.fetch_add(1, Ordering::Relaxed);
        let name = names::temporary(process::id(), number);
        self.place.own(names::TEMPORARY).join(name)
    }

    pub(super) fn name(&self) -> Option<&str> {
        self.held.as_ref().map(|held| &*held.name)
    }

    /// Whether the record is in place as it was written.
    pub(super) fn is_in_place(&self) -> bool {
        let Some(held) = &self.held else {
            return false;
        };
        let there = fs::symlink_metadata(self.place.record(&held.name));
        there.is_ok_and(|there| {
            identity(&there) == held.identity
                && (there.len(), there.modified().ok()) == held.content
        })
    }

    pub(super) fn withdraw(&mut self) -> io::Result<()> {
        let Some(held) = self.held.take() else {
            return Ok(());
        };
        let metadata = held.file.metadata()?;
        if self.place.is_at(&held.name, &metadata) {
            fs::remove_file(self.place.record(&held.name))?;
            tracing::debug!(folder = %self.place.path.display(), file = held.name, "record removed");
        }
        Ok(())
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        if let Err(error) = self.withdraw() {
            let error = &error as &dyn std::error::Error;
            tracing::warn!(error, "record could not be removed");
        }
    }
}

impl Held {
    fn is_removed(&self) -> bool {
        self.file.metadata().is_ok_and(|there| there.nlink() == 0)
    }
}

/// Removes a temporary file that did not become a record.
struct Unfinished<'a>(&'a Path);

impl Drop for Unfinished<'_> {
    fn drop(&mut self) {
        let _ = fs::remove_file(self.0);
    }
}

/// Renames, unless something is there: a link would not do, since the close of the file is told under its first name.
fn rename_into_free(from: &Path, to: &Path) -> io::Result<()> {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    {
        use nix::errno::Errno;
        use nix::fcntl::{AT_FDCWD, RenameFlags, renameat2};
        match renameat2(AT_FDCWD, from, AT_FDCWD, to, RenameFlags::RENAME_NOREPLACE) {
            Err(Errno::EINVAL | Errno::ENOSYS) => {}
            renamed => return Ok(renamed?),
        }
    }
    match fs::symlink_metadata(to) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => fs::rename(from, to),
        Ok(_) => Err(io::ErrorKind::AlreadyExists.into()),
        Err(error) => Err(error),
    }
}
