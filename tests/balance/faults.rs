//! Faults found in the tower side, one test each.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::task::{Context, Poll};
use std::time::Duration;

use futures::StreamExt;
use rolecall::discovery::{BoxStream, DiscoveryError};
use rolecall::{
    BalanceConfig, BalanceLayer, Discovery, Event, Instance, InstanceSet, List, Target,
};
use tokio::runtime::Builder;
use tokio::time::{Instant, sleep};
use tower::{Layer, Service, service_fn};

use crate::support::{Gets, Line, Script, Stage, World, instance, next_event, set};

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
    let mut events = balance.events();
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
    let mut events = balance.events();
    let event = next_event(&mut events, |e| matches!(e, Event::DialFailed { .. })).await;
    assert!(event.to_string().contains("the drop panics"), "{event}");
    next_event(&mut events, |e| matches!(e, Event::Connected { .. })).await;
    assert_eq!(dials.load(SeqCst), 2, "the driver lives on");
}
