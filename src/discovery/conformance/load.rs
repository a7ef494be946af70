//! Many instances, many changes.

use std::time::Duration;

use futures_util::future::{join, join_all};
use tokio::time;

use super::check::Done;
use super::subject::Subject;
use super::watching::{addr, at, find, worker};

pub(super) async fn many_instances_come_and_go(subject: &dyn Subject) -> Done {
    let count = u32::try_from(subject.most_instances().clamp(20, 100_000)).unwrap_or(20);
    let all: Vec<u32> = (1..=count).collect();
    let mut watch = subject.watch("default/worker:http");
    let announcing = all.iter().map(|number| subject.announced(worker(*number)));
    let mut leases = join_all(announcing).await;
    watch.until_found(&all).await;
    let mut late = subject.watch("default/worker:http");
    let first = late.set().await;
    assert_eq!(late.found(&first), all, "the first answer is whole");
    let _stays = leases.pop();
    drop(leases);
    watch.until_found(&[count]).await;
    late.until_found(&[count]).await;
    Done::Passed
}

/// Moves ten instances about, a thousand times in a second at most.
pub(super) async fn the_last_of_many_changes_wins(subject: &dyn Subject) -> Done {
    const CHANGES: u16 = 1000;
    let numbers: Vec<u32> = (1..=10).collect();
    let mut leases = Vec::new();
    for number in &numbers {
        leases.push(subject.announced(worker(*number)).await);
    }
    let mut watch = subject.watch("default/worker:http");
    // Nobody looks at it until the changes are over.
    let mut sleepy = subject.watch("default/worker:http");
    sleepy.until_found(&numbers).await;
    let changing = async {
        let mut pace = time::interval(Duration::from_millis(1));
        for (change, (number, lease)) in (0..CHANGES).zip(numbers.iter().zip(&leases).cycle()) {
            pace.tick().await;
            let moved = lease.add_endpoint("http", addr(*number, 1000 + change));
            moved.await.unwrap();
        }
    };
    let last = |number: u32| {
        let nth = u16::try_from(number).unwrap_or_default();
        addr(number, 1000 + CHANGES - 11 + nth)
    };
    let is_last = |set: &crate::model::instance::InstanceSet| {
        let addresses: Vec<_> = set.iter().map(at).collect();
        assert_eq!(set.len(), 10, "none was lost: {addresses:?}");
        numbers
            .iter()
            .all(|number| at(find(set, *number)) == last(*number))
    };
    join(watch.until(is_last), changing).await;
    sleepy.until(is_last).await;
    subject.watch("default/worker:http").until(is_last).await;
    Done::Passed
}
