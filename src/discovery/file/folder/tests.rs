//! A folder and its watcher, by a clock that the tests set.

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
    let clock = Arc::new(Mutex::new(crate::runtime::clock::now()));
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
fn who_was_killed_between_link_and_unlink_is_no_older_than_the_lease() {
    for seen_alive in [true, false] {
        let mut at = folder(&format!("linked-{seen_alive}"));
        let record = at.folder.path.join("default.worker.w-1.json");
        let unfinished = at.folder.path.join(name::unfinished(1, 1, 1));
        fs::hard_link(&record, &unfinished).unwrap();
        if seen_alive {
            at.look();
        }
        at.posts = None;
        at.look();
        assert_eq!(at.live(), usize::from(seen_alive));
        until_a_change_would_show(&record);
        let mut left = 12;
        while left > 0 {
            at.wait_and_look(1.0);
            left -= 1;
            let may_live = seen_alive && left > 2;
            assert!(at.live() <= usize::from(may_live), "{left} s left");
        }
        assert!(!unfinished.exists() && !record.exists(), "swept away");
    }
}

/// The file system's clock ticks every few milliseconds.
fn until_a_change_would_show(path: &std::path::Path) {
    let scratch = path.with_extension("scratch");
    let modified = |path| fs::metadata(path).unwrap().modified().unwrap();
    fs::write(&scratch, "").unwrap();
    let before = modified(&scratch);
    while modified(&scratch) == before {
        fs::write(&scratch, "x").unwrap();
    }
    fs::remove_file(scratch).unwrap();
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
    assert_eq!(announced.availability(), crate::Availability::Draining);
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
