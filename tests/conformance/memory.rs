//! Many changes for a long time take no more memory than few.

use std::time::Duration;

use rolecall::discovery::{Backend, Folder};
use rolecall::{InstanceSet, Registry};
use tokio::time;

use crate::folder::InFolder;
use crate::support::{Answers, addr, worker};

/// Moves ten instances about, a thousand times a second for ten seconds.
async fn storm(backend: &dyn Backend) {
    let mut leases = Vec::new();
    for id in 0..10 {
        leases.push(backend.register(worker(&id.to_string())).await.unwrap());
    }
    let mut answers = Answers::of(backend, "worker:http");
    let last = |set: &InstanceSet| set.get("9").is_some_and(|w| *w.address() == addr(999));
    let watching = answers.until(last);
    let changing = async {
        let mut pace = time::interval(Duration::from_millis(1));
        let (mut settled, mut most) = (None, 0);
        for change in 0..10_000_u16 {
            pace.tick().await;
            let of = &leases[usize::from(change % 10)];
            of.add_endpoint("http", addr(1000 + change)).await.unwrap();
            if change % 500 == 499 {
                let now = resident();
                most = most.max(now.saturating_sub(*settled.get_or_insert(now)));
            }
        }
        leases[9].add_endpoint("http", addr(999)).await.unwrap();
        most
    };
    let (_, most) = futures::join!(watching, changing);
    println!("resident memory rose by at most {most} KiB");
    assert!(most < 8 * 1024, "memory rose by {most} KiB");
}

/// KiB of this process in memory.
fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|line| line.trim().strip_suffix(" kB"));
    kib.and_then(|kib| kib.trim().parse().ok()).unwrap_or(0)
}

#[tokio::test]
#[ignore = "ten seconds, and it measures the memory of the whole process: run it alone"]
async fn a_thousand_changes_a_second_in_a_registry() {
    storm(&Registry::new()).await;
}

#[tokio::test]
#[ignore = "ten seconds, and it measures the memory of the whole process: run it alone"]
async fn a_thousand_changes_a_second_in_a_folder() {
    let folder = InFolder::default();
    storm(&Folder::new(&folder.path)).await;
}
