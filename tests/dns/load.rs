//! Requests go on whatever becomes of the server.

use std::time::{Duration, Instant};

use rolecall::discovery::Dns;
use tokio::net::TcpListener;
use tokio::time;

use crate::PATIENCE;
use crate::server::Server;
use crate::traffic::{Traffic, Worker};

const WORKER: &str = "_http._tcp.worker.default.svc.test.";

fn open(server: &Server) -> Dns {
    Dns::srv("svc.test")
        .servers([server.addr()])
        .timeout(Duration::from_millis(500))
}

fn records(number: usize, worker: &Worker) -> [String; 2] {
    let port = worker.addr.port();
    [
        format!("add {WORKER} 1 SRV 0 10 {port} w{number}.svc.test."),
        format!("add w{number}.svc.test. 1 A 127.0.0.1"),
    ]
}

async fn all_serve(serving: &[Worker]) {
    let before: Vec<u64> = serving.iter().map(Worker::served).collect();
    let served = async {
        let lacks = |(worker, before): (&Worker, &u64)| worker.served() <= before + 20;
        while serving.iter().zip(&before).any(lacks) {
            time::sleep(Duration::from_millis(10)).await;
        }
    };
    time::timeout(PATIENCE, served).await.expect("each serves");
}

/// Four workers under load, before, during and after what `happens`; then one more comes.
async fn under_load(happens: impl AsyncFnOnce(&mut Server)) {
    let mut server = Server::start();
    let mut serving = Vec::new();
    for number in 0..4 {
        let worker = Worker::start().await;
        server.update(&records(number, &worker));
        serving.push(worker);
    }
    let traffic = Traffic::start(open(&server));
    all_serve(&serving).await;
    happens(&mut server).await;
    for (number, worker) in serving.iter().enumerate() {
        server.update(&records(number, worker));
    }
    let fifth = Worker::start().await;
    server.update(&records(4, &fifth));
    serving.push(fifth);
    all_serve(&serving).await;
    let outcomes = traffic.finish().await;
    println!("{outcomes:?}");
    assert!(outcomes.failed.is_empty(), "{:?}", outcomes.failed);
}

async fn killed(pause: Duration) {
    let happens = async |server: &mut Server| {
        server.kill();
        time::sleep(pause).await;
        server.restart();
    };
    under_load(happens).await;
}

async fn stopped(pause: Duration) {
    let happens = async |server: &mut Server| {
        server.freeze();
        time::sleep(pause).await;
        server.thaw();
    };
    under_load(happens).await;
}

#[tokio::test]
async fn a_killed_server_fails_no_request() {
    killed(Duration::from_secs(4)).await;
}

#[tokio::test]
#[ignore = "20 s"]
async fn a_server_killed_for_20_s_fails_no_request() {
    killed(Duration::from_secs(20)).await;
}

#[tokio::test]
async fn a_stopped_server_fails_no_request() {
    stopped(Duration::from_secs(4)).await;
}

#[tokio::test]
#[ignore = "20 s"]
async fn a_server_stopped_for_20_s_fails_no_request() {
    stopped(Duration::from_secs(20)).await;
}

#[tokio::test]
async fn servfail_and_an_emptied_zone_fail_no_request() {
    let happens = async |server: &mut Server| {
        server.break_zone();
        time::sleep(Duration::from_secs(3)).await;
        server.empty_zone();
        time::sleep(Duration::from_secs(3)).await;
    };
    under_load(happens).await;
}

/// The A record leads nowhere, and then the AAAA record does.
#[tokio::test]
async fn of_two_addresses_one_that_works_is_enough() {
    for dead in ["A 127.9.9.9", "AAAA 100::1"] {
        let server = Server::start();
        let worker = Worker::serve(TcpListener::bind("[::]:0").await.unwrap());
        let port = worker.addr.port();
        let alive = if dead.starts_with('A') && !dead.starts_with("AAAA") {
            "AAAA ::1"
        } else {
            "A 127.0.0.1"
        };
        server.update(&[
            format!("add {WORKER} 1 SRV 0 10 {port} w.svc.test."),
            format!("add w.svc.test. 1 {dead}"),
            format!("add w.svc.test. 1 {alive}"),
        ]);
        let serving = [worker];
        let traffic = Traffic::start(open(&server));
        all_serve(&serving).await;
        let outcomes = traffic.finish().await;
        assert!(outcomes.failed.is_empty(), "{dead}: {:?}", outcomes.failed);
    }
}

/// A TTL of an hour; the only instance dies, and its successor is in the zone.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[expect(clippy::disallowed_methods, reason = "measures real time")]
async fn failing_dials_find_the_successor() {
    let server = Server::start();
    let first = Worker::start().await;
    let record = |number: usize, worker: &Worker| {
        records(number, worker).map(|record| record.replace(" 1 ", " 3600 "))
    };
    server.update(&record(0, &first));
    let traffic =
        Traffic::start(open(&server).ttl_bounds(Duration::from_secs(1), Duration::from_secs(3600)));
    all_serve(std::slice::from_ref(&first)).await;
    let second = Worker::start().await;
    let [added, address] = record(1, &second);
    server.update(&[format!("delete {WORKER}"), added, address]);
    drop(first);
    let began = Instant::now();
    let served = async {
        while second.served() == 0 {
            time::sleep(Duration::from_millis(1)).await;
        }
    };
    time::timeout(PATIENCE, served).await.expect("it serves");
    let took = began.elapsed();
    println!("the successor served {took:?} after the death of its predecessor");
    // The promise is 1.5 s; a machine that builds something else meanwhile is slower.
    assert!(took < Duration::from_secs(10));
    traffic.finish().await;
}
