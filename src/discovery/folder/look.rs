//! Looks at the records of a folder: who is alive, and what they say.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs;
use std::io;
use std::time::{Duration, Instant};

use super::place::{Found, Identity, Place, identity};
use super::{lock, names};
use crate::discovery::announcement::AnnouncementKey;
use crate::discovery::backend::{CatalogUpdate, Scope};
use crate::discovery::disk::{self, Stamp};
use crate::discovery::fault::Fault;
use crate::error::discovery::DiscoveryError;

/// More than any machine has processes; beyond that nothing new is taken in.
const MOST: usize = 100_000;
/// When the folder is suddenly another one, registrants have that long to come back.
const RETURN: Duration = Duration::from_secs(3);
/// A record that is replaced while it is looked at is looked at again.
const TRIES: u32 = 8;

/// What to look at.
#[derive(Clone, Debug)]
pub(super) enum Sight {
    Everything,
    Names(BTreeSet<String>),
}

/// What is known of a folder.
pub(super) struct Look {
    place: Place,
    folder: Option<Identity>,
    alive: HashMap<String, Alive>,
    faults: BTreeMap<String, Fault>,
    /// Names to be looked at again, though nothing tells that they changed.
    pub(super) unsure: BTreeSet<String>,
    /// Until when nobody is taken out.
    spared: Option<Instant>,
    /// Whether names have to be listed that are not known, since the last attempt failed.
    is_unlisted: bool,
    /// Whether there were more names than are listed.
    is_cut: bool,
    /// Whether it has listed the folder once; whoever followed it before may have listed others.
    has_listed: bool,
    /// Whether nothing was known of it before.
    is_first: bool,
    /// Whether the folder does not exist yet.
    pub(super) is_unmade: bool,
}

struct Alive {
    key: AnnouncementKey,
    stamp: Stamp,
}

impl Look {
    pub(super) fn new(place: Place, is_first: bool) -> Self {
        Self {
            place,
            folder: None,
            alive: HashMap::new(),
            faults: BTreeMap::new(),
            unsure: BTreeSet::new(),
            spared: None,
            is_unlisted: true,
            is_cut: false,
            has_listed: false,
            is_first,
            is_unmade: false,
        }
    }

    /// When everything has to be looked at again.
    pub(super) fn spared_until(&self) -> Option<Instant> {
        self.spared
    }

    /// Whether the folder is there but could not be listed.
    pub(super) fn is_unlisted(&self) -> bool {
        self.is_there() && self.is_unlisted
    }

    /// Whether the folder is there.
    pub(super) fn is_there(&self) -> bool {
        self.folder.is_some()
    }

    pub(super) fn look(&mut self, sight: Sight, now: Instant) -> Vec<CatalogUpdate> {
        let was_there = !self.alive.is_empty() || self.spared.is_some();
        let folder = match self.place.check() {
            Ok(metadata) => identity(&metadata),
            Err(error) => {
                self.folder = None;
                return self.gone(&error);
            }
        };
        let is_other = self.folder != Some(folder);
        if is_other && was_there {
            self.spared = now.checked_add(RETURN);
        }
        // Who was spared until now may be gone, and nothing tells of them again.
        let is_over = self.spared.take_if(|until| *until <= now).is_some();
        self.folder = Some(folder);
        let (names, is_all) = match sight {
            Sight::Names(names) if !is_other && !is_over && !self.is_unlisted => (names, false),
            _ => {
                self.is_unlisted = true;
                match self.list() {
                    Ok((names, is_cut)) => {
                        self.is_unlisted = false;
                        self.is_cut = is_cut;
                        (names, true)
                    }
                    Err(error) => return self.gone(&error),
                }
            }
        };
        let mut updates = Vec::new();
        // Of a list that was cut nobody knows who is absent.
        if is_all && !self.is_cut {
            let absent = |name: &&String| !names.contains(*name);
            let absent: Vec<_> = self.alive.keys().filter(absent).cloned().collect();
            for name in absent {
                self.leaves(&name, &mut updates);
            }
            self.faults.retain(|name, _| names.contains(name));
            self.unsure.retain(|name| names.contains(name));
        }
        for name in names {
            self.look_at(&name, &mut updates);
        }
        if !self.has_listed {
            self.has_listed = true;
            let all = updates.into_iter().filter_map(|update| match update {
                CatalogUpdate::Put(announcement) => Some(announcement),
                _ => None,
            });
            updates = vec![CatalogUpdate::Replace(Scope::All, all.collect())];
        }
        self.conclude(updates)
    }

    /// The names of records, and whether there were too many.
    fn list(&self) -> io::Result<(BTreeSet<String>, bool)> {
        let mut names = BTreeSet::new();
        for entry in fs::read_dir(&self.place.path)? {
            let name = entry?.file_name();
            let Some(name) = names::of_record(&name) else {
                continue;
            };
            if names.len() == MOST {
                return Ok((names, true));
            }
            names.insert(name.to_owned());
        }
        Ok((names, false))
    }

