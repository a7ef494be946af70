//! What callers are told, and what classifiers can say.

use std::error::Error as _;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use rolecall::discovery::{DiscoveryError, DiscoveryErrorKind};
use rolecall::{
    Availability, BalanceConfig, BalanceLayer, Boundary, BoxError, Classify, Error, ErrorKind,
    Event, InstanceId, List, Load, MemberState, Outcome, Registrar, Registration, Registry, Weight,
};
use tokio::time::{Instant, sleep};
use tower::{Layer, Service, ServiceBuilder, ServiceExt, service_fn};

use crate::support::{Does, Fault, Gets, Stage, World, addr, instance, next_event, set};

const SECOND: Duration = Duration::from_secs(1);

#[tokio::test(start_paused = true)]
async fn a_census_says_why_nobody_is_usable() {
    let stage = Stage::unfed(BalanceConfig::default());
    for id in ["a", "b", "c"] {
        stage.node(id).when_dialled(Gets::Refused);
    }
    let draining = instance("d").with_availability(Availability::Draining);
    let known = ["a", "b", "c"].map(instance).into_iter().chain([draining]);
    stage.announce(known.collect());
    let error = stage.call().await.unwrap_err();
    let text = error.to_string();
    assert!(
        text.contains("4 known: 3 refused (111), 1 draining"),
        "{text}"
    );
    assert!(text.starts_with("default/worker:http: "), "{text}");
    assert!(matches!(error.kind(), ErrorKind::NoneUsable(census) if census.known() == 4));
    assert!(!error.was_sent());
    assert_eq!(error.instance(), None);
}

#[tokio::test(start_paused = true)]
async fn a_silent_discovery_is_unresolved_with_its_last_error_as_the_source() {
    let stage = Stage::unfed(BalanceConfig::default());
    let began = Instant::now();
    let error = stage.call().await.unwrap_err();
    assert_eq!(began.elapsed(), 3 * SECOND, "a bounded wait");
    assert!(matches!(error.kind(), ErrorKind::Unresolved) && error.source().is_none());

    stage
        .feed
        .send(Err(DiscoveryError::backend("asking", "it is down")))
        .unwrap();
    stage.until(|status| status.discovery_error.is_some()).await;
    let error = stage.call().await.unwrap_err();
    let source = error.source().expect("the error of discovery");
    assert!(source.to_string().contains("asking"), "{source}");

    stage.announce(set(["a"]));
    stage.until(|status| status.usable == 1).await;
    assert!(stage.call().await.is_ok(), "an error first is no obstacle");
    assert_eq!(stage.balance.control().status().discovery_error, None);
}

#[tokio::test(start_paused = true)]
async fn a_known_role_with_nobody_home_is_empty() {
    let stage = Stage::unfed(BalanceConfig::default());
    stage.announce(set([]));
    let error = stage.call().await.unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::Empty), "{error}");
}

#[tokio::test(start_paused = true)]
async fn discovery_that_ends_at_once_is_unresolved() {
    let stage = Stage::unfed(BalanceConfig::default());
    let Stage {
        mut balance, feed, ..
    } = stage;
    drop(feed);
    let error = balance.call(()).await.unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::Unresolved), "{error}");
}

#[tokio::test(start_paused = true)]
async fn anothers_internal_endpoint_is_not_visible() {
    let registry = Registry::new();
    let worker = Registration::new("worker").boundary("shop");
    let _lease = registry
        .register(worker.endpoint("http", addr(80)))
        .await
        .unwrap();
    let layer = BalanceLayer::new(registry.clone(), "shop/worker:http").unwrap();
    let error = layer.layer(World::default()).call(()).await.unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::NotVisible), "{error}");
    let source = error.into_source().unwrap();
    let source = source.downcast_ref::<DiscoveryError>().unwrap();
    assert_eq!(source.kind(), DiscoveryErrorKind::NotVisible);

    let friend = BalanceLayer::new(registry, "worker:http").unwrap();
    let friend = friend.boundary(Boundary::new("shop").unwrap());
    let mut balance = friend.layer(World::default());
    assert!(balance.call(()).await.is_ok());
    assert_eq!(balance.target().to_string(), "shop/worker:http");
}

