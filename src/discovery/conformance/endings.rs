//! What remains of watches and registrants that ended.

use futures_util::FutureExt;

use super::check::Done;
use super::subject::{Ability, Subject};
use super::watching::{eventually, worker};
use crate::model::name::Boundary;
use crate::runtime::clock;

pub(super) async fn a_dropped_watch_leaves_nothing_running(subject: &dyn Subject) -> Done {
    let handle = subject.open();
    let idle = subject.running();
    // Twice, since a handle has to work again after its first watches have ended.
    for number in [1, 2] {
        let lease = subject.announced(worker(number)).await;
        let mut watch = subject.watch_by(&handle, "default/worker:http");
        watch.until_found(&[number]).await;
        if subject.has(Ability::Peers) {
            let mut peers = subject.watching(handle.peers(&Boundary::default()));
            peers.until(|set| set.len() == 1).await;
        }
        drop(watch);
        lease.deregister().await.unwrap();
        let has_ended = || subject.running() <= idle;
        eventually("all work has ended", subject.news_within(), has_ended).await;
    }
    Done::Passed
}

pub(super) async fn a_dropped_lease_deregisters(subject: &dyn Subject) -> Done {
    let lease = subject.announced(worker(1)).await;
    let other = subject.announced(worker(2)).await;
    let mut watch = subject.watch("default/worker:http");
    watch.until_found(&[1, 2]).await;
    drop(lease);
    watch.until_found(&[2]).await;
    drop(other.deregister());
    watch.until_found(&[]).await;
    Done::Passed
}

pub(super) async fn a_dropped_registration_leaves_nothing(subject: &dyn Subject) -> Done {
    drop(subject.announce(worker(1)));
    let mut half = subject.announce(worker(2));
    let lease = (&mut half).now_or_never();
    drop((half, lease));
    let _lease = subject.announced(worker(3)).await;
    let mut watch = subject.watch("default/worker:http");
    watch.until_found(&[3]).await;
    Done::Passed
}

pub(super) async fn a_crashed_registrant_is_gone_within_its_lease(subject: &dyn Subject) -> Done {
    let Some(victim) = subject.victim(worker(1)).await else {
        return Done::Skipped("no registrant of the subject can be killed");
    };
    let _lives = subject.announced(worker(2)).await;
    let mut watch = subject.watch("default/worker:http");
    watch.until_found(&[1, 2]).await;
    let lease = victim.lease();
    let crashed = clock::now();
    victim.kill();
    let mut late = subject.watch("default/worker:http");
    for watch in [&mut watch, &mut late] {
        watch.until_found(&[2]).await;
    }
    let gone = clock::now().saturating_duration_since(crashed);
    let most = lease + subject.news_within();
    assert!(
        gone <= most,
        "gone after {gone:?}, with a lease of {lease:?}"
    );
    let again = subject.announce(worker(1)).await;
    let _again = again.expect("its id is free");
    Done::Passed
}
