//! One side speaks TLS, or HTTP/2, and the other does not.

use std::future::pending;
use std::time::Duration;

use rolecall::Instance;
use rolecall::http::{ConnectError, ConnectErrorKind, Tls};
use tokio::time::Instant;
use tower::ServiceExt;

use crate::support::{Authority, NAME, Server, connector, dial, get, serve, server_name, within};

#[tokio::test]
async fn a_plain_server_fails_the_dial() {
    let authority = Authority::new();
    let server = Server::raw(serve).await;
    for http2 in [false, true] {
        let tls = connector(http2).tls(authority.tls());
        let error = dial(tls, server.addr).await.unwrap_err();
        assert_eq!(error.kind(), ConnectErrorKind::Tls);
        let text = format!(
            "expected TLS as {NAME:?}, but {} does not speak it",
            server.addr
        );
        assert_eq!(error.to_string(), text);
    }
}

#[tokio::test]
async fn a_server_without_a_word_fails_the_dial_in_time() {
    let authority = Authority::new();
    let server = Server::raw(|stream| async move {
        let _open = stream;
        pending().await
    })
    .await;
    for http2 in [false, true] {
        let tls = connector(http2).tls(authority.tls());
        let limit = Duration::from_millis(50);
        let began = Instant::now();
        let error = dial(tls.connect_timeout(limit), server.addr).await;
        assert!(error.unwrap_err().is_timeout());
        assert!(began.elapsed() >= limit);
    }
}

#[tokio::test]
async fn a_plain_caller_of_an_encrypted_server_is_told() {
    let authority = Authority::new();
    let server = Server::http(authority.server(NAME)).await;
    let error = dial(connector(true), server.addr).await.unwrap_err();
    assert_eq!(error.kind(), ConnectErrorKind::Protocol);
    let text = format!("expected plain HTTP, but {} speaks TLS", server.addr);
    assert_eq!(error.to_string(), text);
    // HTTP/1.1 servers do not speak first.
    let client = dial(connector(false), server.addr).await.unwrap();
    get(&client).await.unwrap_err();
}

#[tokio::test]
async fn http2_has_to_be_agreed_on() {
    let authority = Authority::new();
    let mut silent = authority.server(NAME);
    silent.alpn_protocols = Vec::new();
    let silent = Server::http(silent).await;
    let error = dial(connector(true).tls(authority.tls()), silent.addr).await;
    let error = error.unwrap_err();
    assert!(error.to_string().contains("HTTP/2"), "{error}");
    let client = dial(connector(false).tls(authority.tls()), silent.addr).await;
    get(&client.unwrap()).await.unwrap();

    let mut old = authority.server(NAME);
    old.alpn_protocols = vec!["http/1.1".into()];
    let old = Server::http(old).await;
    let error = dial(connector(true).tls(authority.tls()), old.addr).await;
    let error = error.unwrap_err();
    assert_eq!(error.kind(), ConnectErrorKind::Protocol);
    assert!(error.to_string().contains("did not agree"), "{error}");
}

#[tokio::test]
async fn a_dial_says_what_is_wrong_with_a_certificate() {
    let authority = Authority::new();
    let named = Tls::from(authority.client()).server_name(server_name("other.test"));
    for (config, tls, label, cause) in [
        (
            authority.expired_server(NAME),
            authority.tls(),
            "certificate expired",
            "not valid after",
        ),
        (
            authority.server(NAME),
            named,
            "certificate for another name",
            "not valid for name",
        ),
        (
            Authority::new().server(NAME),
            authority.tls(),
            "certificate of an unknown issuer",
            "UnknownIssuer",
        ),
    ] {
        let server = Server::http(config).await;
        for http2 in [false, true] {
            let connector = connector(http2).tls(tls.clone());
            let error = within(connector.oneshot(Instance::new("a", server.addr))).await;
            let error = error.unwrap_err();
            assert_eq!(error.label(), label);
            assert!(error.to_string().contains(cause), "{error}");
            let connect: &ConnectError = error.source().downcast_ref().unwrap();
            assert_eq!(connect.kind(), ConnectErrorKind::Tls);
        }
    }
}
