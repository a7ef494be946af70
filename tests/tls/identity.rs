//! Who an instance is, who a caller is, and certificates that change.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use hyper_util::service::TowerToHyperService;
use rolecall::grpc::Channel;
use rolecall::http::{HttpClassifier, Tls};
use rolecall::{BalanceConfig, BalanceLayer, Instance, List, MemberState, Role};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;
use tower::{Layer, ServiceExt};

use crate::support::{
    Authority, NAME, Server, body, connector, dial, get, request, server_name, told, until, within,
};

fn named(server: &Server, name: &str) -> Instance {
    Instance::new("a", server.addr).with_metadata("tls-server-name", name)
}

#[tokio::test]
async fn the_name_is_the_set_one_else_a_trusted_one_of_the_metadata_else_the_address() {
    let authority = Authority::new();
    let server = Server::http(authority.server(NAME)).await;
    let at_address = Server::http(authority.server("127.0.0.1")).await;
    for http2 in [false, true] {
        let by_setting = connector(http2).tls(authority.tls());
        get(&dial(by_setting, server.addr).await.unwrap())
            .await
            .unwrap();
        let by_metadata = Tls::from(authority.client()).trust_announced_names();
        let by_metadata = connector(http2).tls(by_metadata);
        let client = within(by_metadata.oneshot(named(&server, NAME))).await;
        get(&client.unwrap()).await.unwrap();
        let by_address = connector(http2).tls(authority.client());
        get(&dial(by_address, at_address.addr).await.unwrap())
            .await
            .unwrap();
    }
}

/// Whoever announces itself as a worker, and has a certificate for something else.
#[tokio::test]
async fn an_instance_does_not_choose_the_name_that_it_has_to_prove() {
    let authority = Authority::new();
    let cart = Server::http(authority.server("cart")).await;
    let worker = Role::new("worker").unwrap();
    let roots = || Tls::from(authority.client());
    for http2 in [false, true] {
        for tls in [
            roots().role(&worker),
            roots(),
            roots().server_name(server_name("worker")),
            roots()
                .server_name(server_name("worker"))
                .trust_announced_names(),
        ] {
            let dial = connector(http2).tls(tls).oneshot(named(&cart, "cart"));
            let error = within(dial).await.unwrap_err();
            assert_eq!(error.label(), "certificate for another name", "{error}");
        }
        let trusting = roots().role(&worker).trust_announced_names();
        let dial = connector(http2).tls(trusting).oneshot(named(&cart, "cart"));
        get(&within(dial).await.unwrap()).await.unwrap();
    }
}

/// A server with a certificate for this name, and a health service of tonic's.
async fn grpc(authority: &Authority, name: &str) -> Server {
    let (_reporter, health) = tonic_health::server::health_reporter();
    Server::start(authority.server(name), move |stream| {
        let service = TowerToHyperService::new(health.clone());
        async move {
            let server = auto::Builder::new(TokioExecutor::new());
            let _ = server.serve_connection(TokioIo::new(stream), service).await;
        }
    })
    .await
}

/// How a call ends, over a channel to this instance alone.
async fn check(instance: Instance, target: &str, tls: impl Into<Tls>) -> Result<(), String> {
    let config = BalanceConfig::builder().unavailable_after(Duration::from_millis(100));
    let list = List::new([instance]).unwrap();
    let builder = Channel::builder(list, target).unwrap();
    let channel = builder.config(config.build().unwrap()).tls(tls).build();
    // It is dialled before anybody gives up on it.
    until(|| {
        let members = channel.control().status().members;
        members
            .iter()
            .any(|member| member.error.is_some() || member.state == MemberState::Usable)
    })
    .await;
    let member = channel.control().status().members.remove(0);
    if let Some(error) = member.error {
        return Err(error.to_string());
    }
    let mut client = HealthClient::new(channel);
    let asked = client.check(HealthCheckRequest::default());
    within(asked)
        .await
        .map(drop)
        .map_err(|status| told(&status))
}

