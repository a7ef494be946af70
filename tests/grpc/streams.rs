//! What the messages of a stream say of their instance, by when they come; on paused time.

use std::collections::HashMap;
use std::convert::Infallible;
use std::time::Duration;

use futures::StreamExt;
use http_body_util::{BodyExt, StreamBody};
use hyper::body::{Bytes, Frame};
use hyper::header::HeaderMap;
use hyper::{Request, Response};
use rolecall::grpc::{self, Channel};
use rolecall::http::ReplayBody;
use rolecall::retry::{Idempotent, ReplayLayer, Retry};
use rolecall::{BalanceLayer, Instance, List, MemberStatus, connect};
use tokio::time::{sleep, timeout};
use tonic::body::Body;
use tonic::{Code, Streaming};
use tower::retry::RetryLayer;
use tower::util::BoxCloneSyncService;
use tower::{Layer, ServiceBuilder, service_fn};

use crate::client::{OrderedClient, read};
use crate::server::{Answer, Order};

type Node = BoxCloneSyncService<Request<ReplayBody>, Response<Body>, Infallible>;

/// How long nothing happens that a subscriber is told of.
const NO_EVENT: Duration = Duration::from_secs(60);

/// Sends its head at once, as tonic does, its message after so long, and ends. Calls with streams on both sides are
/// subscriptions.
fn node(delay: Duration) -> Node {
    Node::new(service_fn(move |request: Request<ReplayBody>| async move {
        let is_subscription = request.uri().path().ends_with("/Bidi");
        request.into_body().collect().await.unwrap();
        let delay = if is_subscription { NO_EVENT } else { delay };
        let message = futures::stream::once(async move {
            sleep(delay).await;
            // Not compressed, two bytes: the field 1 is 1.
            Ok::<_, Infallible>(Frame::data(Bytes::from_static(&[0, 0, 0, 0, 2, 8, 1])))
        });
        let mut trailers = HeaderMap::new();
        trailers.insert("grpc-status", 0.into());
        let end = futures::stream::iter([Ok(Frame::trailers(trailers))]);
        let body = Body::new(StreamBody::new(message.chain(end)));
        let response = Response::builder().header("content-type", "application/grpc");
        Ok(response.body(body).unwrap())
    }))
}

/// A channel to an instance for each delay.
async fn channel(delays: &[Duration]) -> Channel<Node> {
    let mut nodes = HashMap::new();
    let instances = (1_u16..).zip(delays).map(|(number, delay)| {
        let instance = Instance::new(number.to_string(), ([127, 0, 0, 1], number));
        nodes.insert(instance.id().clone(), node(*delay));
        instance
    });
    let list = List::new(instances).unwrap();
    let connector = connect::per_instance(move |instance: &Instance| nodes[instance.id()].clone());
    let balance = BalanceLayer::new(list, "worker:grpc")
        .unwrap()
        .classify(grpc::GrpcClassifier::new())
        .layer(connector);
    let all = delays.len();
    while balance.control().status().usable != all {
        sleep(Duration::from_millis(1)).await;
    }
    Channel::from(balance)
}

fn members(channel: &Channel<Node>) -> Vec<MemberStatus> {
    let mut members = channel.control().status().members;
    members.sort_by_key(|member| member.instance.address().clone());
    members
}

async fn begun(channel: &Channel<Node>) -> Streaming<Answer> {
    let mut client = OrderedClient::new(channel.clone());
    let answer = client.server_stream(Order::default()).await;
    answer.unwrap().into_inner()
}

async fn read_whole(channel: &Channel<Node>) {
    let (numbers, end) = read(&mut begun(channel).await).await;
    end.unwrap();
    assert_eq!(numbers, [1]);
}

fn is_near(measured: Duration, expected: Duration) -> bool {
    measured.abs_diff(expected) <= Duration::from_millis(2)
}

#[tokio::test(start_paused = true)]
async fn the_latency_of_a_stream_is_the_wait_for_its_first_message() {
    const DELAY: Duration = Duration::from_millis(70);
    let channel = channel(&[DELAY]).await;
    for _ in 0..20 {
        read_whole(&channel).await;
    }
    let latency = members(&channel)[0].latency.unwrap();
    assert!(is_near(latency, DELAY), "{latency:?}");
}

#[tokio::test(start_paused = true)]
async fn streams_go_where_messages_come_soon_though_all_heads_do() {
    let channel = channel(&[Duration::from_millis(60), Duration::from_millis(5)]).await;
    for _ in 0..200 {
        read_whole(&channel).await;
    }
    let picks = members(&channel)[0].picks;
    assert!(picks <= 30, "{picks} of 200 to the slow one");
}

