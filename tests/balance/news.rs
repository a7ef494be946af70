//! What discovery says, and what becomes of it.

use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use rolecall::discovery::{BoxStream, DiscoveryError, DiscoveryErrorKind};
use rolecall::{
    Availability, BalanceConfig, BalanceLayer, Boundary, Discovery, ErrorKind, Event, Instance,
    InstanceSet, List, MemberState, Registrar, Registration, Registry, Target, Visibility, Weight,
};
use tokio::time::{Instant, sleep};
use tower::{Layer, Service};

use crate::support::{Does, Script, Stage, World, addr, instance, next_event, set};

const MS: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);

fn down() -> DiscoveryError {
    DiscoveryError::backend("watching", "it is down")
}

#[tokio::test(start_paused = true)]
async fn discovery_that_flaps_costs_no_request_and_no_connection() {
    let stage = Stage::of(&["a", "b", "c", "d"]).await;
    for round in 0..50 {
        stage.feed.send(Err(down())).unwrap();
        stage.announce(set([]));
        if round % 2 == 0 {
            sleep(100 * MS).await;
        }
        stage.announce(set(["d"]));
        assert!(stage.call().await.is_ok());
        stage.announce(set(["a", "b", "c", "d"]));
        assert!(stage.call().await.is_ok());
    }
    sleep(60 * SECOND).await;
    let status = stage.balance.control().status();
    assert_eq!((status.usable, status.doubted_for), (4, None), "{status}");
    for id in ["a", "b", "c", "d"] {
        assert_eq!(stage.node(id).dials(), 1);
    }
}

#[tokio::test(start_paused = true)]
async fn a_tenth_of_the_fleet_is_believed_when_the_grace_is_over() {
    let ids: Vec<_> = (0..20).map(|number| format!("i{number}")).collect();
    let ids: Vec<_> = ids.iter().map(String::as_str).collect();
    let stage = Stage::of(&ids).await;
    let mut events = stage.balance.control().events();
    let began = Instant::now();
    // Repeated, as a poll would: that does not prolong the doubt.
    let mut doubts = 0;
    for _ in 0..29 {
        stage.announce(set(["i0", "i1"]));
        sleep(SECOND).await;
        assert_eq!(stage.balance.control().status().usable, 20);
    }
    stage.until(|status| status.usable == 2).await;
    assert_eq!(began.elapsed().as_secs(), 30);
    let changed = |e: &Event| matches!(e, Event::SetChanged { .. });
    let event = next_event(&mut events, |e| {
        doubts += usize::from(matches!(e, Event::SetDoubted { .. }));
        changed(e)
    })
    .await;
    assert!(
        matches!(
            event,
            Event::SetChanged {
                removed: 18,
                known: 2,
                ..
            }
        ),
        "{event}"
    );
    assert_eq!(doubts, 1, "a doubt is told of once");
    assert_eq!(stage.node("i5").alive(), 0);
    assert_eq!(stage.node("i0").dials(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_doubtful_answers_changes_count_at_once() {
    let stage = Stage::of(&["a", "b", "c", "d"]).await;
    let draining = instance("a").with_availability(Availability::Draining);
    stage.announce([draining].into_iter().collect());
    stage.until(|status| status.usable == 3).await;
    assert_eq!(stage.state("a"), Some(MemberState::Draining));
    assert!(stage.balance.control().status().doubted_for.is_some());
}

#[tokio::test(start_paused = true)]
async fn no_grace_believes_everything() {
    let config = BalanceConfig::builder().shrink_grace(Duration::ZERO);
    let stage = Stage::with(config.build().unwrap(), &["a", "b", "c", "d"]).await;
    stage.announce(set([]));
    stage.until(|status| status.members.is_empty()).await;
    assert_eq!(stage.balance.control().status().doubted_for, None);
}

#[tokio::test(start_paused = true)]
async fn an_ended_discovery_leaves_a_doubt_to_run_out() {
    let stage = Stage::of(&["a"]).await;
    stage.announce(set([]));
    stage.until(|status| status.doubted_for.is_some()).await;
    let Stage { balance, feed, .. } = stage;
    drop(feed);
    sleep(31 * SECOND).await;
    assert!(balance.control().status().members.is_empty());
}

#[tokio::test(start_paused = true)]
async fn discovery_that_never_answers_is_no_obstacle_to_the_end() {
    struct Silent;
    impl Discovery for Silent {
        fn watch(&self, _: &Target) -> BoxStream<'static, Result<InstanceSet, DiscoveryError>> {
            futures::stream::pending().boxed()
        }

        fn peers(
            &self,
            _: &rolecall::Boundary,
        ) -> BoxStream<'static, Result<InstanceSet, DiscoveryError>> {
            rolecall::discovery::no_peers()
        }

        fn refresh(&self, _: &Target) {}
    }
    let mut balance = BalanceLayer::new(Silent, "worker:http")
        .unwrap()
        .layer(World::default());
    let error = balance.call(()).await.unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::Unresolved), "{error}");
    let began = Instant::now();
    balance.call(()).await.unwrap_err();
    assert_eq!(began.elapsed(), Duration::ZERO, "fails fast by now");
    let mut events = balance.control().events();
    drop(balance);
    assert!(events.next().await.is_none());
}

