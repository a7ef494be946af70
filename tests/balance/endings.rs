//! What outlives what: calls, attempts, readers of events, and the balancer they came from.

use std::convert::Infallible;
use std::future::{Ready, ready};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use futures::StreamExt;
use rolecall::{
    Attempt, Balance, BalanceLayer, Classify, ErrorKind, Event, Failed, Instance, InstanceSet,
    List, Outcome, connect,
};
use tokio::runtime::Handle;
use tokio::time::{sleep, timeout};
use tower::{Layer, Service, ServiceExt, service_fn};

use crate::support::{Does, Fault, Gets, Line, Script, Stage, World, instance, set};

const SECOND: Duration = Duration::from_secs(1);

#[test]
fn errors_and_drivers_can_be_sent_and_boxed() {
    fn error<T: std::error::Error + Send + Sync + 'static>() {}
    fn sent<T: Send + 'static>() {}
    error::<rolecall::Error>();
    sent::<rolecall::Driver>();
    sent::<BalanceLayer>();
}

#[tokio::test(start_paused = true)]
async fn calls_under_way_finish_after_the_last_clone_is_gone() {
    let tasks = Handle::current().metrics().num_alive_tasks();
    let stage = Stage::of(&["a"]).await;
    let a = stage.node("a");
    a.when_called(Does::Answer(5 * SECOND));
    let Stage {
        mut balance, feed, ..
    } = stage;
    let calls: Vec<_> = (0..3).map(|_| balance.call(())).collect();
    drop(balance);
    sleep(SECOND).await;
    assert!(feed.is_closed(), "the driver is gone");
    assert_eq!(Handle::current().metrics().num_alive_tasks(), tasks);
    for call in calls {
        assert_eq!(call.await.unwrap(), "a");
    }
    assert_eq!(a.alive(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_call_that_waits_keeps_the_driver_and_dropping_it_ends_it() {
    let stage = Stage::unfed(rolecall::BalanceConfig::default());
    let Stage {
        mut balance, feed, ..
    } = stage;
    let mut call = std::pin::pin!(Some(balance.call(())));
    drop(balance);
    assert!(
        timeout(SECOND, call.as_mut().as_pin_mut().unwrap())
            .await
            .is_err()
    );
    assert!(!feed.is_closed());
    call.set(None);
    sleep(Duration::from_millis(1)).await;
    assert!(feed.is_closed());
}

#[tokio::test(start_paused = true)]
async fn a_call_that_waits_alone_still_fails_in_time_and_then_everything_ends() {
    let tasks = Handle::current().metrics().num_alive_tasks();
    let Stage { balance, feed, .. } = Stage::unfed(rolecall::BalanceConfig::default());
    let error = balance.oneshot(()).await.unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::Unresolved), "{error}");
    sleep(Duration::from_millis(1)).await;
    assert!(feed.is_closed());
    assert_eq!(Handle::current().metrics().num_alive_tasks(), tasks);
}

#[tokio::test(start_paused = true)]
async fn events_end_with_the_balancer_after_the_last_of_them_was_read() {
    let stage = Stage::of(&["a"]).await;
    let mut events = stage.balance.control().events();
    stage.announce(set(["a", "b"]));
    stage.until(|status| status.usable == 2).await;
    drop(stage);
    let mut told = Vec::new();
    while let Some(event) = timeout(SECOND, events.next()).await.expect("it ends") {
        told.push(event);
    }
    assert!(
        matches!(told[0], Event::SetChanged { added: 1, .. }),
        "{told:?}"
    );
    assert!(
        matches!(&told[1], Event::Connected { id , .. } if *id == *"b"),
        "{told:?}"
    );
}

/// Leaves every attempt to the test.
#[derive(Clone, Default)]
struct Keeping(Arc<Mutex<Vec<Attempt>>>);

impl<Req, Res, Err> Classify<Req, Res, Err> for Keeping {
    type Response = Res;
    type Context = ();

    fn begin(&self, _: &Req) {}

    fn classify(
        &self,
        (): (),
        result: Result<Res, Err>,
        attempt: Attempt,
    ) -> Result<Res, Failed<Err>> {
        self.0.lock().unwrap().push(attempt);
        result.map_err(Failed::sent)
    }
}

#[tokio::test(start_paused = true)]
async fn an_attempt_holds_its_slot_until_it_is_ended() {
    let attempts = Keeping::default();
    let kept = || attempts.0.lock().unwrap().pop().unwrap();
    let (script, feed) = Script::new();
    let world = World::default();
    let mut balance = BalanceLayer::new(script, "worker:http")
        .unwrap()
        .classify(attempts.clone())
        .layer(world.clone());
    feed.send(Ok(set(["a"]))).unwrap();
    let member =
        |balance: &Balance<Line, Keeping>| balance.control().status().members.swap_remove(0);
    let ends: [fn(Attempt); 6] = [
        |attempt| attempt.success(),
        |attempt| attempt.failure(),
        |attempt| attempt.neutral(),
        |attempt| attempt.overloaded(None),
        |mut attempt| {
            attempt.answered();
            attempt.success();
        },
        drop,
    ];
    for (failures, end) in [0, 1, 1, 1, 1, 1].into_iter().zip(ends) {
        balance.call(()).await.unwrap();
        assert_eq!(member(&balance).in_flight, 1, "the body is still to come");
        let attempt = kept();
        assert_eq!(*attempt.instance().id(), *"a");
        end(attempt);
        assert_eq!(
            (member(&balance).in_flight, member(&balance).failures),
            (0, failures)
        );
    }

    balance.call(()).await.unwrap();
    kept().unsent();
    sleep(SECOND).await;
    assert_eq!(
        world.node("a").dials(),
        2,
        "a lost connection is dialled again"
    );

    // An attempt may outlive its instance, the balancer and the runtime's worker.
    balance.call(()).await.unwrap();
    balance.call(()).await.unwrap();
    feed.send(Ok(InstanceSet::default().confirmed())).unwrap();
    sleep(SECOND).await;
    assert_eq!(
        world.node("a").alive(),
        1,
        "the attempt keeps the connection"
    );
    let (late, later) = (kept(), kept());
    late.unsent();
    drop(balance);
    sleep(SECOND).await;
    assert!(feed.is_closed());
    std::thread::spawn(move || later.unsent()).join().unwrap();
    assert_eq!(world.node("a").alive(), 0);
}

#[tokio::test(start_paused = true)]
async fn latency_ends_where_the_answer_begins() {
    let attempts = Keeping::default();
    let list = List::new([instance("a")]).unwrap();
    let mut balance = BalanceLayer::new(list, "worker:http")
        .unwrap()
        .classify(attempts.clone())
        .layer(World::default());
    for _ in 0..50 {
        balance.call(()).await.unwrap();
        let mut attempt = attempts.0.lock().unwrap().pop().unwrap();
        attempt.answered();
        sleep(SECOND).await;
        attempt.answered();
        attempt.success();
    }
    let latency = balance.control().status().members[0].latency.unwrap();
    // Latencies are kept as floats.
    let expected = Duration::from_millis(9)..Duration::from_millis(13);
    assert!(expected.contains(&latency), "{latency:?} of 10 ms");
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_was_unsent_is_still_an_answer() {
    let list = List::new([instance("a")]).unwrap();
    let world = World::default();
    let mut balance = BalanceLayer::new(list, "worker:http")
        .unwrap()
        .classify_fn(|_: &Result<String, Fault>| Outcome::Unsent)
        .layer(world.clone());
    for dials in 1..4 {
        assert_eq!(balance.call(()).await.unwrap(), "a");
        balance.control().wait_usable(SECOND).await.unwrap();
        assert_eq!(world.node("a").dials(), dials + 1);
    }
}

#[tokio::test(start_paused = true)]
async fn one_unsent_call_says_nothing_of_the_next() {
    let list = List::new([instance("a")]).unwrap();
    let world = World::default();
    let node = world.node("a");
    node.when_called(Does::Fail);
    let unsent = Arc::new(Mutex::new(true));
    let said = Arc::clone(&unsent);
    let mut balance = BalanceLayer::new(list, "worker:http")
        .unwrap()
        .classify_fn(move |_: &Result<String, Fault>| {
            let unsent = *said.lock().unwrap();
            if unsent {
                Outcome::Unsent
            } else {
                Outcome::Failure
            }
        })
        .layer(world.clone());
    for round in 0..10 {
        *unsent.lock().unwrap() = round % 2 == 0;
        balance.control().wait_usable(SECOND).await.unwrap();
        let error = balance.call(()).await.unwrap_err();
        assert_eq!(error.was_sent(), round % 2 == 1);
        assert_eq!(error.instance(), Some(&rolecall::InstanceId::from("a")));
    }
}

/// Asks the balancer whenever it is dropped.
struct Nosy(Arc<Mutex<Option<Question>>>);

type Question = Box<dyn Fn() + Send>;

impl Clone for Nosy {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl Drop for Nosy {
    fn drop(&mut self) {
        if let Some(ask) = &*self.0.lock().unwrap() {
            ask();
        }
    }
}

impl Service<()> for Nosy {
    type Response = ();
    type Error = Infallible;
    type Future = Ready<Result<(), Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, (): ()) -> Self::Future {
        ready(Ok(()))
    }
}

#[tokio::test(start_paused = true)]
async fn a_connection_may_ask_the_balancer_while_it_is_dropped() {
    let question = Arc::new(Mutex::new(None));
    let (script, feed) = Script::new();
    let asking = Nosy(Arc::clone(&question));
    let connector = connect::per_instance(move |_: &Instance| asking.clone());
    let balance = BalanceLayer::new(script, "worker:http")
        .unwrap()
        .layer(connector);
    feed.send(Ok(set(["a", "b", "c"]))).unwrap();
    balance.control().wait_usable(SECOND).await.unwrap();
    let asked = Arc::new(Mutex::new(Vec::new()));
    let (answers, again) = (Arc::clone(&asked), balance.clone());
    let ask = move || {
        answers
            .lock()
            .unwrap()
            .push(again.control().status().members.len())
    };
    *question.lock().unwrap() = Some(Box::new(ask) as Question);

    feed.send(Ok(set(["b", "c"]).confirmed())).unwrap();
    sleep(SECOND).await;
    assert_eq!(*asked.lock().unwrap(), [2], "removed");
    let draining = instance("b").with_availability(rolecall::Availability::Draining);
    feed.send(Ok([draining, instance("c")].into_iter().collect()))
        .unwrap();
    sleep(SECOND).await;
    assert_eq!(asked.lock().unwrap().len(), 2, "draining");
    let moved = instance("c").with_address(crate::support::addr(81));
    feed.send(Ok([moved].into_iter().collect())).unwrap();
    sleep(SECOND).await;
    assert_eq!(asked.lock().unwrap().len(), 3, "moved");
    let ask = question.lock().unwrap().take();
    drop(ask);
}

struct Grudge;

impl Drop for Grudge {
    fn drop(&mut self) {
        panic!("a connection panics while it is dropped");
    }
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_panics_while_it_is_dropped_does_not_end_the_driver() {
    let (script, feed) = Script::new();
    let connector = connect::per_instance(|instance: &Instance| {
        let grudge = (instance.id() == "a").then(|| Arc::new(Grudge));
        service_fn(move |()| {
            let _held = &grudge;
            ready(Ok::<_, Infallible>(()))
        })
    });
    let layer = BalanceLayer::new(script, "worker:http").unwrap();
    let mut balance = layer.layer(connector);
    feed.send(Ok(set(["a", "b"]))).unwrap();
    balance.control().wait_usable(SECOND).await.unwrap();
    feed.send(Ok(set(["b"]).confirmed())).unwrap();
    sleep(SECOND).await;
    feed.send(Ok(set(["b", "c"]))).unwrap();
    sleep(SECOND).await;
    assert_eq!(
        balance.control().status().usable,
        2,
        "{}",
        balance.control().status()
    );
    balance.call(()).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_panic_leaves_the_others_of_a_shared_task_alone() {
    use futures::FutureExt;
    let stage = Stage::of(&["a", "b"]).await;
    stage.node("a").when_called(Does::Panic);
    let calls = (0..40).map(|_| {
        let call = stage.balance.clone().call(());
        std::panic::AssertUnwindSafe(call).catch_unwind()
    });
    let answers = futures::future::join_all(calls).await;
    let served = answers.iter().filter(|answer| answer.is_ok()).count();
    assert!((1..40).contains(&served), "{served} of 40");
    assert_eq!(stage.in_flight(), 0);
    stage.node("a").when_called(Does::Answer(Duration::ZERO));
    assert_eq!(stage.shares(50).await.values().sum::<usize>(), 50);
}

#[tokio::test(start_paused = true)]
async fn a_panic_in_hints_is_its_callers() {
    struct Panicking;
    impl<Res, Err> Classify<(), Res, Err> for Panicking {
        type Response = Res;
        type Context = ();

        fn begin(&self, (): &()) {}

        fn hints<'c>(&self, (): &'c ()) -> rolecall::Hints<'c> {
            panic!("hints panics")
        }

        fn classify(
            &self,
            (): (),
            result: Result<Res, Err>,
            attempt: Attempt,
        ) -> Result<Res, Failed<Err>> {
            attempt.success();
            result.map_err(Failed::sent)
        }
    }
    let list = List::new([instance("a")]).unwrap();
    let layer = BalanceLayer::new(list, "worker:http").unwrap();
    let balance = layer.classify(Panicking).layer(World::default());
    balance.control().wait_usable(SECOND).await.unwrap();
    let mut calling = balance.clone();
    let call = tokio::spawn(async move { calling.call(()).await });
    assert!(call.await.unwrap_err().is_panic());
    assert_eq!(balance.control().status().members[0].in_flight, 0);
}

#[tokio::test(start_paused = true)]
async fn a_panic_in_one_dial_holds_up_no_other() {
    let stage = Stage::unfed(rolecall::BalanceConfig::default());
    stage.node("a").when_dialled(Gets::Panic);
    stage.node("c").when_dialled(Gets::Panic);
    stage.announce(set(["a", "b", "c"]));
    assert_eq!(stage.call().await.unwrap(), "b");
    for id in ["a", "c"] {
        stage.until(|_| stage.node(id).dials() > 3).await;
        stage.node(id).when_dialled(Gets::Ready);
    }
    stage.until(|status| status.usable == 3).await;
}

#[tokio::test(start_paused = true)]
async fn an_attempt_that_ends_unsent_elsewhere_says_nothing_of_the_next_call() {
    let attempts = Keeping::default();
    let list = List::new(["a", "b"].map(instance)).unwrap();
    let world = World::default();
    for id in ["a", "b"] {
        world.node(id).when_called(Does::Fail);
    }
    let mut balance = BalanceLayer::new(list, "worker:http")
        .unwrap()
        .classify(attempts.clone())
        .layer(world);
    for _ in 0..10 {
        let error = balance.call(()).await.unwrap_err();
        assert!(error.was_sent());
        attempts.0.lock().unwrap().pop().unwrap().unsent();
    }
}