#[tokio::test(start_paused = true)]
async fn saturation_does_not_wait() {
    let config = BalanceConfig::builder().max_in_flight(1).build().unwrap();
    let stage = Stage::with(config, &["a", "b"]).await;
    let under_way: Vec<_> = (0..2).map(|_| stage.balance.clone().call(())).collect();
    let began = Instant::now();
    let error = stage.call().await.unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::Saturated), "{error}");
    assert_eq!(began.elapsed(), Duration::ZERO);
    drop(under_way);
    assert!(stage.call().await.is_ok());

    // At three in the morning the cap is lifted without a deploy.
    stage
        .balance
        .control()
        .reconfigure(BalanceConfig::default());
    let under_way: Vec<_> = (0..20).map(|_| stage.balance.clone().call(())).collect();
    assert!(stage.call().await.is_ok());
    drop(under_way);
}

#[tokio::test(start_paused = true)]
async fn the_instances_own_error_is_the_source_and_is_found_under_other_boxes() {
    let stage = Stage::of(&["a"]).await;
    stage.node("a").when_called(Does::Fail);
    let error = stage.call().await.unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::Call) && error.was_sent());
    assert_eq!(error.instance(), Some(&InstanceId::from("a")));
    assert_eq!(
        error.to_string(),
        "default/worker:http: call to instance a failed"
    );
    assert!(error.into_source().unwrap().is::<Fault>());

    let outer = ServiceBuilder::new()
        .buffer(8)
        .service(stage.balance.clone());
    let timed = tower::timeout::Timeout::new(outer, SECOND);
    let error: BoxError = timed.oneshot(()).await.unwrap_err();
    let found = Error::find(&*error).expect("under two layers");
    assert_eq!(found.instance(), Some(&InstanceId::from("a")));
    assert!(Error::find(&std::fmt::Error).is_none());
}

#[tokio::test(start_paused = true)]
async fn a_lost_connection_costs_no_request_and_is_dialled_again() {
    let stage = Stage::of(&["a", "b"]).await;
    let (a, b) = (stage.node("a"), stage.node("b"));
    for _ in 0..50 {
        a.when_polled(Gets::Refused);
        let answers = futures::future::join_all((0..10).map(|_| stage.call())).await;
        assert!(
            answers.iter().all(|answer| answer.is_ok()),
            "not one is lost"
        );
        a.when_polled(Gets::Ready);
        stage.until(|status| status.usable == 2).await;
    }
    assert!(a.dials() > 10);
    assert_eq!(b.dials(), 1);
    assert_eq!(
        stage.balance.control().status().members.len(),
        2,
        "membership is another matter"
    );
}

#[tokio::test(start_paused = true)]
async fn what_the_classifier_calls_unsent_was_not_sent_and_redials() {
    let layer = BalanceLayer::new(List::new([instance("a")]).unwrap(), "worker:http").unwrap();
    let world = World::default();
    world.node("a").when_called(Does::Fail);
    let unsent = |result: &Result<String, Fault>| match result {
        Ok(_) => Outcome::Success,
        Err(_) => Outcome::Unsent,
    };
    let mut balance = layer.classify_fn(unsent).layer(world.clone());
    let error = balance.call(()).await.unwrap_err();
    assert!(!error.was_sent());
    assert_eq!(
        error.to_string(),
        "default/worker:http: call to instance a was not sent"
    );
    balance.control().wait_usable(SECOND).await.unwrap();
    assert_eq!(world.node("a").dials(), 2);
}

