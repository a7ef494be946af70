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
            true => entry.compared.max(latest),
            false => now,
        };
        entry.compared = now;
        if !same_file {
            entry.was_reread = false;
        } else if is_beat && entry.was_reread && entry.is_well() {
            return;
        }
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
                    entry.was_reread = same_file;
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
mod tests {
    use std::sync::{Arc, Mutex};
    use std::time::{Instant, SystemTime};

    use super::super::lock::tests::Unlocked;
    use super::super::posts::Posts;
    use super::*;
    use crate::discovery::{Announcement, Registration};

    const LEASE: Duration = Duration::from_secs(10);

    /// A folder in which `w-1` is registered, and a clock set by hand.
    struct Stage {
        folder: Folder,
        posts: Option<Posts>,
        clock: Arc<Mutex<Instant>>,
        /// How much it goes on at each reading, of which there is one for each file.
        runs: Arc<Mutex<Duration>>,
    }

    fn folder(name: &str) -> Stage {
        let path = format!("rolecall-folder-{name}-{}", std::process::id());
        let path = std::env::temp_dir().join(path);
        let mut posts = Posts::new(path.clone(), LEASE);
        let worker = Registration::new("worker").id("w-1").validate();
        announce(&mut posts, worker.unwrap());
        let clock = Arc::new(Mutex::new(crate::service::clock::now()));
        let runs = Arc::new(Mutex::new(Duration::ZERO));
        let (read, by) = (Arc::clone(&clock), Arc::clone(&runs));
        let awake = Awake::new(move || {
            let mut clock = read.lock().unwrap();
            *clock += *by.lock().unwrap();
            *clock
        });
        Stage {
            folder: Folder::new(path, LEASE, awake),
            posts: Some(posts),
            clock,
            runs,
        }
    }

    fn announce(posts: &mut Posts, announced: Announcement) {
        assert!(posts.announce(announced, None).is_ok());
    }

    impl Stage {
        fn look(&mut self) {
            self.folder.look(&mut Edits::default()).unwrap();
        }

        /// Changes the file of `w-1` as a beat does, to a time of its own.
        fn touch(&self, seconds: u64) {
            self.touch_of(1, seconds);
        }

        fn touch_of(&self, id: usize, seconds: u64) {
            let path = format!("default.worker.w-{id}.json");
            let path = self.folder.path.join(path);
            let file = fs::File::options().write(true).open(path).unwrap();
            let time = SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
            file.set_modified(time).unwrap();
        }

        fn pass(&self, time: Duration) {
            *self.clock.lock().unwrap() += time;
        }

        /// Looks whenever that is due, for so many seconds.
        fn wait_and_look(&mut self, seconds: f64) {
            let mut left = Duration::from_secs_f64(seconds);
            while !left.is_zero() {
                let rest = self.folder.rest().min(left);
                self.pass(rest);
                left -= rest;
                self.look();
            }
        }

        fn live(&self) -> usize {
            let entries = self.folder.entries.values();
            entries.filter(|entry| entry.announced.is_some()).count()
        }
    }

