//! How often, when, and where to.

use std::collections::HashSet;
use std::time::Duration;

use futures::future::join_all;
use hyper::Method;
use rolecall::retry::Retry;
use rolecall::{BalanceConfig, ErrorKind};
use tower::retry::budget::{Budget, TpsBudget};

use crate::script::{Does, Stage, ask, idempotent};

const MS: Duration = Duration::from_millis(1);

#[tokio::test(start_paused = true)]
async fn what_was_not_sent_goes_to_another_instance_at_once() {
    let stage = Stage::new(2, [Does::Unsent]).await;
    let began = stage.elapsed();
    let answer = stage.send(&Retry::new(), ask(Method::POST)).await;
    assert_eq!(answer.unwrap().status(), 200);
    assert_eq!(stage.elapsed(), began, "without a wait");
    let instances = stage.instances();
    assert_eq!(instances.len(), 2);
    assert_ne!(instances[0], instances[1]);
}

#[tokio::test(start_paused = true)]
async fn each_attempt_goes_to_an_instance_that_was_not_tried() {
    for round in 0..20 {
        let failures = [Does::Answer(503), Does::Break, Does::Answer(502)];
        let stage = Stage::new(4, failures).await;
        let answer = stage.send(&Retry::new().attempts(4), idempotent()).await;
        assert_eq!(answer.unwrap().status(), 200);
        let tried = HashSet::<_>::from_iter(stage.instances());
        assert_eq!(tried.len(), 4, "round {round}: every instance once");
    }
}

#[tokio::test(start_paused = true)]
async fn an_attempt_that_times_out_is_made_again_elsewhere_if_that_is_safe() {
    let config = || BalanceConfig::builder().outlier(None).build().unwrap();
    let stage = Stage::limited(config(), 100 * MS, 2, [Does::Hang]).await;
    let answer = stage.send(&Retry::new(), idempotent()).await;
    assert_eq!(answer.unwrap().status(), 200);
    let instances = stage.instances();
    assert_eq!(instances.len(), 2);
    assert_ne!(instances[0], instances[1]);

    stage.then([Does::Hang]);
    let error = stage.send(&Retry::new(), ask(Method::POST)).await;
    let error = error.unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::Deadline) && error.was_sent());
    assert_eq!(stage.instances().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn the_same_instance_is_tried_again_where_there_is_no_other() {
    let stage = Stage::new(1, [Does::Answer(503)]).await;
    let answer = stage.send(&Retry::new(), idempotent()).await;
    assert_eq!(answer.unwrap().status(), 200);
    assert_eq!(stage.instances(), ["0", "0"]);
}

#[tokio::test(start_paused = true)]
async fn attempts_are_counted_with_the_first() {
    for (attempts, made) in [(0, 1), (1, 1), (2, 2), (5, 5)] {
        for does in [Does::Answer(503), Does::Break] {
            let stage = Stage::new(3, [does; 10]).await;
            let retry = Retry::new().attempts(attempts);
            let answer = stage.send(&retry, idempotent()).await;
            assert!(answer.is_err() || answer.unwrap().status() == 503);
            assert_eq!(stage.instances().len(), made);
        }
    }
    let stage = Stage::new(3, [Does::Unsent; 10]).await;
    let error = stage
        .send(&Retry::new(), ask(Method::POST))
        .await
        .unwrap_err();
    assert!(!error.was_sent());
    assert_eq!(
        stage.instances().len(),
        1 + 3,
        "the default, and the free one"
    );
}

#[tokio::test(start_paused = true)]
async fn backoff_doubles_within_its_bounds() {
    let stage = Stage::new(6, [Does::Break; 5]).await;
    let retry = Retry::new().attempts(6).backoff(20 * MS, 100 * MS);
    stage.send(&retry, idempotent()).await.unwrap();
    let made = stage.made();
    let waits = made.windows(2).map(|two| two[1].after - two[0].after);
    let bounds = [(20, 40), (40, 80), (80, 100), (100, 100), (100, 100)];
    for (wait, (least, most)) in waits.zip(bounds) {
        // tokio's timers are a millisecond late.
        let most = (most + 1) * MS;
        assert!((least * MS..=most).contains(&wait), "{wait:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn requests_that_failed_together_do_not_come_back_together() {
    let stage = Stage::new(4, [Does::Break; 20]).await;
    let retry = Retry::new().backoff(100 * MS, 1000 * MS);
    let answers = join_all((0..20).map(|_| stage.send(&retry, idempotent()))).await;
    assert!(answers.iter().all(Result::is_ok));
    let made = stage.made();
    let later = made.iter().skip(20).map(|made| made.after);
    let later = HashSet::<_>::from_iter(later).len();
    assert!(later > 10, "twenty came back at {later} moments");
}

#[tokio::test(start_paused = true)]
async fn bounds_of_the_backoff_that_make_no_sense_are_mended() {
    for (min, max) in [
        (Duration::ZERO, Duration::ZERO),
        (Duration::MAX, 2 * MS),
        (Duration::ZERO, Duration::MAX),
    ] {
        let stage = Stage::new(2, [Does::Break]).await;
        let retry = Retry::new().backoff(min, max);
        stage.send(&retry, idempotent()).await.unwrap();
        assert_eq!(stage.instances().len(), 2);
    }
}

#[tokio::test(start_paused = true)]
async fn an_empty_budget_ends_retries_of_what_was_sent_only() {
    let retry = Retry::new().budget(TpsBudget::new(Duration::from_secs(10), 0, 0.0));
    let stage = Stage::new(2, [Does::Answer(503)]).await;
    let answer = stage.send(&retry, idempotent()).await.unwrap();
    assert_eq!(answer.status(), 503);
    assert_eq!(stage.instances().len(), 1);
    stage.then([Does::Unsent]);
    stage.send(&retry, idempotent()).await.unwrap();
    assert_eq!(stage.instances().len(), 2);
}

#[tokio::test(start_paused = true)]
async fn answers_pay_for_retries_and_all_clones_share_the_purse() {
    // Two answers for one retry.
    let retry = Retry::new().budget(TpsBudget::new(Duration::from_secs(10), 0, 0.5));
    let stage = Stage::new(2, []).await;
    for _ in 0..2 {
        stage.send(&retry.clone(), idempotent()).await.unwrap();
    }
    stage.then([Does::Break, Does::Answer(200), Does::Break]);
    stage.send(&retry.clone(), idempotent()).await.unwrap();
    let second = stage.send(&retry.clone(), idempotent()).await;
    second.expect_err("one answer since is not enough");
}

#[tokio::test(start_paused = true)]
async fn nobody_to_ask_is_no_reason_to_ask_again() {
    let stage = Stage::new(0, []).await;
    let began = stage.elapsed();
    let error = stage.send(&Retry::new(), idempotent()).await.unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::Empty), "{error}");
    let waited = stage.elapsed() - began;
    assert!(waited <= 3 * Duration::from_secs(1) + 2 * MS, "{waited:?}");
}

#[tokio::test(start_paused = true)]
async fn a_saturated_fleet_is_not_asked_again() {
    let config = BalanceConfig::builder().max_in_flight(1).build().unwrap();
    let stage = Stage::with(config, 1, [Does::Hang]).await;
    let retry = Retry::new();
    let mut held = Box::pin(stage.send(&retry, idempotent()));
    assert!(futures::poll!(held.as_mut()).is_pending());
    let began = stage.elapsed();
    let error = stage.send(&retry, idempotent()).await.unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::Saturated), "{error}");
    assert_eq!(stage.elapsed(), began);
}

