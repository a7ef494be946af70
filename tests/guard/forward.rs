use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use rolecall::guard::{Guard, GuardEvent};
use rolecall::{Lease, Registry};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

use super::support::*;

struct Stage {
    guard: Guard,
    server: TcpListener,
    front: SocketAddr,
    forwarding: JoinHandle<std::convert::Infallible>,
    lease: Lease,
}

async fn stage() -> Stage {
    let registry = Registry::new();
    let lease = register(&registry, "shop", FRIEND).await;
    let guard = Guard::builder(registry, boundary("shop"))
        .cut_off(true)
        .build()
        .unwrap();
    in_time(guard.synced()).await;
    let server = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let front = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = front.local_addr().unwrap();
    let forwarding = tokio::spawn(guard.forward(front, server.local_addr().unwrap()).run());
    Stage {
        guard,
        server,
        front: addr,
        forwarding,
        lease,
    }
}

#[tokio::test]
async fn each_direction_ends_by_itself() {
    let stage = stage().await;
    let mut friend = connect(FRIEND, stage.front).await;
    friend.write_all(b"question").await.unwrap();
    friend.shutdown().await.unwrap();
    let (mut relayed, _) = in_time(stage.server.accept()).await.unwrap();
    let mut question = String::new();
    in_time(relayed.read_to_string(&mut question))
        .await
        .unwrap();
    assert_eq!(question, "question", "the end of it was passed on");
    relayed.write_all(b"answer").await.unwrap();
    relayed.shutdown().await.unwrap();
    let mut answer = String::new();
    in_time(friend.read_to_string(&mut answer)).await.unwrap();
    assert_eq!(answer, "answer", "the other direction was still open");
}

#[tokio::test]
async fn a_stranger_does_not_reach_the_server() {
    let stage = stage().await;
    assert!(!is_served(STRANGER, stage.front).await);
    let mut friend = connect(FRIEND, stage.front).await;
    friend.write_all(b"x").await.unwrap();
    let (mut relayed, _) = in_time(stage.server.accept()).await.unwrap();
    let mut byte = [0];
    in_time(relayed.read_exact(&mut byte)).await.unwrap();
    assert_eq!(&byte, b"x", "the first that came is the friend");
    assert_eq!(stage.guard.status().refused, 1);
}

#[tokio::test]
async fn a_reader_that_is_slow_slows_the_writer() {
    let stage = stage().await;
    let mut friend = connect(FRIEND, stage.front).await;
    let (mut relayed, _) = in_time(stage.server.accept()).await.unwrap();
    // More than all buffers on the way hold: the writer is done only if somebody reads.
    const BYTES: usize = 64 << 20;
    let mut writing = tokio::spawn(async move {
        let block = vec![7; 1 << 16];
        for _ in 0..BYTES / block.len() {
            friend.write_all(&block).await?;
        }
        friend.shutdown().await
    });
    let mut read = [0; 1];
    in_time(relayed.read_exact(&mut read)).await.unwrap();
    assert!(
        tokio::time::timeout(std::time::Duration::from_millis(300), &mut writing)
            .await
            .is_err(),
        "somebody holds 64 MiB"
    );
    let mut sink = tokio::io::sink();
    let rest = tokio::io::copy(&mut relayed, &mut sink);
    assert_eq!(in_time(rest).await.unwrap(), BYTES as u64 - 1);
    writing.await.unwrap().unwrap();
}

#[tokio::test]
async fn dropped_it_closes_everything() {
    let stage = stage().await;
    let mut friend = connect(FRIEND, stage.front).await;
    friend.write_all(b"x").await.unwrap();
    let (mut relayed, _) = in_time(stage.server.accept()).await.unwrap();
    in_time(relayed.read_exact(&mut [0])).await.unwrap();
    stage.forwarding.abort();
    assert_eq!(in_time(friend.read(&mut [0])).await.unwrap_or(0), 0);
    assert_eq!(in_time(relayed.read(&mut [0])).await.unwrap_or(0), 0);
    let refused = tokio::net::TcpStream::connect(stage.front)
        .await
        .unwrap_err();
    assert_eq!(refused.kind(), io::ErrorKind::ConnectionRefused);
}

