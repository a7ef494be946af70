//! `rolecall::retry` over a channel.

use futures::stream;
use rolecall::grpc::{self, Channel};
use rolecall::http::Tried;
use rolecall::retry::{Idempotent, Replay, ReplayLayer, Retry};
use rolecall::{Error, Lease, Registry};
use tonic::{Code, Request};
use tower::ServiceBuilder;
use tower::retry::RetryLayer;

use crate::client::{OrderedClient, read};
use crate::server::{Order, Server};
use crate::support::{all_usable, channel, register, until, within};

type Retrying = Replay<tower::retry::Retry<Retry, Channel>>;

fn client(channel: &Channel) -> OrderedClient<Retrying> {
    let service = ServiceBuilder::new()
        .layer(ReplayLayer::new())
        .layer(RetryLayer::new(Retry::new()))
        .service(channel.clone());
    OrderedClient::new(service)
}

fn idempotent(order: Order) -> Request<Order> {
    let mut request = Request::new(order);
    request.extensions_mut().insert(Idempotent(true));
    request
}

fn arrived(servers: &[Server]) -> usize {
    servers.iter().map(Server::arrived).sum()
}

async fn three() -> ([Server; 3], Channel) {
    let servers = [Server::tonic(), Server::tonic(), Server::tonic()];
    let channel = channel(&servers);
    all_usable(&channel).await;
    (servers, channel)
}

#[tokio::test]
async fn an_unavailable_call_goes_to_one_instance_after_the_other_if_marked() {
    let (servers, channel) = three().await;
    let order = Order::default().ending_in(Code::Unavailable);
    let status = within(client(&channel).unary(order)).await.unwrap_err();
    assert_eq!(status.code(), Code::Unavailable);
    assert_eq!(arrived(&servers), 1, "unmarked");

    let (servers, channel) = three().await;
    let status = within(client(&channel).unary(idempotent(order)))
        .await
        .unwrap_err();
    assert_eq!(status.code(), Code::Unavailable);
    let each = servers.each_ref().map(Server::arrived);
    assert_eq!(each, [1, 1, 1], "each of them once");
    assert!(grpc::failed_at(&status).is_some());
}

#[tokio::test]
async fn a_status_that_says_no_such_thing_ends_it() {
    for code in [Code::NotFound, Code::Internal, Code::DeadlineExceeded] {
        let (servers, channel) = three().await;
        let order = idempotent(Order::default().ending_in(code));
        let status = within(client(&channel).unary(order)).await.unwrap_err();
        assert_eq!((status.code(), arrived(&servers)), (code, 1));
    }
}

/// A server, and a channel that knows of no other until it is told.
async fn alone() -> (Server, Registry, Lease, Channel) {
    let (server, registry) = (Server::tonic(), Registry::new());
    let lease = register(&registry, "a", &server).await;
    let channel = grpc::Channel::new(registry.clone(), "worker:grpc").unwrap();
    (server, registry, lease, channel)
}

#[tokio::test]
async fn a_marked_call_in_the_hands_of_a_killed_instance_is_answered_by_another() {
    for marked in [true, false] {
        let (mut first, registry, _lease, channel) = alone().await;
        let order = Order::messages(3).gated();
        let call = if marked {
            idempotent(order)
        } else {
            Request::new(order)
        };
        let mut caller = client(&channel);
        let call = tokio::spawn(async move { caller.unary(call).await });
        until(|| first.arrived() == 1).await;
        let second = Server::tonic();
        second.gate.add_permits(1);
        let _lease = register(&registry, "b", &second).await;
        until(|| channel.control().status().usable == 2).await;
        first.kill().await;
        let answer = within(call).await.unwrap();
        if !marked {
            let status = answer.unwrap_err();
            assert_eq!(status.code(), Code::Unavailable);
            assert_eq!(second.arrived(), 0, "unmarked");
            assert!(Error::find(&status).unwrap().tried().is_empty());
            continue;
        }
        let answer = answer.unwrap();
        assert_eq!(answer.get_ref().number, 3, "the whole message again");
        assert_eq!(grpc::answered_by(&answer).unwrap().as_str(), "b");
        let tried = answer.extensions().get::<Tried>().unwrap();
        assert_eq!(tried.instances(), ["a"]);
    }
}

#[tokio::test]
async fn a_stream_that_began_is_not_begun_again() {
    let (mut first, registry, _lease, channel) = alone().await;
    first.gate.add_permits(1);
    let order = Order::messages(2).gated();
    let answer = within(client(&channel).server_stream(idempotent(order))).await;
    let mut messages = answer.unwrap().into_inner();
    within(messages.message()).await.unwrap().unwrap();
    let second = Server::tonic();
    let _lease = register(&registry, "b", &second).await;
    until(|| channel.control().status().usable == 2).await;
    first.kill().await;
    let status = within(messages.message()).await.unwrap_err();
    assert_eq!(status.code(), Code::Unavailable);
    assert_eq!(second.arrived(), 0);
}

