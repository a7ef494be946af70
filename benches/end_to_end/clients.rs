//! HTTP requests: direct, by clients that pool, balanced in the caller, and through a proxy.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Empty};
use hyper::body::Body;
use hyper::client::conn::{http1, http2};
use hyper::header::HOST;
use hyper::{Request, Response, Uri};
use hyper_util::client::legacy;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioIo};
use rolecall::http::{Client, Connection, Connector};
use rolecall::{BoxError, Control, Instance, List};
use tokio::net::TcpStream;
use tokio::runtime::Runtime;
use tokio::sync::Mutex;
use tower::balance::p2c;
use tower::buffer::Buffer;
use tower::discover::ServiceList;
use tower::load::{CompleteOnResponse, PeakEwmaDiscover};
use tower::{Service, ServiceExt};

use crate::measure::{Ask, Case};
use crate::proxies::Proxy;
use crate::{CALLERS, Promised};

/// linkerd's defaults for the same metric.
const DEFAULT_RTT: Duration = Duration::from_millis(30);
const DECAY: Duration = Duration::from_secs(10);
/// Room for every task's request, as `Buffer`'s documentation advises.
const BUFFER: usize = 1024;
const PATIENCE: Duration = Duration::from_secs(5);

const BARE: &str = "hyper SendRequest, direct";
const POOLED: &str = "hyper-util legacy, direct";
const OURS: &str = "rolecall http::Client";

#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Protocol {
    Http1,
    Http2,
}

impl Protocol {
    /// What is promised of the caller's CPU time: the case that `http::Client` is compared with.
    pub(crate) fn promise(self) -> Promised {
        let (over, must, want) = match self {
            Self::Http1 => (POOLED, 1.1, 0.95),
            Self::Http2 => (BARE, 1.3, 1.15),
        };
        let case = OURS;
        Promised {
            case,
            over,
            must,
            want,
        }
    }
}

/// The cases without a hop; the first is hyper's bare connection, each caller's own with HTTP/1.1.
pub(crate) fn cases<'a>(
    runtime: &'a Runtime,
    protocol: Protocol,
    servers: &[SocketAddr],
) -> Result<Vec<Case<'a>>, BoxError> {
    let case = |name, ask| Case {
        name,
        runtime,
        ask,
        proxy: None,
    };
    let bare = match protocol {
        Protocol::Http1 => runtime.block_on(bare_http1(servers))?,
        Protocol::Http2 => runtime.block_on(bare_http2(servers))?,
    };
    let client = client(runtime, protocol, servers)?;
    let connections: Vec<_> = servers
        .iter()
        .map(|addr| connection(runtime, protocol, *addr))
        .collect::<Result<_, _>>()?;
    let _context = runtime.enter();
    let tower = p2c::Balance::new(PeakEwmaDiscover::new(
        ServiceList::new::<Request<Empty<Bytes>>>(connections),
        DEFAULT_RTT,
        DECAY,
        CompleteOnResponse::default(),
    ));
    let mut cases = vec![
        case(BARE, bare),
        case(POOLED, pooled(protocol, servers)?),
        case(OURS, by_client(client)),
        case("tower PeakEwma, Buffer", by(Buffer::new(tower, BUFFER))),
    ];
    // Its HTTP/2 is a feature that nothing else here needs.
    if protocol == Protocol::Http1 {
        cases.push(case("reqwest, direct", by_reqwest(servers)?));
    }
    Ok(cases)
}

/// Through a proxy, if it speaks the protocol on both sides.
pub(crate) fn by_proxy<'a>(
    runtime: &'a Runtime,
    protocol: Protocol,
    proxy: &Proxy,
) -> Result<Option<Case<'a>>, BoxError> {
    let addr = match protocol {
        Protocol::Http1 => Some(proxy.http1),
        Protocol::Http2 => proxy.http2,
    };
    let Some(addr) = addr else { return Ok(None) };
    Ok(Some(Case {
        name: proxy.name,
        runtime,
        ask: pooled(protocol, &[addr])?,
        proxy: Some(proxy.pid()),
    }))
}

/// A client with all servers connected.
fn client(
    runtime: &Runtime,
    protocol: Protocol,
    servers: &[SocketAddr],
) -> Result<Client<Empty<Bytes>>, BoxError> {
    let list = List::from_addrs(servers.iter().copied())?;
    let builder = Client::builder(list, "bench:http");
    let builder = match protocol {
        Protocol::Http1 => builder.http1(),
        Protocol::Http2 => builder.http2(),
    };
    let _context = runtime.enter();
    let client = builder.build()?;
    runtime.block_on(connected(client.control(), servers.len()))?;
    Ok(client)
}

