//! Requests that are pinned to one instance.

use std::time::Duration;

use rolecall::{
    Attempt, Availability, Balance, BalanceConfig, BalanceLayer, Classify, Error, ErrorKind,
    Failed, Hints, InstanceId, MemberState, PinFault,
};
use tokio::sync::mpsc::UnboundedSender;
use tokio::time::{Instant, sleep, timeout};
use tower::{Layer, Service};

use crate::support::{Answer, Does, Fault, Gets, Line, Script, World, instance, set};

/// Pins every request to one instance.
struct PinAll(&'static str);

impl Classify<(), String, Fault> for PinAll {
    type Response = String;
    type Context = InstanceId;

    fn begin(&self, (): &()) -> InstanceId {
        self.0.into()
    }

    fn hints<'c>(&self, id: &'c InstanceId) -> Hints<'c> {
        Hints::pin(id)
    }

    fn classify(
        &self,
        _: InstanceId,
        result: Result<String, Fault>,
        attempt: Attempt,
    ) -> Result<String, Failed<Fault>> {
        match result {
            Ok(answer) => {
                attempt.success();
                Ok(answer)
            }
            Err(error) => {
                attempt.failure();
                Err(Failed::sent(error))
            }
        }
    }
}

struct Stage {
    world: World,
    feed: UnboundedSender<Answer>,
    balance: Balance<Line, PinAll>,
}

impl Stage {
    /// Discovery has not said anything yet.
    fn pinned_to(id: &'static str, config: BalanceConfig) -> Self {
        let (script, feed) = Script::new();
        let world = World::default();
        let layer = BalanceLayer::new(script, "worker:http").unwrap();
        let balance = layer
            .config(config)
            .classify(PinAll(id))
            .layer(world.clone());
        Self {
            world,
            feed,
            balance,
        }
    }

    async fn of(ids: &[&str], pinned_to: &'static str) -> Self {
        let stage = Self::pinned_to(pinned_to, BalanceConfig::default());
        stage.feed.send(Ok(set(ids.iter().copied()))).unwrap();
        stage.until(|usable| usable == ids.len()).await;
        stage
    }

    async fn until(&self, reached: impl Fn(usize) -> bool) {
        let control = self.balance.control();
        let reached = async {
            while !reached(control.status().usable) {
                sleep(Duration::from_millis(1)).await;
            }
        };
        timeout(Duration::from_secs(60), reached).await.unwrap();
    }

    async fn call(&self) -> Result<String, Error> {
        self.balance.clone().call(()).await
    }

    /// Takes the connection of an instance away, and lets its next dials end so.
    async fn lose(&self, id: &str, dials: Gets) {
        let node = self.world.node(id);
        node.when_dialled(dials);
        node.when_polled(Gets::Refused);
        let usable = self.balance.control().status().usable;
        let waits = self.call();
        let lost = self.until(|now| now < usable);
        tokio::select! {
            answer = waits => panic!("{answer:?}"),
            () = lost => {}
        }
        node.when_polled(Gets::Ready);
    }
}

fn fault(error: &Error, id: &str) -> PinFault {
    assert!(!error.was_sent(), "{error}");
    assert_eq!(
        error.instance().map(InstanceId::as_str),
        Some(id),
        "{error}"
    );
    let ErrorKind::Pinned(fault) = error.kind() else {
        panic!("{error:?}");
    };
    *fault
}

#[tokio::test(start_paused = true)]
async fn every_pinned_request_goes_to_its_instance() {
    let stage = Stage::of(&["a", "b", "c"], "b").await;
    for _ in 0..100 {
        assert_eq!(stage.call().await.unwrap(), "b");
    }
    assert_eq!(
        stage.world.node("a").calls() + stage.world.node("c").calls(),
        0
    );
}

#[tokio::test(start_paused = true)]
async fn a_pin_to_an_unknown_instance_fails_at_once() {
    let stage = Stage::of(&["a", "b"], "gone").await;
    let began = Instant::now();
    let error = stage.call().await.unwrap_err();
    assert_eq!(fault(&error, "gone"), PinFault::Unknown);
    assert!(began.elapsed() < Duration::from_millis(1));
    let text = "default/worker:http: pinned to instance gone, which is not announced";
    assert_eq!(error.to_string(), text);

    // Also after it was there.
    stage.feed.send(Ok(set(["a", "gone"]))).unwrap();
    while stage.call().await.is_err() {
        sleep(Duration::from_millis(1)).await;
    }
    stage.feed.send(Ok(set(["a", "b"]).confirmed())).unwrap();
    while stage.call().await.is_ok() {
        sleep(Duration::from_millis(1)).await;
    }
    assert_eq!(
        fault(&stage.call().await.unwrap_err(), "gone"),
        PinFault::Unknown
    );
}

