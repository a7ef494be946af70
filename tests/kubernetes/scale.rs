//! What 10 000 instances cost: `cargo test --release --features kubernetes --test kubernetes scale -- --ignored --nocapture`.

use std::time::{Duration, Instant};

use rolecall::discovery::Kubernetes;
use tokio::process::Command;
use tokio::time;

use super::{Answers, DEADLINE, server, slice};

const INSTANCES: u32 = 10_000;
const IN_SLICE: u32 = 100;
const CHANGES: u32 = 100;
const PAUSE: Duration = Duration::from_millis(100);

/// Resident memory in KiB, and CPU time.
fn used() -> (u64, Duration) {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status
        .lines()
        .find(|line| line.starts_with("VmRSS:"))
        .unwrap();
    let rss = line.split_whitespace().nth(1).unwrap().parse().unwrap();
    let spent = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    let (seconds, nanos) = (spent.tv_sec.unsigned_abs(), spent.tv_nsec.unsigned_abs());
    (
        rss,
        Duration::from_secs(seconds) + Duration::from_nanos(nanos),
    )
}

/// The server is another process than what is measured.
#[tokio::test]
#[ignore = "it measures"]
async fn ten_thousand_instances_are_measured() {
    let server = server().await;
    let put = |number: u32, extra: u32| {
        let first = number * IN_SLICE;
        let pods = (first..first + IN_SLICE).chain((0..extra).map(|n| INSTANCES + n));
        server.put(slice(&format!("worker-{number}"), pods).into());
    };
    for number in 0..INSTANCES / IN_SLICE {
        put(number, 0);
    }
    let config = std::env::temp_dir().join(format!("rolecall-scale-{}", server.address().port()));
    std::fs::write(&config, server.kubeconfig()).unwrap();
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args([
            "--exact",
            "scale::a_watcher_of_ten_thousand_instances",
            "--ignored",
            "--nocapture",
        ])
        .env("KUBECONFIG", &config)
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let deadline = Instant::now() + DEADLINE;
    while server.counts().open_watches == 0 {
        assert!(Instant::now() < deadline, "the watcher does not come");
        time::sleep(PAUSE).await;
    }
    time::sleep(Duration::from_secs(2)).await;
    for change in 1..=CHANGES {
        put(change % (INSTANCES / IN_SLICE), 1);
        time::sleep(PAUSE).await;
    }
    put(0, 2);
    assert!(child.wait().await.unwrap().success());
    std::fs::remove_file(config).unwrap();
}

#[tokio::test]
#[ignore = "it is a part of the one above"]
async fn a_watcher_of_ten_thousand_instances() {
    let before = used();
    let mut answers = Answers::of(&Kubernetes::new(), "shop/worker:http");
    let set = answers.set_of(INSTANCES as usize).await;
    time::sleep(Duration::from_secs(1)).await;
    let listed = used();
    drop(set);
    answers
        .until("the last change", |set| set.len() == INSTANCES as usize + 2)
        .await;
    let watched = used();
    let per_change = (watched.1 - listed.1) / (CHANGES + 1);
    println!(
        "{INSTANCES} instances: {} KiB more resident, {:?} of CPU for the list, {per_change:?} for a change of one slice; at the end {} KiB",
        listed.0 - before.0,
        listed.1 - before.1,
        watched.0,
    );
}
