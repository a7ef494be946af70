//! Faults found in the tower side, one test each.

use std::convert::Infallible;
use std::fmt;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex, OnceLock, Weak};
use std::task::{Context, Poll};
use std::time::Duration;

use futures::StreamExt;
use rolecall::discovery::{BoxStream, DiscoveryError};
use rolecall::fleet::{Dial, Fleet, Rng};
use rolecall::{
    Attempt, Availability, Balance, BalanceConfig, BalanceLayer, Classify, Discovery, Event,
    Failed, Instance, InstanceSet, List, Target, connect,
};
use tokio::runtime::Builder;
use tokio::time::{Instant, sleep, timeout};
use tower::{Layer, Service, service_fn};

use crate::support::{Does, Gets, Line, Script, Stage, World, addr, instance, next_event, set};

const MS: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);

#[tokio::test(start_paused = true)]
async fn a_connector_that_was_not_ready_for_one_dial_has_its_full_time_for_the_next() {
    struct NeverReady;
    impl Service<Instance> for NeverReady {
        type Response = Line;
        type Error = Infallible;
        type Future = std::future::Pending<Result<Line, Infallible>>;

        fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
            Poll::Pending
        }

        fn call(&mut self, _: Instance) -> Self::Future {
            std::future::pending()
        }
    }
    let (script, feed) = Script::new();
    let balance = BalanceLayer::new(script, "worker:http")
        .unwrap()
        .layer(NeverReady);
    let mut events = balance.control().events();
    feed.send(Ok(set(["a"]))).unwrap();
    sleep(SECOND).await;
    // Nobody awaits the dial of a any more; the time it was given must not be b's.
    feed.send(Ok(set([]).confirmed())).unwrap();
    sleep(10 * SECOND).await;
    feed.send(Ok(set(["b"]))).unwrap();
    let began = Instant::now();
    next_event(&mut events, |e| matches!(e, Event::DialFailed { .. })).await;
    assert_eq!(began.elapsed().as_secs(), 2);
}

#[test]
fn a_discovery_that_always_has_news_starves_nobody() {
    struct Endless;
    impl Discovery for Endless {
        fn watch(&self, _: &Target) -> BoxStream<'static, Result<InstanceSet, DiscoveryError>> {
            futures::stream::repeat_with(|| Ok(set(["a"]))).boxed()
        }

        fn peers(
            &self,
            _: &rolecall::Boundary,
        ) -> BoxStream<'static, Result<InstanceSet, DiscoveryError>> {
            rolecall::discovery::no_peers()
        }

        fn refresh(&self, _: &Target) {}
    }
    let (done, finished) = std::sync::mpsc::channel();
    // On a thread of its own, so that it fails instead of hanging.
    std::thread::spawn(move || {
        let runtime = Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let mut balance = BalanceLayer::new(Endless, "worker:http")
                .unwrap()
                .layer(World::default());
            done.send(balance.call(()).await.is_ok()).unwrap();
        });
    });
    assert_eq!(finished.recv_timeout(10 * SECOND), Ok(true));
}

#[test]
fn a_caller_that_tries_again_without_pause_starves_nobody() {
    let (done, finished) = std::sync::mpsc::channel();
    // On a thread of its own, so that it fails instead of hanging.
    std::thread::spawn(move || {
        let runtime = Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let (script, feed) = Script::new();
            let config = BalanceConfig::builder().unavailable_after(MS);
            let mut balance = BalanceLayer::new(script, "worker:http")
                .unwrap()
                .config(config.build().unwrap())
                .layer(World::default());
            balance.call(()).await.unwrap_err();
            feed.send(Ok(set(["a"]))).unwrap();
            while balance.call(()).await.is_err() {}
            done.send(()).unwrap();
        });
    });
    assert_eq!(finished.recv_timeout(10 * SECOND), Ok(()));
}

