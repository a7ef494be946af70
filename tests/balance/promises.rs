//! What the balancer promises, one test for each row of the table in the crate documentation.

use std::time::Duration;

use crate::support::{Does, Gets, Stage, addr, instance, next_event, set};
use rolecall::{Availability, BalanceConfig, Event, MemberState, Weight};
use tokio::time::{Instant, sleep, timeout};

const MS: Duration = Duration::from_millis(1);

#[tokio::test(start_paused = true)]
async fn a_killed_instance_fails_what_it_has_and_takes_nothing_until_it_is_connected_again() {
    let stage = Stage::of(&["a", "b"]).await;
    let a = stage.node("a");
    a.when_polled(Gets::Refused);
    a.when_dialled(Gets::Refused);
    for _ in 0..200 {
        assert_eq!(
            stage.call().await.unwrap(),
            "b",
            "a request went down with a"
        );
    }
    assert_eq!(a.calls(), 0);
    assert_eq!(stage.state("a"), Some(MemberState::Disconnected));

    a.when_polled(Gets::Ready);
    a.when_dialled(Gets::Ready);
    stage.until(|status| status.usable == 2).await;
    assert!(stage.shares(100).await["a"] > 20, "it is picked again");
}

#[tokio::test(start_paused = true)]
async fn an_instance_that_fails_at_once_attracts_no_traffic() {
    let stage = Stage::of(&["a", "b", "c"]).await;
    stage.shares(100).await;
    let a = stage.node("a");
    let before = a.calls();
    a.when_called(Does::Fail);
    let shares = stage.shares(300).await;
    let failed = a.calls() - before;
    assert!(failed <= 6, "{failed} of 300 went to the one that fails");
    assert_eq!(shares.values().sum::<usize>() + failed, 300);
}

#[tokio::test(start_paused = true)]
async fn a_hanging_instance_loses_its_traffic_to_callers_that_give_up() {
    let stage = Stage::of(&["a", "b", "c"]).await;
    stage.shares(100).await;
    let a = stage.node("a");
    let before = a.calls();
    a.when_called(Does::Hang);
    for _ in 0..300 {
        let _ = timeout(200 * MS, stage.call()).await;
    }
    let hung = a.calls() - before;
    assert!(hung <= 6, "{hung} of 300 were lost to the one that hangs");
    assert_eq!(stage.in_flight(), 0, "those that gave up hold no slot");
}

#[tokio::test(start_paused = true)]
async fn a_slow_instance_loses_its_traffic_within_a_few_answers() {
    let stage = Stage::of(&["a", "b", "c", "d"]).await;
    stage.shares(200).await;
    stage.node("a").when_called(Does::Answer(300 * MS));
    let slow = stage.shares(300).await.get("a").copied().unwrap_or(0);
    assert!(slow <= 8, "{slow} of 300 went to the slow one");
    assert_eq!(
        stage.state("a"),
        Some(MemberState::Usable),
        "slow is no crime"
    );
}

#[tokio::test(start_paused = true)]
async fn a_new_instance_is_neither_starved_nor_flooded() {
    // Of one fleet the picks are too few: one run in thousands is out of bounds by chance.
    let mut share = 0;
    for _ in 0..10 {
        let stage = Stage::of(&["a", "b", "c"]).await;
        stage.shares(300).await;
        stage.announce(set(["a", "b", "c", "d"]));
        stage.until(|status| status.usable == 4).await;
        share += stage.shares(400).await["d"];
    }
    assert!(
        (700..=1300).contains(&share),
        "{share} of 4000 went to one of four"
    );
}

