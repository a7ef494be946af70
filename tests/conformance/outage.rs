//! The backend fails, and comes back.

use rolecall::InstanceSet;
use rolecall::discovery::DiscoveryErrorKind;

use crate::subject::{Answers, Subject, addr, ids, worker};

pub(crate) async fn the_last_good_answer_stays_and_news_follow(subject: &dyn Subject) {
    let backend = subject.open();
    let _lease = backend.register(worker("w-1")).await.unwrap();
    let mut answers = Answers::of(&subject.open(), "worker:http");
    assert_eq!(ids(&answers.set().await), ["w-1"]);
    if !subject.break_it() {
        return println!("this backend cannot break");
    }
    let error = answers.next().await.expect_err("an outage is no empty set");
    assert_eq!(error.kind(), DiscoveryErrorKind::Backend, "{error}");
    let mut late = Answers::of(&subject.open(), "worker:http");
    let error = late.next().await.expect_err("nothing is known yet");
    assert_eq!(error.kind(), DiscoveryErrorKind::Backend, "{error}");
    subject.repair();
    late.until(|set| ids(set) == ["w-1"]).await;
    let _second = backend.register(worker("w-2")).await.unwrap();
    for answers in [&mut answers, &mut late] {
        let whole = |set: &InstanceSet| {
            assert!(set.get("w-1").is_some(), "it never left: {set:?}");
            set.len() == 2
        };
        answers.until(whole).await;
    }
}

pub(crate) async fn an_outage_under_load_loses_nothing(subject: &dyn Subject) {
    let backend = subject.open();
    let mut leases = Vec::new();
    for id in 0..20 {
        let lease = backend.register(worker(&format!("{id:02}"))).await;
        leases.push(lease.unwrap());
    }
    let mut answers = Answers::of(&subject.open(), "worker:http");
    answers.until(|set| set.len() == 20).await;
    for round in 0..5 {
        let broke = subject.break_it();
        for (lease, port) in leases.iter().zip(1000 + round * 100..) {
            // May fail while the backend is gone: what it said last is then announced when that is back.
            let _ = lease.add_endpoint("http", addr(port)).await;
        }
        if broke {
            answers.error().await;
            subject.repair();
        }
        for (lease, port) in leases.iter().zip(2000 + round * 100..) {
            while lease.add_endpoint("http", addr(port)).await.is_err() {
                tokio::task::yield_now().await;
            }
        }
        answers
            .until(|set| {
                assert_eq!(set.len(), 20, "none was lost: {:?}", ids(set));
                set.iter()
                    .zip(2000 + round * 100..)
                    .all(|(instance, port)| *instance.address() == addr(port))
            })
            .await;
    }
}

pub(crate) async fn garbage_is_reported_and_harms_nobody(subject: &dyn Subject) {
    let backend = subject.open();
    let _lease = backend.register(worker("w-1")).await.unwrap();
    let mut answers = Answers::of(&backend, "worker:http");
    assert_eq!(ids(&answers.set().await), ["w-1"]);
    if !subject.spoil() {
        return println!("this backend has no place for garbage");
    }
    let error = answers.error().await;
    assert_eq!(error.kind(), DiscoveryErrorKind::Backend, "{error}");
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(&error);
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    assert!(text.len() < 4096, "an error is for reading");
    assert!(!text.contains(char::is_control), "{text:?}");
    let _second = backend.register(worker("w-2")).await.unwrap();
    answers.until(|set| ids(set) == ["w-1", "w-2"]).await;
    let mut fresh = Answers::of(&subject.open(), "worker:http");
    fresh.until(|set| ids(set) == ["w-1", "w-2"]).await;
}
