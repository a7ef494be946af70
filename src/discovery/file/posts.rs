//! The registrations of this process, as files in the folder.
//!
//! A file is written under another name, locked, and then linked or renamed into place, so that nobody ever sees half of
//! it. Its lock is held for as long as the process lives: the system lets go of it when the process is killed, which is how
//! others tell a taken id from one whose holder died.

use std::collections::HashMap;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Seek, Write};
use std::path::{Path, PathBuf};
use std::process;
use std::thread;
use std::time::Duration;

use rand::TryRng;
use rand::rngs::SysRng;

use super::document::text_of;
use super::name;
use super::stamp::Identity;
use crate::discovery::{Announcement, RegisterError};

/// Names a registration of this process.
pub(super) type Key = u64;

pub(super) struct Posts {
    folder: PathBuf,
    lease: Duration,
    posts: HashMap<Key, Post>,
    written: u64,
}

struct Post {
    path: PathBuf,
    announced: Announcement,
    /// The locked file that stands in the folder, if nobody took it away.
    file: Option<File>,
    /// What stands there is not what is announced.
    stale: bool,
}

/// How often a name is tried that changes hands at the same moment, and how long between.
const TRIES: usize = 500;
const PAUSE: Duration = Duration::from_millis(2);
/// As often a lock was exclusive that belongs to a living holder: one who sweeps up has it for less than a millisecond.
const HELD: usize = 10;

impl Posts {
    pub(super) fn new(folder: PathBuf, lease: Duration) -> Self {
        Self {
            folder,
            lease,
            posts: HashMap::new(),
            written: 0,
        }
    }

    pub(super) fn announce(&mut self, announced: Announcement) -> Result<Key, RegisterError> {
        fs::create_dir_all(&self.folder)
            .map_err(|error| failed("making the folder", &self.folder, error))?;
        let mut post = Post {
            path: self.folder.join(name::record(&announced)),
            announced,
            file: None,
            stale: true,
        };
        self.write(&mut post)?;
        let key = self.written;
        self.posts.insert(key, post);
        Ok(key)
    }

    /// Changes what is announced. If it cannot be written now, it will be at one of the next beats.
    pub(super) fn change(
        &mut self,
        key: Key,
        edit: impl FnOnce(&mut Announcement) -> Result<(), RegisterError>,
    ) -> Result<(), RegisterError> {
        let Some(mut post) = self.posts.remove(&key) else {
            return Ok(());
        };
        let mut edited = post.announced.clone();
        let written = edit(&mut edited).and_then(|()| {
            post.announced = edited;
            post.stale = true;
            self.write(&mut post)
        });
        self.posts.insert(key, post);
        written
    }

    pub(super) fn withdraw(&mut self, key: Key) -> Result<(), RegisterError> {
        let Some(post) = self.posts.remove(&key) else {
            return Ok(());
        };
        if !post.stands() {
            return Ok(());
        }
        fs::remove_file(&post.path).map_err(|error| failed("removing", &post.path, error))
    }

    /// Shows that this process lives, and puts back what was taken away.
    pub(super) fn beat(&mut self) {
        let mut lost = Vec::new();
        for (key, post) in &self.posts {
            if post.stale || !post.stands() {
                lost.push(*key);
            } else if let Err(error) = post.touch() {
                tracing::warn!(
                    path = ?post.path, %error,
                    "a registration could not be kept alive"
                );
            }
        }
        for key in lost {
            let Some(mut post) = self.posts.remove(&key) else {
                continue;
            };
            // Whether the folder is back is for its owner to say: it may be a mount point.
            if let Err(error) = self.write(&mut post) {
                let cause = std::error::Error::source(&error);
                tracing::debug!(
                    id = ?post.announced.id().as_str(), %error, cause = cause.map(tracing::field::display),
                    "a registration could not be put back yet"
                );
            }
            self.posts.insert(key, post);
        }
    }

