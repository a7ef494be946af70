use std::net::SocketAddr;

use rolecall::guard::{Guard, GuardEvent, HeaderError};
use rolecall::{Lease, Registry};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::support::*;

const V1_FRIEND: &[u8] = b"PROXY TCP4 127.0.0.8 127.0.0.1 4711 80\r\n";
const V1_STRANGER: &[u8] = b"PROXY TCP4 127.0.0.9 127.0.0.1 4711 80\r\n";

fn v2(command: u8, ip: [u8; 4], additions: &[u8]) -> Vec<u8> {
    let mut header = b"\r\n\r\n\0\r\nQUIT\n".to_vec();
    header.extend([command, 0x11]);
    header.extend(u16::try_from(12 + additions.len()).unwrap().to_be_bytes());
    header.extend(ip);
    header.extend([127, 0, 0, 1, 0x12, 0x67, 0, 80]);
    header.extend(additions);
    header
}

async fn stage() -> (Guard, Server, Lease) {
    let registry = Registry::new();
    let lease = register(&registry, "shop", FRIEND).await;
    let guard = Guard::builder(registry, boundary("shop"))
        .trust_proxy(PROXY)
        .build()
        .unwrap();
    in_time(guard.synced()).await;
    let server = Server::start(&guard).await;
    (guard, server, lease)
}

#[tokio::test]
async fn a_named_proxy_is_believed() {
    let (_guard, mut server, _lease) = stage().await;
    let client: SocketAddr = "127.0.0.8:4711".parse().unwrap();
    let long = vec![7; 4000];
    for header in [
        V1_FRIEND.to_vec(),
        v2(0x21, [127, 0, 0, 8], b""),
        v2(0x21, [127, 0, 0, 8], &long),
    ] {
        // The first bytes of the client come in one packet with the header, and all of them arrive.
        let mut bytes = header;
        bytes.push(b'x');
        let mut stream = connect(PROXY, server.addr).await;
        greet(&mut stream, &bytes).await.unwrap();
        greet(&mut stream, b"x").await.unwrap();
        let from = in_time(server.came.recv()).await.unwrap();
        assert_eq!(from.addr(), Some(client));
    }
    for header in [V1_STRANGER.to_vec(), v2(0x21, [127, 0, 0, 9], b"")] {
        let mut stream = connect(PROXY, server.addr).await;
        assert!(greet(&mut stream, &header).await.is_err());
    }
    assert!(server.came.is_empty());
}

#[tokio::test]
async fn a_header_may_come_in_pieces_and_nothing_more_is_read() {
    let (_guard, mut server, _lease) = stage().await;
    for header in [V1_FRIEND.to_vec(), v2(0x21, [127, 0, 0, 8], b"more")] {
        let mut stream = connect(PROXY, server.addr).await;
        stream.set_nodelay(true).unwrap();
        for byte in &header {
            stream.write_all(&[*byte]).await.unwrap();
            tokio::task::yield_now().await;
        }
        in_time(server.came.recv()).await.unwrap();
        greet(&mut stream, b"x").await.unwrap();
    }
}

#[tokio::test]
async fn a_header_from_others_is_not_believed() {
    let (guard, mut server, _lease) = stage().await;
    let mut stranger = connect(STRANGER, server.addr).await;
    assert!(greet(&mut stranger, V1_FRIEND).await.is_err());
    let mut stranger = connect(STRANGER, server.addr).await;
    let forged = v2(0x21, [127, 0, 0, 8], b"");
    assert!(greet(&mut stranger, &forged).await.is_err());
    assert!(server.came.is_empty());
    assert_eq!(guard.status().refused, 2);
    // From a friend it is the server's business: five bytes for the first, not for us.
    let mut friend = connect(FRIEND, server.addr).await;
    greet(&mut friend, V1_STRANGER).await.unwrap();
    assert_eq!(
        in_time(server.came.recv()).await.unwrap().ip(),
        Some(FRIEND)
    );
}