#[tokio::test(start_paused = true)]
async fn an_unknown_role_is_told_as_the_source() {
    let mut balance = BalanceLayer::new(Registry::new(), "nobody:http")
        .unwrap()
        .layer(World::default());
    let error = balance.call(()).await.unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::Unresolved), "{error}");
    assert!(error.to_string().contains("discovery failed"), "{error}");
    let source = error.into_source().unwrap();
    let source = source.downcast_ref::<DiscoveryError>().unwrap();
    assert_eq!(source.kind(), DiscoveryErrorKind::UnknownRole);
}

#[tokio::test(start_paused = true)]
async fn a_role_registered_later_serves_the_call_that_waits() {
    let registry = Registry::new();
    let mut balance = BalanceLayer::new(registry.clone(), "worker:http")
        .unwrap()
        .layer(World::default());
    let call = tokio::spawn(balance.call(()));
    sleep(SECOND).await;
    let lease = registry
        .register(
            Registration::new("worker")
                .id("a")
                .endpoint("http", addr(80)),
        )
        .await
        .unwrap();
    assert_eq!(call.await.unwrap().unwrap(), "a");

    lease.deregister().await.unwrap();
    sleep(MS).await;
    let error = balance.call(()).await.unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::Empty), "{error}");
}

#[tokio::test(start_paused = true)]
async fn a_permission_that_is_withdrawn_stops_calls_and_one_that_is_granted_starts_them() {
    let (script, feed) = Script::new();
    let mut balance = BalanceLayer::new(script, "media/worker:http")
        .unwrap()
        .boundary(Boundary::new("batch").unwrap())
        .layer(World::default());
    let seen = |visibility| {
        let set = [instance("a").with_visibility(visibility)].into_iter();
        Ok(set.collect::<InstanceSet>().confirmed())
    };
    feed.send(seen(Visibility::Public)).unwrap();
    assert!(balance.call(()).await.is_ok());
    feed.send(seen(Visibility::Internal)).unwrap();
    sleep(MS).await;
    let error = balance.call(()).await.unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::NotVisible), "{error}");
    let granted = Visibility::Granted(vec![Boundary::new("batch").unwrap()]);
    feed.send(seen(granted)).unwrap();
    balance.control().wait_usable(SECOND).await.unwrap();
    assert!(balance.call(()).await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn backends_are_swapped_behind_one_type() {
    let list: Arc<dyn Discovery> = Arc::new(List::new([instance("a")]).unwrap());
    let registry = Registry::new();
    let _lease = registry
        .register(
            Registration::new("worker")
                .id("b")
                .endpoint("http", addr(80)),
        )
        .await
        .unwrap();
    for (discovery, id) in [(list, "a"), (Arc::new(registry) as Arc<dyn Discovery>, "b")] {
        let mut balance = BalanceLayer::new(discovery, "worker:http")
            .unwrap()
            .layer(World::default());
        assert_eq!(balance.call(()).await.unwrap(), id);
    }
}

#[tokio::test(start_paused = true)]
async fn changes_of_weight_and_metadata_do_not_disturb_requests_or_connections() {
    let stage = Stage::of(&["a", "b"]).await;
    for id in ["a", "b"] {
        stage.node(id).when_called(Does::Answer(50 * MS));
    }
    let mut calls = Vec::new();
    for round in 1..=50_u16 {
        calls.extend((0..4).map(|_| tokio::spawn(stage.balance.clone().call(()))));
        let anew = |id| {
            instance(id)
                .with_weight(Weight::new(round))
                .with_metadata("round", round.to_string())
        };
        stage.announce(["a", "b"].map(anew).into_iter().collect());
        sleep(10 * MS).await;
        let unfinished = calls.iter().filter(|call| !call.is_finished()).count();
        assert_eq!(stage.in_flight() as usize, unfinished, "counts are kept");
    }
    for call in calls {
        call.await.unwrap().unwrap();
    }
    assert_eq!(stage.in_flight(), 0);
    let status = stage.balance.control().status();
    assert_eq!(status.members.iter().map(|m| m.picks).sum::<u64>(), 200);
    assert_eq!((stage.node("a").dials(), stage.node("b").dials()), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn a_member_at_weight_zero_keeps_its_connection_and_comes_back_without_a_dial() {
    let stage = Stage::of(&["a", "b"]).await;
    let weighing = |weight| instance("a").with_weight(Weight::new(weight));
    for _ in 0..5 {
        stage.announce([weighing(0), instance("b")].into_iter().collect());
        stage.until(|status| status.usable == 1).await;
        stage.announce([weighing(1), instance("b")].into_iter().collect());
        stage.until(|status| status.usable == 2).await;
    }
    assert_eq!(stage.node("a").dials(), 1);
}

#[tokio::test(start_paused = true)]
async fn an_instance_that_is_draining_from_the_start_is_not_dialled_until_it_is_available() {
    let stage = Stage::of(&["b"]).await;
    let saying = |availability| {
        let a = instance("a").with_availability(availability);
        [a, instance("b")].into_iter().collect()
    };
    stage.announce(saying(Availability::Draining));
    sleep(60 * SECOND).await;
    assert_eq!(stage.node("a").dials(), 0);
    stage.announce(saying(Availability::Available));
    stage.until(|status| status.usable == 2).await;
    stage.announce(saying(Availability::Draining));
    stage.until(|status| status.usable == 1).await;
    assert_eq!(stage.node("a").alive(), 0, "nothing was in flight");
    assert_eq!(stage.node("a").dials(), 1);
}

#[tokio::test(start_paused = true)]
async fn an_instance_replaced_by_another_is_two_instances() {
    let stage = Stage::of(&["a"]).await;
    for round in 0..20 {
        let (old, new) = if round % 2 == 0 {
            ("a", "b")
        } else {
            ("b", "a")
        };
        assert_eq!(stage.call().await.unwrap(), old);
        stage.announce(set([new]));
        stage
            .until(|status| *status.members[0].instance.id() == *new)
            .await;
        assert_eq!(stage.call().await.unwrap(), new);
        assert_eq!(stage.node(old).alive(), 0);
    }
}

#[tokio::test(start_paused = true)]
async fn many_changes_at_once_leave_exactly_what_was_announced_last() {
    let stage = Stage::unfed(BalanceConfig::default());
    // A small generator of its own: the sequence is the same on every run.
    let mut seed = 7_u32;
    let mut draw = |below: u32| {
        seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (seed >> 16) % below
    };
    let mut last = Vec::new();
    for _ in 0..200 {
        last.clear();
        for number in 0..20 {
            if draw(3) == 0 {
                continue;
            }
            let availability = match draw(4) {
                0 => Availability::Busy,
                1 => Availability::Draining,
                _ => Availability::Available,
            };
            let instance = Instance::new(format!("i{number:02}"), addr(80 + draw(2) as u16))
                .with_weight(Weight::new(draw(3) as u16))
                .with_availability(availability);
            last.push(instance);
        }
        stage.announce(last.iter().cloned().collect::<InstanceSet>().confirmed());
        if draw(3) == 0 {
            sleep(MS).await;
        }
    }
    sleep(60 * SECOND).await;
    let status = stage.balance.control().status();
    let known: Vec<_> = status.members.iter().map(|m| m.instance.clone()).collect();
    assert_eq!(known, last);
    let eligible =
        |i: &&Instance| i.weight().get() > 0 && i.availability() != Availability::Draining;
    let available = |i: &&Instance| i.availability() == Availability::Available;
    let mut usable = last.iter().filter(eligible).filter(available).count();
    if usable == 0 {
        usable = last.iter().filter(eligible).count();
    }
    assert_eq!(status.usable, usable, "{status}");
    for member in &status.members {
        let id = member.instance.id().as_str();
        let connected = usize::from(member.state != MemberState::Draining);
        assert_eq!(stage.node(id).alive(), connected, "{status}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_answer_of_more_than_can_be_meant_is_an_error_and_changes_nothing() {
    let stage = Stage::of(&["a"]).await;
    let crowd = (0..100_000).map(|n| instance(&format!("evil-{n}")));
    stage.announce(crowd.chain([instance("a")]).collect());
    stage.until(|status| status.discovery_error.is_some()).await;
    let status = stage.balance.control().status();
    assert_eq!(status.members.len(), 1, "{status}");
    let error = status.discovery_error.unwrap_or_default();
    assert!(error.contains("100001 instances in one answer"), "{error}");
    assert_eq!(stage.call().await.unwrap(), "a");
}

/// Answers once, and notes when it is told that this may be stale.
#[derive(Clone)]
struct Stale {
    answer: Option<InstanceSet>,
    told: Arc<std::sync::Mutex<Vec<(Instant, String)>>>,
}

impl Stale {
    fn with(answer: Option<InstanceSet>) -> Self {
        Self {
            answer,
            told: Arc::default(),
        }
    }
}

impl Discovery for Stale {
    fn watch(&self, target: &Target) -> BoxStream<'static, Result<InstanceSet, DiscoveryError>> {
        let unknown = || DiscoveryError::unknown_role(target);
        let one = futures::stream::iter([self.answer.clone().ok_or_else(unknown)]);
        one.chain(futures::stream::pending()).boxed()
    }

    fn peers(&self, _: &Boundary) -> BoxStream<'static, Result<InstanceSet, DiscoveryError>> {
        rolecall::discovery::no_peers()
    }

    fn refresh(&self, target: &Target) {
        let told = (Instant::now(), target.to_string());
        self.told.lock().unwrap().push(told);
        panic!("it harms nobody");
    }
}

#[tokio::test(start_paused = true)]
async fn discovery_is_told_at_most_once_a_second_that_its_answer_may_be_stale() {
    let one = || Some([instance("a")].into_iter().collect());
    // What is there refuses dials, nothing is there, and nobody knows the role.
    for answer in [one(), Some(InstanceSet::empty()), None] {
        let stale = Stale::with(answer.clone());
        let world = World::default();
        let nodes = world.node("a");
        nodes.when_dialled(crate::support::Gets::Refused);
        let layer = BalanceLayer::new(stale.clone(), "worker:http").unwrap();
        let layer = layer.boundary(Boundary::new("shop").unwrap());
        let _balance = layer.layer(world);
        sleep(10 * SECOND).await;
        let told = stale.told.lock().unwrap().clone();
        assert!((9..=11).contains(&told.len()), "{answer:?}: {told:?}");
        assert!(
            told.iter().all(|(_, target)| target == "shop/worker:http"),
            "{told:?}"
        );
        let close = told.windows(2).any(|two| two[1].0 - two[0].0 < SECOND);
        assert!(!close, "{told:?}");
    }
    // Nothing is asked of a discovery whose instances do.
    let stale = Stale::with(one());
    let layer = BalanceLayer::new(stale.clone(), "worker:http").unwrap();
    let balance = layer.layer(World::default());
    balance.control().wait_usable(SECOND).await.unwrap();
    sleep(10 * SECOND).await;
    let told = stale.told.lock().unwrap().clone();
    assert!(told.len() <= 1, "{told:?}");
}
