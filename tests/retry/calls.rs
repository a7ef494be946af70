//! gRPC calls, unary and answered by a stream.

use std::net::SocketAddr;

use bytes::Bytes;
use rolecall::grpc::{self, Channel};
use rolecall::retry::{Idempotent, Replay, ReplayLayer, Retry};
use rolecall::{BoxError, List};
use tonic::Request;
use tonic::body::Body;
use tonic::client::{Grpc, GrpcService};
use tonic::codegen::http::uri::PathAndQuery;
use tonic_prost::ProstCodec;
use tower::ServiceBuilder;
use tower::retry::RetryLayer;

use crate::load::{Ask, said};
use crate::server::STREAM;

pub(crate) fn channel(addrs: impl IntoIterator<Item = SocketAddr>) -> Channel {
    grpc::Channel::new(List::from_addrs(addrs).unwrap(), "worker:grpc").unwrap()
}

pub(crate) type Retrying = Replay<tower::retry::Retry<Retry, Channel>>;

pub(crate) fn retrying(channel: &Channel) -> Retrying {
    ServiceBuilder::new()
        .layer(ReplayLayer::new())
        .layer(RetryLayer::new(Retry::new()))
        .service(channel.clone())
}

pub(crate) fn asking<T>(channel: T, streaming: bool) -> Ask
where
    T: GrpcService<Body, Future: Send, Error: Send> + Clone + Send + Sync + 'static,
    T::ResponseBody: hyper::body::Body<Data = Bytes, Error: Into<BoxError> + Send>,
    T::ResponseBody: Send + 'static,
{
    Box::new(move || Box::pin(one(channel.clone(), streaming)))
}

async fn one<T>(channel: T, streaming: bool) -> Result<(), String>
where
    T: GrpcService<Body>,
    T::ResponseBody: hyper::body::Body<Data = Bytes, Error: Into<BoxError> + Send>,
    T::ResponseBody: Send + 'static,
{
    let mut client = Grpc::new(channel);
    client.ready().await.map_err(said)?;
    let codec = ProstCodec::<(), u32>::default();
    let mut request = Request::new(());
    request.extensions_mut().insert(Idempotent(true));
    if streaming {
        let path = PathAndQuery::from_static(STREAM);
        let answer = client.server_streaming(request, path, codec).await;
        let mut numbers = answer.map_err(said)?.into_inner();
        while numbers.message().await.map_err(said)?.is_some() {}
    } else {
        let path = PathAndQuery::from_static("/test.Hello/Unary");
        client.unary(request, path, codec).await.map_err(said)?;
    }
    Ok(())
}
