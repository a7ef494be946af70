//! Which instances a boundary sees.

use super::check::Done;
use super::subject::{Ability, Subject};
use super::watching::{addr, at, find, worker};
use crate::discovery::Registration;
use crate::error::discovery::DiscoveryErrorKind;
use crate::model::instance::Visibility;
use crate::model::name::Boundary;

pub(super) async fn boundaries_are_kept_apart(subject: &dyn Subject) -> Done {
    let _here = subject.announced(worker(1)).await;
    let _there = subject.announced(worker(2).boundary("media")).await;
    let only_there = Registration::new("encoder").id("w-3").boundary("media");
    let only_there = only_there.endpoint("http", addr(3, 80));
    let _only_there = subject.announced(only_there).await;
    for (target, number) in [
        ("default/worker:http", 1),
        ("media/worker:http", 2),
        ("media/encoder:http", 3),
    ] {
        subject.watch(target).until_found(&[number]).await;
    }
    if subject.has(Ability::UnknownRoles) {
        for target in ["default/encoder:http", "other/worker:http"] {
            let error = subject.watch(target).next().await.expect_err(target);
            let kind = error.kind();
            assert_eq!(kind, DiscoveryErrorKind::UnknownRole, "{target}: {error}");
        }
    }
    Done::Passed
}

pub(super) async fn visibility_arrives_and_nothing_is_filtered(subject: &dyn Subject) -> Done {
    let granted = Visibility::Granted(vec![Boundary::new("friend").unwrap()]);
    let mut leases = Vec::new();
    let visibilities = [granted, Visibility::Internal, Visibility::Public];
    for (number, visibility) in (1..).zip(&visibilities) {
        let registration = worker(number)
            .boundary("media")
            .visibility(visibility.clone());
        leases.push(subject.announced(registration).await);
    }
    let mut watch = subject.watch("media/worker:http");
    let set = watch.until_found(&[1, 2, 3]).await;
    for (number, visibility) in (1..).zip(&visibilities) {
        assert_eq!(find(&set, number).visibility(), visibility);
    }
    Done::Passed
}

pub(super) async fn peers_are_the_instances_of_one_boundary(subject: &dyn Subject) -> Done {
    let mut peers = subject.watch_peers("default");
    let nobody = peers.next().await.expect("an empty set");
    assert!(nobody.is_empty(), "nobody yet");
    let caller = Registration::new("cron").id("1").peer_ip(addr(9, 0).ip());
    let _caller = subject.announced(caller).await;
    let registration = Registration::new("worker").id("1");
    let registration = registration.endpoint("http", addr(7, 80));
    let lease = subject.announced(registration.clone()).await;
    let _nowhere = subject.announced(Registration::new("nowhere")).await;
    let elsewhere = registration.id("2").boundary("media");
    let _elsewhere = subject.announced(elsewhere).await;
    let set = peers.until(|set| set.len() == 2).await;
    let mut found: Vec<_> = set.iter().map(at).collect();
    found.sort_unstable();
    assert_eq!(found, [addr(7, 0), addr(9, 0)]);
    if subject.has(Ability::Ids) {
        let ids: Vec<_> = set.iter().map(|peer| peer.id().as_str()).collect();
        assert_eq!(ids, ["cron/1", "worker/1"]);
    }
    lease.deregister().await.unwrap();
    let is_cron = |set: &crate::model::instance::InstanceSet| set.iter().map(at).eq([addr(9, 0)]);
    peers.until(is_cron).await;
    let mut media = subject.watch_peers("media");
    media.until(|set| set.iter().map(at).eq([addr(7, 0)])).await;
    Done::Passed
}
