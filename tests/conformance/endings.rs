//! What remains of watches and registrants that ended.

use std::time::Instant;

use crate::stalls::Stalls;
use crate::subject::{Answers, Subject, eventually, ids, worker};

pub(crate) async fn a_dropped_watch_leaves_nothing_running(subject: &dyn Subject) {
    let reader = subject.open();
    let idle = subject.running();
    let mut answers = Answers::of(&reader, "worker:http");
    let mut peers = Answers::peers(&reader, "default");
    assert!(answers.next().await.is_err());
    assert!(peers.next().await.is_ok());
    drop((answers, peers));
    eventually("everything has ended", || subject.running() == idle).await;

    let lease = reader.register(worker("w-1")).await.unwrap();
    let mut again = Answers::of(&reader, "worker:http");
    again.until(|set| set.len() == 1).await;
    drop(again);
    lease.deregister().await.unwrap();
    eventually("everything has ended again", || subject.running() == idle).await;
    let mut again = Answers::of(&reader, "worker:http");
    again.until(|set| set.is_empty()).await;
}

pub(crate) async fn a_dropped_lease_deregisters(subject: &dyn Subject) {
    let lease = subject.open().register(worker("w-1")).await.unwrap();
    let other = subject.open().register(worker("w-2")).await.unwrap();
    let mut answers = Answers::of(&subject.open(), "worker:http");
    answers.until(|set| set.len() == 2).await;
    drop(lease);
    answers.until(|set| ids(set) == ["w-2"]).await;
    drop(other.deregister());
    answers.until(|set| set.is_empty()).await;
}

pub(crate) async fn a_dropped_registration_leaves_nothing(subject: &dyn Subject) {
    let backend = subject.open();
    drop(backend.register(worker("never-polled")));
    let mut half = backend.register(worker("half"));
    let lease = futures::FutureExt::now_or_never(&mut half);
    drop((half, lease));
    let _lease = backend.register(worker("w-1")).await.unwrap();
    let mut answers = Answers::of(&backend, "worker:http");
    answers.until(|set| ids(set) == ["w-1"]).await;
}

#[expect(clippy::disallowed_methods, reason = "measures a real process")]
pub(crate) async fn a_crashed_registrant_is_gone_within_its_lease(subject: &dyn Subject) {
    let Some((mut victim, lease)) = subject.victim("crashes") else {
        return println!("this backend dies with its process");
    };
    let _lives = subject.open().register(worker("lives")).await.unwrap();
    let mut answers = Answers::of(&subject.open(), "worker:http");
    answers.until(|set| ids(set) == ["crashes", "lives"]).await;
    let stalls = Stalls::measure();
    victim.kill();
    let crashed = Instant::now();
    let mut late = Answers::of(&subject.open(), "worker:http");
    for answers in [&mut answers, &mut late] {
        answers.until(|set| ids(set) == ["lives"]).await;
        let after = crashed.elapsed();
        println!("gone {after:?} after the kill, of a lease of {lease:?}");
    }
    assert!(crashed.elapsed() <= lease + stalls.so_far());
    let again = subject.open().register(worker("crashes")).await;
    let _again = again.expect("its id is free");
}