#[tokio::test]
async fn a_marked_stream_that_breaks_before_its_first_message_is_begun_on_another() {
    let (mut first, registry, _lease, channel) = alone().await;
    let order = idempotent(Order::messages(3).gated());
    let mut caller = client(&channel);
    let call = tokio::spawn(async move { caller.server_stream(order).await });
    until(|| first.arrived() == 1).await;
    let second = Server::tonic();
    second.gate.add_permits(4);
    let _lease = register(&registry, "b", &second).await;
    until(|| channel.control().status().usable == 2).await;
    first.kill().await;
    let answer = within(call).await.unwrap().unwrap();
    assert_eq!(grpc::answered_by(&answer).unwrap().as_str(), "b");
    let (numbers, end) = within(read(&mut answer.into_inner())).await;
    end.unwrap();
    assert_eq!(numbers, [1, 2, 3]);
}

#[tokio::test]
async fn a_marked_stream_that_ends_unavailable_without_a_message_goes_to_one_after_the_other() {
    let (servers, channel) = three().await;
    let order = idempotent(Order::default().ending_in(Code::Unavailable));
    let status = within(client(&channel).server_stream(order)).await;
    let status = status.unwrap_err();
    assert_eq!(status.code(), Code::Unavailable);
    assert_eq!(status.message(), "as ordered");
    assert_eq!(servers.each_ref().map(Server::arrived), [1, 1, 1]);
    assert!(grpc::failed_at(&status).is_some());

    let order = Order::messages(1).ending_in(Code::Unavailable);
    let answer = within(client(&channel).server_stream(idempotent(order))).await;
    let (numbers, end) = within(read(&mut answer.unwrap().into_inner())).await;
    assert_eq!(numbers, [1]);
    assert_eq!(end.unwrap_err().code(), Code::Unavailable);
    assert_eq!(arrived(&servers), 4, "not after a message");
    until(|| {
        let members = channel.control().status().members;
        members.iter().all(|member| member.in_flight == 0)
    })
    .await;
}

#[tokio::test]
async fn a_marked_stream_of_nothing_ends_well() {
    let (_servers, channel) = three().await;
    let answer = within(client(&channel).server_stream(idempotent(Order::default()))).await;
    let (numbers, end) = within(read(&mut answer.unwrap().into_inner())).await;
    end.unwrap();
    assert!(numbers.is_empty());
}

#[tokio::test]
async fn the_head_of_a_stream_is_held_only_if_the_call_can_be_made_again() {
    let (_server, _registry, _lease, channel) = alone().await;
    drop(
        within(client(&channel).server_stream(Order::hang()))
            .await
            .unwrap(),
    );
    // Here the caller may say more only when it has seen the head.
    let mut orders = Request::new(stream::pending::<Order>());
    orders.extensions_mut().insert(Idempotent(true));
    drop(within(client(&channel).bidi(orders)).await.unwrap());
}

#[tokio::test]
async fn streams_of_requests_pass_as_they_come() {
    let server = Server::tonic();
    let channel = channel([&server]);
    let (orders, coming) = tokio::sync::mpsc::unbounded_channel();
    let coming = stream::unfold(coming, async |mut coming| {
        Some((coming.recv().await?, coming))
    });
    let mut client = client(&channel);
    orders.send(Order::messages(1)).unwrap();
    let answer = within(client.bidi(Box::pin(coming))).await.unwrap();
    let mut answers = answer.into_inner();
    for _ in 0..3 {
        let answer = within(answers.message()).await.unwrap().unwrap();
        assert_eq!(answer.number, 1, "an answer for each, before the next");
        orders.send(Order::messages(1)).unwrap();
    }
    drop(orders);
    within(read(&mut answers)).await.1.unwrap();

    let orders = stream::iter(vec![Order::messages(1); 5]);
    let answer = within(client.client_stream(orders)).await.unwrap();
    assert_eq!(answer.into_inner().number, 5);
}

#[tokio::test]
async fn a_call_longer_than_the_limit_is_sent_once() {
    let (servers, channel) = three().await;
    let service = ServiceBuilder::new()
        .layer(ReplayLayer::new().limit(4))
        .layer(RetryLayer::new(Retry::new()))
        .service(channel.clone());
    let order = idempotent(Order::default().ending_in(Code::Unavailable));
    let mut client = OrderedClient::new(service);
    within(client.unary(order)).await.unwrap_err();
    assert_eq!(arrived(&servers), 1);
}
