//! Calls that end in every way, at random: nothing of them is left.
//!
//! `ROLECALL_TEST_CALLS` sets how many there are, `ROLECALL_TEST_SEED` repeats a run. With the first one the descriptors of the
//! process are counted too, so no other test may run beside it: name it on the command line.

use std::time::Duration;

use bytes::Bytes;
use futures::stream;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::Frame;
use rand::rngs::SmallRng;
use rand::{Rng, RngExt, SeedableRng};
use rolecall::http::Body;
use tokio::task::JoinSet;

use crate::streaming::{Caller, Count, KINDS, Kind, Streaming, open_body};
use crate::support::within;

const PATHS: [&str; 9] = [
    "/",
    "/early",
    "/unread",
    "/duplex",
    "/duplex-unread",
    "/silent",
    "/error",
    "/upgrade",
    "/nowhere",
];

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |number| number.parse().unwrap())
}

/// Does one call, however it goes.
async fn call(caller: Caller, kind: Kind, bodies: Count, mut rng: SmallRng) {
    let mut path = PATHS[rng.random_range(0..PATHS.len())];
    if path == "/upgrade" && kind != Kind::Http1 {
        path = "/";
    }
    let size = [0, 1, 1000, 100_000][rng.random_range(0..4)];
    let data = Bytes::from(vec![b'x'; size]);
    let mut writer = None;
    let body = match rng.random_range(0..4) {
        0 => Body::empty(),
        1 => Body::new(Full::new(data)),
        2 => {
            let frames = [Ok(Frame::data(data)), Err(std::io::Error::other("no more"))];
            Body::new(StreamBody::new(stream::iter(frames)))
        }
        _ => {
            let (write, body) = open_body(&bodies);
            write.send(data).unwrap();
            writer = Some(write);
            body
        }
    };
    // Those that would wait for each other for ever are given up.
    let patience = Duration::from_micros(rng.random_range(0..20_000));
    let ends_body_first = rng.random_bool(0.5);
    if ends_body_first {
        writer = None;
    }
    let reads = rng.random_range(0..3);
    let exchange = async {
        let Ok(mut response) = caller.post(path, body).await else {
            return;
        };
        if path == "/upgrade" && reads > 0 {
            drop(hyper::upgrade::on(response).await);
            return;
        }
        match reads {
            0 => {}
            1 => drop(response.frame().await),
            _ => drop(response.into_body().collect().await),
        }
    };
    let _ = tokio::time::timeout(patience, exchange).await;
    drop(writer);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_left_of_calls_that_end_in_every_way() {
    let calls = number("ROLECALL_TEST_CALLS", 900);
    let seed = number(
        "ROLECALL_TEST_SEED",
        rand::make_rng::<SmallRng>().next_u64(),
    );
    println!("ROLECALL_TEST_SEED={seed} ROLECALL_TEST_CALLS={calls}");
    let mut rng = SmallRng::seed_from_u64(seed);
    let tasks = || {
        tokio::runtime::Handle::current()
            .metrics()
            .num_alive_tasks()
    };
    let tasks_before = tasks();
    let is_alone = std::env::var_os("ROLECALL_TEST_CALLS").is_some();
    let descriptors = || match is_alone {
        true => std::fs::read_dir("/proc/self/fd").unwrap().count(),
        false => 0,
    };
    let descriptors_before = descriptors();
    for kind in KINDS {
        let server = Streaming::start();
        let caller = Caller::new(kind, server.addr);
        let bodies = Count::default();
        let mut running = JoinSet::new();
        for _ in 0..calls / 3 {
            while running.len() >= 16 {
                within(running.join_next()).await.unwrap().unwrap();
            }
            let rng = SmallRng::seed_from_u64(rng.next_u64());
            running.spawn(call(caller.clone(), kind, bodies.clone(), rng));
        }
        while let Some(ended) = within(running.join_next()).await {
            ended.unwrap();
        }
        let idle = async {
            while bodies.get() + caller.in_flight() > 0 {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        let is_idle = tokio::time::timeout(Duration::from_secs(1), idle).await;
        assert!(
            is_idle.is_ok(),
            "{kind:?}: {} bodies, {} in flight",
            bodies.get(),
            caller.in_flight()
        );
        drop(caller);
        let closed = async {
            while server.sockets() > 0 {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        let is_closed = tokio::time::timeout(Duration::from_secs(1), closed).await;
        assert!(is_closed.is_ok(), "{kind:?}: {} open", server.sockets());
        let ended = async {
            while tasks() > tasks_before {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        let is_over = tokio::time::timeout(Duration::from_secs(1), ended).await;
        assert!(
            is_over.is_ok(),
            "{kind:?}: {} tasks",
            tasks() - tasks_before
        );
        drop(server);
        let closed = async {
            while descriptors() > descriptors_before {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        let is_closed = tokio::time::timeout(Duration::from_secs(1), closed).await;
        assert!(
            is_closed.is_ok(),
            "{kind:?}: {} descriptors, {descriptors_before} before",
            descriptors()
        );
    }
}
