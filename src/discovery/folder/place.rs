//! The folder on the disk: who may write to it, what is where, and what one file in it is.

use std::fs::{self, DirBuilder, File, OpenOptions, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use nix::fcntl::OFlag;

use super::{lock, names};
use crate::discovery::announcement::{Announcement, AnnouncementKey};
use crate::discovery::backend::Record;
use crate::discovery::disk;
use crate::discovery::fault::Fault;

/// One record: far more than the metadata of an instance may be.
pub(super) const LARGEST: u64 = 128 << 10;

/// A claim takes a few system calls of another process, unless that is stopped in between.
const CLAIM_TRIES: u32 = 1000;
const CLAIM_PAUSE: Duration = Duration::from_millis(2);

#[derive(Clone, Debug)]
pub(super) struct Place {
    pub(super) path: PathBuf,
    pub(super) others_may_write: bool,
}

/// Device and number of a file.
pub(super) type Identity = (u64, u64);

pub(super) fn identity(metadata: &fs::Metadata) -> Identity {
    (metadata.dev(), metadata.ino())
}

/// What one name of a record stands for.
pub(super) enum Found {
    Absent,
    /// One of our records.
    Record {
        file: File,
        metadata: fs::Metadata,
        is_held: bool,
    },
    /// Something that we did not write, or that is damaged; it is never touched.
    Foreign {
        fault: Fault,
        /// Which file it is, if it is a regular one.
        identity: Option<Identity>,
        is_held: bool,
    },
    /// Nobody knows: it cannot be opened now.
    Unknown(Fault),
}

impl Place {
    pub(super) fn record(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    pub(super) fn own(&self, folder: &str) -> PathBuf {
        self.path.join(names::OWN).join(folder)
    }

    /// Whether the folder is there, ours, and closed to others.
    pub(super) fn check(&self) -> io::Result<fs::Metadata> {
        let metadata = disk::folder(&self.path)?;
        if !self.others_may_write {
            disk::private(&self.path, &metadata)?;
        }
        Ok(metadata)
    }

    /// Makes what is missing. The folder itself is made only if `makes`.
    pub(super) fn prepare(&self, makes: bool) -> io::Result<()> {
        let there = match self.check() {
            Err(error) if error.kind() == io::ErrorKind::NotFound && makes => {
                if let Some(parent) = self.path.parent() {
                    fs::create_dir_all(parent)?;
                }
                make(&self.path, 0o700)?;
                self.check()?
            }
            checked => checked?,
        };
        let mode = if self.others_may_write {
            there.mode() & 0o1777
        } else {
            0o700
        };
        for folder in [
            self.path.join(names::OWN),
            self.own(names::TEMPORARY),
            self.own(names::CLAIMS),
        ] {
            make(&folder, mode)?;
            if !fs::symlink_metadata(&folder)?.is_dir() {
                return Err(disk::refused(&folder, "not a folder"));
            }
        }
        Ok(())
    }

    /// Keeps everybody else from claiming, replacing or removing what has this key.
    pub(super) fn claim(&self, key: &AnnouncementKey, tries: u32) -> io::Result<Option<File>> {
        let path = self.own(names::CLAIMS).join(names::claim(key));
        let file = self.claim_file(&path)?;
        for again in 0..tries {
            if again > 0 {
                thread::sleep(CLAIM_PAUSE);
            }
            if lock::take(&file)? {
                return Ok(Some(file));
            }
        }
        Ok(None)
    }

    /// The file of a claim, which whoever registers here shares. So those may open it that may write to the folder, and nobody
    /// else: a reader's lock would deny ids.
    fn claim_file(&self, path: &Path) -> io::Result<File> {
        let writers = disk::folder(&self.path)?.mode() & 0o222;
        let mut tries = 0;
        loop {
            // Without `O_CREAT`, which Linux may refuse for another user's file (`fs.protected_regular`).
            match self.open(&mut OpenOptions::new(), path, 0) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                // Whoever makes it just now has yet to open it to others.
                Err(error) if error.kind() == io::ErrorKind::PermissionDenied && tries < 5 => {
                    tries += 1;
                    thread::sleep(CLAIM_PAUSE);
                    continue;
                }
                opened => return opened,
            }
            match self.open(OpenOptions::new().create_new(true), path, 0o600) {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(error),
                Ok(file) => {
                    let mode = if self.others_may_write {
                        writers | writers << 1
                    } else {
                        0o600
                    };
                    file.set_permissions(Permissions::from_mode(mode))?;
                    return Ok(file);
                }
            }
        }
    }

    /// The same, or an error if somebody else does not let go.
    pub(super) fn claimed(&self, key: &AnnouncementKey) -> io::Result<File> {
        let claim = self.claim(key, CLAIM_TRIES)?;
        claim.ok_or_else(|| {
            let text = "another process that claims an id does not come to an end";
            io::Error::new(io::ErrorKind::TimedOut, text)
        })
    }

    /// Makes or opens a file of ours for writing.
    pub(super) fn create(&self, options: &mut OpenOptions, path: &Path) -> io::Result<File> {
        let mode = if self.others_may_write { 0o644 } else { 0o600 };
        let file = self.open(options, path, mode)?;
        // The umask has taken bits off, and of another user's file the mode stays.
        let _ = file.set_permissions(Permissions::from_mode(mode));
        Ok(file)
    }

    /// Opens a file of ours for writing, without following a link and without waiting.
    fn open(&self, options: &mut OpenOptions, path: &Path, mode: u32) -> io::Result<File> {
        let flags = OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK;
        options
            .read(true)
            .write(true)
            .mode(mode)
            .custom_flags(flags.bits())
            .open(path)
    }

    /// What is at this name, opened without following a link and without waiting.
    pub(super) fn find(&self, name: &str) -> Found {
        let path = self.record(name);
        let (file, metadata) = match disk::open(&path, false) {
            Ok(opened) => opened,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Found::Absent,
            Err(error) if error.kind() == io::ErrorKind::InvalidInput => {
                let fault = Fault::new(&path, error);
                return Found::Foreign {
                    fault,
                    identity: None,
                    is_held: false,
                };
            }
            Err(error) => return Found::Unknown(Fault::io(&path, "it cannot be opened", &error)),
        };
        let is_held = match lock::is_held(&file) {
            Ok(is_held) => is_held,
            Err(error) => return Found::Unknown(Fault::new(&path, error)),
        };
        if has_mark(&file) {
            return Found::Record {
                file,
                metadata,
                is_held,
            };
        }
        let fault = Fault::new(&path, "not a registration of rolecall; remove it");
        Found::Foreign {
            fault,
            identity: Some(identity(&metadata)),
            is_held,
        }
    }

    /// Whether this name stands for this very file.
    pub(super) fn is_at(&self, name: &str, metadata: &fs::Metadata) -> bool {
        fs::symlink_metadata(self.record(name))
            .is_ok_and(|there| identity(&there) == identity(metadata))
    }

    /// What a record says.
    pub(super) fn read(&self, name: &str, file: &File) -> Result<Announcement, Fault> {
        use std::io::Seek;
        let path = self.record(name);
        let mut file = file;
        file.rewind()
            .map_err(|error| Fault::io(&path, "it cannot be read", &error))?;
        let bytes = disk::read(file, &path, LARGEST)?;
        let record: Record =
            serde_json::from_slice(&bytes).map_err(|error| Fault::new(&path, error))?;
        let announcement = Announcement::from(record);
        if names::records(&announcement.key()).all(|other| other != name) {
            return Err(Fault::new(&path, "it is another instance's registration"));
        }
        Ok(announcement)
    }
}

fn has_mark(file: &File) -> bool {
    use std::os::unix::fs::FileExt;
    let mut start = [0; names::MARK.len()];
    file.read_exact_at(&mut start, 0).is_ok() && start == names::MARK
}

fn make(path: &Path, mode: u32) -> io::Result<()> {
    match DirBuilder::new().mode(mode).create(path) {
        Ok(()) => fs::set_permissions(path, Permissions::from_mode(mode)),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(error),
    }
}