#[tokio::test]
async fn a_channel_expects_the_role_of_its_target_unless_told_another_name() {
    let authority = Authority::new();
    let roots = || authority.client();
    let is_worker = grpc(&authority, "worker").await;
    let instance = |server: &Server| Instance::new("a", server.addr);
    let checked = check(instance(&is_worker), "worker:grpc", roots()).await;
    checked.unwrap();
    let checked = check(instance(&is_worker), "default/worker:grpc", roots()).await;
    checked.unwrap();

    // Neither a certificate for the ip will do, nor one for another role.
    let at_address = grpc(&authority, "127.0.0.1").await;
    for (server, target) in [(&at_address, "worker:grpc"), (&is_worker, "master:grpc")] {
        let error = check(instance(server), target, roots()).await.unwrap_err();
        let role = target.split(':').next().unwrap();
        assert!(error.contains(&format!("{role:?}")), "{error}");
    }

    let told = Tls::from(roots()).server_name(server_name("worker"));
    check(instance(&is_worker), "master:grpc", told)
        .await
        .unwrap();
    let told = Tls::from(roots()).server_name(server_name("master"));
    let error = check(instance(&is_worker), "worker:grpc", told).await;
    assert!(error.unwrap_err().contains("\"master\""));
    let by_metadata = named(&at_address, "127.0.0.1");
    let trusting = Tls::from(roots()).trust_announced_names();
    check(by_metadata, "worker:grpc", trusting).await.unwrap();

    // What is no DNS name is not passed over for the ip.
    let error = check(instance(&at_address), "42:grpc", roots()).await;
    assert!(
        error
            .unwrap_err()
            .contains("invalid TLS server name \"42\"")
    );
}

#[tokio::test]
async fn a_connector_expects_a_role_if_told() {
    let authority = Authority::new();
    let is_worker = Server::http(authority.server("worker")).await;
    let at_address = Server::http(authority.server("127.0.0.1")).await;
    let tls = Tls::from(authority.client()).role(&Role::new("worker").unwrap());
    for http2 in [false, true] {
        let connector = connector(http2).tls(tls.clone());
        let client = dial(connector.clone(), is_worker.addr).await;
        get(&client.unwrap()).await.unwrap();
        dial(connector, at_address.addr).await.unwrap_err();
    }
}

#[tokio::test]
async fn the_error_of_a_dial_names_the_instance_and_the_expected_name() {
    let authority = Authority::new();
    let server = Server::http(authority.server(NAME)).await;
    let addr = server.addr.to_string();
    for http2 in [false, true] {
        let by_address = connector(http2).tls(authority.client());
        let error = dial(by_address, server.addr).await.unwrap_err();
        let text = error.to_string();
        assert!(
            text.contains(&addr) && text.ends_with("not for 127.0.0.1"),
            "{text}"
        );
        assert!(
            told(&error).contains("not valid for name"),
            "{}",
            told(&error)
        );

        let strangers = connector(http2).tls(Authority::new().tls());
        let error = dial(strangers, server.addr).await.unwrap_err();
        let text = error.to_string();
        assert!(text.contains(&addr) && text.contains(NAME), "{text}");
        assert!(
            told(&error).contains("invalid peer certificate"),
            "{}",
            told(&error)
        );

        let tls = Tls::from(authority.client()).trust_announced_names();
        let error = within(
            connector(http2)
                .tls(tls)
                .oneshot(named(&server, "no\nname")),
        )
        .await
        .unwrap_err();
        let text = error.to_string();
        assert!(text.contains(&addr) && text.contains(r"no\nname"), "{text}");
    }
}

