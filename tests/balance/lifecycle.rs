//! Beginnings, ends and accidents: runtimes, dropped futures, wakers, panics.

use std::convert::Infallible;
use std::future::{Future, pending};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use futures::StreamExt;
use futures::stream::FuturesUnordered;
use rolecall::discovery::{BoxStream, DiscoveryError};
use rolecall::{
    Attempt, Balance, BalanceConfig, BalanceLayer, Classify, Discovery, ErrorKind, Event, Failed,
    InstanceSet, List, MemberState, ResponseFuture, Target, connect,
};
use tokio::runtime::{Builder, Handle};
use tokio::task::yield_now;
use tokio::time::{sleep, timeout};
use tower::{Layer, Service, ServiceExt, service_fn};

use crate::support::{Does, Gets, Line, Stage, World, addr, instance, next_event, set};

#[test]
fn balancers_are_clone_send_and_sync() {
    fn shared<T: Clone + Send + Sync + 'static>() {}
    fn sent<T: Send + 'static>() {}
    shared::<Balance<Line>>();
    shared::<BalanceLayer>();
    sent::<ResponseFuture<Line, (), rolecall::ClassifyResult>>();
    sent::<Attempt>();
}

#[tokio::test(start_paused = true)]
async fn the_last_drop_ends_all_tasks_and_connections_also_in_the_middle_of_a_dial() {
    let tasks = Handle::current().metrics().num_alive_tasks();
    let stage = Stage::of(&["a", "b"]).await;
    stage.node("c").when_dialled(Gets::Nowhere);
    stage.announce(set(["a", "b", "c"]));
    stage.until(|status| status.members.len() == 3).await;
    let nodes = ["a", "b", "c"].map(|id| stage.node(id));
    stage.until(|_| nodes[2].dialling() == 1).await;
    let clone = stage.balance.clone();
    let Stage { balance, feed, .. } = stage;
    drop(balance);
    sleep(Duration::from_millis(10)).await;
    assert_eq!(nodes[0].alive(), 1, "a clone is left");
    assert_eq!(nodes[2].dialling(), 1);
    drop(clone);
    sleep(Duration::from_millis(10)).await;
    assert_eq!(nodes[2].dialling(), 0, "the dial is given up");
    assert_eq!(nodes.map(|node| node.alive()), [0, 0, 0]);
    assert_eq!(Handle::current().metrics().num_alive_tasks(), tasks);
    assert!(feed.is_closed(), "the watch is dropped");
}