#[tokio::test(start_paused = true)]
async fn a_time_limit_below_is_a_failure_of_what_was_sent() {
    let stage = Stage::new(2, [Does::Hang; 2]).await;
    let retry = Retry::new();
    let limited = stage.send_limited(&retry, 50 * MS, ask(Method::POST)).await;
    limited.unwrap_err();
    assert_eq!(stage.instances().len(), 1);
    let limited = stage.send_limited(&retry, 50 * MS, idempotent()).await;
    assert_eq!(limited.unwrap().status(), 200);
    assert_eq!(stage.instances().len(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_request_dropped_while_it_waits_leaves_nothing_behind() {
    let stage = Stage::new(2, [Does::Break]).await;
    let retry = Retry::new();
    let mut call = Box::pin(stage.send(&retry, idempotent()));
    assert!(futures::poll!(call.as_mut()).is_pending(), "in its backoff");
    drop(call);
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(stage.instances().len(), 1);
    let members = stage.balance.control().status().members;
    assert!(members.iter().all(|member| member.in_flight == 0));
}

#[test]
fn without_timers_only_what_was_not_sent_is_sent_again() {
    let runtime = tokio::runtime::Builder::new_current_thread();
    let runtime = { runtime }.enable_time().build().unwrap();
    let stage = runtime.block_on(Stage::new(2, [Does::Unsent, Does::Break]));
    let answer = futures::executor::block_on(stage.send(&Retry::new(), idempotent()));
    answer.expect_err("there is nothing to wait by");
    assert_eq!(stage.instances().len(), 2);
}

/// What the documentation of [`Retry`] says of tower's budget.
#[tokio::test(start_paused = true)]
async fn the_default_budget_pays_more_than_ten_retries_a_second() {
    let budget = TpsBudget::default();
    let mut paid = 0;
    for _ in 0..60_000 / 7 {
        paid += u32::from(budget.withdraw());
        // Each slot of a second ends a little late, as with any real clock.
        tokio::time::advance(7 * MS).await;
    }
    assert!((900..=1_300).contains(&paid), "{paid} in 60 s");
}