#[tokio::test]
async fn a_proxys_own_connections_are_admitted_if_they_say_so() {
    let (guard, mut server, _lease) = stage().await;
    // So looks everybody on the proxy's machine.
    let unregistered = b"PROXY TCP4 127.0.0.10 127.0.0.1 4711 80\r\nx";
    let mut stranger = connect(PROXY, server.addr).await;
    assert!(greet(&mut stranger, unregistered).await.is_err());
    assert_eq!(guard.status().refused, 1);
    let mut local = v2(0x20, [1, 2, 3, 4], b"");
    local.push(b'x');
    greet(&mut connect(PROXY, server.addr).await, &local)
        .await
        .unwrap();
    assert_eq!(in_time(server.came.recv()).await.unwrap().ip(), Some(PROXY));
}

#[tokio::test]
async fn hostile_headers_are_refused_and_told_of() {
    let (guard, server, _lease) = stage().await;
    let mut events = guard.events();
    let too_long = [&b"PROXY TCP4 "[..], &[b'1'; 200]].concat();
    let mut v2_too_long = v2(0x21, [127, 0, 0, 8], &[0; 5000]);
    v2_too_long.truncate(16);
    let refused: [(Vec<u8>, HeaderError); 6] = [
        (b"GET / HTTP/1.1\r\n\r\n".to_vec(), HeaderError::Missing),
        (b"PROXIMITY\r\n".to_vec(), HeaderError::Missing),
        (
            b"\r\n\r\n\0\r\nQUITE NO HEADER".to_vec(),
            HeaderError::Missing,
        ),
        (too_long, HeaderError::TooLong),
        (v2_too_long, HeaderError::TooLong),
        (b"PROXY UNKNOWN\r\n".to_vec(), HeaderError::NoAddress),
    ];
    let count = u64::try_from(refused.len()).unwrap();
    for (bytes, _) in &refused {
        let mut stream = connect(PROXY, server.addr).await;
        assert!(greet(&mut stream, bytes).await.is_err(), "{bytes:?}");
    }
    assert_eq!(guard.status().headers_refused, count);
    let told = event(&mut events, |e| {
        matches!(e, GuardEvent::HeaderRefused { .. })
    })
    .await;
    let GuardEvent::HeaderRefused { ip, error, .. } = told else {
        panic!("{told}");
    };
    assert_eq!((ip, error), (PROXY, refused[0].1));
}

#[tokio::test]
async fn a_connection_that_ends_early_is_no_connection() {
    let (guard, mut server, _lease) = stage().await;
    for bytes in [
        &b""[..],
        b"P",
        b"PROXY TCP4 127.0.0.8",
        b"\r\n\r\n\0\r\nQUIT",
    ] {
        let before = guard.status().headers_refused;
        let mut stream = connect(PROXY, server.addr).await;
        stream.write_all(bytes).await.unwrap();
        stream.shutdown().await.unwrap();
        assert_eq!(in_time(stream.read(&mut [0])).await.unwrap_or(0), 0);
        assert_eq!(guard.status().headers_refused, before + 1);
    }
    assert!(server.came.try_recv().is_err());
}

#[tokio::test]
async fn one_that_sends_no_header_blocks_nobody_and_is_closed_in_time() {
    let (guard, server, _lease) = stage().await;
    let mut events = guard.events();
    let mut silent = Vec::new();
    for _ in 0..32 {
        silent.push(connect(PROXY, server.addr).await);
    }
    let mut dripping = connect(PROXY, server.addr).await;
    dripping.write_all(b"PROXY ").await.unwrap();
    assert!(is_served(FRIEND, server.addr).await);
    greet(
        &mut connect(PROXY, server.addr).await,
        &[V1_FRIEND, b"x"].concat(),
    )
    .await
    .unwrap();
    let told = event(&mut events, |e| {
        matches!(e, GuardEvent::HeaderRefused { .. })
    })
    .await;
    assert!(
        matches!(
            told,
            GuardEvent::HeaderRefused {
                error: HeaderError::TimedOut,
                ..
            }
        ),
        "{told}"
    );
    for mut stream in silent {
        assert_eq!(in_time(stream.read(&mut [0])).await.unwrap_or(0), 0);
    }
    assert_eq!(in_time(dripping.read(&mut [0])).await.unwrap_or(0), 0);
}
