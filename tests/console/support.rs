//! A fleet whose instances fail when a test says so, and servers of a console.

use std::collections::HashSet;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use hyper::server::conn::http1;
use hyper_util::rt::TokioIo;
use hyper_util::service::TowerToHyperService;
use reqwest::Response;
use rolecall::console::Console;
use rolecall::{BalanceLayer, Control, Instance, List, connect};
use tokio::net::TcpListener;
use tokio::time::{Instant, sleep};
use tower::util::BoxCloneSyncService;
use tower::{Layer, ServiceExt, service_fn};

/// How long a test waits for what must come.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

pub(crate) struct Fleet {
    pub(crate) balance: BoxCloneSyncService<(), (), rolecall::Error>,
    pub(crate) control: Control,
    failing: Arc<Mutex<HashSet<String>>>,
}

impl Fleet {
    /// Instances of these ids, at addresses of their own.
    pub(crate) fn of(ids: impl IntoIterator<Item = impl Into<String>>) -> Self {
        let instance = |(at, id): (usize, String)| {
            let address = ([10, 0, (at / 250) as u8, (at % 250 + 1) as u8], 80);
            Instance::new(id, address)
        };
        let ids = ids.into_iter().map(Into::into);
        let list = List::new(ids.enumerate().map(instance)).unwrap();
        let failing = Arc::new(Mutex::new(HashSet::new()));
        let known = failing.clone();
        let connector = connect::per_instance(move |instance: &Instance| {
            let (id, failing) = (instance.id().to_string(), known.clone());
            service_fn(move |(): ()| {
                let fails = failing.lock().unwrap().contains(&id);
                let reset = io::Error::from(io::ErrorKind::ConnectionReset);
                std::future::ready(if fails { Err(reset) } else { Ok(()) })
            })
        });
        let balance = BalanceLayer::new(list, "pay:http")
            .unwrap()
            .layer(connector);
        let control = balance.control().clone();
        Self {
            balance: BoxCloneSyncService::new(balance),
            control,
            failing,
        }
    }

    /// Makes an instance fail, and calls until it is ejected.
    pub(crate) async fn fail_until_ejected(&self, id: &str) {
        self.failing.lock().unwrap().insert(id.to_owned());
        let until = Instant::now() + PATIENCE;
        while !self.is_out(id) {
            assert!(Instant::now() < until, "{}", self.control.status());
            self.call(50).await;
            // Calls that are answered at once never yield, and the driver needs its turn.
            sleep(Duration::from_millis(1)).await;
        }
    }

    /// Its calls succeed from now on.
    pub(crate) fn heal(&self, id: &str) {
        self.failing.lock().unwrap().remove(id);
    }

    pub(crate) async fn call(&self, times: usize) {
        for _ in 0..times {
            let _ = self.balance.clone().oneshot(()).await;
        }
    }

    /// Whether it is ejected or on probation.
    pub(crate) fn is_out(&self, id: &str) -> bool {
        let status = self.control.status();
        let member = status
            .members
            .into_iter()
            .find(|member| *member.instance.id() == id);
        let ejection = member.and_then(|member| member.ejection);
        ejection.is_some_and(|ejection| !ejection.is_over)
    }
}

/// Serves a console with hyper until the test ends.
pub(crate) async fn serve(console: Console) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = url_of(listener.local_addr().unwrap());
    let console = TowerToHyperService::new(console);
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let serving =
                http1::Builder::new().serve_connection(TokioIo::new(stream), console.clone());
            tokio::spawn(async move {
                // A client that goes in the middle of an answer is an error here.
                let _ = serving.await;
            });
        }
    });
    url
}

pub(crate) fn url_of(address: SocketAddr) -> String {
    format!("http://{address}")
}

pub(crate) async fn get(url: &str) -> Response {
    reqwest::get(url).await.unwrap()
}

pub(crate) async fn text(url: &str) -> String {
    let response = get(url).await;
    assert_eq!(response.status(), 200, "{url}");
    response.text().await.unwrap()
}

/// Waits until a condition holds.
pub(crate) async fn until(what: &str, mut condition: impl AsyncFnMut() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !condition().await {
        assert!(Instant::now() < end, "{what}");
        sleep(Duration::from_millis(10)).await;
    }
}
