//! Who balances, each over the same four servers: what a program gets that takes it as it comes.

mod envoy;
mod ours;
mod round_robin;
mod tonic_list;
mod tower_balance;

use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use futures::future::BoxFuture;
use http_body_util::{BodyExt, Empty};
use hyper::{Request, Response};
use rolecall::http::{Connection, Connector};
use rolecall::{BoxError, Instance};
use tower::{Service, ServiceExt};

use crate::process::Process;

/// Sends a request, and says which server answered. Whoever drops the future has given up.
pub(crate) type Ask = Arc<dyn Fn() -> Answer + Send + Sync>;
pub(crate) type Answer = BoxFuture<'static, Result<u8, BoxError>>;

/// Somebody's balancer over four servers.
pub(crate) struct Client {
    pub(crate) ask: Ask,
    /// Where the balancer is a process of its own.
    pub(crate) _proxy: Option<Process>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Contestant {
    Rolecall,
    RolecallHttp2,
    RolecallGrpc,
    RolecallStream,
    Tower,
    Tonic,
    RoundRobin,
    Envoy,
}

impl Contestant {
    pub(crate) const ALL: [Self; 8] = [
        Self::Rolecall,
        Self::RolecallHttp2,
        Self::RolecallGrpc,
        Self::RolecallStream,
        Self::Tower,
        Self::Tonic,
        Self::RoundRobin,
        Self::Envoy,
    ];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Rolecall => "rolecall",
            Self::RolecallHttp2 => "rolecall HTTP/2",
            Self::RolecallGrpc => "rolecall gRPC",
            Self::RolecallStream => "rolecall stream",
            Self::Tower => "tower PeakEwma",
            Self::Tonic => "tonic balance_list",
            Self::RoundRobin => "round robin",
            Self::Envoy => "Envoy",
        }
    }

    pub(crate) fn explanation(self) -> &'static str {
        match self {
            Self::Rolecall => "http::Client with its defaults",
            Self::RolecallHttp2 => "the same over HTTP/2",
            Self::RolecallGrpc => "grpc::channel with its defaults, unary calls",
            Self::RolecallStream => "grpc::channel with its defaults, streams of one answer",
            Self::Tower => {
                "tower's p2c Balance with PeakEwma behind Buffer; a lost connection is redialled every 100 ms, which tower \
                 leaves to its user"
            }
            Self::Tonic => "tonic's Channel::balance_list with its defaults (gRPC)",
            Self::RoundRobin => "each server in turn, by hand, over pooled connections",
            Self::Envoy => {
                "an Envoy process in between: LEAST_REQUEST, outlier detection of up to half for 10 s, retries of what was not \
                 sent"
            }
        }
    }

    /// Whether it takes part unless others are named: ours by HTTP/1.1, and whoever can be run here.
    pub(crate) fn takes_part(self) -> bool {
        match self {
            Self::RolecallHttp2 | Self::RolecallGrpc | Self::RolecallStream => false,
            Self::Envoy => envoy::binary().is_some(),
            _ => true,
        }
    }

    /// Whether its promises are ours to keep.
    pub(crate) fn is_ours(self) -> bool {
        self.name().starts_with("rolecall")
    }

    /// Returns when requests can be sent.
    pub(crate) async fn connect(
        self,
        servers: &[SocketAddr],
        tell_events: bool,
    ) -> Result<Client, BoxError> {
        let ask = match self {
            Self::Rolecall => ours::http1(servers, tell_events).await?,
            Self::RolecallHttp2 => ours::http2(servers, tell_events).await?,
            Self::RolecallGrpc => ours::grpc(servers, tell_events).await?,
            Self::RolecallStream => ours::stream(servers, tell_events).await?,
            Self::Tower => tower_balance::connect(servers).await?,
            Self::Tonic => tonic_list::connect(servers)?,
            Self::RoundRobin => round_robin::connect(servers).await?,
            Self::Envoy => return envoy::connect(servers).await,
        };
        Ok(Client { ask, _proxy: None })
    }
}

/// The connections to one server, as our own balancer has them: with those that use them only the balancing differs.
async fn connection(to: SocketAddr) -> Result<Connection<Empty<Bytes>>, BoxError> {
    let dial = Connector::new().oneshot(Instance::new(to.to_string(), to));
    Ok(dial.await?)
}

/// Sends a request by one of the clones of a service.
fn ask_by<S, B>(service: S) -> Ask
where
    S: Service<Request<Empty<Bytes>>, Response = Response<B>> + Clone + Send + Sync + 'static,
    S::Error: Into<BoxError>,
    S::Future: Send,
    B: hyper::body::Body<Data: Send, Error: Into<BoxError>> + Send + 'static,
{
    Arc::new(move || Box::pin(exchange(service.clone())))
}

async fn exchange<S, B>(service: S) -> Result<u8, BoxError>
where
    S: Service<Request<Empty<Bytes>>, Response = Response<B>>,
    S::Error: Into<BoxError>,
    B: hyper::body::Body<Error: Into<BoxError>>,
{
    let response = service.oneshot(Request::new(Empty::new())).await;
    let response = response.map_err(Into::into)?;
    if !response.status().is_success() {
        return Err(response.status().to_string().into());
    }
    let body = response.into_body().collect().await.map_err(Into::into)?;
    Ok(std::str::from_utf8(&body.to_bytes())?.parse()?)
}
