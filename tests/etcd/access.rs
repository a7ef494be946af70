//! Users, passwords and certificates.

use std::fs;
use std::time::Duration;

use etcd_client::{Client, PermissionType};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rolecall::Registrar;
use rolecall::discovery::{DiscoveryErrorKind, Etcd, LeaseState};

use crate::server::Server;
use crate::{Answers, causes, foreign, ids, open, until_state, worker};

/// A user `worker` that may use one boundary, and `root`.
async fn with_users(server: &Server) {
    let mut client: Client = foreign(server).await;
    client
        .user_add("root", "root-password", None)
        .await
        .unwrap();
    client.role_add("root").await.unwrap();
    client.user_grant_role("root", "root").await.unwrap();
    client
        .user_add("worker", "worker-password", None)
        .await
        .unwrap();
    client.role_add("media").await.unwrap();
    let media = etcd_client::Permission::read_write("rolecall/media/").with_prefix();
    assert_eq!(media.get_type(), PermissionType::Readwrite as i32);
    client.role_grant_permission("media", media).await.unwrap();
    client.user_grant_role("worker", "media").await.unwrap();
    client.auth_enable().await.unwrap();
}

fn signed_in(server: &Server, password: &str) -> Etcd {
    Etcd::builder([server.endpoint()])
        .ttl(Duration::from_secs(1))
        .user("worker", password)
        .build()
        .unwrap()
}

#[tokio::test]
async fn a_user_reaches_what_it_may_and_nothing_else() {
    let mut server = Server::start();
    with_users(&server).await;
    let backend = signed_in(&server, "worker-password");
    let mut answers = Answers::of(&backend, "media/worker:http");
    assert!(answers.next().await.is_err(), "it is unknown");
    let registration = worker("w-1").boundary("media");
    let lease = backend.register(registration).await.unwrap();
    answers.until(|set| ids(set) == ["w-1"]).await;

    let refused = backend.register(worker("w-1")).await.unwrap_err();
    assert!(
        causes(&refused).contains("permission denied"),
        "{refused:?}"
    );
    let error = Answers::of(&backend, "worker:http")
        .next()
        .await
        .unwrap_err();
    assert_eq!(error.kind(), DiscoveryErrorKind::Backend);
    assert!(causes(&error).contains("permission denied"), "{error:?}");
    for stranger in [open(&server), signed_in(&server, "wrong")] {
        let error = Answers::of(&stranger, "media/worker:http").next().await;
        let error = error.unwrap_err();
        assert_eq!(error.kind(), DiscoveryErrorKind::Backend);
        assert!(!causes(&error).contains("wrong"), "a password is no news");
    }

    // A restarted server knows no token of before.
    server.kill();
    server.restart();
    until_state(&lease, |state| matches!(state, LeaseState::Announced)).await;
    let registration = worker("w-2").boundary("media");
    let _second = backend.register(registration).await.unwrap();
    answers.until(|set| ids(set) == ["w-1", "w-2"]).await;
}

#[tokio::test]
async fn certificates_are_shown_and_checked() {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
    let identify = |name: &str| {
        let params = CertificateParams::new([name.to_owned()]).unwrap();
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &issuer).unwrap();
        (certificate.pem(), key.serialize_pem())
    };
    let server = Server::start_with_tls(|folder| {
        let (certificate, key) = identify("etcd.test");
        let files = [("ca", issuer.pem()), ("cert", certificate), ("key", key)];
        files.map(|(name, pem)| {
            let path = folder.join(name);
            fs::write(&path, pem).unwrap();
            path
        })
    });
    let (certificate, key) = identify("worker.test");
    let builder = Etcd::builder([format!("https://{}", server.endpoint())])
        .ca_certificate(issuer.pem())
        .server_name("etcd.test");
    let known = builder.clone().client_certificate(certificate, key);
    let backend = known.clone().build().unwrap();
    let _lease = backend.register(worker("w-1")).await.unwrap();
    Answers::of(&backend, "worker:http")
        .until(|set| ids(set) == ["w-1"])
        .await;
    for stranger in [builder, known.server_name("other.test")] {
        let error = Answers::of(&stranger.build().unwrap(), "worker:http")
            .next()
            .await;
        assert_eq!(error.unwrap_err().kind(), DiscoveryErrorKind::Backend);
    }
}
