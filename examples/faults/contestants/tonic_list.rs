//! tonic's own balancing, of gRPC calls.

use std::net::SocketAddr;
use std::sync::Arc;

use hyper::http::uri::PathAndQuery;
use rolecall::BoxError;
use tonic::Request;
use tonic::client::Grpc;
use tonic::transport::{Channel, Endpoint};
use tonic_prost::ProstCodec;

use super::Ask;

pub(super) fn connect(servers: &[SocketAddr]) -> Result<Ask, BoxError> {
    let endpoints: Result<Vec<_>, _> = servers
        .iter()
        .map(|addr| Endpoint::from_shared(format!("http://{addr}")))
        .collect();
    let channel = Channel::balance_list(endpoints?.into_iter());
    Ok(Arc::new(move || Box::pin(ask(channel.clone()))))
}

async fn ask(channel: Channel) -> Result<u8, BoxError> {
    let mut client = Grpc::new(channel);
    client.ready().await?;
    let path = PathAndQuery::from_static("/faults.Worker/Ask");
    let codec = ProstCodec::<(), String>::default();
    let response = client.unary(Request::new(()), path, codec).await?;
    Ok(response.into_inner().parse()?)
}
