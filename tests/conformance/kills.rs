//! Registrants are killed at any moment: while they start, write, rename, watch or sweep up after others.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};
use rolecall::Registrar;

use crate::child::Child;
use crate::folder::InFolder;
use crate::stalls::Stalls;
use crate::support::{Answers, PATIENCE, eventually, ids, worker};

/// How long a killed one may be seen.
const GONE: Duration = Duration::from_secs(1);

/// What the watcher saw, and what it must or must not see from now on.
#[derive(Default)]
struct Seen {
    now: BTreeSet<String>,
    /// Alive, and seen once: no set may be without them.
    live: BTreeSet<String>,
    /// When they were killed, and the stalls before that.
    dead: BTreeMap<String, (Instant, Duration)>,
    oldest_ghost: Duration,
    sets: usize,
    seen_alive: usize,
}

impl Seen {
    #[expect(clippy::disallowed_methods, reason = "measures real processes")]
    fn look(&mut self, set: BTreeSet<String>, stalls: Duration) {
        for id in &self.live {
            assert!(set.contains(id), "{id} lives and is lost: {set:?}");
        }
        for gone in self.now.difference(&set) {
            if let Some((killed, before)) = self.dead.get(gone) {
                let age = killed.elapsed().saturating_sub(stalls - *before);
                self.oldest_ghost = self.oldest_ghost.max(age);
            }
        }
        self.now = set;
        self.sets += 1;
    }
}

/// One slot: starts a registrant, gives it some time, kills it, and starts the next; half of the ids are used again.
#[expect(clippy::disallowed_methods, reason = "measures real processes")]
fn slot(folder: &InFolder, slot: usize, kills: usize, seen: &Mutex<Seen>, stalls: &Stalls) {
    let mut chance = SmallRng::seed_from_u64(u64::try_from(slot).unwrap());
    for kill in 0..kills {
        let id = if chance.random_bool(0.5) {
            format!("again-{slot}")
        } else {
            format!("once-{slot}-{kill}")
        };
        seen.lock().unwrap().dead.remove(&id);
        let mut child = Child::start(&folder.path, &id);
        if chance.random_bool(0.7) {
            child.registered();
            let began = Instant::now();
            loop {
                let mut seen = seen.lock().unwrap();
                // An id used again may be the ghost of its last holder, which is as good as alive until it is replaced.
                if seen.now.contains(&id) && !id.starts_with("again") {
                    seen.live.insert(id.clone());
                    seen.seen_alive += 1;
                }
                if seen.now.contains(&id) {
                    break;
                }
                drop(seen);
                assert!(
                    began.elapsed() < PATIENCE,
                    "{id} registered and is not seen"
                );
                thread::sleep(Duration::from_millis(1));
            }
        }
        thread::sleep(Duration::from_micros(chance.random_range(0..100_000)));
        seen.lock().unwrap().live.remove(&id);
        child.kill();
        let killed = (Instant::now(), stalls.so_far());
        seen.lock().unwrap().dead.insert(id, killed);
    }
}

async fn kills(count: usize) {
    const SLOTS: usize = 4;
    let folder = Arc::new(InFolder::default());
    let _stays = folder.handle().register(worker("stays")).await.unwrap();
    let seen = Arc::new(Mutex::new(Seen::default()));
    let stalls = Arc::new(Stalls::measure());
    let mut answers = Answers::of(&folder.handle(), "worker:http");
    answers.until(|set| set.len() == 1).await;
    seen.lock().unwrap().live.insert("stays".to_owned());
    let killing: Vec<_> = (0..SLOTS)
        .map(|number| {
            let (folder, seen, stalls) = (folder.clone(), seen.clone(), stalls.clone());
            tokio::task::spawn_blocking(move || {
                slot(&folder, number, count / SLOTS, &seen, &stalls);
            })
        })
        .collect();
    let killed = futures::future::join_all(killing);
    tokio::pin!(killed);
    let mut done = false;
    loop {
        tokio::select! {
            answer = answers.next() => {
                let set = answer.expect("no torn read, no other fault");
                let set: BTreeSet<String> = ids(&set).into_iter().map(str::to_owned).collect();
                let mut seen = seen.lock().unwrap();
                seen.look(set, stalls.so_far());
                if done && seen.now.len() == 1 {
                    break;
                }
            }
            ended = &mut killed, if !done => {
                done = true;
                for slot in ended {
                    slot.unwrap();
                }
                if seen.lock().unwrap().now.len() == 1 {
                    break;
                }
            }
        }
    }
    let left = || -> Vec<String> {
        let entries = fs::read_dir(&folder.path).unwrap();
        let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        names.filter(|name| !name.starts_with('.')).collect()
    };
    eventually("what the dead left is swept away", || {
        left() == ["default.worker.stays.rolecall"]
    })
    .await;
    let seen = seen.lock().unwrap();
    println!(
        "{count} kills, {} sets, {} of the killed seen alive, oldest ghost {:?}, stalled for {:?}",
        seen.sets,
        seen.seen_alive,
        seen.oldest_ghost,
        stalls.so_far()
    );
    assert!(seen.oldest_ghost <= GONE);
    assert!(seen.seen_alive > count / 16, "too few ever lived");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kills_at_any_moment_lose_nobody_and_leave_nobody() {
    kills(48).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a thousand kills take minutes"]
async fn a_thousand_kills_lose_nobody_and_leave_nobody() {
    kills(1000).await;
}
