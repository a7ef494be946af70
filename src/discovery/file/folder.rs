//! A folder in which processes register themselves, as somebody sees it who watches.
//!
//! Nobody's clock is compared with anybody else's: a registration lives for as long as its file keeps changing, and its
//! age is counted in looks of ours since it last did. A watcher that stood still counts nothing meanwhile, so that neither
//! a jumping clock nor a suspended machine lets everybody expire at once.

use std::collections::{HashMap, HashSet};
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::document;
use super::edits::Edits;
use super::fault::Fault;
use super::name::{self, Kind, hash};
use super::posts::{stands, sweep};
use super::roles::read_from;
use super::stamp::{Identity, Stamp};
use super::{LONGEST_LEASE, SHORTEST_LEASE};
use crate::discovery::Announcement;

/// Metadata of 16 KiB, escaped as JSON may have to, and the rest.
const LARGEST_RECORD: u64 = 128 << 10;
/// All records together, so that a hostile folder fills no memory.
const LARGEST_FOLDER: u64 = 64 << 20;
const MOST_ENTRIES: usize = 100_000;
/// How often a file is opened that is replaced at the same moment.
const TRIES: usize = 4;

pub(super) struct Folder {
    path: PathBuf,
    lease: Duration,
    tick: Duration,
    identity: Option<Identity>,
    /// Rises when another folder is found in place of the one before.
    generation: u64,
    entries: HashMap<String, Entry>,
    unfinished: HashMap<String, (Stamp, u32)>,
    known: HashSet<String>,
    bytes: u64,
}

struct Entry {
    stamp: Stamp,
    generation: u64,
    /// Ticks since it last changed, and how many make it expire.
    quiet: u32,
    patience: u32,
    read: u64,
    bytes: u64,
    announced: Option<Announcement>,
    fault: Option<Fault>,
}

