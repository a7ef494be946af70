//! What happens to instances reaches those who watch.

use std::time::Duration;

use tokio::sync::oneshot;

use super::check::Done;
use super::subject::{Ability, Subject};
use super::watching::{addr, at, find, worker};
use crate::discovery::Registration;
use crate::error::discovery::RegisterErrorKind;
use crate::model::instance::{Availability, Visibility};

pub(super) async fn instances_come_and_go(subject: &dyn Subject) -> Done {
    let first = subject.announced(worker(1)).await;
    let mut watch = subject.watch("default/worker:http");
    watch.until_found(&[1]).await;
    let second = subject.announced(worker(2)).await;
    watch.until_found(&[1, 2]).await;
    first.deregister().await.unwrap();
    watch.until_found(&[2]).await;
    second.deregister().await.unwrap();
    let nobody = watch.until_found(&[]).await;
    assert_eq!(nobody.is_confirmed(), subject.has(Ability::Confirmation));
    let _again = subject.announced(worker(1)).await;
    watch.until_found(&[1]).await;
    Done::Passed
}

pub(super) async fn what_an_instance_says_of_itself_arrives(subject: &dyn Subject) -> Done {
    let registration = worker(1)
        .weight(7)
        .rank(2)
        .zone("eu-1a")
        .availability(Availability::Busy)
        .visibility(Visibility::Public)
        .metadata("version", "7");
    let lease = subject.announced(registration).await;
    let mut watch = subject.watch("default/worker:http");
    let set = watch.until_found(&[1]).await;
    let found = find(&set, 1);
    assert_eq!(at(found), addr(1, 80));
    if subject.has(Ability::Weight) {
        assert_eq!(found.weight().get(), 7);
    }
    if subject.has(Ability::Rank) {
        assert_eq!(found.rank(), 2);
    }
    if subject.has(Ability::Zone) {
        assert_eq!(*found.zone().expect("a zone"), "eu-1a");
    }
    if subject.has(Ability::Visibility) {
        assert_eq!(*found.visibility(), Visibility::Public);
    }
    if subject.has(Ability::Metadata) {
        assert_eq!(found.metadata().get("version").expect("metadata"), "7");
    }
    if subject.has(Ability::Availability) {
        assert_eq!(found.availability(), Availability::Busy);
        let available = Availability::Available;
        lease.set_availability(available).await.unwrap();
        watch
            .until(|set| find(set, 1).availability() == available)
            .await;
    }
    lease.add_endpoint("http", addr(1, 81)).await.unwrap();
    let moved = watch
        .until(|set| set.iter().map(at).eq([addr(1, 81)]))
        .await;
    assert_eq!(find(&moved, 1).metadata(), found.metadata());
    Done::Passed
}

pub(super) async fn text_in_metadata_arrives_as_it_is(subject: &dyn Subject) -> Done {
    let entries = [
        ("version", "7 \"beta\"\n\u{1b}[31m"),
        ("überschrift", "日本"),
        ("empty", ""),
    ];
    let registration = entries
        .iter()
        .fold(worker(1), |registration, (key, value)| {
            registration.metadata(*key, *value)
        });
    let _lease = subject.announced(registration).await;
    let mut watch = subject.watch("default/worker:http");
    let set = watch.until_found(&[1]).await;
    for (key, value) in entries {
        assert_eq!(find(&set, 1).metadata().get(key).expect(key), value);
    }
    Done::Passed
}

pub(super) async fn one_instance_has_several_endpoints(subject: &dyn Subject) -> Done {
    let registration = worker(1).endpoint("grpc", addr(1, 90));
    let lease = subject.announced(registration).await;
    let _other = subject.announced(worker(2)).await;
    let mut http = subject.watch("default/worker:http");
    let mut grpc = subject.watch("default/worker:grpc");
    http.until_found(&[1, 2]).await;
    // Not everybody opens every endpoint.
    let set = grpc.until_found(&[1]).await;
    assert_eq!(at(find(&set, 1)), addr(1, 90));

    lease.remove_endpoint("http").await.unwrap();
    http.until_found(&[2]).await;
    lease.add_endpoint("http", addr(1, 82)).await.unwrap();
    let set = http.until_found(&[1, 2]).await;
    assert_eq!(at(find(&set, 1)), addr(1, 82));
    lease.deregister().await.unwrap();
    grpc.until_found(&[]).await;
    http.until_found(&[2]).await;
    Done::Passed
}

