//! The time that an attempt has for its answer.

use std::convert::Infallible;
use std::future::{Future, pending, poll_fn};
use std::io;
use std::pin::pin;
use std::sync::{Arc, Mutex};
use std::task::{Poll, ready};
use std::time::Duration;

use rolecall::{
    Attempt, BalanceConfig, BalanceLayer, Classify, EjectionReason, ErrorKind, Failed, Instance,
    InstanceId, List, MemberState, connect,
};
use tokio::runtime::Builder;
use tokio::task::coop::consume_budget;
use tokio::time::{Instant, sleep};
use tower::{Layer, Service, service_fn};

use crate::support::{Does, Gets, Stage, World, instance, set};

const MS: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);

#[tokio::test(start_paused = true)]
async fn a_hung_instance_is_ejected_though_no_caller_gives_up() {
    for limit in [None, Some(250 * MS)] {
        let ids = ["a", "b", "c", "d"];
        let stage = Stage::limited(BalanceConfig::default(), limit, &ids).await;
        stage.shares(100).await;
        stage.node("a").when_called(Does::Hang);
        let mut callers = Vec::new();
        // A minute of traffic at most.
        while callers.len() < 6000 && stage.state("a") != Some(MemberState::Ejected) {
            callers.push(tokio::spawn(stage.balance.clone().call(())));
            sleep(10 * MS).await;
        }
        let member = stage.member("a");
        if limit.is_none() {
            assert_eq!(member.state, MemberState::Usable, "no rule can see it");
            assert_eq!(member.failures, 0);
            continue;
        }
        assert_eq!(member.state, MemberState::Ejected);
        let reason = member.ejection.unwrap().reason;
        let is_unresponsive = matches!(reason, EjectionReason::Unresponsive { .. });
        assert!(is_unresponsive, "{reason}");
        let mut unanswered = 0;
        for caller in callers {
            unanswered += u64::from(caller.await.unwrap().is_err());
        }
        let failures = stage.member("a").failures;
        assert!(
            (1..=unanswered).contains(&failures),
            "{failures} of {unanswered}"
        );
        assert_eq!(stage.in_flight(), 0);
    }
}

#[tokio::test(start_paused = true)]
async fn an_attempt_without_an_answer_ends_in_time_and_its_error_says_so() {
    let stage = Stage::limited(BalanceConfig::default(), Some(100 * MS), &["a"]).await;
    let a = stage.node("a");
    // Longer than the limit, and no hang by the fleet's own standard: it counts all the same.
    for (does, failures) in [(Does::Hang, 1), (Does::Answer(101 * MS), 2)] {
        a.when_called(does);
        let began = Instant::now();
        let error = stage.call().await.unwrap_err();
        let took = began.elapsed();
        assert!((100 * MS..=102 * MS).contains(&took), "{took:?}");
        assert!(matches!(error.kind(), ErrorKind::Deadline), "{error:?}");
        assert_eq!(error.instance(), Some(&InstanceId::from("a")));
        assert!(error.was_sent());
        assert_eq!(
            error.to_string(),
            "default/worker:http: time ran out while instance a had the call"
        );
        let source = error.into_source().unwrap();
        assert!(source.to_string().contains("100ms"), "{source}");
        let source = source.downcast::<io::Error>().unwrap();
        assert_eq!(source.kind(), io::ErrorKind::TimedOut);
        assert_eq!(a.alive(), 1, "the service's future is dropped");
        // Nobody is there for the late answer.
        sleep(SECOND).await;
        let member = stage.member("a");
        assert_eq!((member.failures, member.in_flight), (failures, 0));
    }
    a.when_called(Does::Answer(99 * MS));
    assert_eq!(stage.call().await.unwrap(), "a");
    assert_eq!(stage.member("a").failures, 2);
}

#[tokio::test(start_paused = true)]
async fn it_counts_as_a_failure_where_no_rule_looks_too() {
    let config = BalanceConfig::builder().outlier(None).build().unwrap();
    let stage = Stage::limited(config, Some(100 * MS), &["a", "b"]).await;
    stage.node("a").when_called(Does::Hang);
    stage.node("b").when_called(Does::Hang);
    for calls in 1..=20 {
        stage.call().await.unwrap_err();
        let members = stage.balance.control().status().members;
        assert_eq!(
            members.iter().map(|member| member.failures).sum::<u64>(),
            calls
        );
    }
}

