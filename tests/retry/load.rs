//! An open-loop caller: a request at each tick, whatever became of the earlier ones.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use futures::future::BoxFuture;
use http_body_util::{BodyExt, Full};
use hyper::Request;
use rolecall::http::{Connection, Connector, HttpClassifier};
use rolecall::retry::Retry;
use rolecall::{Balance, BalanceLayer, BoxError, List, Status};
use tokio::sync::oneshot;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{MissedTickBehavior, interval};
use tower::retry::RetryLayer;
use tower::{Layer, Service, ServiceBuilder, ServiceExt};

use crate::server::Server;

pub(crate) use crate::waiting::{until, within};

pub(crate) type Client = Balance<Connection<Full<Bytes>>, HttpClassifier>;
pub(crate) type Retrying = tower::retry::Retry<Retry, Client>;

pub(crate) fn client(addrs: impl IntoIterator<Item = SocketAddr>, http2: bool) -> Client {
    let list = List::from_addrs(addrs).unwrap();
    if http2 {
        return BalanceLayer::new(list, "worker:http")
            .unwrap()
            .classify(HttpClassifier::new())
            .layer(Connector::new().http2());
    }
    BalanceLayer::new(list, "worker:http")
        .unwrap()
        .classify(HttpClassifier::new())
        .layer(Connector::new())
}

pub(crate) fn retrying(client: &Client) -> Retrying {
    ServiceBuilder::new()
        .layer(RetryLayer::new(Retry::new().idempotent_methods()))
        .service(client.clone())
}

/// Sends one request, and says what was wrong.
pub(crate) type Ask = Box<dyn Fn() -> BoxFuture<'static, Result<(), String>> + Send + Sync>;

pub(crate) fn asking<S, B>(service: S) -> Ask
where
    S: Service<Request<Full<Bytes>>, Response = hyper::Response<B>, Error: Into<BoxError>>,
    S: Clone + Send + Sync + 'static,
    S::Future: Send,
    B: hyper::body::Body<Data = Bytes, Error: Into<BoxError>> + Send + 'static,
{
    Box::new(move || Box::pin(one(service.clone())))
}

/// What came of the requests.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    pub(crate) requests: usize,
    pub(crate) failures: BTreeMap<String, usize>,
}

impl Tally {
    pub(crate) fn assert_no_failure(&self, least: usize) {
        assert!(self.requests >= least, "{} requests", self.requests);
        assert!(self.failures.is_empty(), "{self:#?}");
    }
}

pub(crate) struct Load {
    stop: oneshot::Sender<()>,
    sending: JoinHandle<Tally>,
}

impl Load {
    pub(crate) fn start(ask: Ask, per_second: u32) -> Self {
        let (stop, stopped) = oneshot::channel();
        let sending = tokio::spawn(send(ask, per_second, stopped));
        Self { stop, sending }
    }

    pub(crate) async fn finish(self) -> Tally {
        drop(self.stop);
        self.sending.await.unwrap()
    }
}

async fn send(ask: Ask, per_second: u32, mut stopped: oneshot::Receiver<()>) -> Tally {
    let mut tick = interval(Duration::from_secs(1) / per_second);
    tick.set_missed_tick_behavior(MissedTickBehavior::Burst);
    let mut under_way = JoinSet::new();
    let mut tally = Tally::default();
    loop {
        tokio::select! {
            biased;
            _ = &mut stopped => break,
            Some(done) = under_way.join_next() => tally.count(done.unwrap()),
            _ = tick.tick() => {
                under_way.spawn(ask());
            }
        }
    }
    while let Some(done) = within(under_way.join_next()).await {
        tally.count(done.unwrap());
    }
    tally
}

async fn one<S, B>(service: S) -> Result<(), String>
where
    S: Service<Request<Full<Bytes>>, Response = hyper::Response<B>, Error: Into<BoxError>>,
    B: hyper::body::Body<Data = Bytes, Error: Into<BoxError>>,
{
    let request = Request::get("/").body(Full::default()).unwrap();
    let response = service.oneshot(request).await.map_err(said)?;
    if response.status() != 200 {
        return Err(response.status().to_string());
    }
    response.into_body().collect().await.map_err(said)?;
    Ok(())
}

pub(crate) fn said(error: impl Into<BoxError>) -> String {
    format!("{:?}", error.into())
}

impl Tally {
    fn count(&mut self, done: Result<(), String>) {
        self.requests += 1;
        if let Err(said) = done {
            *self.failures.entry(said).or_default() += 1;
        }
    }
}

/// A balancer of whatever.
pub(crate) trait Watched {
    fn status(&self) -> Status;
}

impl<S, C> Watched for Balance<S, C>
where
    S: Send + Sync + 'static,
    C: Send + Sync + 'static,
{
    fn status(&self) -> Status {
        self.control().status()
    }
}

/// Waits until so many instances are usable.
pub(crate) async fn usable(client: &impl Watched, instances: usize) {
    until(|| client.status().usable == instances).await;
}

/// Waits until all together took so many attempts, up to three for each request.
pub(crate) async fn served(client: &impl Watched, requests: u64) {
    let picks = || -> u64 { client.status().members.iter().map(|m| m.picks).sum() };
    let before = picks();
    until(|| picks() >= before + requests).await;
}

pub(crate) fn servers() -> [Server; 4] {
    [(); 4].map(|()| Server::start())
}
