//! Unary gRPC calls by tonic's client: direct, by its own balancing, and over rolecall's layer.

use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use hyper::http::uri::PathAndQuery;
use rolecall::{BoxError, List, grpc};
use tokio::runtime::Runtime;
use tonic::Request;
use tonic::body::Body;
use tonic::client::{Grpc, GrpcService};
use tonic::transport::{Channel, Endpoint};
use tonic_prost::ProstCodec;

use crate::Promised;
use crate::clients::connected;
use crate::measure::{Ask, Case};

const DIRECT: &str = "tonic Channel, direct";
const BALANCED: &str = "tonic balance_list";
const OURS: &str = "rolecall grpc::Channel";

/// What is promised of the caller's CPU time.
pub(crate) fn promises() -> Vec<Promised> {
    let promised = |over, must, want| Promised {
        case: OURS,
        over,
        must,
        want,
    };
    vec![promised(BALANCED, 1.05, 0.9), promised(DIRECT, 1.25, 1.1)]
}

pub(crate) fn cases<'a>(
    runtime: &'a Runtime,
    servers: &[SocketAddr],
) -> Result<Vec<Case<'a>>, BoxError> {
    let endpoints: Vec<_> = servers
        .iter()
        .map(|addr| Endpoint::from_shared(format!("http://{addr}")))
        .collect::<Result<_, _>>()?;
    let case = |name, ask| Case {
        name,
        runtime,
        ask,
        proxy: None,
    };
    let list = List::from_addrs(servers.iter().copied())?;
    let _context = runtime.enter();
    let ours = grpc::Channel::new(list, "bench:grpc")?;
    runtime.block_on(connected(ours.control(), servers.len()))?;
    let channels = endpoints.iter().map(Endpoint::connect_lazy).collect();
    let listed = Channel::balance_list(endpoints.into_iter());
    Ok(vec![
        case(DIRECT, direct(channels)),
        case(OURS, Arc::new(move |_caller| Box::pin(unary(ours.clone())))),
        case(
            BALANCED,
            Arc::new(move |_caller| Box::pin(unary(listed.clone()))),
        ),
    ])
}

/// Each caller has a server for good.
fn direct(channels: Vec<Channel>) -> Ask {
    Arc::new(move |caller| {
        let server = usize::from(caller) % channels.len();
        Box::pin(unary(channels[server].clone()))
    })
}

async fn unary<T>(channel: T) -> Result<(), BoxError>
where
    T: GrpcService<Body>,
    T::Error: Into<BoxError>,
    T::ResponseBody: hyper::body::Body<Data = Bytes, Error: Into<BoxError>> + Send + 'static,
{
    let mut client = Grpc::new(channel);
    client.ready().await.map_err(Into::into)?;
    let path = PathAndQuery::from_static("/bench.Server/Ask");
    let codec = ProstCodec::<(), String>::default();
    client.unary(Request::new(()), path, codec).await?;
    Ok(())
}
