//! How long the dead of a folder are seen, in a crowd of the living.

use std::time::{Duration, Instant};

use futures::future::join_all;
use rolecall::discovery::File;

use crate::child::Child;
use crate::file::Folder;
use crate::stalls::Stalls;
use crate::subject::{Answers, Subject, worker};

/// A registrant that dies in a crowd of that many, seen by one who has another lease.
#[expect(clippy::disallowed_methods, reason = "measures real processes")]
async fn dies(crowd: usize, lease: Duration, watchers_lease: Duration) {
    let folder = Folder::default();
    let living = folder.open();
    let registering = (0..crowd).map(|id| living.register(worker(&id.to_string())));
    let mut leases = Vec::new();
    for lease in join_all(registering).await {
        leases.push(lease.unwrap());
    }
    // One alone: whoever finds it dead first removes its file, which tells all others.
    let watcher = File::new(&folder.path).lease(watchers_lease);
    let mut answers = Answers::of(&watcher, "worker:http");
    let mut victim = Child::quiet(&folder.path, "dies", lease);
    victim.registered();
    answers.until(|set| set.get("dies").is_some()).await;
    let stalls = Stalls::measure();
    victim.kill();
    let killed = Instant::now();
    let set = answers.until(|set| set.get("dies").is_none()).await;
    let (after, stalled) = (killed.elapsed(), stalls.so_far());
    println!("gone {after:?} after the kill, of a lease of {lease:?}; stalled for {stalled:?}");
    assert!(after <= lease + stalled, "{after:?}, stalled {stalled:?}");
    assert_eq!(set.len(), crowd, "nobody else");
}

const SHORTEST: Duration = Duration::from_secs(1);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_crashed_registrant_is_gone_within_the_shortest_lease() {
    dies(10, SHORTEST, SHORTEST).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_crashed_registrant_is_gone_within_its_lease_for_those_with_a_longer_one() {
    dies(10, SHORTEST, Duration::from_secs(10)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_crashed_registrant_in_a_crowd_is_gone_within_its_lease() {
    let lease = Duration::from_secs(10);
    dies(9000, lease, lease).await;
}
