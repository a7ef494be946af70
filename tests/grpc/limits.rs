//! The caller's time limit.

use std::time::Duration;

use hyper::{Request, Response, body::Incoming};
use rolecall::{BalanceConfig, Error, ErrorKind, OutlierConfig};
use tonic::{Code, Request as Call, Status};

use crate::server::{Order, Server};
use crate::support::{
    builder, builder_to, channel, charges, client, free_addr, names, tally, until, within,
};

fn limited(order: Order, limit: Duration) -> Call<Order> {
    let mut call = Call::new(order);
    call.set_timeout(limit);
    call
}

/// Longer than a wait for nothing must be to count.
const LIMIT: Duration = Duration::from_millis(80);

fn check(status: &Status) {
    assert_eq!(status.code(), Code::DeadlineExceeded);
    let error = Error::find(status).unwrap();
    assert!(matches!(error.kind(), ErrorKind::Deadline));
    assert!(status.message().contains("80ms"), "{status}");
}

#[tokio::test]
async fn a_time_limit_that_passes_cancels_the_call_and_names_the_instance() {
    let server = Server::http(|_: Request<Incoming>| std::future::pending::<Response<String>>());
    // The caller waited for nothing.
    charges(1, async || {
        let channel = channel([&server]);
        let usable = channel.control().wait_usable(Duration::from_secs(15));
        usable.await.unwrap();
        let call = limited(Order::default(), LIMIT);
        let status = within(client(&channel).unary(call)).await.unwrap_err();
        check(&status);
        names(&status, "a");
        assert!(Error::find(&status).unwrap().was_sent());
        channel
    })
    .await;
}

#[tokio::test]
async fn an_attempt_without_a_head_is_timed_out_and_charged_however_short_the_limit() {
    const SHORT: Duration = Duration::from_millis(20);
    let server = Server::http(|_: Request<Incoming>| std::future::pending::<Response<String>>());
    charges(1, async || {
        let channel = builder([&server]).attempt_timeout(SHORT).build();
        let usable = channel.control().wait_usable(Duration::from_secs(15));
        usable.await.unwrap();
        let call = Call::new(Order::default());
        let status = within(client(&channel).unary(call)).await.unwrap_err();
        assert_eq!(status.code(), Code::DeadlineExceeded);
        assert!(status.message().contains("20ms"), "{status}");
        names(&status, "a");
        let error = Error::find(&status).unwrap();
        assert!(matches!(error.kind(), ErrorKind::Deadline) && error.was_sent());
        channel
    })
    .await;
}

#[tokio::test]
async fn an_attempts_limit_ends_with_the_head() {
    let server = Server::tonic();
    let channel = builder([&server])
        .attempt_timeout(Duration::from_secs(2))
        .build();
    let call = Call::new(Order::messages(2).gated());
    let answer = within(client(&channel).server_stream(call)).await.unwrap();
    let mut stream = answer.into_inner();
    tokio::time::sleep(Duration::from_millis(2100)).await;
    server.gate.add_permits(2);
    for _ in 0..2 {
        within(stream.message()).await.unwrap().unwrap();
    }
}

#[tokio::test]
async fn the_callers_shorter_limit_ends_an_attempt_first() {
    let server = Server::http(|_: Request<Incoming>| std::future::pending::<Response<String>>());
    let channel = builder([&server]).attempt_timeout(10 * LIMIT).build();
    let call = limited(Order::default(), LIMIT);
    let status = within(client(&channel).unary(call)).await.unwrap_err();
    check(&status);
}

#[tokio::test]
async fn a_time_limit_holds_while_nobody_is_there() {
    let channel = builder_to([free_addr()])
        .config(BalanceConfig::default())
        .build();
    let call = limited(Order::default(), LIMIT);
    let status = within(client(&channel).unary(call)).await.unwrap_err();
    check(&status);
    let error = Error::find(&status).unwrap();
    assert!(error.instance().is_none());
    assert!(!error.was_sent());
    let message = status.message();
    assert!(message.contains("1 known: 1 refused (111)"), "{message}");
    let debug = format!("{error:#?}");
    assert!(
        !debug.contains('\n') && debug.contains("1 known"),
        "{debug}"
    );
}

#[tokio::test]
async fn a_time_limit_holds_to_the_end_of_a_stream() {
    let server = Server::tonic();
    let channel = channel([&server]);
    let call = limited(Order::messages(2).gated(), Duration::from_secs(1));
    let answer = within(client(&channel).server_stream(call)).await.unwrap();
    let mut stream = answer.into_inner();
    server.gate.add_permits(1);
    within(stream.message()).await.unwrap().unwrap();
    let status = within(stream.message()).await.unwrap_err();
    assert_eq!(status.code(), Code::DeadlineExceeded);
    names(&status, "a");
    assert_eq!(tally(&channel), (0, 0));
}

#[tokio::test]
async fn an_instance_that_keeps_the_callers_limit_is_not_charged_for_it() {
    let server = Server::http(|request: Request<Incoming>| async move {
        let limit = request.headers()["grpc-timeout"].to_str().unwrap();
        let nanos: u64 = limit.strip_suffix('n').unwrap().parse().unwrap();
        tokio::time::sleep(Duration::from_nanos(nanos)).await;
        let response = Response::builder().header("grpc-status", "4");
        response.body(String::new()).unwrap()
    });
    // Each wait is shorter than one that counts, however late this test is woken.
    let outlier = OutlierConfig::builder().unanswered_after(Duration::from_secs(60));
    let config = BalanceConfig::builder().outlier(outlier.build().unwrap());
    let builder = builder([&server]).config(config.build().unwrap());
    let channel = builder.build();
    within(channel.control().wait_usable(Duration::from_secs(15)))
        .await
        .unwrap();
    for _ in 0..50 {
        let call = limited(Order::default(), Duration::from_millis(5));
        let status = within(client(&channel).unary(call)).await.unwrap_err();
        assert_eq!(status.code(), Code::DeadlineExceeded, "{status}");
    }
    until(|| tally(&channel).0 == 0).await;
    assert_eq!(tally(&channel), (0, 0));
}

#[tokio::test]
async fn a_time_limit_that_is_badly_written_is_none() {
    let server = Server::tonic();
    let channel = channel([&server]);
    let mut call = Call::new(Order::messages(1));
    let metadata = call.metadata_mut();
    metadata.insert("grpc-timeout", "soon".parse().unwrap());
    within(client(&channel).unary(call)).await.unwrap();
}
