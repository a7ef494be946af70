use std::io;
use std::net::IpAddr;

use rolecall::Registry;
use rolecall::guard::{Guard, GuardEvent};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use super::support::*;

#[tokio::test]
async fn a_stranger_is_closed_before_a_byte_is_read_and_admitted_while_registered() {
    let registry = Registry::new();
    let guard = Guard::builder(registry.clone(), boundary("shop"))
        .build()
        .unwrap();
    let mut events = guard.events();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    // What it sends is there before anybody accepts.
    let mut early = connect(STRANGER, addr).await;
    early.write_all(b"let me in").await.unwrap();
    let mut server = Server::on(&guard, listener);
    let error = in_time(early.read(&mut [0; 5])).await.unwrap_err();
    assert_eq!(
        error.kind(),
        io::ErrorKind::ConnectionReset,
        "the system tells of bytes that nobody read"
    );
    assert!(matches!(
        event(&mut events, |e| matches!(e, GuardEvent::Refused { .. })).await,
        GuardEvent::Refused { ip: STRANGER, .. }
    ));

    let lease = register(&registry, "shop", STRANGER).await;
    until(&guard, &mut events, STRANGER, true).await;
    assert!(is_served(STRANGER, addr).await);
    assert_eq!(server.came.recv().await.unwrap().ip(), Some(STRANGER));

    lease.deregister().await.unwrap();
    until(&guard, &mut events, STRANGER, false).await;
    assert!(!is_served(STRANGER, addr).await);
    assert!(server.came.is_empty());
    let status = guard.status();
    assert_eq!((status.admitted, status.refused), (1, 2));
}

#[tokio::test]
async fn who_left_is_let_finish_unless_told_otherwise() {
    let registry = Registry::new();
    let guard = Guard::builder(registry.clone(), boundary("shop"))
        .build()
        .unwrap();
    let mut events = guard.events();
    let server = Server::start(&guard).await;
    let lease = register(&registry, "shop", FRIEND).await;
    let _other = register(&registry, "shop", STRANGER).await;
    until(&guard, &mut events, FRIEND, true).await;
    until(&guard, &mut events, STRANGER, true).await;
    let mut friend = connect(FRIEND, server.addr).await;
    let mut other = connect(STRANGER, server.addr).await;
    greet(&mut friend, b"x").await.unwrap();
    greet(&mut other, b"x").await.unwrap();

    lease.deregister().await.unwrap();
    until(&guard, &mut events, FRIEND, false).await;
    greet(&mut friend, b"x").await.expect("in flight");
    guard.cut_off(true);
    assert_eq!(in_time(friend.read(&mut [0])).await.unwrap_or(0), 0);
    let cut = event(&mut events, |e| matches!(e, GuardEvent::CutOff { .. })).await;
    assert!(
        matches!(
            cut,
            GuardEvent::CutOff {
                ip: FRIEND,
                connections: 1,
                ..
            }
        ),
        "{cut}"
    );
    greet(&mut other, b"x").await.expect("it stayed");

    let lease = register(&registry, "shop", FRIEND).await;
    until(&guard, &mut events, FRIEND, true).await;
    let mut friend = connect(FRIEND, server.addr).await;
    greet(&mut friend, b"x").await.unwrap();
    lease.deregister().await.unwrap();
    assert_eq!(in_time(friend.read(&mut [0])).await.unwrap_or(0), 0);
    greet(&mut other, b"x").await.expect("it stayed");
    assert_eq!(guard.status().cut_off, 2);
}

#[tokio::test]
async fn a_grant_taken_back_closes_what_its_peers_have_open() {
    for cuts_off in [true, false] {
        let registry = Registry::new();
        let _lease = register(&registry, "billing", FRIEND).await;
        let own = register(&registry, "shop", STRANGER).await;
        let guard = Guard::builder(registry.clone(), boundary("shop"))
            .allow(boundary("billing"))
            .cut_off(cuts_off)
            .build()
            .unwrap();
        in_time(guard.synced()).await;
        let server = Server::start(&guard).await;
        let mut friend = connect(FRIEND, server.addr).await;
        greet(&mut friend, b"x").await.unwrap();
        let mut departed = connect(STRANGER, server.addr).await;
        greet(&mut departed, b"x").await.unwrap();
        if !cuts_off {
            let mut events = guard.events();
            own.deregister().await.unwrap();
            until(&guard, &mut events, STRANGER, false).await;
        }
        guard.revoke(&boundary("billing"));
        assert_eq!(in_time(friend.read(&mut [0])).await.unwrap_or(0), 0);
        greet(&mut departed, b"x")
            .await
            .expect("who left, or was not of it, may finish");
    }
}

#[tokio::test]
async fn a_listener_for_both_families_knows_ipv4_friends() {
    let Ok(listener) = TcpListener::bind("[::]:0").await else {
        println!("not tested: no IPv6 here");
        return;
    };
    let registry = Registry::new();
    let _lease = register(&registry, "shop", FRIEND).await;
    let guard = Guard::builder(registry.clone(), boundary("shop"))
        .build()
        .unwrap();
    in_time(guard.synced()).await;
    let server = Server::on(&guard, listener);
    let addr = (IpAddr::from([127, 0, 0, 1]), server.addr.port()).into();
    assert!(is_served(FRIEND, addr).await);
    assert!(!is_served(STRANGER, addr).await);
}

#[tokio::test]
async fn status_counts_what_is_open() {
    let registry = Registry::new();
    let _lease = register(&registry, "shop", FRIEND).await;
    let guard = Guard::builder(registry.clone(), boundary("shop"))
        .build()
        .unwrap();
    in_time(guard.synced()).await;
    let server = Server::start(&guard).await;
    let mut friends = Vec::new();
    for _ in 0..5 {
        let mut friend = connect(FRIEND, server.addr).await;
        greet(&mut friend, b"x").await.unwrap();
        friends.push(friend);
    }
    assert_eq!(guard.status().open, 5);
    drop(friends);
    in_time(async {
        while guard.status().open > 0 {
            tokio::task::yield_now().await;
        }
    })
    .await;
}