#[tokio::test(start_paused = true)]
async fn a_future_dropped_in_any_state_gives_its_slot_back() {
    let stage = Stage::of(&["a", "b"]).await;
    let (a, b) = (stage.node("a"), stage.node("b"));
    let drop_after_a_poll = async || {
        let mut call = pin!(stage.call());
        assert!(futures::poll!(&mut call).is_pending());
    };
    // Never polled.
    drop(stage.balance.clone().call(()));
    // With the instance.
    drop_after_a_poll().await;
    assert_eq!(stage.in_flight(), 0);
    // Waiting for two candidates to get ready.
    a.when_polled(Gets::Nowhere);
    b.when_polled(Gets::Nowhere);
    {
        let mut call = pin!(stage.call());
        assert!(futures::poll!(&mut call).is_pending());
        assert_eq!(stage.in_flight(), 2, "each candidate holds a slot");
    }
    assert_eq!(stage.in_flight(), 0);
    // Waiting for anybody.
    stage.announce(set([]).confirmed());
    stage.until(|status| status.members.is_empty()).await;
    drop_after_a_poll().await;
    assert_eq!((a.alive(), b.alive()), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn an_instance_removed_between_pick_and_call_still_answers() {
    let stage = Stage::of(&["a"]).await;
    let call = stage.balance.clone().call(());
    stage.announce(set([]).confirmed());
    stage.until(|status| status.members.is_empty()).await;
    assert_eq!(call.await.unwrap(), "a");
    assert_eq!(stage.node("a").alive(), 0);
}

#[tokio::test(start_paused = true)]
async fn oneshot_works_while_the_first_dial_is_still_under_way() {
    let stage = Stage::unfed(BalanceConfig::default());
    let Stage {
        world,
        balance,
        feed,
    } = stage;
    let call = tokio::spawn(balance.oneshot(()));
    yield_now().await;
    feed.send(Ok(set(["a"]))).unwrap();
    assert_eq!(call.await.unwrap().unwrap(), "a");
    sleep(Duration::from_millis(10)).await;
    assert_eq!(world.node("a").alive(), 0, "then everything ends");
}

fn list() -> List {
    List::from_addrs([addr(1), addr(2)]).unwrap()
}

#[test]
fn a_balancer_built_outside_a_runtime_starts_with_its_first_call() {
    let mut balance = BalanceLayer::new(list(), "worker:http")
        .unwrap()
        .layer(World::default());
    let outside = balance.call(());
    let runtime = Builder::new_current_thread().enable_all().build().unwrap();
    assert!(runtime.block_on(outside).is_ok());
    assert!(runtime.block_on(async { balance.call(()).await }).is_ok());
}

#[test]
fn without_any_runtime_a_call_fails_and_nothing_panics() {
    let mut balance = BalanceLayer::new(list(), "worker:http")
        .unwrap()
        .layer(World::default());
    let error = futures::executor::block_on(balance.call(())).unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::Unresolved), "{error}");
    assert!(
        error
            .to_string()
            .ends_with("no driver runs that would ask discovery")
    );
    let source = error.into_source().unwrap().to_string();
    assert!(
        source.contains("outside a running tokio runtime"),
        "{source}"
    );
    let waited = futures::executor::block_on(balance.control().wait_usable(Duration::MAX));
    assert!(matches!(waited.unwrap_err().kind(), ErrorKind::Unresolved));
}

#[tokio::test(start_paused = true)]
async fn a_driver_of_a_pair_is_spawned_by_hand() {
    let layer = BalanceLayer::new(list(), "worker:http").unwrap();
    let (mut balance, driver) = layer.pair(World::default());
    sleep(Duration::from_secs(60)).await;
    let driver = tokio::spawn(driver);
    assert!(
        balance.call(()).await.is_ok(),
        "the wait counts from the driver's start"
    );
    drop(balance);
    timeout(Duration::from_secs(1), driver)
        .await
        .expect("it ends")
        .unwrap();
}

struct CountingWaker(AtomicUsize);

impl Wake for CountingWaker {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, SeqCst);
    }
}

#[tokio::test(start_paused = true)]
async fn a_waiting_call_is_woken_by_news_and_never_by_itself() {
    let config = BalanceConfig::builder().unavailable_after(Duration::from_secs(600));
    let stage = Stage::unfed(config.build().unwrap());
    stage.node("a").when_dialled(Gets::Refused);
    stage.announce(set(["a"]));
    stage.until(|status| status.members.len() == 1).await;
    let wakes = Arc::new(CountingWaker(AtomicUsize::new(0)));
    let waker = Waker::from(Arc::clone(&wakes));
    let mut call = pin!(stage.call());
    assert!(
        call.as_mut()
            .poll(&mut Context::from_waker(&waker))
            .is_pending()
    );
    sleep(Duration::from_secs(30)).await;
    assert!(stage.node("a").dials() > 10, "dials went on");
    assert_eq!(wakes.0.load(SeqCst), 0, "and nobody was woken for nothing");

    stage.node("a").when_dialled(Gets::Ready);
    stage.until(|status| status.usable == 1).await;
    assert!(wakes.0.load(SeqCst) >= 1, "somebody is usable now");
    assert_eq!(call.await.unwrap(), "a");
}