    impl Drop for Stage {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.folder.path);
        }
    }

    #[test]
    fn a_registration_expires_by_time_without_a_change_whatever_clocks_say() {
        let mut at = folder("expires");
        let path = at.folder.path.join("default.worker.w-1.json");
        at.look();
        at.wait_and_look(7.9);
        assert_eq!(at.live(), 1);
        for _ in 0..100 {
            at.look();
        }
        assert_eq!(at.live(), 1, "what counts is time, not looks");
        at.touch(0);
        at.look();
        at.wait_and_look(6.9);
        assert_eq!(at.live(), 1, "a clock that went back is a change");
        at.posts.as_mut().unwrap().beat();
        at.wait_and_look(7.9);
        assert_eq!(at.live(), 1);
        at.wait_and_look(0.9);
        assert_eq!(at.live(), 0);
        assert!(path.exists(), "its holder lives, though silent");
        // Not a beat: two in one tick of the file system's clock look the same.
        at.touch(1);
        at.wait_and_look(1.0);
        assert_eq!(at.live(), 1, "and is back");
        at.posts = None;
        at.wait_and_look(9.0);
        assert_eq!(
            (at.live(), path.exists()),
            (0, false),
            "the dead are swept away"
        );
    }
    #[test]
    fn what_was_listed_and_is_gone_is_not_taken_away_before_the_next_look() {
        let mut at = folder("gone");
        at.look();
        let record = "default.worker.w-1.json";
        let path = at.folder.path.clone();
        let aside = path.with_extension("aside");
        // The folder goes between the listing and the look at its files.
        fs::rename(&path, &aside).unwrap();
        at.folder.look_at(record, true, &mut Edits::default());
        assert_eq!(at.live(), 1);
        assert!(at.folder.look(&mut Edits::default()).is_err());
        assert_eq!(at.live(), 1);
        fs::rename(&aside, &path).unwrap();
        at.posts = None;
        fs::remove_file(path.join(record)).unwrap();
        at.look();
        assert_eq!(at.live(), 0);
    }

    #[test]
    fn a_watcher_that_stood_still_lets_nobody_expire() {
        let mut at = folder("still");
        at.look();
        at.wait_and_look(5.0);
        for _ in 0..3 {
            at.pass(Duration::from_secs(100_000));
            at.look();
            assert_eq!(at.live(), 1, "it may have stood still as well");
            at.touch(at.folder.looks);
            at.wait_and_look(5.0);
        }
        at.pass(Duration::from_secs(100_000));
        at.wait_and_look(3.0);
        assert_eq!(at.live(), 0, "and time goes on");
    }

    #[test]
    fn without_locks_the_lease_decides_and_the_dead_are_swept_away() {
        let _unlocked = Unlocked::new();
        let mut at = folder("unlocked");
        at.posts = None;
        at.look();
        at.wait_and_look(7.9);
        assert_eq!(at.live(), 1, "nobody knows yet");
        at.wait_and_look(0.2);
        assert_eq!(at.live(), 0);
        at.look();
        assert!(at.folder.entries.is_empty());
        assert!(!at.folder.path.join("default.worker.w-1.json").exists());
    }

    #[test]
    fn a_shorter_lease_than_ones_own_is_kept() {
        let mut at = folder("shorter");
        let lease = Duration::from_secs(1);
        let mut brief = Posts::new(at.folder.path.clone(), lease);
        let worker = Registration::new("worker").id("w-2").validate();
        announce(&mut brief, worker.unwrap());
        at.look();
        assert_eq!(at.live(), 2);
        let began = *at.clock.lock().unwrap();
        while at.live() == 2 {
            let rest = at.folder.rest();
            assert!(rest <= lease / 10, "looks are {rest:?} apart");
            at.pass(rest);
            at.look();
        }
        let gone = *at.clock.lock().unwrap() - began;
        assert!(gone < lease, "after {gone:?}");
        assert!(gone >= lease / 2, "after {gone:?}");
        assert!(
            at.folder.entries["default.worker.w-1.json"]
                .announced
                .is_some()
        );
    }

    #[test]
    fn a_slow_look_makes_nobody_older_than_the_lease() {
        let mut at = folder("slow");
        at.look();
        let began = *at.clock.lock().unwrap();
        while at.live() == 1 {
            // Each look takes half as long as the pause before it.
            at.pass(at.folder.rest());
            at.look();
            at.pass(Duration::from_millis(500));
        }
        let gone = *at.clock.lock().unwrap() - began;
        assert!(gone <= LEASE, "after {gone:?}");
    }

    #[test]
    fn who_watches_nothing_wakes_no_more_often_than_a_watcher() {
        let mut at = folder("idle");
        assert_eq!(at.folder.rest(), LEASE / 10);
        at.look();
        at.wait_and_look(7.99);
        assert!(at.folder.rest() < LEASE / 100, "somebody expires");
        at.folder.forget(&mut Edits::default());
        assert_eq!(at.folder.rest(), LEASE / 10);
    }

    #[test]
    fn a_look_that_takes_longer_than_the_lease_lets_nobody_expire_who_beats() {
        const CROWD: usize = 50;
        let mut at = folder("crowd");
        for id in 2..=CROWD {
            let worker = Registration::new("worker").id(format!("w-{id}"));
            let posts = at.posts.as_mut().unwrap();
            announce(posts, worker.validate().unwrap());
        }
        for look in 0..3 {
            *at.runs.lock().unwrap() = LEASE / 40;
            at.look();
            *at.runs.lock().unwrap() = Duration::ZERO;
            assert_eq!(at.live(), CROWD);
            for id in 1..=CROWD {
                at.touch_of(id, look);
            }
            at.look();
            at.wait_and_look(5.0);
            assert_eq!(at.live(), CROWD, "they are half a lease old at most");
            for id in 1..=CROWD {
                at.touch_of(id, look + 100);
            }
        }
    }

    #[test]
    fn what_was_read_after_a_beat_is_not_read_at_each() {
        let mut at = folder("beats");
        let name = "default.worker.w-1.json";
        at.look();
        assert!(!at.folder.entries[name].was_reread);
        at.touch(1);
        at.look();
        assert!(at.folder.entries[name].was_reread);
        at.touch(2);
        at.look();
        let posts = at.posts.as_mut().unwrap();
        let drain = |announced: &mut Announcement| {
            announced.set_availability(crate::Availability::Draining);
            Ok(())
        };
        posts.change(1, drain).unwrap();
        at.look();
        let entry = &at.folder.entries[name];
        assert!(!entry.was_reread, "it is another file");
        let announced = entry.announced.as_ref().unwrap();
        assert_eq!(
            announced.common().availability(),
            crate::Availability::Draining
        );
    }

    #[test]
    fn a_flooded_folder_is_not_read_and_takes_nobody_away() {
        let mut at = folder("flooded");
        at.look();
        at.folder.most_entries = 20;
        for number in 0..20 {
            fs::write(at.folder.path.join(number.to_string()), "").unwrap();
        }
        for _ in 0..100 {
            at.pass(at.folder.rest());
            let fault = at.folder.look(&mut Edits::default()).unwrap_err();
            assert!(fault.to_string().ends_with("it has more than 20 entries"));
        }
        at.folder.most_entries = MOST_ENTRIES;
        at.look();
        assert_eq!(at.live(), 1, "nor does it age meanwhile");
    }

    #[test]
    fn all_registrations_together_are_bounded() {
        let mut at = folder("bounded");
        at.look();
        at.folder.bytes = LARGEST_FOLDER;
        let second = Registration::new("worker").id("w-2").validate();
        let posts = at.posts.as_mut().unwrap();
        announce(posts, second.unwrap());
        let fault = at.folder.look(&mut Edits::default()).unwrap().unwrap();
        assert!(
            fault
                .to_string()
                .contains("w-2.json: all registrations together exceed")
        );
        assert_eq!(at.live(), 1);
    }
}
