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
/// Faults and names without an answer that are remembered: anybody who may write can make more files that are no records.
const MOST_FAULTS: usize = 1000;
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
    /// Whether there was more than can be remembered, of which nothing tells when it is mended.
    is_overfull: bool,
    /// How many instances are taken in.
    most: usize,
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
            is_overfull: false,
            most: MOST,
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

    /// Whether it has to be listed again and again.
    pub(super) fn is_overfull(&self) -> bool {
        self.is_overfull
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
        let mut updates = Vec::new();
        match sight {
            Sight::Names(names) if !is_other && !is_over && !self.is_unlisted => {
                for name in names {
                    self.look_at(&name, &mut updates);
                }
            }
            _ => {
                let listed = self.look_at_all(&mut updates);
                self.is_unlisted = listed.is_err();
                if let Err(error) = listed {
                    if !self.has_listed {
                        // Half a list is not the first answer.
                        self.alive.clear();
                        updates.clear();
                    }
                    updates.extend(self.gone(&error));
                    return updates;
                }
            }
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

    /// Looks at every record, one by one: how many other files there are costs no memory.
    fn look_at_all(&mut self, updates: &mut Vec<CatalogUpdate>) -> io::Result<()> {
        self.is_overfull = false;
        let known = self.alive.keys().chain(self.faults.keys());
        let mut unseen: BTreeSet<_> = known.chain(&self.unsure).cloned().collect();
        for entry in fs::read_dir(&self.place.path)? {
            let name = entry?.file_name();
            if let Some(name) = names::of_record(&name) {
                unseen.remove(name);
                self.look_at(name, updates);
            }
        }
        for name in unseen {
            self.look_at(&name, updates);
        }
        Ok(())
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
        let fault = Fault::first_of(self.faults.values().cloned());
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
                    if known.is_none() && self.alive.len() >= self.most {
                        let problem = format_args!("not read: there are {} already", self.most);
                        let fault = Fault::new(&self.place.record(name), problem);
                        self.is_overfull = true;
                        return self.fault(name, fault);
                    }
                    match self.place.read(name, &file) {
                        Ok(announcement) => {
                            self.faults.remove(name);
                            let key = announcement.key();
                            let alive = Alive { key, stamp };
                            self.alive.insert(name.to_owned(), alive);
                            updates.push(CatalogUpdate::Put(announcement));
                        }
                        Err(fault) => self.fault(name, fault),
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
                    self.fault(name, fault);
                    if !is_held {
                        self.leaves(name, updates);
                    }
                    return;
                }
                Found::Unknown(fault) => {
                    self.fault(name, fault);
                    return self.doubt(name);
                }
            }
        }
        self.doubt(name);
    }

    fn fault(&mut self, name: &str, fault: Fault) {
        if self.faults.len() < MOST_FAULTS || self.faults.contains_key(name) {
            self.faults.insert(name.to_owned(), fault);
        } else {
            self.is_overfull = true;
        }
    }

    /// Has it looked at again.
    fn doubt(&mut self, name: &str) {
        if self.unsure.len() < MOST_FAULTS {
            self.unsure.insert(name.to_owned());
        } else {
            self.is_overfull = true;
        }
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

#[cfg(test)]
mod tests {
    use std::os::unix::fs::DirBuilderExt;
    use std::path::PathBuf;

    use super::super::writer::Writer;
    use super::*;
    use crate::discovery::registration::Registration;
    use crate::runtime::{clock, random};

    struct Scratch(PathBuf);

    impl Scratch {
        fn new() -> Self {
            let name = format!("rolecall-look-{:016x}", random::seed());
            let path = std::env::temp_dir().join(name);
            fs::DirBuilder::new().mode(0o700).create(&path).unwrap();
            Self(path)
        }

        fn place(&self) -> Place {
            Place {
                path: self.0.clone(),
                others_may_write: false,
            }
        }

        fn live(&self, id: &str) -> Writer {
            let mut writer = Writer::new(self.place());
            let worker = Registration::new("worker").id(id).validate().unwrap();
            writer.put(&worker).unwrap();
            writer
        }
    }

    impl Drop for Scratch {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    /// What a look at everything says: is the set confirmed, and what is the fault.
    fn looked(look: &mut Look) -> (bool, Option<String>) {
        let updates = look.look(Sight::Everything, clock::now());
        let confirmed = |update: &CatalogUpdate| matches!(update, CatalogUpdate::Confirmed(true));
        let is_confirmed = updates.iter().any(confirmed);
        let fault = updates.into_iter().find_map(|update| match update {
            CatalogUpdate::Fault(error) => Some(error.with_causes()),
            _ => None,
        });
        (is_confirmed, fault)
    }

    #[test]
    fn what_is_over_the_limit_is_told_and_read_later_and_foreign_files_do_not_count() {
        let scratch = Scratch::new();
        for foreign in 0..5 {
            // They come first in any order of names.
            fs::write(scratch.0.join(format!("a{foreign}.rolecall")), "mine").unwrap();
        }
        let (first, _second) = (scratch.live("1"), scratch.live("2"));
        let mut look = Look {
            most: 2,
            ..Look::new(scratch.place(), true)
        };
        looked(&mut look);
        assert_eq!(look.alive.len(), 2, "all that are alive");
        for foreign in 0..5 {
            fs::remove_file(scratch.0.join(format!("a{foreign}.rolecall"))).unwrap();
        }
        assert_eq!(looked(&mut look), (true, None));
        let _third = scratch.live("3");
        let (is_confirmed, fault) = looked(&mut look);
        assert!(
            !is_confirmed && look.is_overfull(),
            "nobody knows the third"
        );
        assert!(fault.unwrap().ends_with("not read: there are 2 already"));
        drop(first);
        // What nobody listed again would stay out.
        looked(&mut look);
        assert_eq!(looked(&mut look), (true, None));
        assert_eq!(look.alive.len(), 2);
        assert!(!look.is_overfull());
    }

    #[test]
    fn any_number_of_files_that_are_no_records_costs_bounded_memory() {
        let scratch = Scratch::new();
        let _live = scratch.live("z");
        let foreign = |n: usize| scratch.0.join(format!("{n}.rolecall"));
        for n in 0..MOST_FAULTS + 50 {
            fs::write(foreign(n), "mine").unwrap();
        }
        let mut look = Look::new(scratch.place(), true);
        let (is_confirmed, fault) = looked(&mut look);
        assert!(!is_confirmed && look.is_overfull());
        assert!(fault.unwrap().ends_with("(and 999 more)"));
        assert_eq!((look.faults.len(), look.alive.len()), (MOST_FAULTS, 1));
        (0..MOST_FAULTS).for_each(|n| fs::remove_file(foreign(n)).unwrap());
        assert!(!looked(&mut look).0, "of the others is nothing known");
        (MOST_FAULTS..MOST_FAULTS + 50).for_each(|n| fs::remove_file(foreign(n)).unwrap());
        assert_eq!(looked(&mut look), (true, None));
        assert!(look.faults.is_empty() && !look.is_overfull());
    }
}
