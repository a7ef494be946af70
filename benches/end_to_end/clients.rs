//! HTTP requests: direct, balanced in the caller, and through a proxy.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Empty};
use hyper::body::Body;
use hyper::{Request, Response};
use rolecall::http::{Connection, Connector, HttpClassifier};
use rolecall::{Balance, BalanceLayer, BoxError, Instance, List};
use tokio::runtime::Runtime;
use tower::balance::p2c;
use tower::buffer::Buffer;
use tower::discover::ServiceList;
use tower::load::{CompleteOnResponse, PeakEwmaDiscover};
use tower::{Layer, Service, ServiceExt};

use crate::measure::{Ask, Case};
use crate::proxies::Proxy;

/// linkerd's defaults for the same metric.
const DEFAULT_RTT: Duration = Duration::from_millis(30);
const DECAY: Duration = Duration::from_secs(10);
/// Room for every task's request, as `Buffer`'s documentation advises.
const BUFFER: usize = 1024;
const PATIENCE: Duration = Duration::from_secs(5);

#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Protocol {
    Http1,
    Http2,
}

/// The cases without a hop; the first is the direct one.
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
    let connections: Vec<_> = servers
        .iter()
        .map(|addr| connection(runtime, protocol, *addr))
        .collect::<Result<_, _>>()?;
    let balance = balance(runtime, connector(protocol), servers)?;
    let _context = runtime.enter();
    let tower = p2c::Balance::new(PeakEwmaDiscover::new(
        ServiceList::new::<Request<Empty<Bytes>>>(connections.clone()),
        DEFAULT_RTT,
        DECAY,
        CompleteOnResponse::default(),
    ));
    Ok(vec![
        case("direct", direct(connections)),
        case("rolecall", by(balance)),
        case("tower PeakEwma, Buffer", by(Buffer::new(tower, BUFFER))),
    ])
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
        ask: by(connection(runtime, protocol, addr)?),
        proxy: Some(proxy.pid()),
    }))
}

/// A balancer with all servers connected.
pub(crate) fn balance<B>(
    runtime: &Runtime,
    connector: Connector<B>,
    servers: &[SocketAddr],
) -> Result<Balance<Connection<B>, HttpClassifier>, BoxError>
where
    B: Body + Send + Unpin + 'static,
    B::Data: Send,
    B::Error: Into<BoxError>,
{
    let list = List::from_addrs(servers.iter().copied())?;
    let layer = BalanceLayer::new(list, "bench:http")?.classify(HttpClassifier::new());
    runtime.block_on(async {
        let balance = layer.layer(connector);
        let connected = async {
            while balance.control().status().usable < servers.len() {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        tokio::time::timeout(PATIENCE, connected).await?;
        Ok(balance)
    })
}

fn connector<B>(protocol: Protocol) -> Connector<B> {
    match protocol {
        Protocol::Http1 => Connector::new(),
        Protocol::Http2 => Connector::new().http2(),
    }
}

fn connection(
    runtime: &Runtime,
    protocol: Protocol,
    to: SocketAddr,
) -> Result<Connection<Empty<Bytes>>, BoxError> {
    let dial = connector(protocol).oneshot(Instance::new(to.to_string(), to));
    Ok(runtime.block_on(dial)?)
}

/// Each caller has a server for good.
fn direct(connections: Vec<Connection<Empty<Bytes>>>) -> Ask {
    Arc::new(move |caller| {
        let server = usize::from(caller) % connections.len();
        Box::pin(exchange(connections[server].clone()))
    })
}

fn by<S, B>(service: S) -> Ask
where
    S: Service<Request<Empty<Bytes>>, Response = Response<B>> + Clone + Send + Sync + 'static,
    S::Error: Into<BoxError>,
    S::Future: Send,
    B: Body<Data: Send, Error: Into<BoxError>> + Send + 'static,
{
    Arc::new(move |_caller| Box::pin(exchange(service.clone())))
}

async fn exchange<S, B>(service: S) -> Result<(), BoxError>
where
    S: Service<Request<Empty<Bytes>>, Response = Response<B>>,
    S::Error: Into<BoxError>,
    B: Body<Error: Into<BoxError>>,
{
    let response = service.oneshot(Request::new(Empty::new())).await;
    let response = response.map_err(Into::into)?;
    if !response.status().is_success() {
        return Err(response.status().to_string().into());
    }
    response.into_body().collect().await.map_err(Into::into)?;
    Ok(())
}
