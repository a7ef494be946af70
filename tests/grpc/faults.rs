//! Instances that are gone, and callers that nobody can help.

use std::time::Duration;

use rolecall::grpc::{self, Channel};
use rolecall::{BalanceConfig, Error, ErrorKind, List, MemberState, Registry};
use tokio::io::AsyncWriteExt;
use tonic::Code;

use crate::client::{OrderedClient, read};
use crate::server::{Order, Server};
use crate::support::{
    all_usable, builder, builder_to, channel, charges, client, free_addr, impatient, member, names,
    tally, until, within,
};

#[tokio::test]
async fn an_instance_killed_with_a_call_in_its_hands_fails_it_as_unavailable() {
    charges(1, async || {
        let mut server = Server::tonic();
        let channel = channel([&server]);
        let mut client = client(&channel);
        let call = tokio::spawn(async move { client.unary(Order::hang()).await });
        until(|| server.arrived() == 1).await;
        server.kill().await;
        let status = within(call).await.unwrap().unwrap_err();
        assert_eq!(status.code(), Code::Unavailable);
        names(&status, "a");
        let error = Error::find(&status).expect("ours, below the status");
        assert!(error.was_sent());
        assert_eq!(error.target().to_string(), "default/worker:grpc");
        channel
    })
    .await;
}

#[tokio::test]
async fn an_instance_killed_in_the_middle_of_a_stream_breaks_it_as_unavailable() {
    charges(1, async || {
        let mut server = Server::tonic();
        let channel = channel([&server]);
        let order = Order::messages(2).gated();
        let answer = within(client(&channel).server_stream(order)).await;
        let mut stream = answer.unwrap().into_inner();
        server.gate.add_permits(1);
        within(stream.message()).await.unwrap().unwrap();
        server.kill().await;
        let status = within(stream.message()).await.unwrap_err();
        assert_eq!(status.code(), Code::Unavailable);
        names(&status, "a");
        channel
    })
    .await;
}

#[tokio::test]
async fn a_killed_instance_fails_no_later_call() {
    let mut servers = [Server::tonic(), Server::tonic(), Server::tonic()];
    let channel = channel(&servers);
    all_usable(&channel).await;
    let mut client = client(&channel);
    for _ in 0..30 {
        within(client.unary(Order::messages(1))).await.unwrap();
    }
    servers[0].kill().await;
    for _ in 0..60 {
        within(client.unary(Order::messages(1))).await.unwrap();
    }
}

#[tokio::test]
async fn a_restarted_instance_is_dialled_again() {
    let mut server = Server::tonic();
    let addr = server.addr;
    let channel = builder([&server]).config(impatient()).build();
    within(client(&channel).unary(Order::messages(1)))
        .await
        .unwrap();
    server.kill().await;
    let status = within(client(&channel).unary(Order::messages(1))).await;
    assert_eq!(status.unwrap_err().code(), Code::Unavailable);
    until(|| member(&channel).state == MemberState::Disconnected).await;
    let _again = Server::tonic_at(addr);
    within(async {
        while client(&channel).unary(Order::messages(1)).await.is_err() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
}

#[tokio::test]
async fn a_refusing_instance_is_unavailable_and_the_target_is_named() {
    let builder = builder_to([free_addr()]).config(impatient());
    let channel = builder.build();
    let status = within(client(&channel).unary(Order::default())).await;
    let status = status.unwrap_err();
    assert_eq!(status.code(), Code::Unavailable);
    let message = status.message();
    assert!(message.starts_with("default/worker:grpc: "), "{message}");
    assert!(message.contains("1 refused (111)"), "{message}");
    assert!(grpc::failed_at(&status).is_none());
    assert!(!Error::find(&status).unwrap().was_sent());
}

#[tokio::test]
async fn an_empty_or_unknown_role_is_unavailable_and_the_target_is_named() {
    let config = BalanceConfig::builder().unavailable_after(Duration::from_millis(50));
    let config = config.build().unwrap();
    let empty = Channel::builder(List::new([]).unwrap(), "worker:grpc").unwrap();
    let unknown = Channel::builder(Registry::new(), "worker:grpc").unwrap();
    for builder in [empty, unknown] {
        let channel = builder.config(config.clone()).build();
        let status = within(client(&channel).unary(Order::default())).await;
        let status = status.unwrap_err();
        assert_eq!(status.code(), Code::Unavailable);
        let message = status.message();
        assert!(message.starts_with("default/worker:grpc: "), "{message}");
        let kind = Error::find(&status).unwrap().kind().clone();
        let expected = matches!(kind, ErrorKind::Empty | ErrorKind::Unresolved);
        assert!(expected, "{kind:?}");
    }
}

#[tokio::test]
async fn a_saturated_fleet_is_resource_exhausted_without_a_wait() {
    let server = Server::tonic();
    let config = BalanceConfig::builder().max_in_flight(1).build().unwrap();
    let channel = builder([&server]).config(config).build();
    let order = Order::messages(1).gated();
    let mut stream = within(client(&channel).server_stream(order)).await.unwrap();
    let status = within(client(&channel).unary(Order::default())).await;
    let status = status.unwrap_err();
    assert_eq!(status.code(), Code::ResourceExhausted);
    assert!(status.message().starts_with("default/worker:grpc: "));
    let error = Error::find(&status).unwrap();
    assert!(matches!(error.kind(), ErrorKind::Saturated));
    server.gate.add_permits(2);
    within(read(stream.get_mut())).await.1.unwrap();
    within(client(&channel).unary(Order::default()))
        .await
        .unwrap();
}

#[tokio::test]
async fn a_request_whose_own_body_fails_is_charged_to_nobody() {
    let server = Server::tonic();
    let channel = channel([&server]);
    let mut client = OrderedClient::new(channel.clone()).max_encoding_message_size(1);
    for _ in 0..10 {
        let call = client.unary(Order::messages(1));
        within(call).await.unwrap_err();
    }
    let orders = futures::stream::repeat(Order::messages(1));
    if let Ok(mut answer) = within(client.bidi(orders)).await {
        within(read(answer.get_mut())).await.1.unwrap_err();
    }
    assert_eq!(tally(&channel), (0, 0));
}

#[tokio::test]
async fn pings_find_an_instance_that_fell_silent() {
    // It takes what is sent, and says nothing after its settings.
    let server = Server::connections(|mut stream| async move {
        stream.write_all(&[0, 0, 0, 4, 0, 0, 0, 0, 0]).await?;
        tokio::io::copy(&mut stream, &mut tokio::io::sink())
            .await
            .map(drop)
    });
    charges(1, async || {
        let channel = builder([&server])
            .keep_alive_interval(Duration::from_millis(20))
            .keep_alive_timeout(Duration::from_millis(20))
            .build();
        let status = within(client(&channel).unary(Order::default())).await;
        let status = status.unwrap_err();
        assert_eq!(status.code(), Code::Unavailable);
        names(&status, "a");
        channel
    })
    .await;
}

#[test]
fn a_channel_made_outside_a_runtime_works_within_one() {
    let server = Server::tonic();
    let channel = channel([&server]);
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        within(client(&channel).unary(Order::messages(1)))
            .await
            .unwrap();
    });
}

#[test]
fn a_target_that_is_none_is_refused_at_once() {
    let error = grpc::Channel::new(Registry::new(), "worker").unwrap_err();
    assert!(error.to_string().contains("worker"), "{error}");
}
