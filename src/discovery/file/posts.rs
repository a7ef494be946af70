//! The registrations of this process, as files in the folder.
//!
//! A file is written under another name, locked, and then linked or renamed into place, so that nobody ever sees half of
//! it. Its lock is held for as long as the process lives: the system lets go of it when the process is killed, which is how
//! others tell a taken id from one whose holder died.

use std::collections::HashMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Seek, Write};
use std::path::{Path, PathBuf};
use std::process;
use std::thread;
use std::time::Duration;

use rand::TryRng;
use rand::rngs::SysRng;

use super::claim::{Holder, Refused, taken};
use super::document::{self, text_of};
use super::entry::LARGEST_RECORD;
use super::lock::{self, Tried};
use super::name;
use super::roles::read_from;
use super::stamp::{Identity, Stamp};
use super::{LONGEST_LEASE, SHORTEST_LEASE};
use crate::discovery::Announcement;
use crate::error::discovery::RegisterError;

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

    /// `dead`: how the file of somebody looks of whom it is known that it died.
    pub(super) fn announce(
        &mut self,
        announced: Announcement,
        dead: Option<Stamp>,
    ) -> Result<Key, Refused> {
        fs::create_dir_all(&self.folder)
            .map_err(|error| failed("making the folder", &self.folder, error))?;
        let mut post = Post {
            path: self.folder.join(name::record(&announced)),
            announced,
            file: None,
            stale: true,
        };
        self.write(&mut post, dead)?;
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
            let written = self.write(&mut post, None);
            written.map_err(|refused| refused.of(&post.announced))
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
            } else {
                post.keep_alive();
            }
        }
        for key in lost {
            let Some(mut post) = self.posts.remove(&key) else {
                continue;
            };
            // What stands there for want of room for news must not expire.
            if post.stands() {
                post.keep_alive();
            }
            // Whether the folder is back is for its owner to say: it may be a mount point.
            if let Err(refused) = self.write(&mut post, None) {
                let error = refused.of(&post.announced);
                let cause = std::error::Error::source(&error);
                tracing::debug!(
                    id = ?post.announced.id().as_str(), %error, cause = cause.map(tracing::field::display),
                    "a registration could not be put back yet"
                );
            }
            self.posts.insert(key, post);
        }
    }

    fn write(&mut self, post: &mut Post, dead: Option<Stamp>) -> Result<(), Refused> {
        let text = text_of(&post.announced, self.lease)
            .map_err(|error| RegisterError::backend("writing a registration", error))?;
        self.written += 1;
        let random = SysRng.try_next_u32().unwrap_or_default();
        let unfinished = name::unfinished(process::id(), self.written, random);
        let unfinished = self.folder.join(unfinished);
        let placed = finished(&unfinished, &text)
            .map_err(|error| failed("writing", &unfinished, error).into())
            .and_then(|file| {
                self.keep_known(&post.announced)?;
                if post.stands() {
                    fs::rename(&unfinished, &post.path)
                        .map_err(|error| failed("replacing", &post.path, error))?;
                } else {
                    self.claim(&unfinished, post, dead)?;
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

    /// Gives the finished file the name of the post, which nobody holds, or somebody who is known to be dead.
    fn claim(&self, unfinished: &Path, post: &Post, dead: Option<Stamp>) -> Result<(), Refused> {
        let path = &post.path;
        let mut held = 0;
        for _ in 0..TRIES {
            match fs::hard_link(unfinished, path) {
                Ok(()) => {
                    let _ = fs::remove_file(unfinished);
                    return Ok(());
                }
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(failed("linking", path, error).into()),
            }
            let stamp = match fs::symlink_metadata(path) {
                Ok(there) if there.is_file() => Stamp::of(&there),
                _ => continue,
            };
            let Ok(there) = File::open(path) else {
                continue;
            };
            let is_dead = match lock::exclusive(&there) {
                // While we hold the lock nobody else takes its place.
                Tried::Locked => true,
                Tried::Held => false,
                Tried::Unknown if dead == Some(stamp) => true,
                Tried::Unknown => {
                    let lease = self.lease_in(&there, path);
                    return Err(Refused::Held(Holder { stamp, lease }));
                }
            };
            if is_dead && stands(&there, path) {
                return fs::rename(unfinished, path)
                    .map_err(|error| failed("replacing", path, error).into());
            }
            if !is_dead {
                // A holder's lock is exclusive; those of readers, who look whether there is a holder, are not.
                if lock::shared(&there) == Tried::Held {
                    held += 1;
                }
                if held >= HELD {
                    return Err(taken(&post.announced).into());
                }
                drop(there);
                thread::sleep(PAUSE);
            }
        }
        let error = io::Error::other("something that is no registration is in its place");
        Err(failed("writing", path, error).into())
    }

    /// What the holder of a name says of its lease.
    fn lease_in(&self, file: &File, path: &Path) -> Duration {
        let bytes = read_from(file, path, LARGEST_RECORD);
        let record = bytes.and_then(|bytes| document::record(path, &bytes));
        let lease = record.map_or(self.lease, |record| record.lease);
        lease.clamp(SHORTEST_LEASE, LONGEST_LEASE)
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

    fn keep_alive(&self) {
        if let Err(error) = self.touch() {
            tracing::warn!(path = ?self.path, %error, "a registration could not be kept alive");
        }
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

/// Removes a file whose writer is dead; leaves it if somebody holds it. Where no lock tells, dead is who had this stamp and
/// has it still: a living one puts back what was taken from it.
pub(super) fn sweep(path: &Path, dead: Stamp) {
    let there = fs::symlink_metadata(path);
    let Some(there) = there.ok().filter(fs::Metadata::is_file) else {
        return;
    };
    let Ok(file) = File::open(path) else {
        return;
    };
    let is_dead = match lock::exclusive(&file) {
        Tried::Locked => true,
        Tried::Held => false,
        Tried::Unknown => Stamp::of(&there) == dead,
    };
    if is_dead && stands(&file, path) {
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
    if lock::exclusive(&file) == Tried::Held {
        return Err(io::ErrorKind::AlreadyExists.into());
    }
    file.write_all(text)?;
    Ok(file)
}

fn failed(doing: &str, path: &Path, error: io::Error) -> RegisterError {
    RegisterError::backend(format!("{doing} {path:?}"), error)
}

#[cfg(test)]
mod tests {
    use std::{env, fs};

    use super::*;
    use crate::discovery::Registration;
    use crate::model::instance::Availability;

    #[test]
    fn what_cannot_be_changed_now_is_kept_alive_as_it_stands() {
        let path = env::temp_dir().join(format!("rolecall-posts-{}", process::id()));
        let _ = fs::remove_dir_all(&path);
        let mut posts = Posts::new(path.clone(), SHORTEST_LEASE);
        let worker = Registration::new("worker").id("w-1").validate().unwrap();
        let Ok(key) = posts.announce(worker, None) else {
            panic!("the folder is free");
        };
        // Nothing new can be written, as on a full disk.
        posts.folder = path.join("missing");
        let busy = |announced: &mut Announcement| {
            announced.set_availability(Availability::Busy);
            Ok(())
        };
        assert!(posts.change(key, busy).is_err());
        let file = posts.posts[&key].path.clone();
        let long_ago = std::time::SystemTime::UNIX_EPOCH;
        let modified = || fs::metadata(&file).unwrap().modified().unwrap();
        let opened = File::options().write(true).open(&file).unwrap();
        opened.set_modified(long_ago).unwrap();
        posts.beat();
        assert_ne!(modified(), long_ago, "it lives");
        posts.folder.clone_from(&path);
        posts.beat();
        let text = fs::read_to_string(&file).unwrap();
        assert!(text.contains("busy"), "and says so when it can: {text}");
        fs::remove_dir_all(path).unwrap();
    }
}
