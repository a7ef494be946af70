//! One side speaks TLS, or HTTP/2, and the other does not.

use std::future::pending;
use std::time::Duration;

use tokio::time::Instant;

use crate::support::{Authority, NAME, Server, connector, dial, get, serve, told};

#[tokio::test]
async fn a_plain_server_fails_the_dial() {
    let authority = Authority::new();
    let server = Server::raw(serve).await;
    for http2 in [false, true] {
        let tls = connector(http2).tls(authority.tls());
        let error = dial(tls, server.addr).await.unwrap_err();
        let text = error.to_string();
        assert!(text.contains(NAME) && !error.is_timeout(), "{text}");
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
    assert!(!error.is_timeout(), "{}", told(&error));
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
    let told = told(&error.unwrap_err());
    assert!(told.contains("NoApplicationProtocol"), "{told}");
}