impl Folder {
    pub(super) fn new(path: PathBuf, lease: Duration, tick: Duration) -> Self {
        Self {
            path,
            lease,
            tick,
            identity: None,
            generation: 0,
            entries: HashMap::new(),
            unfinished: HashMap::new(),
            known: HashSet::new(),
            bytes: 0,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    /// `Err` if the folder cannot be listed: everything stays. Faults of single files come with `Ok`.
    pub(super) fn look(&mut self, tick: bool, edits: &mut Edits) -> Result<Option<Fault>, Fault> {
        let names = self.list()?;
        let mut present = HashSet::new();
        let mut unfinished = HashMap::new();
        for name in names {
            match name::kind(&name) {
                Kind::Record => {
                    present.insert(name);
                }
                Kind::Known(boundary, role, endpoint) => {
                    if self.known.insert(name) {
                        edits.know((boundary, role, endpoint));
                    }
                }
                Kind::Unfinished => self.age_unfinished(name, tick, &mut unfinished),
                Kind::Foreign => {}
            }
        }
        self.unfinished = unfinished;
        // Listing a folder while files are renamed in it may miss some: those are looked for by name.
        present.extend(self.entries.keys().cloned());
        let mut names: Vec<_> = present.into_iter().collect();
        names.sort_unstable();
        for name in &names {
            self.look_at(name, tick, edits);
        }
        let faults = names.iter().filter_map(|name| self.entries.get(name));
        Ok(Fault::first_of(
            faults.filter_map(|entry| entry.fault.clone()),
        ))
    }

    pub(super) fn forget(&mut self, edits: &mut Edits) {
        let fresh = Self::new(self.path.clone(), self.lease, self.tick);
        for (_, entry) in std::mem::replace(self, fresh).entries {
            edits.change(entry.announced, None);
        }
    }

    fn list(&mut self) -> Result<Vec<String>, Fault> {
        let fault = |error: io::Error| Fault::io(&self.path, "the folder cannot be read", &error);
        let identity = Identity::of(&fs::metadata(&self.path).map_err(fault)?);
        let mut names = Vec::new();
        for (count, entry) in fs::read_dir(&self.path).map_err(fault)?.enumerate() {
            if count >= MOST_ENTRIES {
                let problem = format_args!("it has more than {MOST_ENTRIES} entries");
                return Err(Fault::new(&self.path, problem));
            }
            // Ours are text; what is not is foreign.
            if let Ok(name) = entry.map_err(fault)?.file_name().into_string() {
                names.push(name);
            }
        }
        if self.identity != Some(identity) {
            self.identity = Some(identity);
            self.generation += 1;
        }
        Ok(names)
    }

    fn look_at(&mut self, name: &str, tick: bool, edits: &mut Edits) {
        let path = self.path.join(name);
        let there = match fs::symlink_metadata(&path) {
            Ok(there) => Some(there),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            // Neither there nor gone: it ages.
            Err(_) => return self.age(name, tick, edits),
        };
        let Some(there) = there else {
            let taken_away = |entry: &Entry| entry.generation == self.generation;
            return if self.entries.get(name).is_some_and(taken_away) {
                self.remove(name, edits);
            } else {
                // In another folder than before, nobody had the time to register again.
                self.age(name, tick, edits);
            };
        };
        let stamp = Stamp::of(&there);
        if let Some(entry) = self.entries.get_mut(name) {
            entry.generation = self.generation;
            if entry.stamp == stamp {
                return self.age(name, tick, edits);
            }
        }
        let before = self.entries.get(name);
        let earlier = before.map(|entry| entry.stamp);
        let same_file = earlier.is_some_and(|earlier| earlier.identity == stamp.identity);
        let room =
            LARGEST_FOLDER.saturating_sub(self.bytes - before.map_or(0, |entry| entry.bytes));
        let entry = self
            .entries
            .entry(name.to_owned())
            .or_insert_with(|| Entry {
                stamp,
                generation: self.generation,
                quiet: 0,
                patience: patience(self.lease, self.tick),
                read: 0,
                bytes: 0,
                announced: None,
                fault: None,
            });
        entry.stamp = stamp;
        entry.quiet = 0;
        let found = if there.is_file() {
            open(&path, same_file, room)
        } else {
            Err(Fault::new(&path, "it is not a regular file"))
        };
        match found {
            Ok(Found::Gone) => match earlier {
                Some(earlier) => entry.stamp = earlier,
                None => self.remove(name, edits),
            },
            Ok(Found::Dead) => {
                entry.fault = None;
                edits.change(entry.announced.take(), None);
            }
            Ok(Found::Bytes(bytes)) => {
                self.bytes -= entry.bytes;
                entry.bytes = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
                self.bytes += entry.bytes;
                let read = hash(&bytes);
                if entry.read == read && entry.announced.is_some() {
                    entry.fault = None;
                    return;
                }
                match entry.understand(name, &path, &bytes, self.tick) {
                    Ok(announced) => {
                        entry.read = read;
                        entry.fault = None;
                        let before = entry.announced.replace(announced.clone());
                        edits.change(before, Some(announced));
                    }
                    Err(fault) => entry.fault = Some(fault),
                }
            }
            Err(fault) => entry.fault = Some(fault),
        }
    }

    fn age(&mut self, name: &str, tick: bool, edits: &mut Edits) {
        let Some(entry) = self.entries.get_mut(name) else {
            return;
        };
        if tick {
            entry.quiet = entry.quiet.saturating_add(1);
        }
        if entry.quiet < entry.patience {
            return;
        }
        if let Some(expired) = entry.announced.take() {
            tracing::info!(
                boundary = %expired.boundary(), role = %expired.role(), id = %expired.id(),
                "a registration expired"
            );
            edits.change(Some(expired), None);
        }
        if tick && entry.quiet.is_multiple_of(entry.patience) {
            let path = self.path.join(name);
            match fs::symlink_metadata(&path) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => self.remove(name, edits),
                _ => sweep(&path),
            }
        }
    }

    fn remove(&mut self, name: &str, edits: &mut Edits) {
        if let Some(entry) = self.entries.remove(name) {
            self.bytes -= entry.bytes;
            edits.change(entry.announced, None);
        }
    }

    fn age_unfinished(
        &self,
        name: String,
        tick: bool,
        unfinished: &mut HashMap<String, (Stamp, u32)>,
    ) {
        let path = self.path.join(&name);
        let Ok(stamp) = fs::symlink_metadata(&path).as_ref().map(Stamp::of) else {
            return;
        };
        let quiet = match self.unfinished.get(&name) {
            Some((before, quiet)) if *before == stamp => quiet + u32::from(tick),
            _ => 0,
        };
        if quiet >= patience(self.lease, self.tick) {
            sweep(&path);
        } else {
            unfinished.insert(name, (stamp, quiet));
        }
    }
}

impl Entry {
    fn understand(
        &mut self,
        name: &str,
        path: &Path,
        bytes: &[u8],
        tick: Duration,
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
        self.patience = patience(record.lease, tick);
        Ok(record.announced)
    }
}

enum Found {
    Bytes(Vec<u8>),
    /// Nobody holds its lock, and it was not seen before: its writer died.
    Dead,
    /// It was replaced or removed at this moment, so the next look finds what came of it.
    Gone,
}

fn open(path: &Path, same_file: bool, room: u64) -> Result<Found, Fault> {
    let unreadable = |error| Fault::io(path, "it cannot be read", &error);
    for _ in 0..TRIES {
        let file = match File::open(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Found::Gone),
            file => file.map_err(unreadable)?,
        };
        if !same_file && file.try_lock_shared().is_ok() {
            if stands(&file, path) {
                return Ok(Found::Dead);
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

/// Four fifths of the lease: what is left covers the beat and the tick that may have gone by unseen.
fn patience(lease: Duration, tick: Duration) -> u32 {
    let ticks = lease.mul_f64(0.8).as_millis() / tick.as_millis().max(1);
    u32::try_from(ticks).unwrap_or(u32::MAX).max(2)
}
