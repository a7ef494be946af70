//! How many calls may wait.

use std::time::Duration;

use futures::FutureExt;
use rolecall::{BalanceConfig, ErrorKind};
use tokio::time::Instant;
use tower::Service;

use crate::support::{Gets, Stage, set};

fn at_most(calls: u32) -> BalanceConfig {
    let config = BalanceConfig::builder().max_waiting(calls);
    config.build().unwrap()
}

#[tokio::test(start_paused = true)]
async fn one_call_more_than_may_wait_for_an_instance_fails_at_once() {
    let stage = Stage::unfed(at_most(2));
    let mut balance = stage.balance.clone();
    let waiting = [balance.call(()), balance.call(())];
    let began = Instant::now();
    let refused = stage.call().await.unwrap_err();
    assert!(
        matches!(refused.kind(), ErrorKind::Saturated),
        "{refused:?}"
    );
    assert!(!refused.was_sent() && refused.instance().is_none());
    let source = std::error::Error::source(&refused).unwrap().to_string();
    assert!(
        source.contains("max_waiting") && source.contains('2'),
        "{source}"
    );
    assert_eq!(began.elapsed(), Duration::ZERO, "without a wait");

    stage.announce(set(["a"]));
    for call in waiting {
        assert_eq!(call.await.unwrap(), "a");
    }
    assert_eq!(stage.call().await.unwrap(), "a", "their places are free");
}

#[tokio::test(start_paused = true)]
async fn a_call_that_is_given_up_frees_its_place() {
    let stage = Stage::unfed(at_most(1));
    let mut balance = stage.balance.clone();
    for _ in 0..3 {
        let first = balance.call(());
        let refused = stage.call().now_or_never().unwrap().unwrap_err();
        assert!(matches!(refused.kind(), ErrorKind::Saturated));
        drop(first);
    }
    let error = balance.call(()).await.unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::Unresolved), "{error:?}");
}

#[tokio::test(start_paused = true)]
async fn calls_that_wait_for_a_service_to_get_ready_count_too() {
    let stage = Stage::with(at_most(1), &["a"]).await;
    stage.node("a").when_polled(Gets::Nowhere);
    let mut balance = stage.balance.clone();
    let first = balance.call(());
    let refused = stage.call().await.unwrap_err();
    assert!(
        matches!(refused.kind(), ErrorKind::Saturated),
        "{refused:?}"
    );
    assert_eq!(stage.in_flight(), 1, "the refused call holds no slot");
    stage.node("a").when_polled(Gets::Ready);
    assert_eq!(first.await.unwrap(), "a");
    assert_eq!(stage.member("a").failures, 0);
}

#[tokio::test(start_paused = true)]
async fn a_lost_connection_is_dialled_again_though_its_call_may_not_wait() {
    let stage = Stage::with(at_most(1), &["a", "b"]).await;
    let (a, b) = (stage.node("a"), stage.node("b"));
    a.when_polled(Gets::Nowhere);
    b.when_polled(Gets::Nowhere);
    let mut balance = stage.balance.clone();
    let first = balance.call(());
    a.when_polled(Gets::Refused);
    b.when_polled(Gets::Refused);
    let refused = stage.call().await.unwrap_err();
    assert!(matches!(refused.kind(), ErrorKind::Saturated));
    a.when_polled(Gets::Ready);
    b.when_polled(Gets::Ready);
    stage.until(|_| a.dials() + b.dials() == 3).await;
    drop(first);
    assert!(stage.call().await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn calls_that_are_sent_do_not_count() {
    let stage = Stage::with(at_most(1), &["a"]).await;
    let mut balance = stage.balance.clone();
    let calls: Vec<_> = (0..10).map(|_| balance.call(())).collect();
    assert_eq!(stage.in_flight(), 10);
    for answer in futures::future::join_all(calls).await {
        assert_eq!(answer.unwrap(), "a");
    }
}

#[tokio::test(start_paused = true)]
async fn another_limit_counts_from_the_next_call_on() {
    let stage = Stage::unfed(at_most(2));
    let mut balance = stage.balance.clone();
    let first = [balance.call(()), balance.call(())];
    stage.balance.control().reconfigure(at_most(1));
    let refused = balance.call(()).now_or_never().unwrap().unwrap_err();
    assert!(matches!(refused.kind(), ErrorKind::Saturated));
    stage
        .balance
        .control()
        .reconfigure(BalanceConfig::default());
    let more: Vec<_> = (0..100).map(|_| balance.call(())).collect();
    stage.announce(set(["a"]));
    for call in first.into_iter().chain(more) {
        assert_eq!(call.await.unwrap(), "a");
    }
}
