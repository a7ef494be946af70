//! Which protocol is spoken, where the connector leaves that to the server.

use http_body_util::Empty;
use hyper::Version;
use rolecall::List;
use rolecall::http::{Client, Connector, Tls};

use crate::support::{Authority, NAME, Server, body, dial, get, request, server_name, within};

#[tokio::test]
async fn the_server_chooses_the_protocol_and_is_dialled_once_for_it() {
    let authority = Authority::new();
    for (offered, spoken) in [
        (&["h2", "http/1.1"][..], Version::HTTP_2),
        (&["http/1.1"], Version::HTTP_11),
        (&["h2"], Version::HTTP_2),
        // A server that knows nothing of ALPN speaks HTTP/1.1.
        (&[], Version::HTTP_11),
    ] {
        let mut config = authority.server(NAME);
        config.alpn_protocols = offered.iter().map(|&name| name.into()).collect();
        let server = Server::http(config).await;
        let connector = Connector::new().tls(authority.tls());
        let client = dial(connector, server.addr).await.unwrap();
        for _ in 0..3 {
            let response = get(&client).await.unwrap();
            assert_eq!(response.version(), spoken);
            body(response).await;
        }
        assert_eq!(server.accepted(), 1, "{offered:?}");

        // The next connection speaks the same. The next one of HTTP/2 is the balancer's to dial.
        if spoken == Version::HTTP_2 {
            continue;
        }
        server.close_connections();
        let response = within(async {
            loop {
                if let Ok(response) = get(&client).await {
                    break response;
                }
            }
        });
        assert_eq!(response.await.version(), spoken);
    }
}

#[tokio::test]
async fn a_client_over_tls_expects_the_role_of_its_target() {
    let authority = Authority::new();
    let worker = Server::http(authority.server("worker")).await;
    let list = || List::from_addrs([worker.addr]).unwrap();
    for (builder, spoken) in [
        (Client::builder(list(), "worker:http"), Version::HTTP_2),
        (
            Client::builder(list(), "worker:http").http1(),
            Version::HTTP_11,
        ),
    ] {
        let client = builder.tls(authority.client()).build().unwrap();
        let response = within(client.request(request())).await.unwrap();
        assert_eq!(response.version(), spoken);
        body(response).await;
    }

    // Unless the program names another one.
    let other = Server::http(authority.server("other.test")).await;
    let list = List::from_addrs([other.addr]).unwrap();
    let tls = Tls::from(authority.client()).server_name(server_name("other.test"));
    let client = Client::<Empty<bytes::Bytes>>::builder(list, "worker:http").tls(tls);
    let client = client.build().unwrap();
    within(client.request(request())).await.unwrap();
}
