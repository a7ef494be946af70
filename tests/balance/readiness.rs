//! The way from a pick to the call: services that are not ready at once, or lose their connection on the way.

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::task::{Context, Wake, Waker};
use std::time::Duration;

use rolecall::{
    Attempt, Availability, BalanceConfig, BalanceLayer, Classify, ErrorKind, Failed, Hints,
    InstanceId, InstanceSet, List, Weight,
};
use tokio::time::{Instant, sleep, timeout};
use tower::{Layer, Service};

use crate::support::{Does, Gets, Stage, World, instance, set};

const MS: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);

#[tokio::test(start_paused = true)]
async fn a_member_that_is_not_ready_costs_no_time_where_another_is() {
    let stage = Stage::of(&["a", "b"]).await;
    let a = stage.node("a");
    a.when_polled(Gets::Nowhere);
    for _ in 0..100 {
        let began = Instant::now();
        assert_eq!(stage.call().await.unwrap(), "b");
        assert_eq!(began.elapsed(), 10 * MS, "nobody waited for a");
    }
    let a = stage.member("a");
    assert_eq!(a.picks, 0, "a candidate that another one overtook");
    assert_eq!((a.in_flight, a.failures), (0, 0), "unjudged");
    assert_eq!(a.latency, None, "a lost race says nothing of its latency");
}

#[tokio::test(start_paused = true)]
async fn two_candidates_are_asked_and_no_third_one() {
    let stage = Stage::of(&["a", "b", "c", "d"]).await;
    for id in ["a", "b", "c", "d"] {
        stage.node(id).when_polled(Gets::Nowhere);
    }
    let mut call = pin!(stage.call());
    for _ in 0..10 {
        assert!(futures::poll!(&mut call).is_pending());
        assert_eq!(stage.in_flight(), 2);
    }
}