#[tokio::test(start_paused = true)]
async fn outcomes_move_what_they_say() {
    let layer = BalanceLayer::new(List::new([instance("a"), instance("b")]).unwrap(), "w:http");
    let layer = layer.unwrap();
    let world = World::default();
    let next = Arc::new(std::sync::Mutex::new(Outcome::Success));
    let said = Arc::clone(&next);
    let classify = move |_: &Result<String, Fault>| *said.lock().unwrap();
    let mut balance = layer.classify_fn(classify).layer(world);
    balance.control().wait_usable(SECOND).await.unwrap();
    sleep(SECOND).await;
    let failures = |balance: &rolecall::Balance<_, _>| -> u64 {
        balance
            .control()
            .status()
            .members
            .iter()
            .map(|member| member.failures)
            .sum()
    };
    for _ in 0..100 {
        balance.call(()).await.unwrap();
    }
    assert_eq!(failures(&balance), 0);
    *next.lock().unwrap() = Outcome::Neutral;
    balance.call(()).await.unwrap();
    assert_eq!(failures(&balance), 0);
    *next.lock().unwrap() = Outcome::Failure;
    balance.call(()).await.unwrap();
    assert_eq!(failures(&balance), 1, "an Ok may be a failure");

    *next.lock().unwrap() = Outcome::Overloaded(Some(10 * SECOND));
    let overloaded = balance.call(()).await.unwrap();
    *next.lock().unwrap() = Outcome::Neutral;
    let mut picked = 0;
    for _ in 0..100 {
        picked += usize::from(balance.call(()).await.unwrap() == overloaded);
    }
    assert!(picked <= 5, "{picked} of 100 went to the overloaded one");
    assert_eq!(failures(&balance), 1, "overload is no failure");
}

