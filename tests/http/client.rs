//! Connections under a balancer.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use http_body_util::{BodyExt, Full};
use hyper::{Response, StatusCode};
use rolecall::http;
use tokio::io::AsyncWriteExt;
use tower::ServiceExt;

use crate::support::{
    Raw, Server, balanced, body, hello, member, read_head, request, spawn_calls_until_after, until,
    within,
};

#[tokio::test]
async fn a_client_spreads_requests_and_says_who_answered() {
    let servers = [Server::start(hello).await, Server::start(hello).await];
    let client = balanced(servers.iter().map(|server| server.addr));
    client
        .control()
        .wait_usable(Duration::from_secs(10))
        .await
        .unwrap();
    until(|| client.control().status().usable == 2).await;
    let mut unread = Vec::new();
    for _ in 0..20 {
        unread.push(within(client.clone().oneshot(request("/"))).await.unwrap());
    }
    let answered_by = unread
        .iter()
        .map(|response| http::answered_by(response).unwrap());
    assert_eq!(
        answered_by.collect::<HashSet<_>>().len(),
        2,
        "unread bodies are load"
    );
    for response in unread {
        assert_eq!(body(response).await, "hello");
    }
    let status = client.control().status();
    assert!(status.members.iter().all(|member| member.failures == 0));
    assert!(status.members.iter().all(|member| member.in_flight == 0));
}

#[tokio::test]
async fn the_load_is_held_until_the_body_ends() {
    let server = Server::start(hello).await;
    let client = balanced([server.addr]);
    let response = within(client.clone().oneshot(request("/"))).await.unwrap();
    assert_eq!(member(&client).in_flight, 1);
    assert_eq!(body(response).await, "hello");
    assert_eq!(member(&client).in_flight, 0);

    let response = within(client.clone().oneshot(request("/"))).await.unwrap();
    drop(response);
    let member = member(&client);
    assert_eq!((member.in_flight, member.failures), (0, 0), "cancelled");
}

#[tokio::test]
async fn a_server_error_is_a_failure_though_nobody_reads_it() {
    let server = Server::start(|_| async {
        let mut response = Response::new(Full::from("oh"));
        *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
        response
    })
    .await;
    let client = balanced([server.addr]);
    drop(within(client.clone().oneshot(request("/"))).await.unwrap());
    let member = member(&client);
    assert_eq!((member.in_flight, member.failures), (0, 1));
}

#[tokio::test]
async fn a_body_that_breaks_is_a_failure() {
    let server = Raw::start(|mut stream| async move {
        read_head(&mut stream).await;
        stream
            .write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhello")
            .await
    })
    .await;
    let client = balanced([server.addr]);
    let response = within(client.clone().oneshot(request("/"))).await.unwrap();
    response.into_body().collect().await.map(drop).unwrap_err();
    let member = member(&client);
    assert_eq!((member.in_flight, member.failures), (0, 1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_instance_fails_no_later_request() {
    for _ in 0..10 {
        let mut servers = Vec::new();
        for _ in 0..3 {
            servers.push(Server::start(hello).await);
        }
        let client = balanced(servers.iter().map(|server| server.addr));
        client
            .control()
            .wait_usable(Duration::from_secs(10))
            .await
            .unwrap();
        until(|| client.control().status().usable == 3).await;
        let killed = Arc::new(AtomicBool::new(false));
        let calls: Vec<_> = (0..8)
            .map(|_| spawn_calls_until_after(killed.clone(), client.clone()))
            .collect();
        until(|| {
            client
                .control()
                .status()
                .members
                .iter()
                .all(|member| member.picks > 10)
        })
        .await;
        servers.swap_remove(0).kill().await;
        // A connection that was heard of a moment before the kill is not looked up in the kernel. Until the event loop has
        // told of its end, a request on it counts as one that the instance had.
        tokio::time::sleep(Duration::from_millis(10)).await;
        killed.store(true, Ordering::SeqCst);
        for call in calls {
            within(call).await.unwrap();
        }
    }
}

#[tokio::test]
async fn a_killed_instance_is_known_to_be_lost_though_others_take_its_requests() {
    let servers = [Server::start(hello).await, Server::start(hello).await];
    let client = balanced(servers.iter().map(|server| server.addr));
    until(|| client.control().status().usable == 2).await;
    let [killed, _other] = servers;
    let id = killed.addr.to_string();
    killed.kill().await;
    let call = async || {
        let response = client.clone().oneshot(request("/")).await.unwrap();
        response.into_body().collect().await.unwrap();
    };
    let picks = || {
        let members = client.control().status().members;
        let member = members.iter().find(|m| *m.instance.id() == *id).unwrap();
        member.picks
    };
    within(async {
        while client.control().status().usable == 2 {
            call().await;
        }
    })
    .await;
    let before = picks();
    assert!(before <= 10, "it took {before} picks to learn of it");
    for _ in 0..100 {
        call().await;
    }
    assert_eq!(picks(), before, "no picks until it is connected again");
}

#[tokio::test]
async fn the_last_clone_of_a_client_closes_all_sockets() {
    let server = Server::start(hello).await;
    let client = balanced([server.addr]);
    body(within(client.clone().oneshot(request("/"))).await.unwrap()).await;
    drop(client);
    until(|| server.open() == 0).await;
}
