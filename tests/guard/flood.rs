use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use futures::StreamExt;
use rolecall::Registry;
use rolecall::guard::Guard;
use tokio::io::AsyncReadExt;
use tracing_subscriber::fmt::MakeWriter;

use super::support::*;

#[derive(Clone, Default)]
struct Captured(Arc<Mutex<Vec<u8>>>);

impl io::Write for Captured {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Captured {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

/// That many strangers, each from an address of its own, 32 at a time.
async fn strangers(from: u32, count: u32, to: SocketAddr) {
    let knocking =
        futures::stream::iter(from..from + count).for_each_concurrent(32, |n| async move {
            let ip = IpAddr::V4(Ipv4Addr::from_bits(0x7f01_0001 + n));
            let mut stranger = connect(ip, to).await;
            assert_eq!(in_time(stranger.read(&mut [0])).await.unwrap_or(0), 0);
        });
    knocking.await;
}

#[test]
fn a_flood_of_strangers_takes_no_memory_and_few_lines() {
    let captured = Captured::default();
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(tracing::Level::TRACE)
        .with_writer(captured.clone())
        .finish();
    let lines = || {
        let text = String::from_utf8(captured.0.lock().unwrap().clone()).unwrap();
        text.lines().filter(|line| line.contains("refus")).count()
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    // A second dispatcher, so that what is of interest is not decided once for all while another test has none.
    let _another = tracing::Dispatch::new(tracing_subscriber::registry());
    let _capture = tracing::subscriber::set_default(subscriber);
    let registry = Registry::new();
    let began = Instant::now();
    let (guard, server, _lease) = runtime.block_on(async {
        let lease = register(&registry, "shop", FRIEND).await;
        let guard = Guard::new(registry, boundary("shop"));
        in_time(guard.heard()).await;
        let server = Server::start(&guard).await;
        strangers(0, 1000, server.addr).await;
        (guard, server, lease)
    });
    // What tokio, the log's buffer and the guard keep once is there by now.
    let used = allocation_counter::measure(|| {
        runtime.block_on(strangers(1000, 9000, server.addr));
    });
    assert!(
        used.bytes_current < 64 << 10,
        "{} bytes stay after 9000 strangers",
        used.bytes_current
    );
    assert!(
        used.bytes_max < 1 << 20,
        "{} bytes at most while 32 at a time knocked",
        used.bytes_max
    );
    let status = guard.status();
    assert_eq!(
        (status.refused, status.admitted, status.open),
        (10_000, 0, 0)
    );
    // Ten lines and a summary in ten seconds: fewer than a hundred for a machine that needs up to 80 s.
    let most = 11 * (1 + usize::try_from(began.elapsed().as_secs() / 10).unwrap());
    assert!((1..=most).contains(&lines()), "{} lines", lines());
    runtime.block_on(async {
        assert!(is_served(FRIEND, server.addr).await);
    });
}

/// Round trips of a friend: each opens a connection, is greeted, and ends it. Sorted.
async fn round_trips(server: SocketAddr, count: usize) -> Vec<Duration> {
    let mut times = Vec::new();
    let mut tick = tokio::time::interval(Duration::from_millis(2));
    for _ in 0..count {
        tick.tick().await;
        let began = Instant::now();
        assert!(is_served(FRIEND, server).await);
        times.push(began.elapsed());
    }
    times.sort_unstable();
    times
}

/// Friends and strangers live on threads of their own, as they would on machines of their own; the two cores are shared.
#[test]
#[ignore = "measures: cargo test --release --test guard -- --ignored --nocapture friends"]
fn friends_hardly_notice_ten_thousand_strangers() {
    const TRIPS: usize = 2500;
    let runtime = |threads| {
        tokio::runtime::Builder::new_multi_thread()
            .worker_threads(threads)
            .enable_all()
            .build()
            .unwrap()
    };
    let serving = runtime(1);
    let registry = Registry::new();
    let (guard, server, _lease) = serving.block_on(async {
        let lease = register(&registry, "shop", FRIEND).await;
        let guard = Guard::new(registry, boundary("shop"));
        in_time(guard.heard()).await;
        let server = Server::start(&guard).await;
        (guard, server, lease)
    });
    let friends = runtime(1);
    let p99 = |times: &[Duration]| times[times.len() * 99 / 100];
    friends.block_on(round_trips(server.addr, 500));
    let before = friends.block_on(round_trips(server.addr, TRIPS));
    let addr = server.addr;
    // Spread over the five seconds that the friends' round trips take.
    let knocking = std::thread::spawn(move || {
        runtime(1).block_on(async {
            let mut tick = tokio::time::interval(Duration::from_millis(5));
            for batch in 0..1000 {
                tick.tick().await;
                strangers(batch * 10, 10, addr).await;
            }
        });
    });
    let meanwhile = friends.block_on(round_trips(addr, TRIPS));
    knocking.join().unwrap();
    let (before, meanwhile) = (p99(&before), p99(&meanwhile));
    println!(
        "p99 of a friend's connection and round trip: {before:?} before, {meanwhile:?} meanwhile ({:.2} times); {}",
        meanwhile.as_secs_f64() / before.as_secs_f64(),
        guard.status()
    );
    assert_eq!(guard.status().refused, 10_000);
    assert!(meanwhile <= before * 2, "{meanwhile:?} against {before:?}");
}