pub(crate) async fn connected(control: &Control, servers: usize) -> Result<(), BoxError> {
    let connected = async {
        while control.status().usable < servers {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    Ok(tokio::time::timeout(PATIENCE, connected).await?)
}

fn connection(
    runtime: &Runtime,
    protocol: Protocol,
    to: SocketAddr,
) -> Result<Connection<Empty<Bytes>>, BoxError> {
    let connector = match protocol {
        Protocol::Http1 => Connector::new(),
        Protocol::Http2 => Connector::new().http2(),
    };
    let dial = connector.oneshot(Instance::new(to.to_string(), to));
    Ok(runtime.block_on(dial)?)
}

async fn dial(to: SocketAddr) -> Result<TokioIo<TcpStream>, BoxError> {
    let stream = TcpStream::connect(to).await?;
    stream.set_nodelay(true)?;
    Ok(TokioIo::new(stream))
}

/// A connection for each caller.
async fn bare_http1(servers: &[SocketAddr]) -> Result<Ask, BoxError> {
    let mut senders = Vec::new();
    for (_, server) in (0..CALLERS).zip(servers.iter().cycle()) {
        let (sender, connection) = http1::handshake(dial(*server).await?).await?;
        tokio::spawn(connection);
        senders.push(Arc::new(Mutex::new(sender)));
    }
    Ok(Arc::new(move |caller| {
        let sender = Arc::clone(&senders[usize::from(caller)]);
        Box::pin(async move {
            let mut sender = sender.lock().await;
            sender.ready().await?;
            let request = Request::get("/")
                .header(HOST, "bench")
                .body(Empty::<Bytes>::new())?;
            read(sender.send_request(request).await?).await
        })
    }))
}

/// Each caller has a server for good.
async fn bare_http2(servers: &[SocketAddr]) -> Result<Ask, BoxError> {
    let mut senders = Vec::new();
    for server in servers {
        let io = dial(*server).await?;
        let (sender, connection) = http2::handshake(TokioExecutor::new(), io).await?;
        tokio::spawn(connection);
        senders.push(sender);
    }
    Ok(Arc::new(move |caller| {
        let mut sender = senders[usize::from(caller) % senders.len()].clone();
        Box::pin(async move {
            let request = Request::get("http://bench/").body(Empty::<Bytes>::new())?;
            read(sender.send_request(request).await?).await
        })
    }))
}

fn uris(servers: &[SocketAddr]) -> Result<Vec<Uri>, BoxError> {
    let uri = |server: &SocketAddr| Ok(format!("http://{server}/").parse()?);
    servers.iter().map(uri).collect()
}

/// Each caller has a server for good.
fn pooled(protocol: Protocol, servers: &[SocketAddr]) -> Result<Ask, BoxError> {
    let uris = uris(servers)?;
    let mut connector = HttpConnector::new();
    connector.set_nodelay(true);
    let client: legacy::Client<_, Empty<Bytes>> = legacy::Client::builder(TokioExecutor::new())
        .http2_only(protocol == Protocol::Http2)
        .build(connector);
    Ok(Arc::new(move |caller| {
        let uri = uris[usize::from(caller) % uris.len()].clone();
        let client = client.clone();
        Box::pin(async move {
            let request = Request::get(uri).body(Empty::new())?;
            read(client.request(request).await?).await
        })
    }))
}

/// Each caller has a server for good.
fn by_reqwest(servers: &[SocketAddr]) -> Result<Ask, BoxError> {
    let uris: Vec<_> = servers
        .iter()
        .map(|server| format!("http://{server}/"))
        .collect();
    let client = reqwest::Client::builder().no_proxy().build()?;
    Ok(Arc::new(move |caller| {
        let request = client.get(&uris[usize::from(caller) % uris.len()]);
        Box::pin(async move {
            let response = request.send().await?.error_for_status()?;
            response.bytes().await?;
            Ok(())
        })
    }))
}

fn by_client(client: Client<Empty<Bytes>>) -> Ask {
    Arc::new(move |_caller| {
        let client = client.clone();
        Box::pin(async move {
            let request = Request::new(Empty::new());
            read(client.request(request).await?).await
        })
    })
}

fn by<S, B>(service: S) -> Ask
where
    S: Service<Request<Empty<Bytes>>, Response = Response<B>> + Clone + Send + Sync + 'static,
    S::Error: Into<BoxError>,
    S::Future: Send,
    B: Body<Data: Send, Error: Into<BoxError>> + Send + 'static,
{
    Arc::new(move |_caller| {
        let service = service.clone();
        Box::pin(async move {
            let response = service.oneshot(Request::new(Empty::new())).await;
            read(response.map_err(Into::into)?).await
        })
    })
}

async fn read<B>(response: Response<B>) -> Result<(), BoxError>
where
    B: Body<Error: Into<BoxError>>,
{
    if !response.status().is_success() {
        return Err(response.status().to_string().into());
    }
    response.into_body().collect().await.map_err(Into::into)?;
    Ok(())
}
