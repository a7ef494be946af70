//! Requests go on whatever becomes of the server, and reach a new instance soon.

use std::time::{Duration, Instant};

use etcd_client::{PutOptions, Txn, TxnOp};
use rolecall::discovery::backend::Record;
use rolecall::discovery::{Etcd, LeaseState};
use rolecall::{Lease, Registrar, Registration};
use tokio::time;

use crate::server::Server;
use crate::traffic::{Outcomes, Traffic, Worker};
use crate::{PATIENCE, foreign, until_state};

fn open(server: &Server, ttl: u64) -> Etcd {
    let builder = Etcd::builder([server.endpoint()]);
    builder.ttl(Duration::from_secs(ttl)).build().unwrap()
}

async fn register(backend: &Etcd, worker: &Worker) -> Lease {
    let registration = Registration::new("worker").endpoint("http", worker.addr);
    backend.register(registration).await.unwrap()
}

/// Four workers under load, before, during and after what `happens`.
async fn under_load(ttl: u64, happens: impl AsyncFnOnce(&mut Server)) -> Outcomes {
    let mut server = Server::start();
    // In three processes it would be three handles.
    let (workers, backend) = (open(&server, ttl), open(&server, ttl));
    let mut serving = Vec::new();
    for _ in 0..4 {
        let worker = Worker::start().await;
        let lease = register(&workers, &worker).await;
        serving.push((worker, lease));
    }
    let traffic = Traffic::start(backend);
    let all_serve = async |serving: &[(Worker, Lease)]| {
        let before: Vec<u64> = serving.iter().map(|(worker, _)| worker.served()).collect();
        let served = async {
            while serving
                .iter()
                .zip(&before)
                .any(|((worker, _), before)| worker.served() <= before + 20)
            {
                time::sleep(Duration::from_millis(10)).await;
            }
        };
        time::timeout(PATIENCE, served).await.expect("each serves");
    };
    all_serve(&serving).await;
    happens(&mut server).await;
    for (_, lease) in &serving {
        until_state(lease, |state| matches!(state, LeaseState::Announced)).await;
    }
    all_serve(&serving).await;
    let outcomes = traffic.finish().await;
    println!("{outcomes:?}");
    assert!(outcomes.failed.is_empty(), "{:?}", outcomes.failed);
    outcomes
}

async fn killed(pause: Duration) {
    let happens = async |server: &mut Server| {
        server.kill();
        time::sleep(pause).await;
        server.restart();
        time::sleep(Duration::from_secs(3)).await;
    };
    under_load(2, happens).await;
}

