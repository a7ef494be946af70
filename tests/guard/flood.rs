use std::future::poll_fn;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::task::Poll;
use std::time::{Duration, Instant};

use futures::StreamExt;
use rolecall::Registry;
use rolecall::guard::Guard;
use tokio::io::AsyncReadExt;
use tokio::net::TcpListener;
use tokio::time::MissedTickBehavior;
use tracing::Level;

use crate::captured::Captured;

use super::support::*;

impl Captured {
    fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }

    fn count(&self, what: &str) -> usize {
        self.text()
            .lines()
            .filter(|line| line.contains(what))
            .count()
    }
}

/// Ten lines and a summary in ten seconds: fewer than a hundred for a machine that needs up to 80 s.
fn most_lines(began: Instant) -> usize {
    11 * (1 + usize::try_from(began.elapsed().as_secs() / 10).unwrap())
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
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    // A second dispatcher, so that what is of interest is not decided once for all while another test has none.
    let _another = tracing::Dispatch::new(tracing_subscriber::registry());
    let _capture = captured.capture(Level::TRACE);
    let registry = Registry::new();
    let began = Instant::now();
    let (guard, server, _lease) = runtime.block_on(async {
        let lease = register(&registry, "shop", FRIEND).await;
        let guard = Guard::builder(registry, boundary("shop")).build().unwrap();
        in_time(guard.synced()).await;
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
    let lines = captured.count("denied") + captured.count("refus");
    assert!((1..=most_lines(began)).contains(&lines), "{lines} lines");
    let (why, text) = (
        "no instance registered in boundary shop has address ",
        captured.text(),
    );
    assert!(text.contains(why), "the log says why: {text:.500}");
    runtime.block_on(async {
        assert!(is_served(FRIEND, server.addr).await);
    });
}

#[tokio::test]
async fn peers_that_come_and_go_all_the_time_take_few_lines_and_every_event_is_told() {
    const CHANGES: usize = 200;
    let captured = Captured::default();
    let _another = tracing::Dispatch::new(tracing_subscriber::registry());
    let _capture = captured.capture(Level::TRACE);
    let began = Instant::now();
    let registry = Registry::new();
    let guard = Guard::builder(registry.clone(), boundary("shop"))
        .build()
        .unwrap();
    in_time(guard.synced()).await;
    let mut events = guard.events();
    for _ in 0..CHANGES / 2 {
        let lease = register(&registry, "shop", FRIEND).await;
        peers_changed(&mut events).await;
        lease.deregister().await.unwrap();
        peers_changed(&mut events).await;
    }
    assert!(!guard.admits(FRIEND));
    let lines = captured.count("peers changed");
    assert!((1..=most_lines(began)).contains(&lines), "{lines} lines");
}

/// Until those that are ready now have had their turn; tokio's own `yield_now` lets them have many.
async fn one_turn() {
    let mut is_over = false;
    poll_fn(|cx| {
        cx.waker().wake_by_ref();
        if std::mem::replace(&mut is_over, true) {
            Poll::Ready(())
        } else {
            Poll::Pending
        }
    })
    .await;
}

#[tokio::test]
async fn whoever_is_served_by_the_same_thread_waits_for_few_strangers() {
    const STRANGERS: u64 = 100;
    let registry = Registry::new();
    let guard = Guard::builder(registry, boundary("shop")).build().unwrap();
    in_time(guard.synced()).await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    let mut knocking = Vec::new();
    for _ in 0..STRANGERS {
        knocking.push(connect(STRANGER, addr).await);
    }
    // The system has accepted them all. Both tasks are on this thread, which takes turns.
    let _server = Server::on(&guard, listener);
    let refused = tokio::spawn({
        let guard = guard.clone();
        async move {
            let mut refused = Vec::new();
            while guard.status().refused < STRANGERS {
                refused.push(guard.status().refused);
                one_turn().await;
            }
            refused
        }
    });
    let refused = in_time(refused).await.unwrap();
    let most = refused.windows(2).map(|turns| turns[1] - turns[0]).max();
    assert!(most.is_some_and(|most| most <= 16), "{refused:?}");
}

/// Round trips of a friend, two milliseconds apart: each opens a connection, is greeted, and resets it, for among thousands
/// of ports that are still kept for ended connections the system searches for a free one longer than all this takes.
async fn round_trips(server: SocketAddr, count: usize) -> Vec<Duration> {
    let mut times = Vec::new();
    let mut tick = tokio::time::interval(Duration::from_millis(2));
    for _ in 0..count {
        tick.tick().await;
        let began = Instant::now();
        let mut friend = connect(FRIEND, server).await;
        greet(&mut friend, b"x").await.unwrap();
        times.push(began.elapsed());
        friend.set_zero_linger().unwrap();
    }
    times
}

/// Friends and strangers live on threads of their own, as they would on machines of their own. Only the cores are shared:
/// the strangers get what the others leave of them, since it is the guard that is measured, and not what a stranger's own
/// machine has to do. Spells with and without strangers take turns, so that what else the machine does falls on both.
#[test]
#[ignore = "measures: cargo test --release --test guard -- --ignored --nocapture friends"]
fn friends_hardly_notice_ten_thousand_strangers() {
    const STRANGERS: u32 = 10_000;
    const SPELL: usize = 100;
    /// Of a spell, in which those of the spell before may still be there.
    const LEFT_OUT: usize = 10;
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
        let guard = Guard::builder(registry, boundary("shop")).build().unwrap();
        in_time(guard.synced()).await;
        let server = Server::start(&guard).await;
        (guard, server, lease)
    });
    let addr = server.addr;
    let friends = runtime(1);
    friends.block_on(round_trips(addr, 500));
    let (tell, mut is_flood) = tokio::sync::watch::channel(false);
    let knocking = std::thread::spawn(move || {
        rustix::process::nice(19).unwrap();
        runtime(1).block_on(async {
            let mut tick = tokio::time::interval(Duration::from_millis(5));
            tick.set_missed_tick_behavior(MissedTickBehavior::Skip);
            for batch in 0..STRANGERS / 10 {
                tick.tick().await;
                is_flood.wait_for(|is_flood| *is_flood).await.unwrap();
                strangers(batch * 10, 10, addr).await;
            }
        });
    });
    let (mut without, mut with) = (Vec::new(), Vec::new());
    while !knocking.is_finished() {
        for (is_flood, times) in [(false, &mut without), (true, &mut with)] {
            tell.send_replace(is_flood);
            let spell = friends.block_on(round_trips(addr, SPELL));
            times.extend_from_slice(&spell[LEFT_OUT..]);
        }
    }
    knocking.join().unwrap();
    let at = |times: &mut Vec<Duration>, percent: usize| {
        times.sort_unstable();
        times[times.len() * percent / 100]
    };
    for percent in [50, 90, 99] {
        let (before, meanwhile) = (at(&mut without, percent), at(&mut with, percent));
        println!(
            "p{percent} of a friend's connection and round trip: {before:?} before, {meanwhile:?} meanwhile ({:.2} times)",
            meanwhile.as_secs_f64() / before.as_secs_f64(),
        );
    }
    println!("{} round trips each; {}", with.len(), guard.status());
    assert_eq!(guard.status().refused, u64::from(STRANGERS));
    let (before, meanwhile) = (at(&mut without, 99), at(&mut with, 99));
    assert!(meanwhile <= before * 2, "{meanwhile:?} against {before:?}");
}
