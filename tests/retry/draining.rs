//! Workers that leave as they should: no request fails, without retries.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::routing::get;
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::Request;
use rolecall::http::{Connector, HttpClassifier, Tried, answered_by};
use rolecall::{BalanceLayer, Lease, MemberState, MemberStatus, Registrar, Registration, Registry};
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, oneshot};
use tokio::task::JoinHandle;
use tower::{Layer, ServiceExt};

use crate::load::{Client, Load, asking, until, usable, within};

const WORK: Duration = Duration::from_millis(5);

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
            .classify(HttpClassifier::new())
            .layer(if http2 { connector.http2() } else { connector });
        usable(&client, 4).await;
        let load = Load::start(asking(client.clone()), 200);
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
    /// Requests to `/held` that arrived, and those that may be answered.
    arrived: Arc<Semaphore>,
    open: Arc<Semaphore>,
    close: oneshot::Sender<()>,
    serving: JoinHandle<std::io::Result<()>>,
}

impl Worker {
    async fn start(registry: &Registry, id: String) -> Self {
        let addr = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let listener = TcpListener::bind(addr).await.unwrap();
        let addr = listener.local_addr().unwrap();
        let (arrived, open) = (Arc::new(Semaphore::new(0)), Arc::new(Semaphore::new(0)));
        let (come, gate) = (Arc::clone(&arrived), Arc::clone(&open));
        let router = Router::new()
            .route(
                "/",
                get(|| async {
                    tokio::time::sleep(WORK).await;
                    "hello"
                }),
            )
            .route(
                "/held",
                get(|| async move {
                    come.add_permits(1);
                    drop(gate.acquire().await.unwrap());
                    "held"
                }),
            );
        let (close, closed) = oneshot::channel::<()>();
        let serving = axum::serve(listener, router).with_graceful_shutdown(async {
            drop(closed.await);
        });
        let registration = Registration::new("worker").id(id).endpoint("http", addr);
        Self {
            lease: registry.register(registration).await.unwrap(),
            arrived,
            open,
            close,
            serving: tokio::spawn(async { serving.await }),
        }
    }

    /// Announces draining, with a request in its hands that ends only after the server began to close.
    async fn leave(self, client: &Client) {
        let id = self.lease.id().to_string();
        let held = tokio::spawn(hold(client.clone(), id.clone()));
        drop(within(self.arrived.acquire()).await.unwrap());
        let idle = async {
            // A worker that cannot ask its callers waits here for as long as news and requests take on their way.
            let alone = |m: MemberStatus| m.state == MemberState::Draining && m.in_flight == 1;
            until(|| member(client, &id).is_some_and(alone)).await;
            self.close.send(()).unwrap();
            self.open.add_permits(1);
            self.serving.await.unwrap().unwrap();
        };
        let left = self.lease.drain_until(idle, Duration::from_secs(30));
        left.await.unwrap();
        within(held).await.unwrap();
    }
}

/// A request to this instance, which it holds.
async fn hold(client: Client, id: String) {
    let members = client.control().status().members.into_iter();
    let others = members.map(|member| member.instance.id().clone());
    let mut tried = Tried::default();
    tried.extend(others.filter(|other| *other != *id));
    let mut request = Request::get("/held")
        .body(Full::<Bytes>::default())
        .unwrap();
    request.extensions_mut().insert(tried);
    let answer = client.oneshot(request).await.unwrap();
    assert_eq!(*answered_by(&answer).unwrap(), *id);
    let body = answer.into_body().collect().await.unwrap();
    assert_eq!(body.to_bytes(), "held");
}

fn member(client: &Client, id: &str) -> Option<MemberStatus> {
    let members = client.control().status().members;
    members.into_iter().find(|m| *m.instance.id() == *id)
}

/// Waits until the instance has taken some requests.
async fn busy(client: &Client, id: &str) {
    until(|| member(client, id).is_some_and(|m| m.picks > 10)).await;
}