#[tokio::test(start_paused = true)]
async fn a_call_that_waits_for_readiness_is_woken_by_it() {
    let stage = Stage::of(&["a", "b"]).await;
    stage.node("a").when_polled(Gets::Nowhere);
    stage.node("b").when_polled(Gets::Nowhere);
    let wakes = Arc::new(CountingWaker(AtomicUsize::new(0)));
    let waker = Waker::from(Arc::clone(&wakes));
    let mut call = pin!(stage.call());
    assert!(
        call.as_mut()
            .poll(&mut Context::from_waker(&waker))
            .is_pending()
    );
    sleep(Duration::from_secs(60)).await;
    assert_eq!(wakes.0.load(SeqCst), 0);
    stage.node("b").when_polled(Gets::Ready);
    assert!(wakes.0.load(SeqCst) >= 1);
    assert_eq!(call.await.unwrap(), "b", "whichever is ready first");
    assert_eq!(stage.in_flight(), 0, "the other's slot is free again");
}

async fn survives(stage: &Stage) {
    stage.until(|status| status.usable > 0).await;
    assert!(stage.call().await.is_ok(), "others are served");
    assert_eq!(stage.in_flight(), 0, "no slot leaked");
}

#[tokio::test(start_paused = true)]
async fn a_panic_in_a_dial_is_a_failed_dial() {
    let stage = Stage::of(&["a"]).await;
    let mut events = stage.balance.control().events();
    stage.node("b").when_dialled(Gets::Panic);
    stage.announce(set(["a", "b"]));
    let event = next_event(&mut events, |e| matches!(e, Event::DialFailed { .. })).await;
    assert!(
        event.to_string().contains("the connector panics"),
        "{event}"
    );
    survives(&stage).await;
}

#[tokio::test(start_paused = true)]
async fn a_panic_of_the_connector_itself_is_a_failed_dial() {
    struct Panicking(bool);
    impl Service<rolecall::Instance> for Panicking {
        type Response = Line;
        type Error = Infallible;
        type Future = std::future::Ready<Result<Line, Infallible>>;

        fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
            assert!(!self.0, "poll_ready panics");
            Poll::Ready(Ok(()))
        }

        fn call(&mut self, _: rolecall::Instance) -> Self::Future {
            panic!("call panics")
        }
    }
    for in_poll_ready in [true, false] {
        let layer = BalanceLayer::new(list(), "worker:http").unwrap();
        let mut balance = layer.layer(Panicking(in_poll_ready));
        let error = balance.call(()).await.unwrap_err();
        assert!(
            error.to_string().contains("2 known: 2 dial failed"),
            "{error}"
        );
    }
}

async fn panics(call: impl Future<Output = Result<String, rolecall::Error>> + Send + 'static) {
    assert!(
        tokio::spawn(call).await.unwrap_err().is_panic(),
        "the caller sees the panic"
    );
}

#[tokio::test(start_paused = true)]
async fn a_panic_in_a_service_is_its_callers_and_leaks_no_slot() {
    let stage = Stage::of(&["a"]).await;
    let a = stage.node("a");
    a.when_called(Does::Panic);
    panics(stage.balance.clone().call(())).await;
    a.when_called(Does::Answer(Duration::ZERO));
    survives(&stage).await;

    a.when_polled(Gets::Panic);
    let mut balance = stage.balance.clone();
    panics(async move { balance.call(()).await }).await;
    a.when_polled(Gets::Ready);
    survives(&stage).await;
}

#[tokio::test(start_paused = true)]
async fn a_panic_in_the_classifier_is_its_callers_and_leaks_no_slot() {
    struct Panicking;
    impl<Req, Res, Err> Classify<Req, Res, Err> for Panicking {
        type Response = Res;
        type Context = ();

        fn begin(&self, _: &Req) {}

        fn classify(&self, (): (), _: Result<Res, Err>, _: Attempt) -> Result<Res, Failed<Err>> {
            panic!("the classifier panics")
        }
    }
    let layer = BalanceLayer::new(list(), "worker:http")
        .unwrap()
        .classify(Panicking);
    let mut balance = layer.layer(World::default());
    balance
        .control()
        .wait_usable(Duration::from_secs(1))
        .await
        .unwrap();
    panics(balance.call(())).await;
    let members = balance.control().status().members;
    assert!(members.iter().all(|member| member.in_flight == 0));
}

