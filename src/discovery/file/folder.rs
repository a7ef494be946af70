//! A folder in which processes register themselves, as somebody sees it who watches.
//!
//! Nobody's clock is compared with anybody else's: a registration lives for as long as its file keeps changing, and how
//! long it has not is measured in time that the watcher was awake. Neither a jumping clock nor a suspended machine lets
//! everybody expire at once.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

use super::awake::Awake;
use super::edits::Edits;
use super::entry::{Entry, Found, LARGEST_FOLDER, open, pace, patience};
use super::fault::Fault;
use super::name::{self, Kind, hash};
use super::posts::sweep;
use super::stamp::{Identity, Stamp};

/// Files that are read; a folder of more is no folder of registrations.
const MOST_ENTRIES: usize = 100_000;

pub(super) struct Folder {
    path: PathBuf,
    lease: Duration,
    awake: Awake,
    /// When something is to be looked at next, in time awake.
    next: Duration,
    identity: Option<Identity>,
    /// Rises when another folder is found in place of the one before.
    generation: u64,
    looks: u64,
    entries: HashMap<String, Entry>,
    unfinished: HashMap<String, (Stamp, Duration)>,
    known: HashSet<String>,
    bytes: u64,
    most_entries: usize,
}

impl Folder {
    pub(super) fn new(path: PathBuf, lease: Duration, mut awake: Awake) -> Self {
        awake.set_longest_pause(2 * pace(lease));
        Self {
            path,
            lease,
            awake,
            next: Duration::MAX,
            identity: None,
            generation: 0,
            looks: 0,
            entries: HashMap::new(),
            unfinished: HashMap::new(),
            known: HashSet::new(),
            bytes: 0,
            most_entries: MOST_ENTRIES,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    /// How long until the next look is due, if nothing happens before.
    pub(super) fn rest(&self) -> Duration {
        let due = self.next.saturating_sub(self.awake.last());
        due.min(pace(self.lease))
    }

    /// `Err` if the folder cannot be listed: everything stays. Faults of single files come with `Ok`.
    pub(super) fn look(&mut self, edits: &mut Edits) -> Result<Option<Fault>, Fault> {
        let names = match self.list_all() {
            Ok(names) => names,
            Err(fault) => {
                // Nobody could be seen meanwhile.
                self.awake.pass();
                self.next = self.awake.last() + pace(self.lease);
                return Err(fault);
            }
        };
        let now = self.awake.now();
        self.looks += 1;
        let mut unfinished = HashMap::new();
        let mut listed = Vec::new();
        for name in names {
            if let Some(entry) = self.entries.get_mut(&name) {
                entry.listed = self.looks;
                listed.push(name);
                continue;
            }
            match name::kind(&name) {
                Kind::Record => listed.push(name),
                Kind::Known(boundary, role, endpoint) => {
                    if self.known.insert(name) {
                        edits.know((boundary, role, endpoint));
                    }
                }
                Kind::Unfinished => self.age_unfinished(name, now, &mut unfinished),
                Kind::Foreign => {}
            }
        }
        self.unfinished = unfinished;
        // What the listing lacks is looked for by name, before it is taken for gone.
        let entries = self.entries.iter();
        let unlisted = entries.filter(|(_, entry)| entry.listed != self.looks);
        let unlisted: Vec<_> = unlisted.map(|(name, _)| name.clone()).collect();
        for name in &listed {
            self.look_at(name, true, edits);
        }
        for name in &unlisted {
            self.look_at(name, false, edits);
        }
        self.plan();
        let entries = self.entries.iter();
        let mut faults: Vec<_> = entries
            .filter_map(|(name, entry)| Some((name, entry.fault.as_ref()?)))
            .collect();
        faults.sort_unstable_by_key(|(name, _)| *name);
        Ok(Fault::first_of(
            faults.into_iter().map(|(_, fault)| fault.clone()),
        ))
    }

    /// Whether it was never seen, and is not there: the first registration makes it.
    pub(super) fn is_unmade(&self) -> bool {
        let missing = |error: io::Error| error.kind() == io::ErrorKind::NotFound;
        self.identity.is_none() && fs::symlink_metadata(&self.path).is_err_and(missing)
    }

    pub(super) fn forget(&mut self, edits: &mut Edits) {
        for (_, entry) in self.entries.drain() {
            edits.change(entry.announced, None);
        }
        self.next = Duration::MAX;
        self.identity = None;
        self.unfinished.clear();
        self.known.clear();
        self.bytes = 0;
    }

    fn list_all(&mut self) -> Result<Vec<String>, Fault> {
        let first = self.identity.is_none();
        let mut names = self.list()?;
        if first {
            // Listing a folder while files are renamed in it may miss some, which later looks then know by name.
            names.extend(self.list()?);
            names.sort_unstable();
            names.dedup();
        }
        Ok(names)
    }

    fn list(&mut self) -> Result<Vec<String>, Fault> {
        let fault = |error: io::Error| Fault::io(&self.path, "the folder cannot be read", &error);
        let identity = || match fs::metadata(&self.path) {
            Ok(folder) => Ok(Identity::of(&folder)),
            Err(error) => Err(fault(error)),
        };
        let before = identity()?;
        let mut names = Vec::new();
        for (count, entry) in fs::read_dir(&self.path).map_err(fault)?.enumerate() {
            if count >= self.most_entries {
                let problem = format_args!("it has more than {} entries", self.most_entries);
                return Err(Fault::new(&self.path, problem));
            }
            // Ours are text; what is not is foreign.
            if let Ok(name) = entry.map_err(fault)?.file_name().into_string() {
                names.push(name);
            }
        }
        if identity()? != before {
            return Err(Fault::new(&self.path, "it was replaced while it was read"));
        }
        if self.identity != Some(before) {
            self.identity = Some(before);
            self.generation += 1;
        }
        Ok(names)
    }

    /// When the next look is due: a tenth of the shortest lease from now, or when somebody expires.
    fn plan(&mut self) {
        let now = self.awake.now();
        let live = self.entries.values().filter(|e| e.announced.is_some());
        let shortest = live.map(|e| e.lease).min().unwrap_or(self.lease);
        let pace = pace(shortest.min(self.lease));
        self.awake.set_longest_pause(2 * pace);
        let expiry = self.entries.values().map(Entry::expires).min();
        self.next = expiry.unwrap_or(Duration::MAX).min(now + pace);
    }

    fn look_at(&mut self, name: &str, listed: bool, edits: &mut Edits) {
        // Of this file: a look at many takes long.
        let now = self.awake.now();
        let path = self.path.join(name);
        let there = match fs::symlink_metadata(&path) {
            Ok(there) => Some(there),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            // Neither there nor gone: it ages.
            Err(_) => return self.age(name, now, edits),
        };
        let Some(there) = there else {
            let taken_away = |entry: &Entry| !listed && entry.generation == self.generation;
            return if self.entries.get(name).is_some_and(taken_away) {
                self.remove(name, edits);
            } else {
                // Listed a moment ago: perhaps the whole folder went, which the next look finds. In another folder than
                // before: nobody had the time to register again.
                self.age(name, now, edits);
            };
        };
        let stamp = Stamp::of(&there);
        if let Some(entry) = self.entries.get_mut(name) {
            entry.generation = self.generation;
            if entry.stamp == stamp {
                entry.compared = now;
                return self.age(name, now, edits);
            }
        }
        let before = self.entries.get(name);
        let earlier = before.map(|entry| entry.stamp);
        let same_file = earlier.is_some_and(|earlier| earlier.is_same_file(&stamp));
        let is_written = earlier.is_some_and(|earlier| stamp.is_written_after(&earlier));
        let is_beat = earlier.is_some_and(|earlier| stamp.is_beat_after(&earlier));
        let room =
            LARGEST_FOLDER.saturating_sub(self.bytes - before.map_or(0, |entry| entry.bytes));
        let entry = self
            .entries
            .entry(name.to_owned())
            .or_insert_with(|| Entry {
                stamp,
                generation: self.generation,
                listed: self.looks,
                compared: now,
                quiet_since: now,
                was_reread: false,
                lease: self.lease,
                read: 0,
                bytes: 0,
                announced: None,
                fault: None,
            });
        entry.stamp = stamp;
        // Counted from before the change; but a look that came late is its own fault.
        let latest = now.saturating_sub(2 * pace(entry.lease));
        entry.quiet_since = match same_file {
            true if is_written => entry.compared.max(latest),
            true => entry.quiet_since,
            false => now,
        };
        entry.compared = now;
        if !same_file {
            entry.was_reread = false;
        } else if is_beat && entry.was_reread && entry.is_well() {
            return;
        }
        let found = if there.is_file() {
            // Whoever is not announced may be dead, and is announced only if not.
            open(&path, same_file && entry.announced.is_some(), room)
        } else {
            Err(Fault::new(&path, "it is not a regular file"))
        };
        match found {
            Ok(Found::Gone) => match earlier {
                Some(earlier) => entry.stamp = earlier,
                None => self.remove(name, edits),
            },
            Ok(Found::Dead(fault)) => {
                entry.fault = fault;
                edits.change(entry.announced.take(), None);
            }
            Ok(Found::Bytes(bytes)) => {
                self.bytes -= entry.bytes;
                entry.bytes = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
                self.bytes += entry.bytes;
                let read = hash(&bytes);
                if entry.read == read && entry.announced.is_some() {
                    entry.fault = None;
                    entry.was_reread = is_written;
                    return;
                }
                match entry.understand(name, &path, &bytes) {
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

    fn age(&mut self, name: &str, now: Duration, edits: &mut Edits) {
        let Some(entry) = self.entries.get_mut(name) else {
            return;
        };
        if now < entry.expires() {
            return;
        }
        if let Some(expired) = entry.announced.take() {
            tracing::info!(
                boundary = %expired.boundary(), role = %expired.role(), id = %expired.id(),
                "a registration expired"
            );
            edits.change(Some(expired), None);
        }
        // Whoever cannot be swept away is tried again as long after.
        entry.quiet_since = now;
        let path = self.path.join(name);
        match fs::symlink_metadata(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => self.remove(name, edits),
            _ => sweep(&path, entry.stamp),
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
        now: Duration,
        unfinished: &mut HashMap<String, (Stamp, Duration)>,
    ) {
        let path = self.path.join(&name);
        let Ok(stamp) = fs::symlink_metadata(&path).as_ref().map(Stamp::of) else {
            return;
        };
        let since = match self.unfinished.get(&name) {
            Some((before, since)) if *before == stamp => *since,
            _ => now,
        };
        if now >= since + patience(self.lease) {
            sweep(&path, stamp);
        } else {
            unfinished.insert(name, (stamp, since));
        }
    }
}

#[cfg(test)]
mod tests;