#[tokio::test(start_paused = true)]
async fn a_call_is_told_when_the_only_instances_connections_do_not_last() {
    let stage = Stage::of(&["a"]).await;
    // It accepts every connection and closes it at once.
    stage.node("a").when_polled(Gets::Refused);
    assert!(timeout(60 * SECOND, stage.call()).await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_call_that_waits_for_readiness_goes_to_an_instance_that_came_later() {
    let stage = Stage::of(&["a"]).await;
    stage.node("a").when_polled(Gets::Nowhere);
    let call = tokio::spawn(stage.balance.clone().call(()));
    sleep(SECOND).await;
    stage.announce(set(["a", "b"]));
    let answer = timeout(60 * SECOND, call).await;
    assert_eq!(answer.expect("b is there").unwrap().unwrap(), "b");
}

#[tokio::test(start_paused = true)]
async fn a_call_that_waits_for_readiness_leaves_an_instance_that_was_removed() {
    let stage = Stage::of(&["a"]).await;
    stage.node("a").when_polled(Gets::Nowhere);
    let call = tokio::spawn(stage.balance.clone().call(()));
    sleep(SECOND).await;
    stage.announce(set(["b"]).confirmed());
    let answer = timeout(60 * SECOND, call).await;
    assert_eq!(answer.expect("b is there").unwrap().unwrap(), "b");
}

#[tokio::test(start_paused = true)]
async fn a_lost_connection_is_told_of_at_once_even_if_no_deadline_moves() {
    let stage = Stage::of(&["a"]).await;
    let a = stage.node("a");
    let mut events = stage.balance.control().events();
    // A dial to the new address is under way when the old connection is lost.
    a.when_dialled(Gets::Nowhere);
    stage.announce([instance("a").with_address(addr(81))].into_iter().collect());
    stage.until(|_| a.dials() == 2).await;
    a.when_polled(Gets::Refused);
    let began = Instant::now();
    let _call = tokio::spawn(stage.balance.clone().call(()));
    next_event(&mut events, |e| matches!(e, Event::NothingUsable)).await;
    assert!(began.elapsed() < 10 * MS, "{:?}", began.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_failed_dial_to_an_address_that_was_taken_back_is_no_error_of_the_member() {
    let stage = Stage::of(&["a"]).await;
    stage.node("a").when_dialled(Gets::Refused);
    stage.announce([instance("a").with_address(addr(81))].into_iter().collect());
    stage
        .until(|status| status.members[0].error.is_some())
        .await;
    stage.announce(set(["a"]));
    stage
        .until(|status| *status.members[0].instance.address() == addr(80))
        .await;
    assert_eq!(stage.member("a").error, None);
}

#[tokio::test(start_paused = true)]
async fn an_instance_that_drained_and_is_available_again_keeps_its_history() {
    let stage = Stage::of(&["a", "b"]).await;
    stage.shares(100).await;
    let before = stage.member("a").picks;
    let draining = instance("a").with_availability(Availability::Draining);
    stage.announce([draining, instance("b")].into_iter().collect());
    stage.until(|status| status.usable == 1).await;
    stage.announce(set(["a", "b"]));
    stage.until(|status| status.usable == 2).await;
    assert!(stage.member("a").picks >= before);
}

#[tokio::test(start_paused = true)]
async fn a_shorter_wait_counts_for_calls_that_wait_already() {
    let config = BalanceConfig::builder().unavailable_after(600 * SECOND);
    let stage = Stage::unfed(config.build().unwrap());
    let call = tokio::spawn(stage.balance.clone().call(()));
    sleep(10 * SECOND).await;
    stage
        .balance
        .control()
        .reconfigure(BalanceConfig::default());
    assert!(timeout(SECOND, call).await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_grace_of_zero_ends_a_doubt_that_is_there() {
    let stage = Stage::of(&["a", "b"]).await;
    stage.announce(set([]));
    stage.until(|status| status.doubted_for.is_some()).await;
    let config = BalanceConfig::builder().shrink_grace(Duration::ZERO);
    stage.balance.control().reconfigure(config.build().unwrap());
    sleep(SECOND).await;
    assert!(stage.balance.control().status().members.is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_dial_that_nobody_awaits_takes_no_turn() {
    let config = BalanceConfig::builder()
        .connect_concurrency(1)
        .connect_timeout(60 * SECOND);
    let stage = Stage::unfed(config.build().unwrap());
    stage.node("a").when_dialled(Gets::Nowhere);
    stage.announce(set(["a"]));
    stage.until(|_| stage.node("a").dials() == 1).await;
    stage.announce(set(["b"]).confirmed());
    let began = Instant::now();
    stage.until(|status| status.usable == 1).await;
    assert!(began.elapsed() < SECOND, "{:?}", began.elapsed());
}

#[test]
fn a_runtime_without_timers_is_an_error_and_no_panic() {
    let runtime = Builder::new_current_thread().build().unwrap();
    let list = List::new([instance("a")]).unwrap();
    let answer = runtime.block_on(async {
        let layer = BalanceLayer::new(list, "worker:http").unwrap();
        let mut balance = layer.layer(World::default());
        balance.call(()).await
    });
    assert!(answer.is_err());
}

#[tokio::test(start_paused = true)]
async fn a_dial_that_panics_while_it_is_given_up_is_a_failed_dial() {
    struct Nasty;
    impl Drop for Nasty {
        fn drop(&mut self) {
            panic!("the drop panics");
        }
    }
    let dials = Arc::new(AtomicUsize::new(0));
    let connector = {
        let dials = Arc::clone(&dials);
        service_fn(move |_: Instance| {
            let nasty = (dials.fetch_add(1, SeqCst) == 0).then(|| Nasty);
            let world = World::default();
            async move {
                if nasty.is_some() {
                    std::future::pending::<()>().await;
                }
                Ok::<_, Infallible>(world)
            }
        })
    };
    let list = List::new([instance("a")]).unwrap();
    let balance = BalanceLayer::new(list, "worker:http")
        .unwrap()
        .layer(connector);
    let mut events = balance.control().events();
    let event = next_event(&mut events, |e| matches!(e, Event::DialFailed { .. })).await;
    assert!(event.to_string().contains("the drop panics"), "{event}");
    next_event(&mut events, |e| matches!(e, Event::Connected { .. })).await;
    assert_eq!(dials.load(SeqCst), 2, "the driver lives on");
}

#[tokio::test(start_paused = true)]
async fn calls_that_take_each_others_only_instance_are_all_told_in_time() {
    let stage = Stage::of(&["a"]).await;
    stage.node("a").when_polled(Gets::Refused);
    let calls = futures::future::join_all((0..10).map(|_| stage.call()));
    let answers = timeout(4 * SECOND, calls).await.expect("bounded waits");
    assert!(answers.iter().all(Result::is_err));
}

#[tokio::test(start_paused = true)]
async fn two_candidates_that_were_removed_make_room_for_who_came_later() {
    let stage = Stage::of(&["a", "b"]).await;
    for id in ["a", "b"] {
        stage.node(id).when_polled(Gets::Nowhere);
    }
    let call = tokio::spawn(stage.balance.clone().call(()));
    sleep(SECOND).await;
    assert_eq!(stage.in_flight(), 2);
    stage.announce(set(["c"]).confirmed());
    let answer = timeout(SECOND, call).await.expect("c is there");
    assert_eq!(answer.unwrap().unwrap(), "c");
}

#[tokio::test(start_paused = true)]
async fn a_call_that_waits_for_readiness_goes_along_with_an_instance_that_moves() {
    /// Ready at any address but the first.
    #[derive(Clone)]
    struct At(SocketAddr);
    impl Service<()> for At {
        type Response = SocketAddr;
        type Error = Infallible;
        type Future = std::future::Ready<Result<SocketAddr, Infallible>>;

        fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
            if self.0 == addr(80) {
                return Poll::Pending;
            }
            Poll::Ready(Ok(()))
        }

        fn call(&mut self, (): ()) -> Self::Future {
            std::future::ready(Ok(self.0))
        }
    }
    let (script, feed) = Script::new();
    let mut balance =
        BalanceLayer::new(script, "worker:http")
            .unwrap()
            .layer(connect::per_instance(|instance: &Instance| {
                At(instance.address().tcp().unwrap())
            }));
    feed.send(Ok(set(["a"]))).unwrap();
    balance.control().wait_usable(SECOND).await.unwrap();
    let call = tokio::spawn(balance.call(()));
    sleep(SECOND).await;
    let moved = instance("a").with_address(addr(81));
    feed.send(Ok([moved].into_iter().collect())).unwrap();
    let answer = timeout(SECOND, call).await.expect("it is ready there");
    assert_eq!(answer.unwrap().unwrap(), addr(81));
}

#[test]
fn a_call_made_long_before_it_is_awaited_waits_from_then() {
    let list = List::new([instance("a")]).unwrap();
    let mut balance = BalanceLayer::new(list, "worker:http")
        .unwrap()
        .layer(World::default());
    let mut runtime = Builder::new_current_thread();
    let runtime = runtime.enable_time().start_paused(true).build().unwrap();
    let answer = runtime.block_on(async {
        let call = balance.call(());
        sleep(60 * SECOND).await;
        call.await
    });
    assert_eq!(answer.unwrap(), "a");
}

#[test]
fn a_connection_that_asks_while_it_is_dropped_is_never_dropped_under_the_lock() {
    struct First;
    impl Rng for First {
        fn next_u64(&mut self) -> u64 {
            0
        }
    }
    struct Nosy(Weak<Fleet<Nosy>>);
    impl Drop for Nosy {
        fn drop(&mut self) {
            if let Some(fleet) = self.0.upgrade() {
                fleet.status(Instant::now().into_std());
            }
        }
    }
    let (done, finished) = std::sync::mpsc::channel();
    // On a thread of its own, so that it fails instead of hanging.
    std::thread::spawn(move || {
        let now = Instant::now().into_std();
        let fleet = Arc::new(Fleet::new(BalanceConfig::default(), 1, now));
        let available = instance("a");
        let draining = available.clone().with_availability(Availability::Draining);
        let (ended, asks) = (AtomicUsize::new(0), AtomicUsize::new(0));
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while ended.load(SeqCst) == 0 {
                    fleet.status(now);
                    asks.fetch_add(1, SeqCst);
                    // Or the lock is always its own again before the other thread has woken.
                    std::thread::yield_now();
                }
            });
            for _ in 0..200 {
                let dials = fleet.apply([available.clone()].into_iter().collect(), now);
                let nosy = |dial: Dial| (dial.ticket, Nosy(Arc::downgrade(&fleet)));
                fleet.connected(dials.into_iter().map(nosy), now);
                let pick = fleet.pick(now, &mut First, &[]).unwrap();
                fleet.apply([draining.clone()].into_iter().collect(), now);
                let before = asks.load(SeqCst);
                while asks.load(SeqCst) == before {
                    std::thread::yield_now();
                }
                drop(pick);
            }
            ended.store(1, SeqCst);
        });
        done.send(()).unwrap();
    });
    assert_eq!(finished.recv_timeout(60 * SECOND), Ok(()));
}

#[test]
fn an_error_of_a_dial_that_asks_while_it_is_shown_is_not_shown_under_the_lock() {
    type Asked = Arc<OnceLock<Balance<World>>>;
    struct Curious(Asked);
    impl fmt::Debug for Curious {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("Curious")
        }
    }
    impl fmt::Display for Curious {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            let usable = self
                .0
                .get()
                .map(|balance| balance.control().status().usable);
            write!(f, "with {usable:?} usable")
        }
    }
    impl std::error::Error for Curious {}
    let (done, finished) = std::sync::mpsc::channel();
    // On a thread of its own, so that it fails instead of hanging.
    std::thread::spawn(move || {
        let mut runtime = Builder::new_current_thread();
        let runtime = runtime.enable_time().start_paused(true).build().unwrap();
        runtime.block_on(async {
            let asked = Asked::default();
            let curious = Arc::clone(&asked);
            let list = List::new([instance("a")]).unwrap();
            let layer = BalanceLayer::new(list, "worker:http").unwrap();
            let balance = layer.layer(service_fn(move |_: Instance| {
                std::future::ready(Err::<World, _>(Curious(Arc::clone(&curious))))
            }));
            let _ = asked.set(balance.clone());
            sleep(SECOND).await;
            let error = balance.control().status().members[0].error.clone();
            done.send(error).unwrap();
        });
    });
    let error = finished.recv_timeout(60 * SECOND).expect("no deadlock");
    assert_eq!(error.as_deref(), Some("dial failed: with Some(0) usable"));
}

#[tokio::test(start_paused = true)]
async fn to_end_an_earlier_attempt_as_unsent_says_nothing_of_the_call_that_is_classified() {
    /// Ends each attempt as unsent with the next one's answer.
    #[derive(Default)]
    struct Late(Mutex<Option<Attempt>>);
    impl<Req, Res, Err> Classify<Req, Res, Err> for Late {
        type Response = Res;
        type Context = ();

        fn begin(&self, _: &Req) {}

        fn classify(
            &self,
            (): (),
            result: Result<Res, Err>,
            attempt: Attempt,
        ) -> Result<Res, Failed<Err>> {
            let earlier = self.0.lock().unwrap().replace(attempt);
            if let Some(earlier) = earlier {
                earlier.unsent();
            }
            result.map_err(Failed::sent)
        }
    }
    let list = List::new(["a", "b"].map(instance)).unwrap();
    let world = World::default();
    for id in ["a", "b"] {
        world.node(id).when_called(Does::Fail);
    }
    let mut balance = BalanceLayer::new(list, "worker:http")
        .unwrap()
        .classify(Late::default())
        .layer(world);
    for _ in 0..3 {
        assert!(balance.call(()).await.unwrap_err().was_sent());
    }
}