#[tokio::test]
async fn a_server_that_is_not_there_is_told_of() {
    let Stage {
        guard,
        server,
        front,
        forwarding,
        lease: _lease,
    } = stage().await;
    let mut events = guard.events();
    drop(server);
    let mut friend = connect(FRIEND, front).await;
    assert_eq!(in_time(friend.read(&mut [0])).await.unwrap_or(0), 0);
    event(&mut events, |e| {
        matches!(e, GuardEvent::ForwardFailed { .. })
    })
    .await;
    forwarding.abort();
}

#[tokio::test]
async fn who_left_is_cut_off_on_both_sides() {
    let stage = stage().await;
    let mut friend = connect(FRIEND, stage.front).await;
    let (mut relayed, _) = in_time(stage.server.accept()).await.unwrap();
    stage.lease.deregister().await.unwrap();
    assert_eq!(in_time(friend.read(&mut [0])).await.unwrap_or(0), 0);
    assert_eq!(in_time(relayed.read(&mut [0])).await.unwrap_or(0), 0);
}

#[tokio::test]
async fn who_left_is_cut_off_from_a_server_that_reads_nothing() {
    let stage = stage().await;
    let mut friend = connect(FRIEND, stage.front).await;
    let (_unread, _) = in_time(stage.server.accept()).await.unwrap();
    // Fills all buffers on the way. If it was this machine that paused, the relay has its turn before the next try.
    let block = vec![7; 1 << 16];
    let mut in_vain = 0;
    while in_vain < 3 {
        match timeout(Duration::from_millis(100), friend.write(&block)).await {
            Ok(written) => in_vain = written.map(|_| 0).unwrap(),
            Err(_) => in_vain += 1,
        }
    }
    stage.lease.deregister().await.unwrap();
    in_time(async {
        while stage.guard.status().open > 0 {
            sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
    let written = in_time(async {
        loop {
            if let Err(error) = friend.write(&block).await {
                return error;
            }
        }
    });
    assert_eq!(written.await.kind(), io::ErrorKind::ConnectionReset);
}

#[tokio::test]
async fn a_proxy_header_names_the_peer() {
    let registry = Registry::new();
    let lease = register(&registry, "shop", FRIEND).await;
    let front_guard = Guard::builder(registry.clone(), boundary("shop"))
        .build()
        .unwrap();
    // What is behind reads the header as strictly as any server does.
    let back_guard = Guard::builder(registry, boundary("shop"))
        .trust_proxy([127, 0, 0, 1].into())
        .build()
        .unwrap();
    in_time(front_guard.synced()).await;
    in_time(back_guard.synced()).await;
    let mut server = Server::start(&back_guard).await;
    let front = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = front.local_addr().unwrap();
    let forwarder = front_guard.forward(front, server.addr).proxy_header(true);
    let forwarding = tokio::spawn(forwarder.run());
    let mut friend = connect(FRIEND, addr).await;
    greet(&mut friend, b"x").await.unwrap();
    let seen = server.came.recv().await.unwrap();
    assert_eq!(seen.addr(), Some(friend.local_addr().unwrap()));
    assert_eq!(back_guard.status().headers_refused, 0);
    drop(lease);
    forwarding.abort();
}

#[tokio::test]
async fn an_idle_connection_is_closed_and_a_busy_one_is_not() {
    const IDLE: Duration = Duration::from_millis(300);
    let registry = Registry::new();
    let _lease = register(&registry, "shop", FRIEND).await;
    let guard = Guard::builder(registry, boundary("shop")).build().unwrap();
    in_time(guard.synced()).await;
    let server = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let front = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = front.local_addr().unwrap();
    let forwarder = guard.forward(front, server.local_addr().unwrap());
    let forwarding = tokio::spawn(forwarder.idle_timeout(IDLE).run());
    let mut idle = connect(FRIEND, addr).await;
    let (_relayed_idle, _) = in_time(server.accept()).await.unwrap();
    let mut busy = connect(FRIEND, addr).await;
    let (mut relayed, _) = in_time(server.accept()).await.unwrap();
    let closed = tokio::spawn(async move { in_time(idle.read(&mut [0])).await.unwrap_or(0) });
    // One direction is enough, for far longer than the limit.
    for _ in 0..20 {
        relayed.write_all(b"x").await.unwrap();
        in_time(busy.read_exact(&mut [0]))
            .await
            .expect("it is busy");
        sleep(IDLE / 6).await;
    }
    assert_eq!(closed.await.unwrap(), 0);
    assert_eq!(
        in_time(busy.read(&mut [0])).await.unwrap_or(0),
        0,
        "it turned idle"
    );
    forwarding.abort();
}