#[tokio::test]
async fn status_and_errors_of_the_balancer_tell_of_tls() {
    let authority = Authority::new();
    let server = Server::http(authority.server(NAME)).await;
    let config = BalanceConfig::builder().unavailable_after(Duration::from_millis(100));
    let balance = BalanceLayer::new(List::from_addrs([server.addr]).unwrap(), "worker:http")
        .unwrap()
        .config(config.build().unwrap())
        .classify(HttpClassifier::new())
        .layer(connector(true).tls(Authority::new().tls()));
    until(|| {
        let members = balance.control().status().members;
        members.iter().any(|member| member.error.is_some())
    })
    .await;
    let error = balance
        .control()
        .status()
        .members
        .remove(0)
        .error
        .unwrap()
        .to_string();
    assert!(
        error.contains(&server.addr.to_string()) && error.contains(NAME),
        "{error}"
    );
    assert!(error.contains("UnknownIssuer"), "{error}");
    let call = within(balance.oneshot(request())).await.unwrap_err();
    let counted = "1 certificate of an unknown issuer";
    assert!(call.to_string().contains(counted), "{call}");
}

#[tokio::test]
async fn a_caller_shows_the_certificate_it_is_asked_for() {
    let authority = Authority::new();
    let server = Server::http(authority.asking_server(NAME)).await;
    let known = Tls::from(authority.known_client()).server_name(server_name(NAME));
    for http2 in [false, true] {
        let client = dial(connector(http2).tls(known.clone()), server.addr).await;
        get(&client.unwrap()).await.unwrap();
    }
    // TLS 1.3 tells of it after the handshake.
    let error = dial(connector(true).tls(authority.tls()), server.addr).await;
    let told = told(&error.unwrap_err());
    assert!(told.contains("CertificateRequired"), "{told}");
    if let Ok(client) = dial(connector(false).tls(authority.tls()), server.addr).await {
        get(&client).await.unwrap_err();
    }
}

#[tokio::test]
async fn the_next_dial_uses_new_certificates() {
    let authority = Authority::new();
    let server = Server::http(authority.server(NAME)).await;
    for http2 in [false, true] {
        let stranger = Authority::new().client();
        let current = Arc::new(Mutex::new(stranger.clone()));
        let reloaded = current.clone();
        let tls = Tls::from_fn(move || reloaded.lock().unwrap().clone());
        let connector = connector(http2).tls(tls.server_name(server_name(NAME)));
        dial(connector.clone(), server.addr).await.unwrap_err();
        *current.lock().unwrap() = authority.client();
        let mut client = dial(connector.clone(), server.addr).await.unwrap();
        body(get(&client).await.unwrap()).await;

        // The connection that is there stays.
        *current.lock().unwrap() = stranger;
        body(get(&client).await.unwrap()).await;
        server.close_connections();
        let error = within(async {
            loop {
                match get(&client).await {
                    Ok(response) => drop(body(response).await),
                    // HTTP/2 leaves the next dial to the balancer.
                    Err(error) if http2 || told(&error).contains("invalid peer certificate") => {
                        break error;
                    }
                    Err(_) => tokio::task::yield_now().await,
                }
            }
        })
        .await;
        assert!(http2 || !error.was_sent());
        if http2 {
            let error = dial(connector.clone(), server.addr).await.unwrap_err();
            assert!(told(&error).contains("invalid peer certificate"), "{error}");
        }
        *current.lock().unwrap() = authority.client();
        if http2 {
            client = dial(connector, server.addr).await.unwrap();
        }
        body(get(&client).await.unwrap()).await;
    }
}

#[tokio::test]
async fn grpc_calls_are_encrypted() {
    let authority = Authority::new();
    let server = grpc(&authority, NAME).await;
    let list = List::from_addrs([server.addr]).unwrap();
    let builder = Channel::builder(list, "worker:grpc").unwrap();
    let mut client = HealthClient::new(builder.tls(authority.tls()).build());
    for _ in 0..20 {
        let asked = client.check(HealthCheckRequest::default());
        within(asked).await.unwrap();
    }
    assert_eq!(server.accepted(), 1);
}
