//! HTTP servers on loopback sockets, in a thread of their own, that misbehave on request.

use std::convert::Infallible;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};
use tokio::net::TcpListener;
use tokio::runtime::Runtime;
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::sleep;

use crate::ledger::Ledger;

pub(crate) const COUNT: u8 = 8;
/// The header by which the ledger learns which server has a request.
pub(crate) const NUMBER: &str = "x-request";

/// The mean of the service times, which are exponentially distributed.
const SERVICE_TIME: Duration = Duration::from_millis(5);
const SLOWER: u32 = 20;

/// What a server does with requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Manner {
    Well,
    Slow,
    Hung,
    Failing,
    Flaky,
}

/// The id that a server is announced by.
pub(crate) fn id(number: u8) -> String {
    format!("server-{number}")
}

/// The number of the server with that id.
pub(crate) fn number(id: &str) -> Option<u8> {
    id.strip_prefix("server-")?.parse().ok()
}

/// All servers, and the runtime that they share: their tasks are not among those of the callers.
pub(crate) struct Servers {
    servers: Vec<Arc<Server>>,
    runtime: Option<Runtime>,
}

impl Servers {
    pub(crate) fn start(ledger: Arc<Ledger>, seed: u64) -> io::Result<Self> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()?;
        let servers = (0..COUNT).map(|number| {
            Arc::new(Server {
                number,
                manner: watch::Sender::new(Manner::Well),
                rng: Mutex::new(SmallRng::seed_from_u64(seed ^ u64::from(number))),
                ledger: Arc::clone(&ledger),
                running: Mutex::default(),
            })
        });
        let servers: Vec<_> = servers.collect();
        let all = Self {
            servers,
            runtime: Some(runtime),
        };
        for number in 0..COUNT {
            all.listen(number, None)?;
        }
        Ok(all)
    }

    /// Where they listen, or listened last.
    pub(crate) fn addrs(&self) -> Vec<SocketAddr> {
        (0..COUNT).filter_map(|number| self.addr(number)).collect()
    }

    fn addr(&self, number: u8) -> Option<SocketAddr> {
        self.server(number).running().addr
    }

    fn server(&self, number: u8) -> &Arc<Server> {
        &self.servers[usize::from(number % COUNT)]
    }

    pub(crate) fn set_manner(&self, number: u8, manner: Manner) {
        self.server(number).manner.send_replace(manner);
    }

    /// Resets its connections and accepts no more.
    pub(crate) async fn kill(&self, number: u8) {
        let accepting = self.server(number).running().accepting.take();
        if let Some(accepting) = accepting {
            accepting.abort();
            // The listener and the connections are gone with the task.
            let _ = accepting.await;
        }
    }

    /// Listens where it listened, after a kill.
    pub(crate) fn restart(&self, number: u8) -> io::Result<()> {
        self.listen(number, self.addr(number)).map(drop)
    }

    /// Listens on another port, after a kill.
    pub(crate) fn restart_elsewhere(&self, number: u8) -> io::Result<SocketAddr> {
        self.listen(number, None)
    }

    fn listen(&self, number: u8, addr: Option<SocketAddr>) -> io::Result<SocketAddr> {
        let server = self.server(number);
        // A loopback address of its own: no connection from 127.0.0.1 takes its port while it is down.
        let any = SocketAddr::from((Ipv4Addr::new(127, 0, 1, 1 + number), 0));
        let listener = std::net::TcpListener::bind(addr.unwrap_or(any))?;
        listener.set_nonblocking(true)?;
        let addr = listener.local_addr()?;
        let runtime = self.runtime.as_ref().ok_or(io::ErrorKind::NotConnected)?;
        let _context = runtime.enter();
        let accepting = runtime.spawn(accept(Arc::clone(server), TcpListener::from_std(listener)?));
        *server.running() = Running {
            addr: Some(addr),
            accepting: Some(accepting),
        };
        Ok(addr)
    }
}

impl Drop for Servers {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            // A runtime must not wait for its threads in a thread of another one.
            runtime.shutdown_background();
        }
    }
}

struct Server {
    number: u8,
    manner: watch::Sender<Manner>,
    rng: Mutex<SmallRng>,
    ledger: Arc<Ledger>,
    running: Mutex<Running>,
}

#[derive(Default)]
struct Running {
    addr: Option<SocketAddr>,
    /// Owns the listener and all connections.
    accepting: Option<JoinHandle<()>>,
}

async fn accept(server: Arc<Server>, listener: TcpListener) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                // Without descriptors this would spin.
                let Ok((stream, _)) = accepted else {
                    sleep(Duration::from_millis(10)).await;
                    continue;
                };
                // Closing it then resets it, as the end of a killed process that has not read everything does.
                let _ = stream.set_zero_linger();
                let _ = stream.set_nodelay(true);
                let server = Arc::clone(&server);
                let service = service_fn(move |request: Request<_>| {
                    let server = Arc::clone(&server);
                    async move { Ok::<_, Infallible>(server.answer(&request).await) }
                });
                let connection = http1::Builder::new().serve_connection(TokioIo::new(stream), service);
                connections.spawn(async move {
                    // A caller that hangs up is no fault.
                    let _ = connection.await;
                });
            }
            Some(_ended) = connections.join_next() => {}
        }
    }
}

impl Server {
    fn running(&self) -> std::sync::MutexGuard<'_, Running> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn answer<B>(&self, request: &Request<B>) -> Response<Full<Bytes>> {
        let number = request.headers().get(NUMBER);
        let number = number.and_then(|number| number.to_str().ok()?.parse().ok());
        if let Some(number) = number {
            self.ledger.asked(number, self.number);
        }
        let mut manner = self.manner.subscribe();
        // A hung one answers when it goes on, if the caller is still there. The sender lives as long as the server.
        let _ = manner.wait_for(|manner| *manner != Manner::Hung).await;
        let manner = *manner.borrow();
        let (chance, time) = {
            let mut rng = self.rng.lock().unwrap_or_else(PoisonError::into_inner);
            let time = -f64::ln(1.0 - rng.random::<f64>());
            (rng.random::<f64>(), SERVICE_TIME.mul_f64(time))
        };
        let fails = match manner {
            Manner::Failing => true,
            Manner::Flaky => chance < 0.3,
            _ => false,
        };
        if fails {
            let mut response = Response::new(Full::default());
            *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
            return response;
        }
        sleep(if manner == Manner::Slow {
            time * SLOWER
        } else {
            time
        })
        .await;
        Response::new(Full::from("done"))
    }
}
