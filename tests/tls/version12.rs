//! Servers that speak TLS 1.2, and no later one.

use rolecall::http::Tls;
use rustls::ProtocolVersion;
use tokio::sync::mpsc::unbounded_channel;

use crate::support::{
    Authority, NAME, Server, body, connector, dial, get, serve, server_name, told,
};

#[tokio::test]
async fn requests_are_served_over_one_connection() {
    let authority = Authority::new();
    for (http2, scheme) in [(false, "no scheme"), (true, "https")] {
        let (speaks, mut spoken) = unbounded_channel();
        let server = Server::start(authority.old_server(NAME), move |stream| {
            let version = stream.get_ref().1.protocol_version();
            speaks.send(version.unwrap()).unwrap();
            serve(stream)
        })
        .await;
        let connector = connector(http2).tls(authority.tls());
        let client = dial(connector, server.addr).await.unwrap();
        for _ in 0..20 {
            assert_eq!(body(get(&client).await.unwrap()).await, scheme);
        }
        assert_eq!(server.accepted(), 1);
        assert_eq!(spoken.recv().await, Some(ProtocolVersion::TLSv1_2));
    }
}

/// Other than with TLS 1.3, the handshake tells.
#[tokio::test]
async fn a_caller_without_the_certificate_it_is_asked_for_finds_out_by_its_dial() {
    let authority = Authority::new();
    let server = Server::http(authority.old_asking_server(NAME)).await;
    let known = Tls::from(authority.known_client()).server_name(server_name(NAME));
    for http2 in [false, true] {
        let client = dial(connector(http2).tls(known.clone()), server.addr).await;
        get(&client.unwrap()).await.unwrap();
        let error = dial(connector(http2).tls(authority.tls()), server.addr).await;
        let told = told(&error.unwrap_err());
        assert!(told.contains("received fatal alert"), "{told}");
    }
}
