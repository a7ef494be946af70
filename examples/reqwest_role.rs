//! One shared reqwest client, pointed at the picked instance by `connect::retarget`: its pool goes on working.
//!
//! Three servers count the connections that they accept. Four callers send 300 requests through one client, which opens a
//! few connections and keeps them. Then the busiest server is gone: reqwest tells that it could not
//! connect, the classifier passes that on, and the caller sends again. The exit code is 0 only if connections were kept, all
//! servers took part, and no request failed.
//!
//! ```sh
//! cargo run --example reqwest_role
//! ```

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::net::{Ipv4Addr, SocketAddr};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

use bytes::Bytes;
use http_body_util::Full;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use reqwest::{Method, Request, Response, Url};
use rolecall::{BalanceLayer, BoxError, Error, Instance, List, Outcome, connect};
use tokio::net::TcpListener;
use tokio::task::{JoinHandle, JoinSet};
use tower::{Layer, Service};

const CALLERS: usize = 4;
const REQUESTS: usize = 300;
/// A connection that is kept serves at least so many requests in the mean; far more unless the machine is very busy.
const KEPT: usize = 4;

#[tokio::main]
async fn main() -> Result<ExitCode, BoxError> {
    let mut servers = Vec::new();
    for name in ["a", "b", "c"] {
        servers.push(Server::start(name).await?);
    }
    let list = List::new(
        servers
            .iter()
            .map(|server| Instance::new(server.name, server.addr)),
    )?;

    // From here to `layer` is what a program with a reqwest client adds.
    let client = reqwest::Client::new();
    let point = |instance: &Instance, mut request: Request| {
        let url = request.url_mut();
        let is_pointed = instance.address().tcp().is_some_and(|addr| {
            url.set_ip_host(addr.ip()).is_ok() && url.set_port(Some(addr.port())).is_ok()
        });
        debug_assert!(is_pointed, "a URL with a host takes an address");
        request
    };
    let balance = BalanceLayer::new(list, "worker:http")?
        .classify_fn(|result: &Result<Response, reqwest::Error>| match result {
            Ok(response) if response.status().is_server_error() => Outcome::Failure,
            Ok(_) => Outcome::Success,
            Err(error) if error.is_connect() => Outcome::Unsent,
            Err(_) => Outcome::Failure,
        })
        .layer(connect::retarget(client, point));

    let all = send(&balance).await?;
    println!("{REQUESTS} requests by {CALLERS} callers over one reqwest client");
    for server in &servers {
        let (answered, accepted) = (all.of(server.name), server.accepted());
        println!(
            "  {} answered {answered:>3} over {accepted} connections",
            server.name
        );
    }
    let accepted = |servers: &[Server]| servers.iter().map(Server::accepted).sum::<usize>();
    let took_part = servers.iter().all(|server| all.of(server.name) > 0);
    let kept = KEPT * accepted(&servers) <= REQUESTS;

    let busiest = (0..servers.len()).max_by_key(|&server| all.of(servers[server].name));
    let gone = servers.swap_remove(busiest.ok_or("no server")?);
    let name = gone.name;
    gone.kill().await;
    let before = accepted(&servers);
    let left = send(&balance).await?;
    println!(
        "{name} is gone: {REQUESTS} more, {} of them sent again",
        left.again
    );
    for server in &servers {
        println!("  {} answered {:>3}", server.name, left.of(server.name));
    }
    let opened = accepted(&servers) - before;
    println!("  {opened} new connections");
    let kept = kept && KEPT * opened <= REQUESTS;
    let came_true = took_part && kept && left.of(name) == 0;
    Ok(ExitCode::from(u8::from(!came_true)))
}

/// Who answered how many, and how many were sent again.
#[derive(Default)]
struct Tally {
    answered: BTreeMap<String, usize>,
    again: usize,
}

impl Tally {
    fn of(&self, name: &str) -> usize {
        self.answered.get(name).copied().unwrap_or(0)
    }
}

/// Sends all requests, and fails if one does.
async fn send<B>(balance: &B) -> Result<Tally, BoxError>
where
    B: Service<Request, Response = Response, Error = Error> + Clone + Send + 'static,
    B::Future: Send,
{
    let mut callers = JoinSet::new();
    for _ in 0..CALLERS {
        let mut balance = balance.clone();
        callers.spawn(async move {
            let mut tally = Tally::default();
            // The pick replaces the host.
            let request = Request::new(Method::GET, Url::parse("http://worker/")?);
            for _ in 0..REQUESTS / CALLERS {
                // A `GET` may be sent twice, so whatever failed at an instance is.
                let mut attempts = 1..;
                let answer = loop {
                    let request = request.try_clone().ok_or("it has no body")?;
                    match balance.call(request).await {
                        Ok(answer) => break answer,
                        Err(error) if error.instance().is_some() && attempts.next() < Some(5) => {
                            tally.again += 1;
                        }
                        Err(error) => return Err(error.into()),
                    }
                };
                let name = answer.error_for_status()?.text().await?;
                *tally.answered.entry(name).or_default() += 1;
            }
            Ok::<_, BoxError>(tally)
        });
    }
    let mut sum = Tally::default();
    while let Some(tally) = callers.join_next().await {
        let tally = tally??;
        sum.again += tally.again;
        for (name, answers) in tally.answered {
            *sum.answered.entry(name).or_default() += answers;
        }
    }
    Ok(sum)
}

struct Server {
    name: &'static str,
    addr: SocketAddr,
    accepted: Arc<AtomicUsize>,
    accepting: JoinHandle<()>,
}

impl Server {
    async fn start(name: &'static str) -> Result<Self, BoxError> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let addr = listener.local_addr()?;
        let accepted = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&accepted);
        let accepting = tokio::spawn(async move {
            // Dropped with this task, it closes them all.
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                count.fetch_add(1, SeqCst);
                let answer = service_fn(move |_| async move {
                    Ok::<_, Infallible>(hyper::Response::new(Full::<Bytes>::from(name)))
                });
                let connection = http1::Builder::new();
                let connection = connection.serve_connection(TokioIo::new(stream), answer);
                connections.spawn(connection);
            }
        });
        Ok(Self {
            name,
            addr,
            accepted,
            accepting,
        })
    }

    fn accepted(&self) -> usize {
        self.accepted.load(SeqCst)
    }

    async fn kill(self) {
        self.accepting.abort();
        // That it was aborted is what it says.
        let _ = self.accepting.await;
    }
}
