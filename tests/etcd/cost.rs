//! What a watcher of many instances costs.

use std::time::{Duration, Instant};

use etcd_client::{PutOptions, Txn, TxnOp};
use rolecall::discovery::backend::Record;
use tokio::time;

use crate::server::Server;
use crate::{Answers, foreign, open, worker};

/// Writes 10 000 records, watches them, and changes one after the other; prints memory and CPU of this process.
#[tokio::test]
#[ignore = "it measures this process, so it has to run alone"]
#[expect(clippy::disallowed_methods, reason = "measures real time")]
async fn a_watcher_of_ten_thousand_instances() {
    const COUNT: usize = 10_000;
    let server = Server::start();
    let mut client = foreign(&server).await;
    let lease = client.lease_grant(600, None).await.unwrap().id();
    let put = |number: usize, port: u16| {
        let id = format!("worker-{number:05}");
        let [high, low] = u16::try_from(number).unwrap().to_be_bytes();
        let registration = worker(&id).endpoint("http", ([10, 0, high, low], port));
        let registration = registration.zone("eu-1a").metadata("version", "1.2.3");
        let record = Record::from(registration.validate().unwrap());
        let value = serde_json::to_vec(&record).unwrap();
        let options = PutOptions::new().with_lease(lease);
        TxnOp::put(
            format!("rolecall/default/worker/{id}"),
            value,
            Some(options),
        )
    };
    for first in (0..COUNT).step_by(100) {
        let puts: Vec<_> = (first..first + 100).map(|number| put(number, 80)).collect();
        client.txn(Txn::new().and_then(puts)).await.unwrap();
    }
    let before = (resident(), cpu());
    let began = Instant::now();
    let mut answers = Answers::of(&open(&server), "worker:http");
    let set = answers.until(|set| set.len() == COUNT).await;
    let listed = (resident() - before.0, cpu() - before.1, began.elapsed());
    println!(
        "listed: {} KiB, {:?} of CPU, {:?}",
        listed.0, listed.1, listed.2
    );
    drop(set);

    let before = cpu();
    let began = Instant::now();
    let mut pace = time::interval(Duration::from_millis(10));
    for number in 0..1000 {
        pace.tick().await;
        client
            .txn(Txn::new().and_then([put(number, 81)]))
            .await
            .unwrap();
        // The watcher makes a set of each change.
        answers
            .until(|set| {
                set.get(format!("worker-{number:05}").as_str())
                    .is_some_and(|it| it.address().port() == Some(81))
            })
            .await;
    }
    let took = began.elapsed();
    println!(
        "1000 changes, a set of each: {:?} of CPU in {took:?}, the writer's included",
        cpu() - before
    );
    println!("at the end: {} KiB", resident());
}

/// KiB of this process in memory.
fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.unwrap()
        .trim()
        .trim_end_matches(" kB")
        .parse()
        .unwrap()
}

/// User and system time of this process.
pub(crate) fn cpu() -> Duration {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let fields: Vec<_> = stat.rsplit(") ").next().unwrap().split(' ').collect();
    let ticks: u64 = [11, 12]
        .map(|at| fields[at].parse::<u64>().unwrap())
        .iter()
        .sum();
    Duration::from_millis(ticks * 10)
}