#[tokio::test(start_paused = true)]
async fn a_caller_that_reads_late_makes_nobody_look_slow() {
    let channel = channel(&[Duration::ZERO]).await;
    for _ in 0..20 {
        let mut stream = begun(&channel).await;
        sleep(Duration::from_secs(3)).await;
        read(&mut stream).await.1.unwrap();
    }
    let latency = members(&channel)[0].latency.unwrap();
    assert!(is_near(latency, Duration::ZERO), "{latency:?}");
}

#[tokio::test(start_paused = true)]
async fn callers_that_wait_in_vain_for_a_first_message_raise_the_load_and_are_no_failures() {
    let channel = channel(&[Duration::from_secs(3600), Duration::from_millis(5)]).await;
    while channel.control().status().mean_latency.is_none() {
        read_for_a_second(&channel).await;
    }
    // From now on all of them are with the one that says nothing.
    let other = members(&channel)[1].instance.id().clone();
    assert!(channel.control().eject(&other, Duration::from_secs(3600)));
    for _ in 0..20 {
        read_for_a_second(&channel).await;
    }
    let silent = &members(&channel)[0];
    assert_eq!((silent.failures, silent.in_flight), (0, 0));
    let latency = silent.latency.unwrap();
    assert!(latency > Duration::from_millis(50), "{latency:?}");
}

async fn read_for_a_second(channel: &Channel<Node>) {
    let mut stream = begun(channel).await;
    drop(timeout(Duration::from_secs(1), read(&mut stream)).await);
}

#[tokio::test(start_paused = true)]
async fn a_time_limit_that_passes_after_the_head_is_no_failure_of_the_instance() {
    let channel = channel(&[Duration::from_secs(5)]).await;
    for _ in 0..10 {
        let mut request = tonic::Request::new(Order::default());
        request.set_timeout(Duration::from_secs(1));
        let mut client = OrderedClient::new(channel.clone());
        let mut stream = client.server_stream(request).await.unwrap().into_inner();
        let (numbers, end) = read(&mut stream).await;
        assert!(numbers.is_empty());
        assert_eq!(end.unwrap_err().code(), Code::DeadlineExceeded);
    }
    assert_eq!(members(&channel)[0].failures, 0);
}

#[tokio::test(start_paused = true)]
async fn a_time_limit_that_passes_while_the_head_is_held_names_the_instance() {
    let channel = channel(&[Duration::from_secs(5)]).await;
    let service = ServiceBuilder::new()
        .layer(ReplayLayer::new())
        .layer(RetryLayer::new(Retry::new()))
        .service(channel.clone());
    let mut request = tonic::Request::new(Order::default());
    request.extensions_mut().insert(Idempotent(true));
    request.set_timeout(Duration::from_secs(1));
    let status = OrderedClient::new(service).server_stream(request).await;
    let status = status.unwrap_err();
    assert_eq!(status.code(), Code::DeadlineExceeded);
    assert_eq!(grpc::failed_at(&status).unwrap().as_str(), "1");
    let member = &members(&channel)[0];
    assert_eq!((member.failures, member.in_flight), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn a_subscription_with_a_late_first_message_moves_other_calls_for_seconds_only() {
    const USUAL: Duration = Duration::from_millis(5);
    let channel = channel(&[USUAL; 2]).await;
    let mut client = OrderedClient::new(channel.clone());
    let subscription = client.bidi(futures::stream::empty()).await;
    let mut subscription = subscription.unwrap().into_inner();
    let event = tokio::spawn(async move { read(&mut subscription).await });
    while !event.is_finished() {
        some_calls(&channel, 50).await;
    }
    let mean = channel.control().status().mean_latency.unwrap();
    assert!(mean < USUAL * 2, "{mean:?}");
    some_calls(&channel, 1000).await;
    let before = members(&channel);
    some_calls(&channel, 200).await;
    for (before, after) in before.iter().zip(members(&channel)) {
        assert_eq!((after.failures, after.in_flight), (0, 0));
        let picks = after.picks - before.picks;
        assert!(picks > 50, "{picks} of 200 to one of two");
    }
}

/// Fifty a second.
async fn some_calls(channel: &Channel<Node>, calls: u32) {
    for _ in 0..calls {
        read_whole(channel).await;
        sleep(Duration::from_millis(15)).await;
    }
}
