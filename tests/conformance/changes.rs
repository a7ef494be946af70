//! What happens to instances reaches those who watch.

use std::time::Duration;

use rolecall::discovery::RegisterErrorKind;
use rolecall::{Availability, Registration, Visibility};
use tokio::sync::oneshot;

use crate::subject::{Answers, Subject, addr, ids, worker};

pub(crate) async fn instances_come_and_go(subject: &dyn Subject) {
    let backend = subject.open();
    let first = backend.register(worker("w-1")).await.unwrap();
    let mut answers = Answers::of(&subject.open(), "worker:http");
    assert_eq!(ids(&answers.set().await), ["w-1"]);
    let second = backend.register(worker("w-2")).await.unwrap();
    answers.until(|set| ids(set) == ["w-1", "w-2"]).await;
    first.deregister().await.unwrap();
    answers.until(|set| ids(set) == ["w-2"]).await;
    second.deregister().await.unwrap();
    let nobody = answers.until(|set| set.is_empty()).await;
    let said_good_bye = nobody.is_confirmed();
    assert_eq!(said_good_bye, subject.confirms());
    let _again = backend.register(worker("w-1")).await.unwrap();
    answers.until(|set| ids(set) == ["w-1"]).await;
}

pub(crate) async fn what_an_instance_says_of_itself_arrives(subject: &dyn Subject) {
    let registration = worker("w-1")
        .weight(7)
        .zone("eu-1a")
        .availability(Availability::Busy)
        .visibility(Visibility::Public)
        .metadata("version", "7 \"beta\"\n\u{1b}[31m")
        .metadata("überschrift", "日本");
    let lease = subject.open().register(registration).await.unwrap();
    let mut answers = Answers::of(&subject.open(), "worker:http");
    let set = answers.set().await;
    let found = set.get("w-1").unwrap();
    assert_eq!(*found.address(), addr(80));
    assert_eq!(found.weight().get(), 7);
    assert_eq!(*found.zone().unwrap(), "eu-1a");
    assert_eq!(found.availability(), Availability::Busy);
    assert_eq!(*found.visibility(), Visibility::Public);
    assert_eq!(found.metadata()["version"], "7 \"beta\"\n\u{1b}[31m");
    assert_eq!(found.metadata()["überschrift"], "日本");

    let available = Availability::Available;
    lease.set_availability(available).await.unwrap();
    answers
        .until(|set| set.get("w-1").unwrap().availability() == available)
        .await;
    lease.add_endpoint("http", addr(81)).await.unwrap();
    let moved = answers
        .until(|set| *set.get("w-1").unwrap().address() == addr(81))
        .await;
    assert_eq!(moved.get("w-1").unwrap().metadata(), found.metadata());
}

pub(crate) async fn one_instance_has_several_endpoints(subject: &dyn Subject) {
    let backend = subject.open();
    let registration = worker("w-1").endpoint("grpc", addr(90));
    let lease = backend.register(registration).await.unwrap();
    let _other = backend.register(worker("w-2")).await.unwrap();
    let mut http = Answers::of(&backend, "worker:http");
    let mut grpc = Answers::of(&backend, "worker:grpc");
    assert_eq!(ids(&http.set().await), ["w-1", "w-2"]);
    let set = grpc.set().await;
    assert_eq!(ids(&set), ["w-1"], "not everybody opens every endpoint");
    assert_eq!(*set.get("w-1").unwrap().address(), addr(90));

    lease.remove_endpoint("http").await.unwrap();
    http.until(|set| ids(set) == ["w-2"]).await;
    lease.add_endpoint("http", addr(82)).await.unwrap();
    let set = http.until(|set| set.len() == 2).await;
    assert_eq!(*set.get("w-1").unwrap().address(), addr(82));
    lease.deregister().await.unwrap();
    grpc.until(|set| set.is_empty()).await;
    http.until(|set| ids(set) == ["w-2"]).await;
}

