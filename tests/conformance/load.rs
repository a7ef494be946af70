//! Many instances, many changes.

use std::time::Duration;

use futures::future::join_all;
use tokio::time;

use crate::subject::{Answers, Subject, addr, worker};

pub(crate) async fn ten_thousand_instances(subject: &dyn Subject) {
    const COUNT: usize = 10_000;
    let backend = subject.open();
    let mut answers = Answers::of(&subject.open(), "worker:http");
    let registering = (0..COUNT).map(|id| backend.register(worker(&id.to_string())));
    let mut leases = Vec::new();
    for lease in join_all(registering).await {
        leases.push(lease.unwrap());
    }
    answers.until(|set| set.len() == COUNT).await;
    let mut late = Answers::of(&subject.open(), "worker:http");
    assert_eq!(late.set().await.len(), COUNT, "the first answer is whole");
    let stays = leases.pop().unwrap();
    drop(leases);
    answers.until(|set| set.len() == 1).await;
    late.until(|set| set.get(stays.id()).is_some() && set.len() == 1)
        .await;
}

/// Moves ten instances about: `changes` in all, `a_second`.
async fn storm(subject: &dyn Subject, changes: u32, a_second: u32, mut each: impl FnMut(u32)) {
    let backend = subject.open();
    let mut leases = Vec::new();
    for id in 0..10 {
        leases.push(backend.register(worker(&id.to_string())).await.unwrap());
    }
    let mut answers = Answers::of(&subject.open(), "worker:http");
    // Looks at nothing until the storm is over.
    let mut sleepy = Answers::of(&subject.open(), "worker:http");
    sleepy.until(|set| set.len() == 10).await;
    let (last, is_last) = tokio::sync::watch::channel(None);
    let watching = async {
        answers
            .until(|set| {
                let at = |id: &str| {
                    set.get(id)
                        .map(|instance| instance.address().port().unwrap())
                };
                is_last.borrow().is_some_and(|last| at("9") == Some(last))
            })
            .await;
    };
    let changing = async {
        let mut pace = time::interval(Duration::from_secs(1) / a_second);
        for change in 0..changes {
            pace.tick().await;
            let port = 1000 + u16::try_from(change % 60_000).unwrap();
            let of = usize::try_from(change % 10).unwrap();
            leases[of].add_endpoint("http", addr(port)).await.unwrap();
            each(change);
        }
        // A value that none had before, so that seeing it is seeing the last.
        last.send_replace(Some(999));
        leases[9].add_endpoint("http", addr(999)).await.unwrap();
    };
    futures::join!(watching, changing);
    let ports = |set: &rolecall::InstanceSet| -> Vec<u16> {
        set.iter()
            .map(|instance| instance.address().port().unwrap())
            .collect()
    };
    let first = 1000 + u16::try_from((changes - 10) % 60_000).unwrap();
    let mut wanted: Vec<u16> = (first..first + 10).collect();
    wanted[9] = 999;
    sleepy.until(|set| ports(set) == wanted).await;
    let mut fresh = Answers::of(&subject.open(), "worker:http");
    assert_eq!(ports(&fresh.set().await), wanted);
}

pub(crate) async fn the_last_of_many_changes_wins(subject: &dyn Subject) {
    storm(subject, 1000, 1000, |_| {}).await;
}

pub(crate) async fn a_thousand_changes_a_second(subject: &dyn Subject) {
    let mut settled = None;
    let mut most = 0;
    storm(subject, 10_000, 1000, |change| {
        if change % 500 == 499 {
            let now = resident();
            let settled = *settled.get_or_insert(now);
            most = most.max(now.saturating_sub(settled));
        }
    })
    .await;
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
