//! Requests that a cookie, an extension or a retry keeps with one instance.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::time::Duration;

use http_body_util::Full;
use hyper::header::{COOKIE, HeaderMap};
use hyper::{Response, StatusCode};
use rolecall::http::{Client, HttpClassifier, PinTo, answered_by};
use rolecall::retry::Retry;
use rolecall::{ErrorKind, Instance, InstanceId, List, PinFault};
use tower::{Layer, ServiceExt, retry::RetryLayer};

use crate::support::{Server, hello, request, until, within};

fn instance(headers: &HeaderMap) -> Option<InstanceId> {
    let cookies = headers.get_all(COOKIE).iter();
    let cookies = cookies.filter_map(|value| value.to_str().ok());
    let mut cookies = cookies.flat_map(|value| value.split("; "));
    let id = cookies.find_map(|cookie| cookie.strip_prefix("instance="));
    id.map(InstanceId::from)
}

async fn client(servers: &[Server]) -> Client<http_body_util::Empty<bytes::Bytes>> {
    let instances = servers.iter().zip('a'..);
    let instances = instances.map(|(server, id)| Instance::new(id.to_string(), server.addr));
    let client = Client::builder(List::new(instances).unwrap(), "worker:http")
        .classify(HttpClassifier::new().pin_by(instance))
        .build()
        .unwrap();
    until(|| client.control().status().usable == servers.len()).await;
    client
}

#[tokio::test]
async fn a_cookie_or_an_extension_keeps_a_session_with_its_instance() {
    let servers = [
        Server::start(hello).await,
        Server::start(hello).await,
        Server::start(hello).await,
    ];
    let client = client(&servers).await;
    let first = within(client.request(request("/"))).await.unwrap();
    let id = answered_by(&first).unwrap().clone();
    for number in 0..20 {
        let mut next = request("/");
        if number % 2 == 0 {
            let cookie = format!("theme=dark; instance={id}");
            next.headers_mut().insert(COOKIE, cookie.parse().unwrap());
        } else {
            next.extensions_mut().insert(PinTo(id.clone()));
            next.headers_mut()
                .insert(COOKIE, "instance=x".parse().unwrap());
        }
        let answer = within(client.request(next)).await.unwrap();
        assert_eq!(answered_by(&answer), Some(&id));
    }
    let mut stranger = request("/");
    stranger
        .headers_mut()
        .insert(COOKIE, "instance=x".parse().unwrap());
    let error = within(client.request(stranger)).await.unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::Pinned(PinFault::Unknown)));
}

#[tokio::test]
async fn a_retry_of_a_pinned_request_stays_pinned() {
    let asked = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&asked);
    let flaky = Server::start(move |_| {
        let number = count.fetch_add(1, SeqCst);
        async move {
            let mut answer = Response::new(Full::from("hello"));
            if number < 2 {
                *answer.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
            }
            answer
        }
    })
    .await;
    let servers = [flaky, Server::start(hello).await];
    let client = client(&servers).await;
    let policy = Retry::new()
        .idempotent_methods()
        .backoff(Duration::ZERO, Duration::ZERO);
    let client = RetryLayer::new(policy).layer(client);
    let mut pinned = request("/");
    pinned.extensions_mut().insert(PinTo("a".into()));
    let answer = within(client.oneshot(pinned)).await.unwrap();
    assert_eq!(answer.status(), StatusCode::OK);
    assert_eq!(answered_by(&answer).unwrap(), "a");
    assert_eq!(asked.load(SeqCst), 3);
}
