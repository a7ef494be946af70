//! Stand-ins and doubt, as a balancer and its status see them.

use std::time::Duration;

use rolecall::{BalanceLayer, DiscoveryExt, connect};
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
    assert!(
        status.to_string().contains("provisional set 0.0 s old"),
        "{status}"
    );

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
