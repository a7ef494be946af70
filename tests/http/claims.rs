//! Who gets which connection, when some wait and some give up.

use std::io;

use tower::ServiceExt;

use crate::support::{
    Server, body, dial, get, hello, io_kind, io_turn, poll_ready_once, until, within,
};

#[tokio::test]
async fn a_clone_dropped_with_an_unused_connection_gives_it_back() {
    let server = Server::start(hello).await;
    let client = dial(server.addr).await;
    for _ in 0..3 {
        let mut clone = client.clone();
        clone.ready().await.unwrap();
        drop(clone);
    }
    body(get(&client, "/").await).await;
    assert_eq!(server.accepted(), 1);
}

#[tokio::test]
async fn a_dial_whose_claim_was_dropped_serves_the_next_one() {
    let server = Server::start(hello).await;
    let client = dial(server.addr).await;
    let mut holder = client.clone();
    holder.ready().await.unwrap();
    let mut waiting = client.clone();
    assert!(futures::poll!(std::pin::pin!(waiting.ready())).is_pending());
    drop(waiting);
    until(|| server.accepted() == 2).await;
    let mut next = client.clone();
    next.ready().await.unwrap();
    assert_eq!(server.accepted(), 2);
}

#[tokio::test]
async fn claims_that_come_and_go_share_a_dial_under_way() {
    let server = Server::start(hello).await;
    let client = dial(server.addr).await;
    body(get(&client, "/").await).await;
    server.close_connections().await;
    io_turn().await;
    for _ in 0..10 {
        assert!(poll_ready_once(&mut client.clone()).await.is_none());
    }
    until(|| server.accepted() > 1).await;
    body(get(&client, "/").await).await;
    io_turn().await;
    assert_eq!(server.accepted(), 2);
}

#[tokio::test]
async fn claims_that_wait_together_have_a_dial_each_also_after_others_gave_up() {
    let server = Server::start(hello).await;
    let client = dial(server.addr).await;
    let mut holder = client.clone();
    holder.ready().await.unwrap();
    for _ in 0..10 {
        assert!(poll_ready_once(&mut client.clone()).await.is_none());
    }
    let mut waiting = [(); 3].map(|()| client.clone());
    for client in &mut waiting {
        assert!(poll_ready_once(client).await.is_none());
    }
    for client in &mut waiting {
        within(client.ready()).await.unwrap();
    }
    assert_eq!(server.accepted(), 4);
}

#[tokio::test]
async fn a_failed_dial_whose_claim_was_dropped_is_told_to_the_next_one() {
    let server = Server::start(hello).await;
    let client = dial(server.addr).await;
    body(get(&client, "/").await).await;
    server.kill().await;
    io_turn().await;
    assert!(poll_ready_once(&mut client.clone()).await.is_none());
    io_turn().await;
    let told = poll_ready_once(&mut client.clone()).await;
    let error = told.expect("told at once").unwrap_err();
    assert_eq!(io_kind(&error), io::ErrorKind::ConnectionRefused);
    let again = poll_ready_once(&mut client.clone()).await;
    assert!(again.is_none(), "and only once");
}

#[tokio::test]
async fn a_freed_connection_goes_to_who_waits_longest() {
    let server = Server::start(hello).await;
    let client = dial(server.addr).await;
    let mut holder = client.clone();
    holder.ready().await.unwrap();
    let mut waiting = client.clone();
    assert!(poll_ready_once(&mut waiting).await.is_none());
    drop(holder);
    let ready = poll_ready_once(&mut waiting).await;
    ready
        .expect("served by the freed one, before its own dial")
        .unwrap();
}