#[tokio::test(start_paused = true)]
async fn a_candidate_that_is_lost_while_waiting_makes_room_for_another() {
    let stage = Stage::of(&["a", "b"]).await;
    let (a, b) = (stage.node("a"), stage.node("b"));
    a.when_polled(Gets::Nowhere);
    b.when_polled(Gets::Nowhere);
    let call = tokio::spawn(stage.balance.clone().call(()));
    sleep(SECOND).await;
    a.when_polled(Gets::Refused);
    b.when_polled(Gets::Refused);
    sleep(SECOND).await;
    assert!(!call.is_finished(), "the request is not lost");
    b.when_polled(Gets::Ready);
    assert_eq!(call.await.unwrap().unwrap(), "b");
    assert_eq!(stage.in_flight(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_lost_connection_takes_no_turn_with_the_only_other_one_that_is_not_ready() {
    let stage = Stage::of(&["a", "b"]).await;
    let (a, b) = (stage.node("a"), stage.node("b"));
    a.when_polled(Gets::Refused);
    a.when_dialled(Gets::Refused);
    b.when_polled(Gets::Nowhere);
    let calls: Vec<_> = (0..10)
        .map(|_| tokio::spawn(stage.balance.clone().call(())))
        .collect();
    sleep(SECOND).await;
    b.when_polled(Gets::Ready);
    for call in calls {
        assert_eq!(call.await.unwrap().unwrap(), "b");
    }
}

#[tokio::test(start_paused = true)]
async fn latency_counts_from_the_call_not_from_when_the_member_was_ready() {
    let stage = Stage::of(&["a"]).await;
    let a = stage.node("a");
    stage.shares(50).await;
    sleep(SECOND).await;
    a.when_polled(Gets::Nowhere);
    let call = tokio::spawn(stage.balance.clone().call(()));
    sleep(100 * MS).await;
    a.when_polled(Gets::Ready);
    call.await.unwrap().unwrap();
    let latency = stage.member("a").latency.unwrap();
    assert!(
        latency > 11 * MS,
        "{latency:?} leaves out the wait of 100 ms"
    );
}

#[tokio::test(start_paused = true)]
async fn a_waiting_call_wakes_the_task_that_polled_it_last() {
    struct Flag(AtomicUsize);
    impl Wake for Flag {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, SeqCst);
        }
    }
    let flag = || Arc::new(Flag(AtomicUsize::new(0)));
    for announced in [true, false] {
        let stage = Stage::unfed(BalanceConfig::default());
        stage.node("a").when_polled(Gets::Nowhere);
        if announced {
            stage.announce(set(["a"]));
            stage.until(|status| status.usable == 1).await;
        }
        let mut call = pin!(stage.call());
        let (first, last) = (flag(), flag());
        for flag in [&first, &last] {
            let waker = Waker::from(Arc::clone(flag));
            let pending = call.as_mut().poll(&mut Context::from_waker(&waker));
            assert!(pending.is_pending());
        }
        if announced {
            stage.node("a").when_polled(Gets::Ready);
        } else {
            stage.announce(set(["a"]));
            stage.until(|status| status.usable == 1).await;
        }
        assert!(last.0.load(SeqCst) > 0, "announced: {announced}");
    }
}

#[tokio::test(start_paused = true)]
async fn slots_of_waiting_candidates_count_for_the_cap() {
    let config = BalanceConfig::builder().max_in_flight(1).build().unwrap();
    let stage = Stage::with(config, &["a", "b"]).await;
    stage.node("a").when_polled(Gets::Nowhere);
    stage.node("b").when_polled(Gets::Nowhere);
    {
        let mut call = pin!(stage.call());
        assert!(futures::poll!(&mut call).is_pending());
        let error = stage.call().await.unwrap_err();
        assert!(matches!(error.kind(), ErrorKind::Saturated), "{error}");
    }
    stage.node("a").when_polled(Gets::Ready);
    stage.node("b").when_polled(Gets::Ready);
    assert!(stage.call().await.is_ok(), "both slots are free again");
}

#[tokio::test(start_paused = true)]
async fn a_cap_of_one_leaves_a_waiting_call_with_one_candidate() {
    let config = BalanceConfig::builder().max_in_flight(1).build().unwrap();
    let stage = Stage::with(config, &["a", "b"]).await;
    let (a, b) = (stage.node("a"), stage.node("b"));
    a.when_called(Does::Answer(60 * SECOND));
    b.when_called(Does::Answer(60 * SECOND));
    let under_way = tokio::spawn(stage.balance.clone().call(()));
    sleep(MS).await;
    let (taken, free) = if a.calls() == 1 { (a, b) } else { (b, a) };
    free.when_polled(Gets::Nowhere);
    let waiting = tokio::spawn(stage.balance.clone().call(()));
    sleep(SECOND).await;
    assert_eq!(stage.in_flight(), 2, "one slot each");
    free.when_called(Does::Answer(MS));
    free.when_polled(Gets::Ready);
    assert_eq!(waiting.await.unwrap().unwrap(), free.id);
    assert_eq!(under_way.await.unwrap().unwrap(), taken.id);
}

#[tokio::test(start_paused = true)]
async fn a_caller_that_gives_up_on_readiness_frees_every_slot() {
    let stage = Stage::of(&["a", "b", "c"]).await;
    for id in ["a", "b", "c"] {
        stage.node(id).when_polled(Gets::Nowhere);
    }
    for _ in 0..100 {
        assert!(timeout(MS, stage.call()).await.is_err());
    }
    assert_eq!(stage.in_flight(), 0);
    assert!(
        stage
            .balance
            .control()
            .status()
            .members
            .iter()
            .all(|m| m.failures == 0),
        "to give up is no failure"
    );
}

#[tokio::test(start_paused = true)]
async fn the_one_that_was_not_ready_first_is_not_judged_by_how_long_it_was_waited_for() {
    let stage = Stage::of(&["a", "b"]).await;
    stage.shares(100).await;
    let (a, b) = (stage.node("a"), stage.node("b"));
    a.when_polled(Gets::Nowhere);
    b.when_polled(Gets::Nowhere);
    let before = stage.member("a");
    for _ in 0..10 {
        let call = tokio::spawn(stage.balance.clone().call(()));
        sleep(SECOND).await;
        b.when_polled(Gets::Ready);
        assert_eq!(call.await.unwrap().unwrap(), "b");
        b.when_polled(Gets::Nowhere);
    }
    let after = stage.member("a");
    assert_eq!(after.failures, before.failures);
    let (before, after) = (before.latency.unwrap(), after.latency.unwrap());
    // It drifts to the fleet's mean, which b's waits have raised.
    let mean = stage.balance.control().status().mean_latency.unwrap();
    assert!(
        after <= before.max(mean) + MS,
        "{before:?} rose to {after:?}, the mean is {mean:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn the_runner_up_is_another_instance_even_if_it_has_more_to_do() {
    let stage = Stage::of(&["a", "b"]).await;
    let (a, b) = (stage.node("a"), stage.node("b"));
    a.when_polled(Gets::Nowhere);
    b.when_called(Does::Answer(60 * SECOND));
    // All of these find a not ready and go to b.
    let under_way: Vec<_> = (0..20)
        .map(|_| tokio::spawn(stage.balance.clone().call(())))
        .collect();
    sleep(MS).await;
    assert_eq!(b.calls(), 20);
    assert_eq!(stage.member("a").in_flight, 0);
    drop(under_way);
}

/// For requests that were at a before.
struct AwayFromA;

static TRIED: std::sync::LazyLock<[InstanceId; 1]> =
    std::sync::LazyLock::new(|| [InstanceId::from("a")]);

impl<Res, Err> Classify<(), Res, Err> for AwayFromA {
    type Response = Res;
    type Context = ();

    fn begin(&self, (): &()) {}

    fn hints<'c>(&self, (): &'c ()) -> Hints<'c> {
        Hints::avoid(&*TRIED)
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

#[tokio::test(start_paused = true)]
async fn an_instance_to_avoid_is_no_runner_up_while_the_other_may_be_picked() {
    let world = World::default();
    let list = List::new(["a", "b"].map(instance)).unwrap();
    let balance = BalanceLayer::new(list, "worker:http")
        .unwrap()
        .classify(AwayFromA)
        .layer(world.clone());
    while balance.control().status().usable < 2 {
        sleep(MS).await;
    }
    let (a, b) = (world.node("a"), world.node("b"));
    b.when_polled(Gets::Nowhere);
    let call = || tokio::spawn(balance.clone().call(()));
    let waiting: Vec<_> = (0..20).map(|_| call()).collect();
    sleep(MS).await;
    assert_eq!(a.calls(), 0, "a is ready, and b is waited for");
    b.when_polled(Gets::Ready);
    for call in waiting {
        assert_eq!(call.await.unwrap().unwrap(), "b");
    }

    b.when_polled(Gets::Nowhere);
    let waits = call();
    sleep(MS).await;
    balance.control().eject(&InstanceId::from("b"), 60 * SECOND);
    assert_eq!(waits.await.unwrap().unwrap(), "a", "for want of another");
    assert!(
        balance
            .control()
            .status()
            .members
            .iter()
            .all(|m| m.in_flight == 0)
    );
}

#[tokio::test(start_paused = true)]
async fn a_lost_candidates_place_is_taken_while_the_other_still_waits() {
    let ids = ["a", "b", "c"];
    let stage = Stage::of(&ids).await;
    for id in ids {
        stage.node(id).when_polled(Gets::Nowhere);
    }
    let call = tokio::spawn(stage.balance.clone().call(()));
    sleep(MS).await;
    let holds_slot = |id: &&&str| stage.member(id).in_flight == 1;
    let candidate = ids.iter().find(holds_slot).unwrap();
    let third = ids.iter().find(|id| !holds_slot(id)).unwrap();
    stage.node(candidate).when_dialled(Gets::Refused);
    stage.node(third).when_polled(Gets::Ready);
    sleep(MS).await;
    assert!(!call.is_finished(), "nobody asked the third one");
    stage.node(candidate).when_polled(Gets::Refused);
    assert_eq!(call.await.unwrap().unwrap(), *third);
}

/// Makes the set of these instances in which `a` is no longer pickable.
type Leave = fn(&[&str]) -> InstanceSet;

fn ways_to_leave() -> [(&'static str, Leave); 3] {
    fn changed(ids: &[&str], a: rolecall::Instance) -> InstanceSet {
        let others = ids.iter().filter(|id| **id != "a").copied().map(instance);
        others.chain([a]).collect()
    }
    [
        ("removed", |ids| {
            set(ids.iter().copied().filter(|id| *id != "a")).confirmed()
        }),
        ("draining", |ids| {
            let draining = instance("a").with_availability(Availability::Draining);
            changed(ids, draining)
        }),
        ("weight 0", |ids| {
            changed(ids, instance("a").with_weight(Weight::ZERO))
        }),
    ]
}

#[tokio::test(start_paused = true)]
async fn a_call_whose_only_candidate_leaves_waits_as_if_nothing_were_usable() {
    for (way, left) in ways_to_leave() {
        let stage = Stage::of(&["a"]).await;
        stage.node("a").when_polled(Gets::Nowhere);
        let call = tokio::spawn(stage.balance.clone().call(()));
        sleep(60 * SECOND).await;
        assert!(!call.is_finished(), "{way}: it waits for a to be ready");
        stage.announce(left(&["a"]));
        let began = Instant::now();
        let answer = timeout(60 * SECOND, call).await.expect(way);
        assert_eq!(began.elapsed().as_secs(), 3, "{way}");
        let error = answer.unwrap().unwrap_err();
        assert!(
            matches!(error.kind(), ErrorKind::Empty | ErrorKind::NoneUsable(_)),
            "{way}: {error}"
        );
        assert!(!error.was_sent());
        let members = stage.balance.control().status().members;
        assert!(members.iter().all(|member| member.in_flight == 0), "{way}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_candidate_that_leaves_gives_its_slot_back_at_once_while_others_are_usable() {
    for (way, left) in ways_to_leave() {
        let stage = Stage::of(&["a", "b"]).await;
        let (a, b) = (stage.node("a"), stage.node("b"));
        a.when_polled(Gets::Nowhere);
        b.when_polled(Gets::Nowhere);
        let call = tokio::spawn(stage.balance.clone().call(()));
        sleep(SECOND).await;
        assert_eq!(stage.in_flight(), 2);
        stage.announce(left(&["a", "b"]));
        sleep(MS).await;
        assert_eq!(a.alive(), usize::from(way == "weight 0"), "{way}");
        assert_eq!(stage.in_flight(), 1, "{way}: b is still waited for");
        // It is not called any more, though it gets ready first.
        a.when_polled(Gets::Ready);
        sleep(SECOND).await;
        assert!(!call.is_finished(), "{way}");
        b.when_polled(Gets::Ready);
        assert_eq!(call.await.unwrap().unwrap(), "b");
        assert_eq!(stage.in_flight(), 0);
    }
}

#[tokio::test(start_paused = true)]
async fn a_call_leaves_its_only_candidate_once_that_is_ejected_and_another_one_may_be_picked() {
    let stage = Stage::of(&["a", "b"]).await;
    let (a, b) = (stage.node("a"), stage.node("b"));
    a.when_polled(Gets::Nowhere);
    // At its limit nobody else is a candidate.
    let config = BalanceConfig::builder().max_in_flight(1).build().unwrap();
    stage.balance.control().reconfigure(config);
    b.when_called(Does::Answer(10 * SECOND));
    let under_way = tokio::spawn(stage.balance.clone().call(()));
    sleep(MS).await;
    assert_eq!(b.calls(), 1);
    let call = tokio::spawn(stage.balance.clone().call(()));
    sleep(MS).await;
    assert_eq!(stage.member("a").in_flight, 1);
    assert!(stage.balance.control().eject(&"a".into(), 60 * SECOND));
    let error = call.await.unwrap().unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::Saturated), "{error}");
    assert_eq!(stage.member("a").in_flight, 0, "unjudged");
    assert_eq!(under_way.await.unwrap().unwrap(), "b");
}

#[tokio::test(start_paused = true)]
async fn a_call_whose_only_candidate_is_lost_waits_as_if_nothing_were_usable() {
    let stage = Stage::of(&["a"]).await;
    let a = stage.node("a");
    a.when_polled(Gets::Nowhere);
    let waiting = tokio::spawn(stage.balance.clone().call(()));
    sleep(60 * SECOND).await;
    // Another request finds the connection lost. The first one is never woken by its own service.
    a.forget_wakers();
    a.when_dialled(Gets::Refused);
    a.when_polled(Gets::Refused);
    let other = tokio::spawn(stage.balance.clone().call(()));
    let began = Instant::now();
    for call in [waiting, other] {
        let answer = timeout(60 * SECOND, call).await.expect("a bounded wait");
        let error = answer.unwrap().unwrap_err();
        assert!(matches!(error.kind(), ErrorKind::NoneUsable(_)), "{error}");
        assert_eq!(began.elapsed().as_secs(), 3);
    }
    assert_eq!(stage.in_flight(), 0);
}

/// A wait for readiness that counts as unanswered once the request was sent.
#[tokio::test(start_paused = true)]
async fn a_long_wait_for_readiness_that_is_given_up_judges_neither_candidate() {
    let stage = Stage::of(&["a", "b"]).await;
    stage.shares(100).await;
    for id in ["a", "b"] {
        stage.node(id).when_polled(Gets::Nowhere);
    }
    for _ in 0..10 {
        assert!(timeout(10 * SECOND, stage.call()).await.is_err());
    }
    assert_eq!(stage.in_flight(), 0);
    for id in ["a", "b"] {
        let member = stage.member(id);
        assert_eq!(member.failures, 0, "{id}: nothing was sent to it");
        let latency = member.latency.unwrap();
        assert!(latency < 11 * MS, "{id}: {latency:?}, and it takes 10 ms");
    }
}
