//! Stand-ins and doubt, as a balancer and its status see them.

use std::time::Duration;

use rolecall::guard::Guard;
use rolecall::{BalanceLayer, Boundary, DiscoveryExt, Instance, InstanceSet, connect};
use tower::Layer;

use crate::source::{Source, set};

fn ids(count: usize) -> Vec<String> {
    (0..count).map(|n| format!("w-{n}")).collect()
}

fn many(count: usize, port: u16) -> rolecall::InstanceSet {
    let ids = ids(count);
    let ids: Vec<_> = ids.iter().map(String::as_str).collect();
    set(&ids, port)
}

async fn settle() {
    tokio::time::sleep(Duration::from_millis(1)).await;
}

#[tokio::test(start_paused = true)]
async fn a_guard_does_not_compare_with_a_stand_in_either() {
    let (first, other) = (Source::default(), Source::default());
    let guard = Guard::builder(first.clone().or(other.clone()), Boundary::default())
        .build()
        .unwrap();
    let admitted = || {
        (1..=10)
            .filter(|n| guard.admits([10, 0, 0, *n].into()))
            .count()
    };
    let peers = |count: u8| -> InstanceSet {
        let peer = |n| Instance::new(format!("w/{n}"), ([10, 0, 0, n], 0));
        (1..=count).map(peer).collect()
    };
    settle().await;
    other.say(Ok(peers(10)));
    guard.synced().await;
    settle().await;
    assert_eq!(admitted(), 10);
    first.say(Ok(peers(1)));
    settle().await;
    assert_eq!(admitted(), 1, "believed at once");
    first.say(Ok(peers(10)));
    settle().await;
    first.say(Ok(peers(1)));
    settle().await;
    assert_eq!(admitted(), 10, "compared with a real set");
}

#[tokio::test(start_paused = true)]
async fn no_set_is_doubted_by_comparison_with_a_stand_in() {
    let (first, other) = (Source::default(), Source::default());
    let layer = BalanceLayer::new(first.clone().or(other.clone()), "worker:http").unwrap();
    let balance = layer.layer(connect::per_instance(|_: &rolecall::Instance| {
        tower::service_fn(|(): ()| async { Ok::<_, std::io::Error>(()) })
    }));
    settle().await;
    other.say(Ok(many(10, 1)));
    settle().await;
    let status = balance.control().status();
    assert_eq!(status.usable, 10);
    assert!(status.is_provisional);
    assert!(status.to_string().contains("provisional"), "{status}");

    // One in ten, unconfirmed: after a set of the first itself it would be doubted.
    first.say(Ok(many(1, 1)));
    settle().await;
    let status = balance.control().status();
    assert_eq!(status.members.len(), 1);
    assert!(status.doubted_for.is_none() && !status.is_provisional);

    first.say(Ok(many(10, 1)));
    settle().await;
    first.say(Ok(many(1, 1)));
    settle().await;
    let status = balance.control().status();
    assert_eq!(status.members.len(), 10);
    assert!(status.doubted_for.is_some(), "compared with a real set");
}