#[tokio::test(start_paused = true)]
async fn a_panic_in_discovery_is_the_end_of_its_news() {
    struct Panicking(bool);
    impl Discovery for Panicking {
        fn watch(&self, _: &Target) -> BoxStream<'static, Result<InstanceSet, DiscoveryError>> {
            assert!(self.0, "watch panics");
            let first = futures::stream::iter([Ok(set(["a"]))]);
            first
                .chain(futures::stream::once(async { panic!("the stream panics") }))
                .boxed()
        }

        fn peers(
            &self,
            _: &rolecall::Boundary,
        ) -> BoxStream<'static, Result<InstanceSet, DiscoveryError>> {
            rolecall::discovery::no_peers()
        }

        fn refresh(&self, _: &Target) {}
    }
    let mut balance = BalanceLayer::new(Panicking(true), "worker:http")
        .unwrap()
        .layer(World::default());
    assert_eq!(balance.call(()).await.unwrap(), "a", "what is known stays");
    let error = balance.control().status().discovery_error.unwrap();
    assert!(error.contains("watching"), "{error}");

    let mut balance = BalanceLayer::new(Panicking(false), "worker:http")
        .unwrap()
        .layer(World::default());
    let error = balance.call(()).await.unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::Unresolved), "{error}");
}

#[tokio::test(start_paused = true)]
async fn a_connector_that_never_answers_is_given_up_and_tried_again() {
    let stage = Stage::unfed(BalanceConfig::default());
    stage.node("a").when_dialled(Gets::Nowhere);
    stage.announce(set(["a"]));
    let error = stage.call().await.unwrap_err();
    assert!(
        error.to_string().contains("1 known: 1 timed out"),
        "{error}"
    );
    stage.until(|_| stage.node("a").dials() >= 3).await;
    stage.node("a").when_dialled(Gets::Ready);
    stage.until(|status| status.usable == 1).await;
}

#[tokio::test(start_paused = true)]
async fn a_connector_that_is_never_ready_fails_its_dials_in_time() {
    struct NeverReady;
    impl Service<rolecall::Instance> for NeverReady {
        type Response = Line;
        type Error = Infallible;
        type Future = std::future::Pending<Result<Line, Infallible>>;

        fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
            Poll::Pending
        }

        fn call(&mut self, _: rolecall::Instance) -> Self::Future {
            pending()
        }
    }
    let layer = BalanceLayer::new(list(), "worker:http").unwrap();
    let balance = layer.layer(NeverReady);
    let mut events = balance.control().events();
    let event = next_event(&mut events, |e| matches!(e, Event::DialFailed { .. })).await;
    assert!(
        event.to_string().contains("no connection within 2s"),
        "{event}"
    );
}

#[tokio::test(start_paused = true)]
async fn no_more_dials_are_under_way_than_allowed_and_stale_ones_are_not_begun() {
    let config = BalanceConfig::builder().connect_concurrency(2);
    let stage = Stage::unfed(config.build().unwrap());
    let ids = ["a", "b", "c", "d"];
    for id in ids {
        stage.node(id).when_dialled(Gets::Nowhere);
    }
    stage.announce(set(ids));
    sleep(Duration::from_millis(100)).await;
    let (begun, waiting): (Vec<_>, Vec<_>) = ids.iter().partition(|id| stage.node(id).dials() > 0);
    assert_eq!((begun.len(), waiting.len()), (2, 2));
    stage.announce(set(ids.into_iter().filter(|id| *id != waiting[0])));
    sleep(Duration::from_secs(3)).await;
    assert_eq!(
        stage.node(waiting[0]).dials(),
        0,
        "nobody wants it any more"
    );
    assert!(stage.node(waiting[1]).dials() > 0, "its turn came");
}

