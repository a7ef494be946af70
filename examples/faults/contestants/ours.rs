//! rolecall's clients, as they come.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures::StreamExt;
use http_body_util::Empty;
use hyper::http::uri::PathAndQuery;
use rolecall::{BoxError, Control, Instance, List, grpc, http};
use tonic::Request;
use tonic::client::Grpc;
use tonic_prost::ProstCodec;

use super::{Ask, ask_by};

const TARGET: &str = "worker:http";

pub(super) async fn http1(servers: &[SocketAddr], tell_events: bool) -> Result<Ask, BoxError> {
    let client = http::Client::<Empty<Bytes>>::new(list(servers)?, TARGET)?;
    begin(client.control(), tell_events).await?;
    Ok(ask_by(client))
}

pub(super) async fn http2(servers: &[SocketAddr], tell_events: bool) -> Result<Ask, BoxError> {
    let client = http::Client::<Empty<Bytes>>::builder(list(servers)?, TARGET)
        .http2()
        .build()?;
    begin(client.control(), tell_events).await?;
    Ok(ask_by(client))
}

pub(super) async fn grpc(servers: &[SocketAddr], tell_events: bool) -> Result<Ask, BoxError> {
    let channel = grpc::Channel::new(list(servers)?, TARGET)?;
    begin(channel.control(), tell_events).await?;
    Ok(Arc::new(move || Box::pin(unary(channel.clone()))))
}

pub(super) async fn stream(servers: &[SocketAddr], tell_events: bool) -> Result<Ask, BoxError> {
    let channel = grpc::Channel::new(list(servers)?, TARGET)?;
    begin(channel.control(), tell_events).await?;
    Ok(Arc::new(move || Box::pin(streaming(channel.clone()))))
}

fn list(servers: &[SocketAddr]) -> Result<List, BoxError> {
    let instance =
        |(number, addr): (u8, &SocketAddr)| Instance::new(format!("server-{number}"), *addr);
    Ok(List::new((0..).zip(servers).map(instance))?)
}

async fn begin(control: &Control, tell_events: bool) -> Result<(), BoxError> {
    if tell_events {
        let (began, mut events) = (Instant::now(), control.events());
        tokio::spawn(async move {
            while let Some(event) = events.next().await {
                eprintln!("  {:>6.2} s: {event}", began.elapsed().as_secs_f64());
            }
        });
    }
    Ok(control.wait_usable(Duration::from_secs(5)).await?)
}

async fn unary(channel: grpc::Channel) -> Result<u8, BoxError> {
    let mut client = Grpc::new(channel);
    client.ready().await?;
    let path = PathAndQuery::from_static("/faults.Worker/Ask");
    let codec = ProstCodec::<(), String>::default();
    let response = client.unary(Request::new(()), path, codec).await?;
    Ok(response.into_inner().parse()?)
}

async fn streaming(channel: grpc::Channel) -> Result<u8, BoxError> {
    let mut client = Grpc::new(channel);
    client.ready().await?;
    let path = PathAndQuery::from_static("/faults.Worker/Stream");
    let codec = ProstCodec::<(), String>::default();
    let response = client
        .server_streaming(Request::new(()), path, codec)
        .await?;
    let mut answers = response.into_inner();
    let number = answers
        .message()
        .await?
        .ok_or("a stream without an answer")?;
    while answers.message().await?.is_some() {}
    Ok(number.parse()?)
}