#[tokio::test(start_paused = true)]
async fn discovery_that_is_down_flaps_or_ends_changes_nothing() {
    let stage = Stage::of(&["a", "b"]).await;
    let mut events = stage.balance.control().events();
    for _ in 0..100 {
        let error = rolecall::discovery::DiscoveryError::backend("watching", "it is down");
        stage.feed.send(Err(error)).unwrap();
    }
    next_event(&mut events, |e| matches!(e, Event::DiscoveryFailed { .. })).await;
    let error = stage.balance.control().status().discovery_error.unwrap();
    assert!(error.contains("watching"), "{error}");
    let Stage {
        world,
        balance,
        feed,
    } = stage;
    drop(feed);
    next_event(&mut events, |e| matches!(e, Event::DiscoveryEnded)).await;
    let (feed, _unused) = tokio::sync::mpsc::unbounded_channel();
    let stage = Stage {
        world,
        balance,
        feed,
    };
    sleep(Duration::from_secs(3600)).await;
    assert_eq!(stage.shares(100).await.len(), 2);
}

#[tokio::test(start_paused = true)]
async fn an_emptied_answer_is_doubted_and_then_believed() {
    let stage = Stage::of(&["a", "b"]).await;
    stage.announce(set([]));
    stage.until(|status| status.doubted_for.is_some()).await;
    sleep(Duration::from_secs(29)).await;
    assert_eq!(
        stage.balance.control().status().usable,
        2,
        "traffic goes on with the last good set"
    );
    sleep(Duration::from_secs(2)).await;
    assert!(stage.balance.control().status().members.is_empty());

    stage.announce(set(["a", "b"]));
    stage.until(|status| status.usable == 2).await;
    stage.announce(set([]).confirmed());
    stage.until(|status| status.members.is_empty()).await;
}

#[tokio::test(start_paused = true)]
async fn a_tenth_of_the_fleet_is_doubted_and_what_it_adds_is_used() {
    let ids: Vec<_> = (0..20).map(|n| format!("i{n}")).collect();
    let ids: Vec<_> = ids.iter().map(String::as_str).collect();
    let stage = Stage::of(&ids).await;
    stage.announce(set(["i0", "new"]));
    stage.until(|status| status.usable == 21).await;
    assert!(stage.balance.control().status().doubted_for.is_some());
    stage.announce(set(ids));
    stage.until(|status| status.doubted_for.is_none()).await;
    assert_eq!(
        stage.balance.control().status().members.len(),
        20,
        "the whole set is back"
    );
}

#[tokio::test(start_paused = true)]
async fn a_removed_instance_finishes_what_it_has_and_then_its_connection_closes() {
    leaves_gently(|stage| stage.announce(set(["b"]).confirmed())).await;
}

#[tokio::test(start_paused = true)]
async fn a_draining_instance_finishes_what_it_has_and_then_its_connection_closes() {
    leaves_gently(|stage| {
        let draining = instance("a").with_availability(Availability::Draining);
        stage.announce([draining, instance("b")].into_iter().collect());
    })
    .await;
}

async fn leaves_gently(leave: impl FnOnce(&Stage)) {
    let stage = Stage::of(&["a", "b"]).await;
    // Clones that do nothing must not keep the connection.
    let _idle = [stage.balance.clone(), stage.balance.clone()];
    let a = stage.node("a");
    a.when_called(Does::Answer(Duration::from_secs(5)));
    let mut under_way = Vec::new();
    while a.calls() < 2 {
        under_way.push(tokio::spawn({
            let mut balance = stage.balance.clone();
            async move { tower::Service::call(&mut balance, ()).await }
        }));
        tokio::task::yield_now().await;
    }
    leave(&stage);
    stage.until(|status| status.usable == 1).await;
    assert!(!stage.shares(100).await.contains_key("a"), "no new picks");
    assert!(
        a.alive() > 0,
        "the connection stands while requests are on it"
    );
    for call in under_way {
        call.await.unwrap().expect("what is in flight finishes");
    }
    assert_eq!(a.alive(), 0, "then the connection closes");
}