#[tokio::test(start_paused = true)]
async fn a_stale_connections_loss_does_not_touch_its_successor() {
    let stage = Stage::of(&["a"]).await;
    let classify = |result: &Result<String, crate::support::Fault>| match result {
        Ok(_) => rolecall::Outcome::Success,
        Err(_) => rolecall::Outcome::Unsent,
    };
    let list = List::new([instance("a")]).unwrap();
    let layer = BalanceLayer::new(list, "worker:http")
        .unwrap()
        .classify_fn(classify);
    let gate = Arc::new(tokio::sync::Semaphore::new(0));
    let connections = Arc::new(AtomicUsize::new(0));
    let mut balance = layer.layer(connect::per_instance({
        let (gate, connections) = (Arc::clone(&gate), Arc::clone(&connections));
        move |_: &rolecall::Instance| {
            connections.fetch_add(1, SeqCst);
            let gate = Arc::clone(&gate);
            service_fn(move |late: bool| {
                let gate = Arc::clone(&gate);
                async move {
                    if late {
                        let _permit = gate.acquire().await;
                    }
                    Err::<String, _>(crate::support::Fault("a".to_owned()))
                }
            })
        }
    }));
    balance
        .control()
        .wait_usable(Duration::from_secs(1))
        .await
        .unwrap();
    let late = tokio::spawn(balance.call(true));
    assert!(!balance.call(false).await.unwrap_err().was_sent());
    balance
        .control()
        .wait_usable(Duration::from_secs(5))
        .await
        .unwrap();
    assert_eq!(connections.load(SeqCst), 2);
    gate.add_permits(1);
    assert!(!late.await.unwrap().unwrap_err().was_sent());
    sleep(Duration::from_secs(60)).await;
    assert_eq!(
        connections.load(SeqCst),
        2,
        "the second connection still stands"
    );
    assert_eq!(balance.control().status().usable, 1);
    drop(stage);
}

#[tokio::test(start_paused = true)]
async fn duplicate_ids_are_reported_and_the_last_one_counts() {
    let stage = Stage::of(&["a"]).await;
    let mut events = stage.balance.control().events();
    let twice = [
        instance("b").with_address(addr(1)),
        instance("b").with_address(addr(2)),
    ];
    stage.announce([instance("a")].into_iter().chain(twice).collect());
    let event = next_event(&mut events, |e| matches!(e, Event::DuplicateId { .. })).await;
    assert!(event.to_string().contains('b'), "{event}");
    stage.until(|status| status.usable == 2).await;
    assert_eq!(
        *stage.balance.control().status().members[1]
            .instance
            .address(),
        addr(2)
    );
}

#[tokio::test(start_paused = true)]
async fn an_unusable_announcement_is_refused_and_what_works_stays() {
    let stage = Stage::of(&["a"]).await;
    let mut events = stage.balance.control().events();
    let nowhere = ([0, 0, 0, 0], 80);
    let bad = [
        instance("a").with_address(nowhere),
        instance("b").with_address(addr(0)),
    ];
    stage.announce(bad.into_iter().collect());
    for id in ["a", "b"] {
        let event = next_event(&mut events, |e| matches!(e, Event::InstanceRefused { .. })).await;
        assert!(event.to_string().contains(id), "{event}");
    }
    let status = stage.balance.control().status();
    assert_eq!(status.members.len(), 1);
    assert_eq!(*status.members[0].instance.address(), addr(80));
    assert_eq!(status.members[0].state, MemberState::Usable);
    assert!(stage.call().await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn many_callers_that_come_and_go_leave_nothing_behind() {
    let stage = Stage::of(&["a", "b", "c"]).await;
    let mut calls = FuturesUnordered::new();
    for number in 0..1000_u64 {
        let mut balance = stage.balance.clone();
        let patience = Duration::from_millis(number % 20);
        calls.push(async move { timeout(patience, balance.call(())).await.is_ok() });
        if number % 7 == 0 {
            calls.next().await;
        }
        if number % 100 == 0 {
            stage.announce(set(["a", "b", if number % 200 == 0 { "c" } else { "d" }]));
        }
    }
    while calls.next().await.is_some() {}
    assert_eq!(stage.in_flight(), 0);
}