pub(super) async fn a_changed_instance_leaves_the_others_as_they_are(
    subject: &dyn Subject,
) -> Done {
    let lease = subject.announced(worker(1)).await;
    let _other = subject.announced(worker(2)).await;
    let mut watch = subject.watch("default/worker:http");
    let before = watch.until_found(&[1, 2]).await;
    lease.add_endpoint("http", addr(1, 81)).await.unwrap();
    let after = watch
        .until(|set| set.len() == 2 && at(find(set, 1)) == addr(1, 81))
        .await;
    assert_eq!(find(&before, 2), find(&after, 2));
    Done::Passed
}

pub(super) async fn a_drain_is_seen_before_the_end(subject: &dyn Subject) -> Done {
    let lease = subject.announced(worker(1)).await;
    let mut watch = subject.watch("default/worker:http");
    watch.until_found(&[1]).await;
    let (idle, is_idle) = oneshot::channel::<()>();
    let draining = tokio::spawn(lease.drain_until(is_idle, Duration::from_secs(600)));
    watch
        .until(|set| find(set, 1).availability() == Availability::Draining)
        .await;
    idle.send(()).unwrap();
    watch.until_found(&[]).await;
    draining.await.unwrap().unwrap();
    Done::Passed
}

pub(super) async fn a_taken_id_is_refused_and_its_holder_stays(subject: &dyn Subject) -> Done {
    let lease = subject.announced(worker(1)).await;
    let second = worker(1).endpoint("http", addr(1, 81));
    for _ in 0..2 {
        let refused = subject.announce(second.clone()).await;
        let refused = refused.expect_err("the id is taken");
        assert_eq!(refused.kind(), RegisterErrorKind::IdTaken, "{refused}");
    }
    let mut watch = subject.watch("default/worker:http");
    let set = watch.until_found(&[1]).await;
    assert_eq!(at(find(&set, 1)), addr(1, 80));

    if subject.has(Ability::Boundaries) {
        let elsewhere = subject.announce(worker(1).boundary("media")).await;
        let _elsewhere = elsewhere.expect("another boundary has its own ids");
    }
    let other_role = Registration::new("other").id("w-1");
    let other_role = subject.announce(other_role).await;
    let _other_role = other_role.expect("another role has its own ids");
    lease.deregister().await.unwrap();
    let _again = subject.announce(second).await.expect("free again");
    watch
        .until(|set| set.iter().map(at).eq([addr(1, 81)]))
        .await;
    Done::Passed
}

pub(super) async fn invalid_registrations_leave_no_trace(subject: &dyn Subject) -> Done {
    let invalid = worker(1).endpoint("grpc", ([0, 0, 0, 0], 90));
    assert!(subject.announce(invalid).await.is_err());
    assert!(subject.announce(worker(1).id("w\n1")).await.is_err());
    let lease = subject.announced(worker(1)).await;
    assert!(lease.add_endpoint("8080", addr(1, 80)).await.is_err());
    assert!(lease.add_endpoint("grpc", addr(1, 0)).await.is_err());
    subject.watch("default/worker:http").until_found(&[1]).await;
    let mut watch = subject.watch("default/worker:grpc");
    match watch.next().await {
        Ok(set) => assert!(set.is_empty() && !subject.has(Ability::UnknownEndpoints)),
        Err(error) => assert!(subject.has(Ability::UnknownEndpoints), "{error}"),
    }
    Done::Passed
}

pub(super) async fn hostile_ids_are_only_ids(subject: &dyn Subject) -> Done {
    let long = "x".repeat(253);
    let also_long = format!("{}y", "x".repeat(252));
    let mut hostile = vec![
        "..",
        ".",
        "../../etc/passwd",
        "a/b",
        "A/B",
        "a%2fb",
        "c:\\d",
        "$(reboot)",
        "nul",
        "W-1",
        "w-1",
        "ä",
        "-rf",
        ".hidden.tmp",
        "x.json",
        "a?b&c=d",
        "a b",
        &long,
        &also_long,
    ];
    hostile.retain(|id| worker(1).id(*id).validate().is_ok());
    let mut leases = Vec::new();
    for (number, id) in (1..).zip(&hostile) {
        leases.push(subject.announced(worker(number).id(*id)).await);
    }
    hostile.sort_unstable();
    let mut watch = subject.watch("default/worker:http");
    watch
        .until(|set| {
            set.iter()
                .map(|i| i.id().as_str())
                .eq(hostile.iter().copied())
        })
        .await;
    for lease in leases {
        lease.deregister().await.unwrap();
    }
    watch.until(|set| set.is_empty()).await;
    Done::Passed
}