#[tokio::test(start_paused = true)]
async fn the_wait_for_an_instance_is_no_part_of_it() {
    let stage = Stage::limited(BalanceConfig::default(), Some(100 * MS), &[]).await;
    let began = Instant::now();
    let error = stage.call().await.unwrap_err();
    assert!(!matches!(error.kind(), ErrorKind::Deadline), "{error}");
    assert_eq!(began.elapsed().as_secs(), 3);

    let a = stage.node("a");
    a.when_polled(Gets::Nowhere);
    stage.announce(set(["a"]));
    stage.until(|status| status.usable == 1).await;
    for (does, answers) in [(Does::Answer(50 * MS), true), (Does::Hang, false)] {
        a.when_called(does);
        let call = tokio::spawn(stage.balance.clone().call(()));
        sleep(10 * SECOND).await;
        a.when_polled(Gets::Ready);
        let began = Instant::now();
        assert_eq!(call.await.unwrap().is_ok(), answers);
        let took = if answers { 50 } else { 100 };
        assert!(began.elapsed() <= (took + 2) * MS);
        a.when_polled(Gets::Nowhere);
    }
    assert_eq!(stage.member("a").failures, 1);
}

#[tokio::test(start_paused = true)]
async fn what_comes_after_the_answer_has_begun_is_not_cut_off() {
    /// Leaves the attempt to the body.
    #[derive(Clone, Default)]
    struct Streaming(Arc<Mutex<Option<Attempt>>>);
    impl<Res, Err> Classify<(), Res, Err> for Streaming {
        type Response = Res;
        type Context = ();

        fn begin(&self, (): &()) {}

        fn classify(
            &self,
            (): (),
            result: Result<Res, Err>,
            mut attempt: Attempt,
        ) -> Result<Res, Failed<Err>> {
            attempt.answered();
            *self.0.lock().unwrap() = Some(attempt);
            result.map_err(Failed::sent)
        }
    }
    let streaming = Streaming::default();
    let list = List::new([instance("a")]).unwrap();
    let mut balance = BalanceLayer::new(list, "worker:http")
        .unwrap()
        .attempt_timeout(100 * MS)
        .classify(streaming.clone())
        .layer(World::default());
    balance.call(()).await.unwrap();
    sleep(60 * SECOND).await;
    assert_eq!(
        balance.control().status().members[0].in_flight,
        1,
        "the body goes on"
    );
    let attempt = streaming.0.lock().unwrap().take();
    attempt.unwrap().success();
    let member = balance.control().status().members.remove(0);
    assert_eq!((member.in_flight, member.failures), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn limits_out_of_range_count_as_the_nearest_in_it() {
    for (limit, counts_as) in [
        (Duration::ZERO, MS),
        (Duration::from_nanos(1), MS),
        (3601 * SECOND, 3600 * SECOND),
        (Duration::MAX, 3600 * SECOND),
    ] {
        let stage = Stage::limited(BalanceConfig::default(), Some(limit), &["a"]).await;
        stage.node("a").when_called(Does::Hang);
        let began = Instant::now();
        stage.call().await.unwrap_err();
        let took = began.elapsed();
        assert!((counts_as..=counts_as + 2 * MS).contains(&took), "{took:?}");
    }
}

/// Nobody could count the time of one that is never polled.
#[tokio::test(start_paused = true)]
async fn a_call_made_long_before_it_is_awaited_has_its_whole_time() {
    let stage = Stage::limited(BalanceConfig::default(), Some(100 * MS), &["a"]).await;
    stage.node("a").when_called(Does::Answer(50 * MS));
    let call = stage.balance.clone().call(());
    sleep(SECOND).await;
    assert_eq!(call.await.unwrap(), "a");
}

#[test]
fn a_service_that_uses_up_its_tasks_budget_is_timed_out_all_the_same() {
    let (done, finished) = std::sync::mpsc::channel();
    // On a thread of its own, so that it fails instead of hanging.
    std::thread::spawn(move || {
        let runtime = Builder::new_current_thread().enable_all().build().unwrap();
        let error = runtime.block_on(async {
            let list = List::new([instance("a")]).unwrap();
            let connector = connect::per_instance(|_: &Instance| {
                service_fn(|()| {
                    let greedy = poll_fn(|cx| -> Poll<Infallible> {
                        loop {
                            ready!(pin!(consume_budget()).poll(cx));
                        }
                    });
                    async {
                        greedy.await;
                        pending::<Result<(), Infallible>>().await
                    }
                })
            });
            let mut balance = BalanceLayer::new(list, "worker:http")
                .unwrap()
                .attempt_timeout(20 * MS)
                .layer(connector);
            balance.call(()).await.unwrap_err()
        });
        done.send(error.to_string()).unwrap();
    });
    let error = finished.recv_timeout(10 * SECOND).expect("it ends");
    assert!(error.contains("time ran out"), "{error}");
}