    fn write(&mut self, post: &mut Post) -> Result<(), RegisterError> {
        let text = text_of(&post.announced, self.lease)
            .map_err(|error| RegisterError::backend("writing a registration", error))?;
        self.written += 1;
        let random = SysRng.try_next_u32().unwrap_or_default();
        let unfinished = name::unfinished(process::id(), self.written, random);
        let unfinished = self.folder.join(unfinished);
        let placed = finished(&unfinished, &text)
            .map_err(|error| failed("writing", &unfinished, error))
            .and_then(|file| {
                self.keep_known(&post.announced)?;
                if post.stands() {
                    fs::rename(&unfinished, &post.path)
                        .map_err(|error| failed("replacing", &post.path, error))?;
                } else {
                    claim(&unfinished, &post.path, &post.announced)?;
                }
                Ok(file)
            });
        match placed {
            Ok(file) => {
                post.file = Some(file);
                post.stale = false;
                Ok(())
            }
            Err(error) => {
                let _ = fs::remove_file(&unfinished);
                Err(error)
            }
        }
    }

    fn keep_known(&self, announced: &Announcement) -> Result<(), RegisterError> {
        for name in name::known(announced) {
            let path = self.folder.join(name);
            let made = OpenOptions::new().write(true).create_new(true).open(&path);
            match made {
                Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                    return Err(failed("making", &path, error));
                }
                _ => {}
            }
        }
        Ok(())
    }
}

impl Post {
    /// Whether its own file is what stands in the folder.
    fn stands(&self) -> bool {
        self.file
            .as_ref()
            .is_some_and(|file| stands(file, &self.path))
    }

    /// Writes its first byte again, which changes nothing but the time of the last write.
    fn touch(&self) -> io::Result<()> {
        let Some(mut file) = self.file.as_ref() else {
            return Ok(());
        };
        file.rewind()?;
        file.write_all(b"{")
    }
}

/// Whether this open file is the one at the path.
pub(super) fn stands(file: &File, path: &Path) -> bool {
    match (file.metadata(), fs::symlink_metadata(path)) {
        (Ok(file), Ok(there)) => Identity::of(&file) == Identity::of(&there),
        _ => false,
    }
}

/// Removes a file whose writer is dead; leaves it if somebody holds it.
pub(super) fn sweep(path: &Path) {
    let regular = fs::symlink_metadata(path).is_ok_and(|there| there.is_file());
    if regular
        && let Ok(file) = File::open(path)
        && file.try_lock().is_ok()
        && stands(&file, path)
    {
        let _ = fs::remove_file(path);
    }
}

/// A whole file under its temporary name, locked. Where a file system knows no locks, the lease alone decides.
fn finished(path: &Path, text: &[u8]) -> io::Result<File> {
    let mut file = OpenOptions::new()
        .read(true)
        .write(true)
        .create_new(true)
        .open(path)?;
    if let Err(TryLockError::WouldBlock) = file.try_lock() {
        return Err(io::ErrorKind::AlreadyExists.into());
    }
    file.write_all(text)?;
    Ok(file)
}

/// Gives the finished file a name that nobody holds.
fn claim(unfinished: &Path, path: &Path, announced: &Announcement) -> Result<(), RegisterError> {
    let mut held = 0;
    for _ in 0..TRIES {
        match fs::hard_link(unfinished, path) {
            Ok(()) => {
                let _ = fs::remove_file(unfinished);
                return Ok(());
            }
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(failed("linking", path, error)),
        }
        if !fs::symlink_metadata(path).is_ok_and(|there| there.is_file()) {
            continue;
        }
        let Ok(there) = File::open(path) else {
            continue;
        };
        match there.try_lock() {
            // Its holder is dead, and while we hold the lock nobody else takes its place.
            Ok(()) if stands(&there, path) => {
                return fs::rename(unfinished, path)
                    .map_err(|error| failed("replacing", path, error));
            }
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                // A holder's lock is exclusive; those of readers, who look whether there is a holder, are not.
                if let Err(TryLockError::WouldBlock) = there.try_lock_shared() {
                    held += 1;
                }
                if held >= HELD {
                    return Err(RegisterError::IdTaken {
                        id: announced.id().clone(),
                        role: announced.role().clone(),
                        boundary: announced.boundary().clone(),
                    });
                }
                drop(there);
                thread::sleep(PAUSE);
            }
            Err(TryLockError::Error(error)) => return Err(failed("locking", path, error)),
        }
    }
    let error = io::Error::other("something that is no registration is in its place");
    Err(failed("writing", path, error))
}

fn failed(doing: &str, path: &Path, error: io::Error) -> RegisterError {
    RegisterError::backend(format!("{doing} {path:?}"), error)
}
