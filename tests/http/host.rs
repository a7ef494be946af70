//! Whom requests name.

use http_body_util::{Empty, Full};
use hyper::body::Incoming;
use hyper::header::HOST;
use hyper::{Request, Response};
use rolecall::http::{CallError, Host};
use rolecall::{BalanceLayer, Instance, List, http};
use tower::{Layer, ServiceExt};

use crate::support::{Server, body, connector, dial, dial_with, hello, request, within};

#[tokio::test]
async fn the_instance_is_told_whom_the_caller_means() {
    let server = Server::start(|request: Request<Incoming>| async move {
        let host = request
            .headers()
            .get(HOST)
            .map(|host| host.to_str().unwrap());
        Response::new(Full::from(format!("{} {host:?}", request.uri())))
    })
    .await;
    let addr = server.addr;
    let own = |uri: &str| {
        let request = Request::get(uri).header(HOST, "mine");
        request.body(Empty::new()).unwrap()
    };
    let client = dial(addr).await;
    for (request, seen) in [
        (request("/a?b"), format!("/a?b Some(\"{addr}\")")),
        (request("http://role/a?b"), "/a?b Some(\"role\")".into()),
        (
            request("http://me:pw@role:81"),
            "/ Some(\"role:81\")".into(),
        ),
        (own("/a"), "/a Some(\"mine\")".into()),
    ] {
        let response = client.clone().oneshot(request).await.unwrap();
        assert_eq!(body(response).await, *seen);
    }
    let client = dial_with(addr, true).await;
    for (request, seen) in [
        (request("/a?b"), format!("http://{addr}/a?b None")),
        (
            request("http://me:pw@role:81"),
            "http://role:81/ None".into(),
        ),
        (own("/a"), "http://mine/a None".into()),
    ] {
        let response = client.clone().oneshot(request).await.unwrap();
        assert_eq!(body(response).await, *seen);
    }
}

#[tokio::test]
async fn the_host_is_kept_or_rewritten() {
    let server = Server::start(|request: Request<Incoming>| async move {
        let host = request.headers().get(HOST).cloned();
        let host = host.map(|host| host.to_str().unwrap().to_owned());
        let authority = request
            .uri()
            .authority()
            .map(|authority| authority.to_string());
        Response::new(Full::from(host.or(authority).unwrap()))
    })
    .await;
    let instance = Instance::new("a", server.addr);
    for http2 in [false, true] {
        for (host, seen) in [
            (Host::Caller, "mine".to_owned()),
            (Host::Instance, server.addr.to_string()),
            (
                Host::Fixed("role.internal".parse().unwrap()),
                "role.internal".to_owned(),
            ),
        ] {
            let client = connector(http2).host(host).oneshot(instance.clone());
            let request = Request::get("http://other/").header(HOST, "mine");
            let request = request.body(Empty::new()).unwrap();
            let response = client.await.unwrap().oneshot(request).await.unwrap();
            assert_eq!(body(response).await, *seen);
        }
    }
}

#[tokio::test]
async fn https_without_tls_is_refused_and_charged_to_no_instance() {
    let server = Server::start(hello).await;
    for http2 in [false, true] {
        let list = List::from_addrs([server.addr]).unwrap();
        let layer = BalanceLayer::new(list, "worker:http").unwrap();
        let layer = layer.classify(http::HttpClassifier::new());
        let client = layer.layer(connector(http2));
        for _ in 0..10 {
            let call = client.clone().oneshot(request("https://role/"));
            let error = within(call).await.unwrap_err();
            assert!(!error.was_sent());
            let cause = CallError::find(&error).unwrap();
            assert!(cause.is_callers() && !cause.was_sent(), "{cause:?}");
            assert!(cause.to_string().contains("needs TLS"), "{cause}");
        }
        let member = client.control().status().members.remove(0);
        assert_eq!((member.in_flight, member.failures), (0, 0));
        let response = within(client.oneshot(request("/"))).await.unwrap();
        assert_eq!(body(response).await, "hello");
    }
    assert_eq!(server.accepted(), 2, "no connection was lost over it");
}
