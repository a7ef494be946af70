//! How long the dead of a folder are seen, in a crowd of the living.

use std::time::{Duration, Instant};

use futures::future::join_all;
use rolecall::discovery::File;

use crate::child::Child;
use crate::file::Folder;
use crate::stalls::Stalls;
use crate::subject::{Answers, Subject, worker};

/// A registrant that dies in a crowd of that many, seen by one with its lease, and by one with a longer one.
#[expect(clippy::disallowed_methods, reason = "measures real processes")]
async fn dies(times: usize, crowd: usize, lease: Duration) {
    let folder = Folder::default();
    let living = folder.open();
    let registering = (0..crowd).map(|id| living.register(worker(&id.to_string())));
    let mut leases = Vec::new();
    for lease in join_all(registering).await {
        leases.push(lease.unwrap());
    }
    let watchers = [
        File::new(&folder.path).lease(lease),
        File::new(&folder.path),
    ];
    let mut answers = watchers.map(|watcher| Answers::of(&watcher, "worker:http"));
    for round in 0..times {
        let id = format!("dies-{round}");
        let mut victim = Child::quiet(&folder.path, &id, lease);
        victim.registered();
        for answers in &mut answers {
            answers.until(|set| set.get(id.as_str()).is_some()).await;
        }
        let stalls = Stalls::measure();
        victim.kill();
        let killed = Instant::now();
        for answers in &mut answers {
            let set = answers.until(|set| set.get(id.as_str()).is_none()).await;
            let (after, stalled) = (killed.elapsed(), stalls.so_far());
            println!("gone {after:?} after the kill; stalled for {stalled:?}");
            assert!(after <= lease + stalled, "{after:?}, stalled {stalled:?}");
            assert_eq!(set.len(), crowd, "nobody else");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_crashed_registrant_is_gone_within_the_shortest_lease() {
    dies(3, 10, Duration::from_secs(1)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_crashed_registrant_in_a_crowd_is_gone_within_its_lease() {
    dies(1, 9000, Duration::from_secs(5)).await;
}