#[tokio::test(start_paused = true)]
async fn an_instance_announced_anew_keeps_connection_load_and_history() {
    let stage = Stage::of(&["a", "b"]).await;
    stage.shares(100).await;
    stage
        .node("a")
        .when_called(Does::Answer(Duration::from_secs(5)));
    let before = stage.balance.control().status().members[0].clone();
    let mut balance = stage.balance.clone();
    let calls: Vec<_> = (0..20)
        .map(|_| tokio::spawn(tower::Service::call(&mut balance, ())))
        .collect();
    sleep(MS).await;
    let held = stage.balance.control().status().members[0].in_flight;
    assert!(held > 0);

    let anew = instance("a")
        .with_weight(Weight::new(3))
        .with_metadata("version", "2");
    stage.announce([anew, instance("b")].into_iter().collect());
    stage
        .until(|status| status.members[0].instance.weight().get() == 3)
        .await;
    let after = stage.balance.control().status().members[0].clone();
    assert_eq!(after.in_flight, held, "in-flight count");
    assert!(after.picks >= before.picks, "history");
    assert!(after.latency.is_some(), "latency");
    assert_eq!(stage.node("a").dials(), 1, "no new dial");
    for call in calls {
        call.await.unwrap().unwrap();
    }
    assert_eq!(stage.in_flight(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_moved_instance_is_dialled_before_its_old_connection_is_given_up() {
    let stage = Stage::of(&["a"]).await;
    let a = stage.node("a");
    a.when_dialled(Gets::Nowhere);
    stage.announce([instance("a").with_address(addr(81))].into_iter().collect());
    stage.until(|_| a.dials() == 2).await;
    assert_eq!(
        stage.call().await.unwrap(),
        "a",
        "the old connection serves meanwhile"
    );
    // The dial times out after two seconds, and the next one succeeds.
    a.when_dialled(Gets::Ready);
    stage.until(|_| a.dials() == 3).await;
    stage
        .until(|status| status.members[0].error.is_none())
        .await;
    assert_eq!(stage.call().await.unwrap(), "a");
    assert_eq!(a.alive(), 1, "one connection stands");
}

#[tokio::test(start_paused = true)]
async fn discovery_and_dials_go_on_while_nobody_sends() {
    let stage = Stage::of(&["a"]).await;
    let b = stage.node("b");
    b.when_dialled(Gets::Refused);
    stage.announce(set(["a", "b"]));
    stage.until(|_| b.dials() >= 5).await;
    b.when_dialled(Gets::Ready);
    stage.until(|status| status.usable == 2).await;
}

#[tokio::test(start_paused = true)]
async fn a_busy_instance_is_picked_only_for_want_of_available_ones() {
    let stage = Stage::of(&["a", "b"]).await;
    let busy = |id| instance(id).with_availability(Availability::Busy);
    stage.announce([busy("a"), instance("b")].into_iter().collect());
    stage.until(|status| status.usable == 1).await;
    assert_eq!(stage.shares(50).await.get("a"), None);
    stage.announce([busy("a"), busy("b")].into_iter().collect());
    stage.until(|status| status.usable == 2).await;
    assert_eq!(stage.shares(50).await.len(), 2);
}

#[tokio::test(start_paused = true)]
async fn calls_fail_fast_once_nothing_was_usable_for_long_and_recover_at_once() {
    let config = BalanceConfig::builder()
        .unavailable_after(Duration::from_secs(1))
        .build()
        .unwrap();
    let stage = Stage::with(config, &["a"]).await;
    let a = stage.node("a");
    a.when_polled(Gets::Refused);
    a.when_dialled(Gets::Refused);
    let began = Instant::now();
    stage.call().await.unwrap_err();
    assert!(
        (1000..1100).contains(&began.elapsed().as_millis()),
        "bounded wait"
    );
    let began = Instant::now();
    for _ in 0..100 {
        stage.call().await.unwrap_err();
    }
    assert_eq!(began.elapsed(), Duration::ZERO, "then all fail at once");
    a.when_polled(Gets::Ready);
    a.when_dialled(Gets::Ready);
    sleep(Duration::from_millis(501)).await;
    assert_eq!(
        stage.call().await.unwrap(),
        "a",
        "redialled within 500 ms while nothing is usable"
    );
}