#[tokio::test(start_paused = true)]
async fn a_pin_waits_for_the_first_set() {
    let stage = Stage::pinned_to("b", BalanceConfig::default());
    let feed = stage.feed.clone();
    tokio::spawn(async move {
        sleep(Duration::from_secs(2)).await;
        feed.send(Ok(set(["a", "b"]))).unwrap();
    });
    assert_eq!(stage.call().await.unwrap(), "b");
}

#[tokio::test(start_paused = true)]
async fn a_pin_waits_for_an_instance_that_reconnects_while_others_are_usable() {
    let stage = Stage::of(&["a", "b"], "b").await;
    stage.lose("b", Gets::Refused).await;
    let node = stage.world.node("b");
    tokio::spawn(async move {
        sleep(Duration::from_secs(2)).await;
        node.when_dialled(Gets::Ready);
    });
    assert_eq!(stage.call().await.unwrap(), "b");
    assert_eq!(stage.world.node("a").calls(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_pin_to_an_instance_that_stays_away_fails_after_unavailable_after() {
    let stage = Stage::of(&["a", "b"], "b").await;
    stage.lose("b", Gets::Refused).await;
    let began = Instant::now();
    let error = stage.call().await.unwrap_err();
    assert_eq!(fault(&error, "b"), PinFault::Disconnected);
    let waited = began.elapsed();
    let limit = BalanceConfig::default().unavailable_after();
    assert!(
        waited >= limit && waited < limit + Duration::from_millis(10),
        "{waited:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_pin_to_a_draining_instance_fails_at_once() {
    let stage = Stage::of(&["a", "b"], "b").await;
    let draining = instance("b").with_availability(Availability::Draining);
    let set = [instance("a"), draining].into_iter().collect();
    stage.feed.send(Ok(set)).unwrap();
    stage.until(|usable| usable == 1).await;
    let began = Instant::now();
    let error = stage.call().await.unwrap_err();
    assert_eq!(fault(&error, "b"), PinFault::Draining);
    assert!(began.elapsed() < Duration::from_millis(1));
}

#[tokio::test(start_paused = true)]
async fn a_pin_takes_an_instance_that_is_ejected_or_busy_or_has_no_weight() {
    let stage = Stage::of(&["a", "b"], "b").await;
    let control = stage.balance.control();
    assert!(control.eject(&"b".into(), Duration::from_secs(3600)));
    assert_eq!(stage.call().await.unwrap(), "b");
    // Its failure is no reason for anything.
    stage.world.node("b").when_called(Does::Fail);
    stage.call().await.unwrap_err();
    stage
        .world
        .node("b")
        .when_called(Does::Answer(Duration::ZERO));
    let state = |id: &str| {
        let members = control.status().members;
        let member = members.iter().find(|member| *member.instance.id() == *id);
        member.map(|member| member.state)
    };
    assert_eq!(state("b"), Some(MemberState::Ejected));
    control.restore(&"b".into());

    for (changed, reached) in [
        (
            instance("b").with_availability(Availability::Busy),
            MemberState::Busy,
        ),
        (instance("b").with_weight(0), MemberState::Weightless),
    ] {
        let set = [instance("a"), changed].into_iter().collect();
        stage.feed.send(Ok(set)).unwrap();
        while state("b") != Some(reached) {
            sleep(Duration::from_millis(1)).await;
        }
        assert_eq!(stage.call().await.unwrap(), "b");
    }
}

#[tokio::test(start_paused = true)]
async fn a_pin_to_an_instance_whose_service_is_not_ready_waits_for_it_alone() {
    let stage = Stage::of(&["a", "b"], "b").await;
    let node = stage.world.node("b");
    node.when_polled(Gets::Nowhere);
    let later = stage.world.node("b");
    tokio::spawn(async move {
        sleep(Duration::from_secs(20)).await;
        later.when_polled(Gets::Ready);
    });
    let began = Instant::now();
    assert_eq!(stage.call().await.unwrap(), "b");
    assert!(began.elapsed() >= Duration::from_secs(20));
    assert_eq!(stage.world.node("a").calls(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_pin_to_a_full_instance_is_saturated() {
    let config = BalanceConfig::builder().max_in_flight(1).build().unwrap();
    let stage = Stage::pinned_to("b", config);
    stage.feed.send(Ok(set(["a", "b"]))).unwrap();
    stage.until(|usable| usable == 2).await;
    let held = stage.balance.clone().call(());
    let error = stage.call().await.unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::Saturated), "{error}");
    drop(held);
    assert_eq!(stage.call().await.unwrap(), "b");
}
