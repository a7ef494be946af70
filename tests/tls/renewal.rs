//! Connections that get old while certificates change.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use rolecall::http::Tls;
use rustls::ClientConfig;

use crate::support::{
    Authority, NAME, Server, body, connector, dial, get, serve, server_name, told, within,
};

const AGE: Duration = Duration::from_millis(100);

/// TLS of the configuration that is in there at each dial.
fn reloaded(current: &Arc<Mutex<Arc<ClientConfig>>>) -> Tls {
    let current = current.clone();
    let tls = Tls::from_fn(move || current.lock().unwrap().clone());
    tls.server_name(server_name(NAME))
}

#[tokio::test]
async fn a_renewed_connection_shows_the_new_certificate_and_no_request_fails() {
    for http2 in [false, true] {
        let authority = Authority::new();
        let shown = Arc::new(Mutex::new(Vec::new()));
        let seen = shown.clone();
        let server = Server::start(authority.asking_server(NAME), move |stream| {
            let certificates = stream.get_ref().1.peer_certificates().unwrap();
            seen.lock().unwrap().push(certificates[0].clone());
            serve(stream)
        })
        .await;
        let current = Arc::new(Mutex::new(authority.known_client()));
        let connector = connector(http2).tls(reloaded(&current));
        let client = dial(connector.max_connection_age(AGE), server.addr).await;
        let client = client.unwrap();
        body(get(&client).await.unwrap()).await;
        let old = shown.lock().unwrap()[0].clone();

        *current.lock().unwrap() = authority.known_client();
        within(async {
            while shown.lock().unwrap().iter().all(|shown| *shown == old) {
                body(get(&client).await.unwrap()).await;
            }
        })
        .await;
        body(get(&client).await.unwrap()).await;
    }
}

#[tokio::test]
async fn an_instance_that_is_trusted_no_more_loses_its_old_connection() {
    for http2 in [false, true] {
        let authority = Authority::new();
        let server = Server::http(authority.server(NAME)).await;
        let current = Arc::new(Mutex::new(authority.client()));
        let connector = connector(http2).tls(reloaded(&current));
        let client = dial(connector.max_connection_age(AGE), server.addr).await;
        let client = client.unwrap();
        body(get(&client).await.unwrap()).await;

        *current.lock().unwrap() = Authority::new().client();
        let error = within(async {
            loop {
                match get(&client).await {
                    Ok(response) => drop(body(response).await),
                    Err(error) => break error,
                }
            }
        })
        .await;
        assert!(!error.was_sent());
        let told = told(&error);
        assert!(told.contains("invalid peer certificate"), "{told}");
    }
}