#[tokio::test(start_paused = true)]
async fn instances_to_avoid_are_picked_only_for_want_of_others() {
    type Tried = Vec<InstanceId>;
    struct Elsewhere;
    impl<Res, Err> Classify<Tried, Res, Err> for Elsewhere {
        type Response = Res;
        type Context = Tried;

        fn begin(&self, tried: &Tried) -> Tried {
            tried.clone()
        }

        fn hints<'c>(&self, tried: &'c Tried) -> rolecall::Hints<'c> {
            tried.into()
        }

        fn classify(
            &self,
            _: Tried,
            result: Result<Res, Err>,
            attempt: rolecall::Attempt,
        ) -> Result<Res, rolecall::Failed<Err>> {
            attempt.success();
            result.map_err(rolecall::Failed::sent)
        }
    }
    let list = List::new(["a", "b", "c"].map(instance)).unwrap();
    let layer = BalanceLayer::new(list, "worker:http")
        .unwrap()
        .classify(Elsewhere);
    let mut balance = layer.layer(rolecall::connect::per_instance(
        |instance: &rolecall::Instance| {
            let id = instance.id().clone();
            service_fn(move |_: Tried| std::future::ready(Ok::<_, Fault>(id.clone())))
        },
    ));
    let tried = |ids: &[&str]| {
        ids.iter()
            .map(|id| InstanceId::from(*id))
            .collect::<Tried>()
    };
    for _ in 0..100 {
        assert_eq!(balance.call(tried(&["a", "b"])).await.unwrap(), *"c");
        assert_ne!(balance.call(tried(&["b"])).await.unwrap(), *"b");
        assert!(
            balance.call(tried(&["a", "b", "c"])).await.is_ok(),
            "a preference, not a rule"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn least_in_flight_spreads_and_drains_without_a_clock() {
    let config = BalanceConfig::builder()
        .load(Load::least_in_flight())
        .outlier(None)
        .build()
        .unwrap();
    let stage = Stage::with(config, &["a", "b", "c"]).await;
    let calls: Vec<_> = (0..30).map(|_| stage.balance.clone().call(())).collect();
    let held: Vec<_> = stage
        .balance
        .control()
        .status()
        .members
        .iter()
        .map(|m| m.in_flight)
        .collect();
    assert!(held.iter().all(|held| (8..=12).contains(held)), "{held:?}");
    assert_eq!(futures::future::join_all(calls).await.len(), 30);
    assert_eq!(stage.in_flight(), 0);
    let status = stage.balance.control().status();
    assert!(status.mean_latency.is_none() && status.members[0].latency.is_none());
}

#[tokio::test(start_paused = true)]
async fn a_weightless_member_is_connected_and_never_picked() {
    let stage = Stage::of(&["a", "b"]).await;
    let weightless = instance("a").with_weight(Weight::ZERO);
    stage.announce([weightless.clone(), instance("b")].into_iter().collect());
    stage.until(|status| status.usable == 1).await;
    assert_eq!(stage.shares(100).await.len(), 1);
    assert_eq!(stage.state("a"), Some(MemberState::Weightless));
    assert_eq!(stage.node("a").alive(), 1, "connected");

    let both = [weightless, instance("b").with_weight(Weight::ZERO)];
    stage.announce(both.into_iter().collect());
    stage.until(|status| status.usable == 0).await;
    let error = stage.call().await.unwrap_err();
    assert!(error.to_string().contains("2 known: 2 weight 0"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn events_tell_the_story_and_a_late_reader_what_it_missed() {
    let stage = Stage::unfed(BalanceConfig::default());
    let mut events = stage.balance.control().events();
    let mut late = stage.balance.control().events();
    stage.announce(set(["a"]));
    let mut told = Vec::new();
    for _ in 0..3 {
        told.push(events.next().await.unwrap().to_string());
    }
    let began = [
        "set changed: 1 added, 0 removed, 0 changed, 1 known",
        "instance a (",
        "an instance is usable, after ",
    ];
    for (told, began) in told.iter().zip(began) {
        assert!(told.starts_with(began), "{told}");
    }
    for number in 0..2000 {
        let anew = instance("a").with_metadata("number", number.to_string());
        stage.announce([anew].into_iter().collect());
        next_event(&mut events, |e| matches!(e, Event::SetChanged { .. })).await;
    }
    let first = late.next().await.unwrap();
    assert!(
        matches!(first, Event::Missed { count , .. } if count > 900),
        "{first}"
    );
}

#[tokio::test(start_paused = true)]
async fn status_is_a_table_for_people_and_json_for_machines() {
    let stage = Stage::of(&["a"]).await;
    stage.node("b").when_dialled(Gets::Refused);
    stage.announce(set(["a", "b"]));
    stage
        .until(|status| status.members.iter().any(|member| member.error.is_some()))
        .await;
    stage.shares(10).await;
    let status = stage.balance.control().status();
    let text = status.to_string();
    assert!(
        text.starts_with("default/worker:http: 1 of 2 usable, 1 "),
        "{text}"
    );
    assert!(text.contains("refused (111)"), "{text}");
    let json = serde_json::to_value(&status).unwrap();
    assert_eq!(json["usable"], 1);
    assert_eq!(json["members"][0]["state"], "usable");
    assert_eq!(json["members"][0]["picks"], 10);
    let seconds = status.members[1].since.as_secs_f64();
    assert_eq!(json["members"][1]["since"], seconds);
    assert_eq!(json["members"][0]["redial_in"], serde_json::Value::Null);
    let explained = serde_json::to_value(status.explain()).unwrap();
    assert_eq!(explained["members"][1]["reasons"][0]["since"], seconds);
}

#[tokio::test(start_paused = true)]
async fn a_service_that_is_not_clone_goes_behind_a_buffer() {
    struct Single(String);
    impl Service<()> for Single {
        type Response = String;
        type Error = Fault;
        type Future = std::future::Ready<Result<String, Fault>>;

        fn poll_ready(
            &mut self,
            _: &mut std::task::Context<'_>,
        ) -> std::task::Poll<Result<(), Fault>> {
            std::task::Poll::Ready(Ok(()))
        }

        fn call(&mut self, (): ()) -> Self::Future {
            std::future::ready(Ok(self.0.clone()))
        }
    }
    let list = List::new([instance("a"), instance("b")]).unwrap();
    let connector = service_fn(|instance: rolecall::Instance| async move {
        let single = Single(instance.id().to_string());
        Ok::<_, BoxError>(tower::buffer::Buffer::new(single, 16))
    });
    let mut balance = BalanceLayer::new(list, "worker:http")
        .unwrap()
        .layer(connector);
    for _ in 0..20 {
        assert!(["a", "b"].contains(&balance.call(()).await.unwrap().as_str()));
    }
}

#[tokio::test(start_paused = true)]
async fn waiting_for_a_usable_member_ends_with_one_or_with_the_reason() {
    let stage = Stage::unfed(BalanceConfig::default());
    let error = stage
        .balance
        .control()
        .wait_usable(SECOND)
        .await
        .unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::Unresolved));
    stage.announce(set(["a"]));
    stage.balance.control().wait_usable(SECOND).await.unwrap();
    assert_eq!(
        stage.balance.control().status().members[0].picks,
        0,
        "waiting takes no slot"
    );
}

/// A balancer of one instance whose service is `inner`, and how many calls it has been charged for.
fn outer<S>(inner: S) -> rolecall::Balance<S>
where
    S: Clone + Send + Sync + 'static,
{
    let list = List::new([instance("outer")]).unwrap();
    let connector = rolecall::connect::per_instance(move |_: &rolecall::Instance| inner.clone());
    BalanceLayer::new(list, "gateway:http")
        .unwrap()
        .layer(connector)
}

#[tokio::test(start_paused = true)]
async fn what_a_balancer_below_did_not_send_was_not_sent_and_is_charged_to_nobody() {
    let config = BalanceConfig::builder().max_in_flight(1).build().unwrap();
    let stage = Stage::with(config, &["a"]).await;
    let inner = stage.balance.clone();
    stage.node("a").when_called(Does::Answer(60 * SECOND));
    let _under_way = tokio::spawn(stage.balance.clone().call(()));
    sleep(Duration::from_millis(1)).await;

    let boxed = inner.clone().map_err(|error| -> BoxError { error.into() });
    let mut direct = outer(inner.clone());
    let mut boxed = outer(boxed);
    for _ in 0..20 {
        let error = direct.call(()).await.unwrap_err();
        assert!(matches!(error.kind(), ErrorKind::Call) && !error.was_sent());
        let below = error.into_source().unwrap().downcast::<Error>().unwrap();
        assert!(matches!(below.kind(), ErrorKind::Saturated));
        assert!(!boxed.call(()).await.unwrap_err().was_sent());
    }
    for status in [direct.control().status(), boxed.control().status()] {
        assert_eq!(status.members[0].failures, 0, "{status}");
        assert_eq!(status.members[0].in_flight, 0);
    }

    // What the instance below failed to do is a failure here too.
    stage
        .balance
        .control()
        .reconfigure(BalanceConfig::default());
    stage.node("a").when_called(Does::Fail);
    assert!(direct.call(()).await.unwrap_err().was_sent());
    assert!(boxed.call(()).await.unwrap_err().was_sent());
    assert_eq!(direct.control().status().members[0].failures, 1);
    assert_eq!(boxed.control().status().members[0].failures, 1);
}

/// That it may have acted is all that is known of a service which does more than one call.
#[tokio::test(start_paused = true)]
async fn what_is_not_sent_further_down_may_have_been_sent_here() {
    let stage = Stage::unfed(BalanceConfig::default());
    stage.announce(set([]));
    let inner = stage.balance.clone();
    let twice = inner.map_err(|error| -> BoxError {
        std::io::Error::other(format!("the second call: {error}")).into()
    });
    let wrapped = stage.balance.clone();
    let wrapped = wrapped.map_err(|error| -> BoxError { std::io::Error::other(error).into() });
    assert!(outer(twice).call(()).await.unwrap_err().was_sent());
    assert!(outer(wrapped).call(()).await.unwrap_err().was_sent());
}

#[tokio::test(start_paused = true)]
async fn what_a_load_shedder_below_refuses_is_charged_to_nobody() {
    let world = World::default();
    let node = world.node("a");
    node.when_called(Does::Answer(SECOND));
    let dial = world.clone();
    let list = List::new(["a", "b"].map(instance)).unwrap();
    let connector = service_fn(move |at: rolecall::Instance| {
        let dial = dial.clone().oneshot(at);
        async {
            let line = ServiceBuilder::new()
                .layer(tower::util::BoxCloneSyncService::layer())
                .load_shed()
                .concurrency_limit(1)
                .service(dial.await?);
            Ok::<_, std::io::Error>(line)
        }
    });
    let balance = BalanceLayer::new(list, "worker:http")
        .unwrap()
        .layer(connector);
    balance.control().wait_usable(SECOND).await.unwrap();
    sleep(SECOND).await;
    for _ in 0..20 {
        let calls = (0..20).map(|_| balance.clone().call(()));
        let answers = futures::future::join_all(calls).await;
        let shed = answers.iter().filter_map(|answer| answer.as_ref().err());
        let shed = shed.inspect(|error| {
            let source = error.source().unwrap();
            assert!(
                source.is::<tower::load_shed::error::Overloaded>(),
                "{source}"
            );
        });
        assert!((1..20).contains(&shed.count()));
    }
    let status = balance.control().status();
    assert_eq!(status.ejections.detected, 0, "{status}");
    for member in &status.members {
        assert_eq!((member.failures, member.in_flight), (0, 0), "{status}");
    }
}
