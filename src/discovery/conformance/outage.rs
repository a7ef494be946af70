//! The source fails, and comes back.

use std::time::Duration;

use tokio::time;

use super::check::Done;
use super::subject::Subject;
use super::watching::{addr, at, find, worker};
use crate::error::discovery::DiscoveryErrorKind;
use crate::model::instance::InstanceSet;

const UNBREAKABLE: Done = Done::Skipped("the subject cannot break");

pub(super) async fn the_last_good_answer_stays_and_news_follow(subject: &dyn Subject) -> Done {
    let _lease = subject.announced(worker(1)).await;
    let mut watch = subject.watch("default/worker:http");
    watch.until_found(&[1]).await;
    if !subject.break_it() {
        return UNBREAKABLE;
    }
    // An outage is no empty set.
    let error = loop {
        match watch.next().await {
            Ok(set) => assert_eq!(watch.found(&set), [1]),
            Err(error) => break error,
        }
    };
    assert_eq!(error.kind(), DiscoveryErrorKind::Backend, "{error}");
    let mut late = subject.watch("default/worker:http");
    let error = late.next().await.expect_err("nothing is known yet");
    assert_eq!(error.kind(), DiscoveryErrorKind::Backend, "{error}");
    subject.repair();
    late.until_found(&[1]).await;
    let _second = subject.announced(worker(2)).await;
    for watch in [&mut watch, &mut late] {
        let whole = |set: &InstanceSet| {
            assert_eq!(at(find(set, 1)), addr(1, 80), "it never left");
            set.len() == 2
        };
        watch.until(whole).await;
    }
    Done::Passed
}

pub(super) async fn an_outage_under_load_loses_nothing(subject: &dyn Subject) -> Done {
    let numbers: Vec<u32> = (1..=20).collect();
    let mut leases = Vec::new();
    for number in &numbers {
        leases.push(subject.announced(worker(*number)).await);
    }
    let mut watch = subject.watch("default/worker:http");
    watch.until_found(&numbers).await;
    for round in 0..5 {
        let port = 1000 + round;
        if !subject.break_it() {
            return UNBREAKABLE;
        }
        for (lease, number) in leases.iter().zip(&numbers) {
            // May fail while the source is gone: what was said last is announced when it is back.
            let _ = lease.add_endpoint("http", addr(*number, 500 + round)).await;
        }
        watch.error().await;
        subject.repair();
        for (lease, number) in leases.iter().zip(&numbers) {
            let repaired = time::timeout(subject.news_within(), async {
                while lease
                    .add_endpoint("http", addr(*number, port))
                    .await
                    .is_err()
                {
                    time::sleep(Duration::from_millis(1)).await;
                }
            });
            repaired
                .await
                .expect("the source takes changes again in time");
        }
        watch
            .until(|set| {
                let addresses: Vec<_> = set.iter().map(at).collect();
                assert_eq!(set.len(), 20, "none was lost: {addresses:?}");
                numbers
                    .iter()
                    .all(|number| at(find(set, *number)).port() == port)
            })
            .await;
    }
    Done::Passed
}

pub(super) async fn garbage_is_reported_and_harms_nobody(subject: &dyn Subject) -> Done {
    let _lease = subject.announced(worker(1)).await;
    let mut watch = subject.watch("default/worker:http");
    watch.until_found(&[1]).await;
    if !subject.spoil() {
        return Done::Skipped("the subject has no place for garbage");
    }
    let error = watch.error().await;
    assert_eq!(error.kind(), DiscoveryErrorKind::Backend, "{error}");
    let text = error.with_causes();
    assert!(text.len() < 4096, "an error is for reading");
    let mut cause = std::error::Error::source(&error);
    while let Some(error) = cause {
        let text = error.to_string();
        assert!(!text.contains(char::is_control), "{text:?}");
        cause = error.source();
    }
    let _second = subject.announced(worker(2)).await;
    watch.until_found(&[1, 2]).await;
    subject
        .watch("default/worker:http")
        .until_found(&[1, 2])
        .await;
    Done::Passed
}
