//! Checks by something else than a caller's request.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::StreamExt;
use rolecall::{
    Balance, BalanceConfig, BalanceLayer, Event, Instance, MemberState, OutlierConfig, Status,
};
use tokio::sync::mpsc::UnboundedSender;
use tokio::time::{sleep, timeout};
use tower::{Layer, Service};

use crate::support::{Answer, Does, Fault, Line, Script, World, next_event, set};

const SECOND: Duration = Duration::from_secs(1);

/// What the check of each instance does, and how many there were.
#[derive(Clone, Default)]
struct Health(Arc<Mutex<HashMap<String, Asked>>>);

/// What an instance's checks do, and how many there were.
type Asked = (Option<Does>, usize);

impl Health {
    fn set(&self, id: &str, does: Does) {
        self.0.lock().unwrap().entry(id.to_owned()).or_default().0 = Some(does);
    }

    fn checks(&self, id: &str) -> usize {
        self.0.lock().unwrap().get(id).map_or(0, |known| known.1)
    }

    async fn check(self, instance: Instance) -> Result<(), Fault> {
        let id = instance.id().to_string();
        let does = {
            let mut known = self.0.lock().unwrap();
            let known = known.entry(id.clone()).or_default();
            known.1 += 1;
            known.0
        };
        match does.unwrap_or(Does::Answer(Duration::ZERO)) {
            Does::Answer(after) => {
                sleep(after).await;
                Ok(())
            }
            Does::Fail => Err(Fault(id)),
            Does::Hang => std::future::pending().await,
            Does::Panic => panic!("the check panics"),
        }
    }
}

struct Stage {
    world: World,
    health: Health,
    feed: UnboundedSender<Answer>,
    balance: Balance<Line>,
}

impl Stage {
    fn new(config: BalanceConfig) -> Self {
        let (script, feed) = Script::new();
        let (world, health) = (World::default(), Health::default());
        let checks = health.clone();
        let balance = BalanceLayer::new(script, "worker:http")
            .unwrap()
            .config(config)
            .check(move |_: Line, instance| checks.clone().check(instance))
            .layer(world.clone());
        Self {
            world,
            health,
            feed,
            balance,
        }
    }

    async fn of(ids: &[&str]) -> Self {
        let stage = Self::new(BalanceConfig::default());
        stage.announce(ids).await;
        stage
    }

    async fn announce(&self, ids: &[&str]) {
        self.feed.send(Ok(set(ids.iter().copied()))).unwrap();
        self.until(|status| status.usable == ids.len()).await;
    }

    async fn until(&self, reached: impl Fn(&Status) -> bool) {
        let control = self.balance.control();
        let waits = async {
            while !reached(&control.status()) {
                sleep(Duration::from_millis(1)).await;
            }
        };
        if timeout(60 * SECOND, waits).await.is_err() {
            panic!("never reached: {}", control.status());
        }
    }

    async fn call(&self) -> Result<String, rolecall::Error> {
        self.balance.clone().call(()).await
    }

    fn state(&self, id: &str) -> MemberState {
        let members = self.balance.control().status().members;
        let member = members.iter().find(|member| *member.instance.id() == *id);
        member.unwrap().state
    }
}

#[tokio::test(start_paused = true)]
async fn a_new_connection_is_checked_before_it_is_picked() {
    let stage = Stage::new(BalanceConfig::default());
    stage.health.set("b", Does::Answer(SECOND));
    stage.feed.send(Ok(set(["a", "b"]))).unwrap();
    stage.until(|status| status.usable == 1).await;
    for _ in 0..20 {
        assert_eq!(stage.call().await.unwrap(), "a");
    }
    stage.until(|status| status.usable == 2).await;
    assert_eq!((stage.health.checks("a"), stage.health.checks("b")), (1, 1));
    let status = stage.balance.control().status();
    let check = status.members[1].check.as_ref().unwrap();
    assert_eq!(check.error, None);
}

#[tokio::test(start_paused = true)]
async fn an_instance_whose_warm_up_fails_or_hangs_or_panics_is_used_all_the_same() {
    for (does, says) in [
        (Does::Fail, "b fails"),
        (Does::Hang, "no outcome within 2s"),
        (Does::Panic, "the check panics"),
    ] {
        let stage = Stage::new(BalanceConfig::default());
        let mut events = stage.balance.control().events();
        stage.health.set("b", does);
        stage.announce(&["a", "b"]).await;
        let failed = |event: &Event| matches!(event, Event::WarmUpFailed { .. });
        let event = next_event(&mut events, failed).await;
        assert_eq!(event.id().unwrap(), "b");
        assert!(event.to_string().contains(says), "{event}");
        let mut answered = 0;
        for _ in 0..100 {
            answered += usize::from(stage.call().await.unwrap() == "b");
        }
        assert!(answered > 20, "{answered} of 100");
        assert_eq!(stage.state("b"), MemberState::Usable);
    }
}

