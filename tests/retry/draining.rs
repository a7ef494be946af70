//! Workers that leave as they should: no request fails, without retries.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use axum::Router;
use axum::routing::get;
use rolecall::http::{ClassifyStatus, Connector};
use rolecall::{BalanceLayer, Lease, MemberState, MemberStatus, Registrar, Registration, Registry};
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tower::Layer;

use crate::load::{Client, Load, until, usable};

/// Long enough for requests to be under way whenever a worker leaves.
const WORK: Duration = Duration::from_millis(30);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rolling_restart_of_draining_axum_workers_fails_no_request_without_retries() {
    for http2 in [false, true] {
        let registry = Registry::new();
        let mut workers = Vec::new();
        for number in 0..4 {
            workers.push(Worker::start(&registry, format!("old-{number}")).await);
        }
        let connector = Connector::new();
        let client = BalanceLayer::new(registry.clone(), "worker:http")
            .unwrap()
            .classify(ClassifyStatus::new())
            .layer(if http2 { connector.http2() } else { connector });
        usable(&client, 4).await;
        let load = Load::start(client.clone(), 200);
        let mut started = Vec::new();
        for (number, worker) in workers.into_iter().enumerate() {
            let old = worker.lease.id().to_string();
            busy(&client, &old).await;
            worker.leave(&client).await;
            let new = format!("new-{number}");
            started.push(Worker::start(&registry, new.clone()).await);
            busy(&client, &new).await;
        }
        load.finish().await.assert_no_failure(80);
    }
}

struct Worker {
    lease: Lease,
    close: oneshot::Sender<()>,
    serving: JoinHandle<std::io::Result<()>>,
}

impl Worker {
    async fn start(registry: &Registry, id: String) -> Self {
        let addr = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let listener = TcpListener::bind(addr).await.unwrap();
        let addr = listener.local_addr().unwrap();
        let router = Router::new().route(
            "/",
            get(|| async {
                tokio::time::sleep(WORK).await;
                "hello"
            }),
        );
        let (close, closed) = oneshot::channel::<()>();
        let serving = axum::serve(listener, router).with_graceful_shutdown(async {
            drop(closed.await);
        });
        let registration = Registration::new("worker").id(id).endpoint("http", addr);
        Self {
            lease: registry.register(registration).await.unwrap(),
            close,
            serving: tokio::spawn(async { serving.await }),
        }
    }

    /// Announces draining, and closes when the caller knows of it: a worker waits as long as news takes.
    async fn leave(self, client: &Client) {
        let id = self.lease.id().to_string();
        let idle = async {
            until(|| member(client, &id).is_none_or(|m| m.state == MemberState::Draining)).await;
            self.close.send(()).unwrap();
            self.serving.await.unwrap().unwrap();
        };
        let left = self.lease.drain_until(idle, Duration::from_secs(30));
        left.await.unwrap();
    }
}

fn member(client: &Client, id: &str) -> Option<MemberStatus> {
    let members = client.status().members;
    members.into_iter().find(|m| *m.instance.id() == *id)
}

/// Waits until the instance has served some requests, and has others in its hands.
async fn busy(client: &Client, id: &str) {
    until(|| member(client, id).is_some_and(|m| m.picks > 10 && m.in_flight > 0)).await;
}
