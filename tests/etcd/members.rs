//! A cluster of three members, of which one dies.

use std::time::Duration;

use rolecall::discovery::{Etcd, LeaseState};
use rolecall::{InstanceSet, Registrar};
use tokio::time;

use crate::server::Server;
use crate::{Answers, PATIENCE, ids, until_state, worker};

const TTL: Duration = Duration::from_secs(5);

fn open(servers: &[Server]) -> Etcd {
    let builder = Etcd::builder(servers.iter().map(Server::endpoint));
    builder.ttl(TTL).build().unwrap()
}

fn is_leader(server: &Server) -> bool {
    server.metric("etcd_server_is_leader") == Some(1.0)
}

/// Whether watches are connected to it.
fn is_watched(server: &Server) -> bool {
    let watchers = server.metric("etcd_debugging_mvcc_watcher_total");
    watchers.is_some_and(|watchers| watchers > 0.0)
}

/// Panics once an instance leaves that must not.
fn stays(count: usize) -> impl Fn(&InstanceSet) -> bool {
    move |set| {
        assert!(set.get("w-0").is_some(), "it never left: {set:?}");
        assert!(set.get("w-1").is_some(), "it never left: {set:?}");
        set.len() == count
    }
}

/// A watch and two leases, and then the member dies that `chosen` finds. Asked again with another watch until one fits.
async fn survives(chosen: impl Fn(&[Server]) -> Option<usize>) {
    let mut servers = Server::start_three();
    let mut leases = Vec::new();
    for id in ["w-0", "w-1"] {
        // A handle as another process would open it.
        leases.push(open(&servers).register(worker(id)).await.unwrap());
    }
    let found = async {
        loop {
            let mut answers = Answers::of(&open(&servers), "worker:http");
            answers.until(stays(2)).await;
            if let Some(victim) = chosen(&servers) {
                return (answers, victim);
            }
            // The server counts a watch until its connection is closed.
            drop(answers);
            while servers.iter().any(is_watched) {
                time::sleep(Duration::from_millis(20)).await;
            }
        }
    };
    let (mut answers, victim) = time::timeout(PATIENCE, found).await.expect("one fits");
    servers[victim].kill();
    // The watch hears news, and a new registration is taken, through the others. One that asks while there is no leader
    // waits until the server, or the request's 5 s, give up.
    let third = open(&servers).register(worker("w-2")).await.unwrap();
    answers.until(stays(3)).await;
    // Leases outlive their time to live.
    time::sleep(TTL + Duration::from_secs(1)).await;
    for lease in leases.iter().chain([&third]) {
        let state = lease.state();
        assert!(matches!(state, LeaseState::Announced), "{state:?}");
    }
    let set = Answers::of(&open(&servers), "worker:http")
        .until(stays(3))
        .await;
    assert_eq!(ids(&set), ["w-0", "w-1", "w-2"]);
    servers[victim].restart();
    third.deregister().await.unwrap();
    answers.until(stays(2)).await;
    for lease in &leases {
        until_state(lease, |state| matches!(state, LeaseState::Announced)).await;
    }
}

#[tokio::test]
async fn a_leader_that_dies_ends_nothing() {
    survives(|servers| servers.iter().position(is_leader)).await;
}

#[tokio::test]
async fn a_follower_that_dies_under_a_watch_ends_nothing() {
    survives(|servers| {
        let followed = |server: &Server| is_watched(server) && !is_leader(server);
        servers.iter().position(followed)
    })
    .await;
}