async fn stopped(pause: Duration) {
    let happens = async |server: &mut Server| {
        server.freeze();
        time::sleep(pause).await;
        server.thaw();
        time::sleep(Duration::from_secs(3)).await;
    };
    under_load(2, happens).await;
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
async fn a_server_that_lost_its_data_fails_no_request() {
    let happens = async |server: &mut Server| {
        server.lose_data();
        time::sleep(Duration::from_secs(3)).await;
    };
    under_load(2, happens).await;
}

#[tokio::test]
async fn garbage_and_an_emptied_role_fail_no_request() {
    let happens = async |server: &mut Server| {
        let mut client = foreign(server).await;
        for number in 0..50 {
            let key = format!("rolecall/default/worker/{number}");
            client.put(key, "no record", None).await.unwrap();
        }
        let prefix = "rolecall/default/worker/";
        let listed = etcd_client::GetOptions::new().with_prefix();
        for stored in client.get(prefix, Some(listed)).await.unwrap().kvs() {
            let options = PutOptions::new().with_ignore_lease();
            let overwritten = client.put(stored.key(), "garbage", Some(options));
            overwritten.await.unwrap();
        }
        time::sleep(Duration::from_secs(1)).await;
        let all = etcd_client::DeleteOptions::new().with_prefix();
        client.delete(prefix, Some(all)).await.unwrap();
        time::sleep(Duration::from_secs(3)).await;
    };
    under_load(2, happens).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[expect(clippy::disallowed_methods, reason = "measures real time")]
async fn a_new_instance_gets_requests_at_once() {
    let server = Server::start();
    let backend = open(&server, 10);
    let first = Worker::start().await;
    let _lease = register(&backend, &first).await;
    let traffic = Traffic::start(open(&server, 10));
    let mut took = Vec::new();
    // They serve on, since requests may still be on their way.
    let mut former = Vec::new();
    for _ in 0..21 {
        let worker = Worker::start().await;
        let began = Instant::now();
        let lease = register(&backend, &worker).await;
        let served = async {
            while worker.served() == 0 {
                time::sleep(Duration::from_micros(200)).await;
            }
        };
        time::timeout(PATIENCE, served).await.expect("it serves");
        took.push(began.elapsed());
        lease.deregister().await.unwrap();
        former.push(worker);
    }
    let outcomes = traffic.finish().await;
    assert!(outcomes.failed.is_empty(), "{:?}", outcomes.failed);
    took.sort_unstable();
    println!(
        "from registration to the first request: median {:?}, {took:?}",
        took[10]
    );
    // The promise is 50 ms; a machine that builds something else meanwhile is slower.
    assert!(took[10] < Duration::from_secs(1));
}

const CHANGED: usize = 1000;
const ROUNDS: u16 = 10;

fn key(number: usize) -> String {
    format!("rolecall/default/worker/w-{number}")
}

fn record(number: usize, port: u16) -> Vec<u8> {
    let [high, low] = u16::try_from(number).unwrap().to_be_bytes();
    let id = format!("w-{number}");
    let registration = crate::worker(&id).endpoint("http", ([10, 0, high, low], port));
    let record = Record::from(registration.validate().unwrap());
    serde_json::to_vec(&record).unwrap()
}

/// 1 000 instances, each changed once a second for 10 s, by another process.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[expect(clippy::disallowed_methods, reason = "measures real time")]
async fn of_a_thousand_changes_a_second_the_last_state_wins() {
    let server = Server::start();
    let mut client = foreign(&server).await;
    for first in (0..CHANGED).step_by(100) {
        let put = |number| TxnOp::put(key(number), record(number, 80), None);
        let puts: Vec<_> = (first..first + 100).map(put).collect();
        client.txn(Txn::new().and_then(puts)).await.unwrap();
    }
    let mut answers = crate::Answers::of(&open(&server, 10), "worker:http");
    answers.until(|set| set.len() == CHANGED).await;
    let (cpu, began) = (crate::cost::cpu(), Instant::now());
    let mut writer = tokio::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "load::writer", "--ignored", "--nocapture"])
        .env("ROLECALL_TEST_ETCD", server.endpoint())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut sets = 0;
    let last = |set: &rolecall::InstanceSet| {
        let port = 1000 + ROUNDS;
        set.iter().all(|it| it.address().port() == Some(port))
    };
    let set = loop {
        let set = answers.next().await.expect("no error");
        assert_eq!(set.len(), CHANGED, "nobody leaves");
        sets += 1;
        if last(&set) {
            break set;
        }
    };
    let (cpu, took) = (crate::cost::cpu() - cpu, began.elapsed());
    assert!(writer.wait().await.unwrap().success());
    println!("{sets} sets of {CHANGED} in {took:?}, {cpu:?} of CPU");
    // Nothing follows that is older.
    let more = time::timeout(Duration::from_secs(1), answers.next()).await;
    assert!(more.is_err() || last(&set), "{more:?}");
}

/// The other process.
#[tokio::test]
#[ignore = "started by the test above"]
#[expect(clippy::disallowed_methods, reason = "it works in real time")]
async fn writer() {
    let Ok(endpoint) = std::env::var("ROLECALL_TEST_ETCD") else {
        return;
    };
    let client = etcd_client::Client::connect([endpoint], None)
        .await
        .unwrap();
    let began = Instant::now();
    let mut pace = time::interval(Duration::from_millis(10));
    // The next ten do not wait for the last ones, but those of one instance are in order.
    let mut writing: Vec<Option<tokio::task::JoinHandle<()>>> = Vec::new();
    writing.resize_with(CHANGED / 10, || None);
    for round in 1..=ROUNDS {
        for (ten, written) in writing.iter_mut().enumerate() {
            pace.tick().await;
            if let Some(earlier) = written.take() {
                earlier.await.unwrap();
            }
            let client = client.clone();
            *written = Some(tokio::spawn(async move {
                let puts = (ten * 10..ten * 10 + 10).map(|number| {
                    let mut client = client.clone();
                    async move {
                        client
                            .put(key(number), record(number, 1000 + round), None)
                            .await
                    }
                });
                futures::future::try_join_all(puts).await.unwrap();
            }));
        }
    }
    for written in writing.into_iter().flatten() {
        written.await.unwrap();
    }
    let changes = CHANGED * usize::from(ROUNDS);
    println!("{changes} changes in {:?}", began.elapsed());
}