    fn gone(&mut self, error: &io::Error) -> Vec<CatalogUpdate> {
        let fault = Fault::io(&self.place.path, "the folder cannot be read", error);
        let mut updates = vec![CatalogUpdate::Confirmed(false)];
        let is_unmade = self.is_first && !self.has_listed;
        if is_unmade && error.kind() == io::ErrorKind::NotFound {
            // The first registration makes it: so far nobody is there. Or it was moved away, so it is told as a fault.
            self.is_unmade = true;
            updates.push(CatalogUpdate::Replace(Scope::All, Vec::new()));
            let error = DiscoveryError::backend("reading a folder", fault);
            updates.push(CatalogUpdate::Fault(error.expected()));
        } else {
            updates.push(told(fault));
        }
        updates
    }

    /// With the faults there are now: one bad file hides and delays no other.
    fn conclude(&mut self, mut updates: Vec<CatalogUpdate>) -> Vec<CatalogUpdate> {
        let cut = self.is_cut.then(|| {
            let problem =
                format_args!("it has more than {MOST} records, of which the rest is not read");
            Fault::new(&self.place.path, problem)
        });
        let fault = cut.or_else(|| Fault::first_of(self.faults.values().cloned()));
        let is_whole = fault.is_none() && self.spared.is_none();
        updates.insert(0, CatalogUpdate::Confirmed(is_whole));
        updates.push(match fault {
            Some(fault) => told(fault),
            None => CatalogUpdate::Recovered,
        });
        updates
    }

    fn look_at(&mut self, name: &str, updates: &mut Vec<CatalogUpdate>) {
        for _ in 0..TRIES {
            let found = self.place.find(name);
            self.unsure.remove(name);
            match found {
                Found::Absent => {
                    self.faults.remove(name);
                    return self.leaves(name, updates);
                }
                Found::Record {
                    file,
                    metadata,
                    is_held: true,
                } => {
                    let stamp = Stamp::of(&metadata);
                    let known = self.alive.get(name);
                    if known.is_some_and(|alive| alive.stamp == stamp) {
                        self.faults.remove(name);
                        return;
                    }
                    if known.is_none() && self.alive.len() >= MOST {
                        let problem = format_args!("not read: there are {MOST} already");
                        let fault = Fault::new(&self.place.record(name), problem);
                        self.faults.insert(name.to_owned(), fault);
                        return;
                    }
                    match self.place.read(name, &file) {
                        Ok(announcement) => {
                            self.faults.remove(name);
                            let key = announcement.key();
                            let alive = Alive { key, stamp };
                            self.alive.insert(name.to_owned(), alive);
                            updates.push(CatalogUpdate::Put(announcement));
                        }
                        Err(fault) => {
                            self.faults.insert(name.to_owned(), fault);
                        }
                    }
                    return;
                }
                Found::Record {
                    metadata,
                    is_held: false,
                    ..
                } => {
                    // Of a record that was just replaced, the old file is not locked any more.
                    if !self.place.is_at(name, &metadata) {
                        continue;
                    }
                    self.faults.remove(name);
                    self.leaves(name, updates);
                    self.sweep(name, &metadata);
                    return;
                }
                Found::Foreign { fault, is_held, .. } => {
                    self.faults.insert(name.to_owned(), fault);
                    if !is_held {
                        self.leaves(name, updates);
                    }
                    return;
                }
                Found::Unknown(fault) => {
                    self.faults.insert(name.to_owned(), fault);
                    self.unsure.insert(name.to_owned());
                    return;
                }
            }
        }
        self.unsure.insert(name.to_owned());
    }

    fn leaves(&mut self, name: &str, updates: &mut Vec<CatalogUpdate>) {
        if self.spared.is_some() {
            return;
        }
        let Some(Alive { key, .. }) = self.alive.remove(name) else {
            return;
        };
        // In a folder of several users another name may stand for it.
        if names::records(&key).all(|other| !self.alive.contains_key(&other)) {
            updates.push(CatalogUpdate::Remove(key));
        }
    }

    /// Removes a record whose registrant is dead, best-effort: whoever may only read leaves it to others.
    fn sweep(&self, name: &str, dead: &fs::Metadata) {
        let Ok((file, _)) = disk::open(&self.place.record(name), false) else {
            return;
        };
        let Ok(announcement) = self.place.read(name, &file) else {
            return;
        };
        let Ok(Some(_claim)) = self.place.claim(&announcement.key(), 1) else {
            return;
        };
        if matches!(lock::is_held(&file), Ok(false))
            && self.place.is_at(name, dead)
            && fs::remove_file(self.place.record(name)).is_ok()
        {
            tracing::info!(
                folder = %self.place.path.display(), file = name,
                "record of an instance that has ended removed"
            );
        }
    }
}

fn told(fault: Fault) -> CatalogUpdate {
    CatalogUpdate::Fault(DiscoveryError::backend("reading a folder", fault))
}

/// Removes temporary files that writers left which were killed, best-effort.
pub(super) fn sweep_temporary(place: &Place) {
    let entries = fs::read_dir(place.own(names::TEMPORARY));
    for entry in entries.into_iter().flatten().flatten() {
        let (name, path) = (entry.file_name(), entry.path());
        let is_ours = name.to_str().is_some_and(names::is_temporary);
        // One that is not locked yet may be removed as well: its writer begins again.
        if is_ours
            && let Ok((file, _)) = disk::open(&path, false)
            && matches!(lock::is_held(&file), Ok(false))
            && fs::remove_file(&path).is_ok()
        {
            tracing::info!(file = %path.display(), "unfinished record removed");
        }
    }
}