#[tokio::test(start_paused = true)]
async fn no_request_is_lost_to_an_instance_while_its_check_fails() {
    for does in [Does::Fail, Does::Hang, Does::Panic] {
        let stage = Stage::of(&["a", "b"]).await;
        stage.health.set("b", does);
        stage.world.node("b").when_called(Does::Fail);
        let before = stage.world.node("b").calls();
        let control = stage.balance.control().clone();
        let mut events = control.events();
        control.eject(&"b".into(), SECOND);
        // One request a minute, for an hour.
        for _ in 0..60 {
            assert_eq!(stage.call().await.unwrap(), "a");
            sleep(60 * SECOND).await;
        }
        assert_eq!(stage.world.node("b").calls(), before);
        let checks = stage.health.checks("b");
        assert!(checks > 5, "{checks} checks");
        let failed = |event: &Event| matches!(event, Event::TrialFailed { .. });
        let event = next_event(&mut events, failed).await;
        assert!(event.to_string().contains("check failed"), "{event}");

        // It recovers, and the next requests find out.
        stage.health.set("b", Does::Answer(Duration::ZERO));
        stage
            .world
            .node("b")
            .when_called(Does::Answer(Duration::ZERO));
        for _ in 0..60 {
            stage.call().await.unwrap();
            sleep(60 * SECOND).await;
        }
        assert_eq!(stage.state("b"), MemberState::Usable);
    }
}

#[tokio::test(start_paused = true)]
async fn an_instance_whose_check_lies_costs_one_request_for_each_return() {
    let stage = Stage::of(&["a", "b", "c"]).await;
    stage.world.node("b").when_called(Does::Fail);
    let control = stage.balance.control().clone();
    control.eject(&"b".into(), SECOND);
    let mut events = Box::pin(control.events());
    let (mut failures, calls) = (0, 20_000);
    for _ in 0..calls {
        failures += usize::from(stage.call().await.is_err());
        sleep(Duration::from_millis(20)).await;
    }
    let mut returns = 0;
    while let Ok(Some(event)) = timeout(Duration::from_millis(1), events.next()).await {
        assert!(!matches!(event, Event::Returned { .. }), "{event}");
        returns += usize::from(matches!(event, Event::Probation { .. }));
    }
    assert!(
        failures > 0 && failures <= returns,
        "{failures} of {returns}"
    );
    // Each failure doubles the time of the next ejection, and trials are rationed.
    assert!(failures < calls / 200, "{failures}");
}

#[tokio::test(start_paused = true)]
async fn checks_that_all_fail_are_no_outage() {
    let stage = Stage::new(BalanceConfig::default());
    for id in ["a", "b", "c"] {
        stage.health.set(id, Does::Fail);
    }
    stage.announce(&["a", "b", "c"]).await;
    for _ in 0..100 {
        stage.call().await.unwrap();
    }
    assert!(!stage.balance.control().status().panic_mode);
    for id in ["a", "b", "c"] {
        stage.balance.control().eject(&id.into(), SECOND);
    }
    for _ in 0..600 {
        stage.call().await.unwrap();
        sleep(SECOND).await;
    }
    assert!(stage.balance.control().status().panic_mode);
}

#[tokio::test(start_paused = true)]
async fn a_check_that_fails_ejects_no_member_in_play_and_keeps_to_the_cap() {
    let outlier = OutlierConfig::builder().max_ejection_percentage(34);
    let outlier = outlier.build().unwrap();
    let config = BalanceConfig::builder().outlier(outlier).build().unwrap();
    let stage = Stage::new(config);
    for id in ["a", "b", "c"] {
        stage.health.set(id, Does::Fail);
        stage.world.node(id).when_called(Does::Fail);
    }
    stage.announce(&["a", "b", "c"]).await;
    for _ in 0..3000 {
        drop(stage.call().await);
        let status = stage.balance.control().status();
        let out = |member: &&rolecall::MemberStatus| {
            matches!(member.state, MemberState::Ejected | MemberState::Probation)
        };
        assert!(status.members.iter().filter(out).count() <= status.ejection_cap);
        sleep(Duration::from_millis(100)).await;
    }
}
