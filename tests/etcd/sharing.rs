//! What many balancers and many instances cost.

use std::time::Duration;

use futures::future::join_all;
use rolecall::Registrar;
use tokio::time;

use crate::server::Server;
use crate::{Answers, PATIENCE, open, worker};

const WATCHERS: &str = "etcd_debugging_mvcc_watcher_total";
const CONNECTIONS: &str = "etcd_network_client_grpc_received_bytes_total";

#[tokio::test]
async fn a_thousand_balancers_of_ten_roles_are_ten_watches() {
    let server = Server::start();
    let backend = open(&server);
    let mut leases = Vec::new();
    for role in 0..10 {
        let registration = rolecall::Registration::new(format!("role-{role}"));
        let registration = registration.endpoint("http", ([10, 0, 0, 7], 80));
        leases.push(backend.register(registration).await.unwrap());
    }
    let before = server.metric(WATCHERS).unwrap_or(0.0);
    let watching = (0..1000).map(|number| {
        let mut answers = Answers::of(&backend, &format!("role-{}:http", number % 10));
        async move {
            answers.until(|set| set.len() == 1).await;
            answers
        }
    });
    let watching = join_all(watching).await;
    assert!(server.metric(CONNECTIONS).is_some());
    let watchers = server.metric(WATCHERS).unwrap() - before;
    assert!((watchers - 10.0).abs() < 0.5, "{watchers} watchers");
    drop(watching);
    let ended = async {
        while server.metric(WATCHERS).unwrap_or(0.0) > before {
            time::sleep(Duration::from_millis(20)).await;
        }
    };
    time::timeout(PATIENCE, ended)
        .await
        .expect("a watch that nobody reads ends");
}

/// Longer than the test: the lease of one instance is renewed every third of it.
#[tokio::test]
async fn two_handles_in_two_runtimes_go_on_when_one_ends() {
    let server = Server::start();
    let backend = open(&server);
    let (first, second) = [(), ()]
        .map(|()| {
            tokio::runtime::Builder::new_multi_thread()
                .worker_threads(1)
                .enable_all()
                .build()
                .unwrap()
        })
        .into();
    let (mut here, lease) = {
        let backend = backend.clone();
        let started = first.spawn(async move {
            let lease = backend.register(worker("w-1")).await.unwrap();
            let mut answers = Answers::of(&backend, "worker:http");
            answers.until(|set| set.len() == 1).await;
            (answers, lease)
        });
        started.await.unwrap()
    };
    first.shutdown_background();
    let again = second.spawn(async move {
        let _second = backend.register(worker("w-2")).await.unwrap();
        here.until(|set| set.len() == 2).await;
        lease
            .add_endpoint("http", ([10, 0, 0, 8], 80))
            .await
            .unwrap();
        let moved = rolecall::Address::from(([10, 0, 0, 8], 80));
        here.until(|set| set.get("w-1").is_some_and(|w| *w.address() == moved))
            .await;
    });
    time::timeout(PATIENCE, again).await.unwrap().unwrap();
    second.shutdown_background();
}
