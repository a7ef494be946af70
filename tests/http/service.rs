//! The client as most programs use it.

use std::time::Duration;

use http_body_util::{BodyExt, Empty, Full};
use hyper::body::Incoming;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use rolecall::http::{Answered, Body, Client, HttpClassifier, answered_by};
use rolecall::{BalanceConfig, List, Outcome, Registry};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tower::{Service, ServiceExt};

use crate::support::{Raw, Server, body, hello, read_head, refusing, until, within};

fn list(addr: std::net::SocketAddr) -> List {
    List::from_addrs([addr]).unwrap()
}

async fn echo(request: Request<Incoming>) -> Response<Full<bytes::Bytes>> {
    let version = format!("{:?} ", request.version()).into_bytes();
    let body = request.into_body().collect().await.unwrap().to_bytes();
    Response::new(Full::from([&version[..], &body[..]].concat()))
}

#[tokio::test]
async fn a_client_takes_any_body_over_either_protocol() {
    let server = Server::start(echo).await;
    let http1 = Client::new(list(server.addr), "worker:http").unwrap();
    let http2 = Client::builder(list(server.addr), "worker:http").http2();
    for (client, version) in [(http1, "HTTP/1.1"), (http2.build().unwrap(), "HTTP/2.0")] {
        for (sent, text) in [
            (Body::empty(), ""),
            (Body::from("text"), "text"),
            (Body::from(String::from("string")), "string"),
            (Body::from(vec![b'v']), "v"),
            (Body::from(&b"slice"[..]), "slice"),
            (Body::new(Full::<bytes::Bytes>::from("full")), "full"),
        ] {
            let request = Request::post("/").body(sent).unwrap();
            let response = within(client.request(request)).await.unwrap();
            assert_eq!(body(response).await, format!("{version} {text}"));
        }
    }
}

#[tokio::test]
async fn a_client_is_a_service_by_value_and_by_reference_in_any_task() {
    let server = Server::start(hello).await;
    let mut client = Client::<Empty<bytes::Bytes>>::new(list(server.addr), "worker:http").unwrap();
    let request = || Request::new(Empty::new());
    let response = within(client.call(request())).await.unwrap();
    assert_eq!(body(response).await, "hello");
    let response = within((&client).oneshot(request())).await.unwrap();
    assert_eq!(body(response).await, "hello");
    let task = tokio::spawn(client.request(request()));
    assert_eq!(body(within(task).await.unwrap().unwrap()).await, "hello");
    let shared = client.clone();
    let task = tokio::spawn(async move { shared.request(request()).await });
    assert_eq!(body(within(task).await.unwrap().unwrap()).await, "hello");
}

#[tokio::test]
async fn a_response_names_the_instance_its_attempts_and_its_wait() {
    let server = Server::start(hello).await;
    let client = Client::new(list(server.addr), "worker:http").unwrap();
    let request = || Request::new(Body::empty());
    let first = within(client.request(request())).await.unwrap();
    let answered: &Answered = first.extensions().get().unwrap();
    assert_eq!(answered.instance, *server.addr.to_string());
    assert_eq!(answered.attempts, 1);
    assert!(answered.waited > Duration::ZERO, "it waited for the dial");
    assert_eq!(answered_by(&first), Some(&answered.instance));
    body(first).await;
    let second = within(client.request(request())).await.unwrap();
    let answered: &Answered = second.extensions().get().unwrap();
    assert_eq!((answered.attempts, answered.waited), (1, Duration::ZERO));
}

#[tokio::test]
async fn a_target_that_is_none_is_reported_when_the_client_is_built() {
    Client::<Body>::new(Registry::new(), "worker:8080").unwrap_err();
    let builder = Client::<Body>::builder(Registry::new(), "Not a target");
    builder.http2().build().unwrap_err();
}

#[tokio::test]
async fn one_connect_timeout_rules_all_dials_of_a_client() {
    // HTTP/2 is spoken when the settings are there, and this server never sends any.
    let silent = Raw::start(|mut stream| async move {
        read_head(&mut stream).await;
        std::future::pending().await
    })
    .await;
    let config = BalanceConfig::builder()
        .connect_timeout(Duration::from_secs(5))
        .unavailable_after(Duration::from_secs(20));
    let builder = Client::<Body>::builder(list(silent.addr), "worker:http").http2();
    let client = builder.config(config.build().unwrap()).build().unwrap();
    // The connector's own default is 2 s.
    until(|| silent.accepted() == 1).await;
    tokio::time::sleep(Duration::from_millis(2500)).await;
    assert_eq!(silent.accepted(), 1, "the first dial is still under way");
    drop(client);
}

#[tokio::test]
async fn a_classifier_of_the_program_judges() {
    let server = Server::start(hello).await;
    let client = Client::builder(list(server.addr), "worker:http")
        .classify(HttpClassifier::by(|_| Outcome::Failure))
        .build()
        .unwrap();
    let response = within(client.request(Request::new(Body::empty()))).await;
    body(response.unwrap()).await;
    assert_eq!(client.control().status().members[0].failures, 1);
}

#[tokio::test]
async fn an_attempt_timeout_ends_what_hangs() {
    let silent = Raw::start(|mut stream| async move {
        read_head(&mut stream).await;
        std::future::pending().await
    })
    .await;
    let client = Client::builder(list(silent.addr), "worker:http")
        .attempt_timeout(Duration::from_millis(50))
        .build()
        .unwrap();
    let call = client.request(Request::new(Body::empty()));
    let error = within(call).await.unwrap_err();
    assert!(
        matches!(error.kind(), rolecall::ErrorKind::Deadline),
        "{error}"
    );
}

#[tokio::test]
async fn errors_name_the_cause() {
    let (_refusing, addr) = refusing();
    let config = BalanceConfig::builder().unavailable_after(Duration::from_millis(100));
    let client = Client::builder(list(addr), "worker:http")
        .config(config.build().unwrap())
        .build()
        .unwrap();
    // While it is dialled once more it is "connecting".
    within(async {
        loop {
            let error = client.request(Request::new(Body::empty())).await;
            let error = error.unwrap_err().to_string();
            if error.contains("1 refused (111)") {
                break;
            }
            assert!(error.contains("1 connecting"), "{error}");
        }
    })
    .await;
}

#[tokio::test]
async fn an_upgraded_connection_is_the_callers() {
    let server = Raw::start(|mut stream| async move {
        read_head(&mut stream).await;
        let head =
            b"HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: echo\r\n\r\n";
        stream.write_all(head).await?;
        let (mut reader, mut writer) = stream.split();
        tokio::io::copy(&mut reader, &mut writer).await.map(drop)
    })
    .await;
    let client = Client::builder(list(server.addr), "worker:http").http1();
    let client = client.build().unwrap();
    let request = Request::get("/").header("connection", "upgrade");
    let request = request.header("upgrade", "echo").body(Body::empty());
    let response = within(client.request(request.unwrap())).await.unwrap();
    assert_eq!(response.status(), 101);
    let upgraded = within(hyper::upgrade::on(response)).await.unwrap();
    let mut stream = TokioIo::new(upgraded);
    stream.write_all(b"hello").await.unwrap();
    let mut echoed = [0; 5];
    within(stream.read_exact(&mut echoed)).await.unwrap();
    assert_eq!(&echoed, b"hello");
}
