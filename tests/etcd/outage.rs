//! The server dies, hangs, or loses everything, and comes back.

use std::time::Duration;

use rolecall::discovery::{DiscoveryErrorKind, Etcd, LeaseState};
use rolecall::{InstanceSet, Registrar};
use tokio::time;

use crate::proxy::Proxy;
use crate::server::Server;
use crate::{Answers, PATIENCE, causes, ids, open, until_state, worker};

fn is_announced(state: &LeaseState) -> bool {
    matches!(state, LeaseState::Announced)
}

fn is_lost(state: &LeaseState) -> bool {
    matches!(state, LeaseState::Lost { .. })
}

/// Panics once an instance leaves that must not.
fn with_first(count: usize) -> impl Fn(&InstanceSet) -> bool {
    move |set| {
        assert!(set.get("w-1").is_some(), "it never left: {set:?}");
        set.len() == count
    }
}

#[tokio::test]
async fn a_server_that_crashed_and_came_back_lost_nobody() {
    let mut server = Server::start();
    let backend = open(&server);
    let lease = backend.register(worker("w-1")).await.unwrap();
    let mut answers = Answers::of(&open(&server), "worker:http");
    answers.until(with_first(1)).await;
    server.kill();
    let error = answers.error().await;
    assert_eq!(error.kind(), DiscoveryErrorKind::Backend, "{error}");
    // An edit that fails is not forgotten.
    let edit = lease.add_endpoint("http", ([10, 0, 0, 9], 90));
    let failed = edit.await.expect_err("nobody is there");
    assert!(causes(&failed).contains("etcd"), "{failed}");
    server.restart();
    let moved = |set: &InstanceSet| {
        let moved = rolecall::Address::from(([10, 0, 0, 9], 90));
        with_first(1)(set) && set.get("w-1").is_some_and(|w| *w.address() == moved)
    };
    answers.until(moved).await;
    let _second = backend.register(worker("w-2")).await.unwrap();
    answers.until(with_first(2)).await;
    until_state(&lease, is_announced).await;
}

/// The pings need 9 s to find that nobody answers, so that is at least how long it is frozen.
async fn frozen(pause: Duration) {
    let server = Server::start();
    let backend = open(&server);
    let lease = backend.register(worker("w-1")).await.unwrap();
    let mut answers = Answers::of(&open(&server), "worker:http");
    answers.until(with_first(1)).await;
    server.freeze();
    let failing = time::timeout(PATIENCE, until_state(&lease, is_lost));
    let errors = async { while answers.next().await.is_ok() {} };
    let (failed, (), ()) = tokio::join!(failing, errors, time::sleep(pause));
    failed.expect("an expired lease is lost");
    let late = Answers::of(&open(&server), "worker:http").error().await;
    assert_eq!(late.kind(), DiscoveryErrorKind::Backend, "{late}");
    server.thaw();
    until_state(&lease, is_announced).await;
    let _second = backend.register(worker("w-2")).await.unwrap();
    answers.until(|set| ids(set) == ["w-1", "w-2"]).await;
}

#[tokio::test]
async fn a_server_that_hung_is_followed_again() {
    frozen(Duration::ZERO).await;
}

#[tokio::test]
#[ignore = "20 s"]
async fn a_server_that_hung_for_long_is_followed_again() {
    frozen(Duration::from_secs(20)).await;
}

#[tokio::test]
async fn workers_announce_themselves_to_a_server_that_lost_its_data() {
    let mut server = Server::start();
    let backend = open(&server);
    let mut leases = Vec::new();
    for id in 0..20 {
        leases.push(backend.register(worker(&id.to_string())).await.unwrap());
    }
    let mut answers = Answers::of(&open(&server), "worker:http");
    answers.until(|set| set.len() == 20).await;
    server.lose_data();
    // A lease is 1 s, and a machine may be busy.
    let again = async {
        loop {
            let set = answers.next().await;
            let Ok(set) = set else { continue };
            assert!(!set.is_confirmed(), "what a store lost is no proof");
            if set.len() == 20 {
                break;
            }
        }
    };
    time::timeout(Duration::from_secs(10), again)
        .await
        .expect("all are there again");
    for lease in &leases {
        until_state(lease, is_announced).await;
    }
}

#[tokio::test]
#[expect(clippy::disallowed_methods, reason = "measures real time")]
async fn a_dead_connection_loses_no_lease() {
    let server = Server::start();
    let proxy = Proxy::start(server.endpoint()).await;
    let ttl = Duration::from_secs(3);
    let through = Etcd::builder([proxy.endpoint()]).ttl(ttl).build().unwrap();
    let lease = through.register(worker("w-1")).await.unwrap();
    let mut answers = Answers::of(&open(&server), "worker:http");
    answers.until(with_first(1)).await;
    for _ in 0..3 {
        proxy.silence();
        let began = time::Instant::now();
        while began.elapsed() < ttl + Duration::from_secs(1) {
            assert!(is_announced(&lease.state()), "{:?}", lease.state());
            time::sleep(Duration::from_millis(50)).await;
        }
    }
    // It never left: a set without it would come before this one.
    let _second = open(&server).register(worker("w-2")).await.unwrap();
    answers.until(with_first(2)).await;
}