pub(crate) async fn a_changed_instance_leaves_the_others_as_they_are(subject: &dyn Subject) {
    let backend = subject.open();
    let lease = backend.register(worker("w-1")).await.unwrap();
    let _other = backend.register(worker("w-2")).await.unwrap();
    let mut answers = Answers::of(&backend, "worker:http");
    let before = answers.until(|set| set.len() == 2).await;
    lease.add_endpoint("http", addr(81)).await.unwrap();
    let after = answers
        .until(|set| *set.get("w-1").unwrap().address() == addr(81))
        .await;
    assert_eq!(before.get("w-2"), after.get("w-2"));
    assert_eq!(after.len(), 2);
}

pub(crate) async fn a_drain_is_seen_before_the_end(subject: &dyn Subject) {
    let lease = subject.open().register(worker("w-1")).await.unwrap();
    let mut answers = Answers::of(&subject.open(), "worker:http");
    answers.until(|set| set.len() == 1).await;
    let (idle, is_idle) = oneshot::channel::<()>();
    let draining = tokio::spawn(lease.drain_until(is_idle, Duration::from_secs(600)));
    answers
        .until(|set| {
            set.get("w-1")
                .is_some_and(|w| w.availability() == Availability::Draining)
        })
        .await;
    idle.send(()).unwrap();
    answers.until(|set| set.is_empty()).await;
    draining.await.unwrap().unwrap();
}

pub(crate) async fn a_taken_id_is_refused_and_its_holder_stays(subject: &dyn Subject) {
    let backend = subject.open();
    let lease = backend.register(worker("w-1")).await.unwrap();
    let second = worker("w-1").endpoint("http", addr(81));
    for handle in [backend.clone(), subject.open()] {
        let refused = handle.register(second.clone()).await.unwrap_err();
        assert_eq!(refused.kind(), RegisterErrorKind::IdTaken, "{refused}");
    }
    let mut answers = Answers::of(&backend, "worker:http");
    let set = answers.set().await;
    assert_eq!(*set.get("w-1").unwrap().address(), addr(80));

    let elsewhere = backend.register(worker("w-1").boundary("media")).await;
    let _elsewhere = elsewhere.expect("another boundary has its own ids");
    let other_role = Registration::new("other").id("w-1");
    let other_role = backend.register(other_role).await;
    let _other_role = other_role.expect("another role has its own ids");
    lease.deregister().await.unwrap();
    let _again = backend.register(second).await.expect("free again");
    answers
        .until(|set| set.get("w-1").is_some_and(|w| *w.address() == addr(81)))
        .await;
}

pub(crate) async fn invalid_registrations_leave_no_trace(subject: &dyn Subject) {
    let backend = subject.open();
    let invalid = worker("w-1").endpoint("grpc", ([0, 0, 0, 0], 90));
    assert!(backend.register(invalid).await.is_err());
    assert!(backend.register(worker("w\n1")).await.is_err());
    let lease = backend.register(worker("w-1")).await.unwrap();
    assert!(lease.add_endpoint("8080", addr(80)).await.is_err());
    assert!(lease.add_endpoint("grpc", addr(0)).await.is_err());
    let mut answers = Answers::of(&backend, "worker:grpc");
    assert!(answers.next().await.is_err(), "nobody ever opened it");
    let mut answers = Answers::of(&backend, "worker:http");
    assert_eq!(ids(&answers.set().await), ["w-1"]);
}

pub(crate) async fn hostile_ids_are_only_ids(subject: &dyn Subject) {
    let backend = subject.open();
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
        &long,
        &also_long,
    ];
    let mut leases = Vec::new();
    for id in &hostile {
        leases.push(backend.register(worker(id)).await.unwrap());
    }
    hostile.sort_unstable();
    let mut answers = Answers::of(&subject.open(), "worker:http");
    answers.until(|set| ids(set) == hostile).await;
    for lease in leases {
        lease.deregister().await.unwrap();
    }
    answers.until(|set| set.is_empty()).await;
}
