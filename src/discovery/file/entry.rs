//! What a watcher knows of one file of a folder.

use std::fs::File;
use std::io;
use std::path::Path;
use std::time::Duration;

use super::document;
use super::fault::Fault;
use super::lock::{self, Tried};
use super::name;
use super::posts::stands;
use super::roles::read_from;
use super::stamp::Stamp;
use super::{LONGEST_LEASE, SHORTEST_LEASE};
use crate::discovery::Announcement;

/// Metadata of 16 KiB, escaped as JSON may have to, and the rest.
pub(super) const LARGEST_RECORD: u64 = 128 << 10;
/// All records together, so that a hostile folder fills no memory.
pub(super) const LARGEST_FOLDER: u64 = 64 << 20;
/// How often a file is opened that is replaced at the same moment.
const TRIES: usize = 4;

/// Times are those that the watcher was awake.
pub(super) struct Entry {
    pub(super) stamp: Stamp,
    pub(super) generation: u64,
    /// The last look that listed it.
    pub(super) listed: u64,
    /// When its stamp was last compared, and since when it has not changed.
    pub(super) compared: Duration,
    pub(super) quiet_since: Duration,
    pub(super) lease: Duration,
    /// It was read again after a beat. Files that replace each other within one tick of the file system's clock may look
    /// the same; by then it is the last of them that is read, and a beat is nothing but a beat.
    pub(super) was_reread: bool,
    pub(super) read: u64,
    pub(super) bytes: u64,
    pub(super) announced: Option<Announcement>,
    pub(super) fault: Option<Fault>,
}

impl Entry {
    pub(super) fn is_well(&self) -> bool {
        self.announced.is_some() && self.fault.is_none()
    }

    pub(super) fn expires(&self) -> Duration {
        self.quiet_since + patience(self.lease)
    }

    pub(super) fn understand(
        &mut self,
        name: &str,
        path: &Path,
        bytes: &[u8],
    ) -> Result<Announcement, Fault> {
        let record = document::record(path, bytes)?;
        let own = name::record(&record.announced);
        if own != name {
            let problem = format_args!("it holds the registration that belongs into {own}");
            return Err(Fault::new(path, problem));
        }
        if !(SHORTEST_LEASE..=LONGEST_LEASE).contains(&record.lease) {
            let problem = format_args!(
                "{:?} is no lease from {SHORTEST_LEASE:?} to {LONGEST_LEASE:?}",
                record.lease
            );
            return Err(Fault::new(path, problem).in_field("lease"));
        }
        self.lease = record.lease;
        Ok(record.announced)
    }
}

pub(super) enum Found {
    Bytes(Vec<u8>),
    /// Nobody holds its lock, and it was not seen before: its writer died. Or it never was one of ours, which is a fault.
    Dead(Option<Fault>),
    /// It was replaced or removed at this moment, so the next look finds what came of it.
    Gone,
}

pub(super) fn open(path: &Path, was_alive: bool, room: u64) -> Result<Found, Fault> {
    let unreadable = |error| Fault::io(path, "it cannot be read", &error);
    for _ in 0..TRIES {
        let file = match File::open(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Found::Gone),
            file => file.map_err(unreadable)?,
        };
        if !was_alive && lock::shared(&file) == Tried::Locked {
            if stands(&file, path) {
                // Whoever wants the id must not find it locked by us.
                let _ = file.unlock();
                let bytes = read_from(&file, path, LARGEST_RECORD);
                let record = bytes.and_then(|bytes| document::record(path, &bytes));
                return Ok(Found::Dead(record.err()));
            }
            // Its writer replaced it after we opened it, and let go of what was there before.
            continue;
        }
        if room < LARGEST_RECORD {
            let problem = format_args!("all registrations together exceed {LARGEST_FOLDER} bytes");
            return Err(Fault::new(path, problem));
        }
        return read_from(&file, path, LARGEST_RECORD).map(Found::Bytes);
    }
    Ok(Found::Gone)
}

/// How far apart looks at a registration with this lease are.
pub(super) fn pace(lease: Duration) -> Duration {
    (lease / 10).min(Duration::from_secs(1))
}

/// How long a file may stay unchanged: what is left of the lease is for a look that takes long or comes late.
pub(super) fn patience(lease: Duration) -> Duration {
    lease / 5 * 4
}
