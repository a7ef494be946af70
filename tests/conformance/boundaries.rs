//! Who sees whom.

use rolecall::discovery::DiscoveryErrorKind;
use rolecall::{Boundary, Registration, Visibility};

use crate::subject::{Answers, Subject, addr, ids, worker};

fn boundary(name: &str) -> Boundary {
    Boundary::new(name).unwrap()
}

pub(crate) async fn boundaries_are_kept_apart(subject: &dyn Subject) {
    let backend = subject.open();
    let _here = backend.register(worker("here")).await.unwrap();
    let there = worker("there").boundary("media").endpoint("rtp", addr(5));
    let _there = backend.register(there).await.unwrap();
    let only_there = Registration::new("encoder").boundary("media");
    let only_there = only_there.endpoint("http", addr(1));
    let _only_there = backend.register(only_there).await.unwrap();
    for (target, found) in [
        ("worker:http", "here"),
        ("default/worker:http", "here"),
        ("media/worker:http", "there"),
    ] {
        let set = Answers::of(&backend, target).next().await.unwrap();
        assert_eq!(ids(&set), [found], "{target}");
    }
    for (target, kind) in [
        ("encoder:http", DiscoveryErrorKind::UnknownRole),
        ("other/worker:http", DiscoveryErrorKind::UnknownRole),
        ("worker:rtp", DiscoveryErrorKind::UnknownEndpoint),
    ] {
        let error = Answers::of(&backend, target).next().await.unwrap_err();
        assert_eq!(error.kind(), kind, "{target}: {error}");
    }
}

pub(crate) async fn who_may_see_an_instance_arrives_and_nothing_is_filtered(subject: &dyn Subject) {
    let backend = subject.open();
    let granted = Visibility::Granted(vec![boundary("friend")]);
    let mut leases = Vec::new();
    for (id, visibility) in [
        ("granted", granted.clone()),
        ("internal", Visibility::Internal),
        ("public", Visibility::Public),
    ] {
        let registration = worker(id).boundary("media").visibility(visibility);
        leases.push(backend.register(registration).await.unwrap());
    }
    let mut answers = Answers::of(&subject.open(), "media/worker:http");
    let set = answers.until(|set| set.len() == 3).await;
    let visibility = |id| set.get(id).unwrap().visibility().clone();
    assert_eq!(visibility("granted"), granted);
    assert_eq!(visibility("internal"), Visibility::Internal);
    assert_eq!(visibility("public"), Visibility::Public);
}

pub(crate) async fn peers_are_the_instances_of_one_boundary(subject: &dyn Subject) {
    let backend = subject.open();
    let mut peers = Answers::peers(&subject.open(), "default");
    assert!(peers.next().await.unwrap().is_empty(), "nobody yet");
    let caller = Registration::new("cron").id("1");
    let caller = caller.peer_ip([10, 0, 0, 9].into());
    let _caller = backend.register(caller).await.unwrap();
    let lease = backend.register(worker("1")).await.unwrap();
    let _nowhere = backend.register(Registration::new("nowhere")).await;
    let elsewhere = worker("2").boundary("media");
    let _elsewhere = backend.register(elsewhere).await.unwrap();
    let set = peers.until(|set| set.len() == 2).await;
    let found: Vec<_> = set
        .iter()
        .map(|peer| (peer.id().as_str(), peer.address().to_string()))
        .collect();
    let cron = ("cron/1", "10.0.0.9:0".to_owned());
    assert_eq!(found, [cron, ("worker/1", "10.0.0.7:0".to_owned())]);
    lease.deregister().await.unwrap();
    peers.until(|set| ids(set) == ["cron/1"]).await;
    let mut media = Answers::peers(&backend, "media");
    media.until(|set| ids(set) == ["worker/2"]).await;
}
