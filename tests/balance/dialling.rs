//! Dials: when, how often, to whom, and what becomes of those that nobody awaits any more.

use std::cell::Cell;
use std::convert::Infallible;
use std::future::{Ready, ready};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::task::{Context, Poll};
use std::time::Duration;

use futures::StreamExt;
use rolecall::discovery::DiscoveryError;
use rolecall::{BalanceConfig, BalanceLayer, Event, Instance, List, MemberState, connect};
use tokio::time::{Instant, sleep};
use tower::{Layer, Service, service_fn};

use crate::support::{Gets, Script, Stage, World, addr, instance, next_event, set};

const MS: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);

/// The moments of so many failed dials of an instance.
async fn failures(stage: &Stage, id: &str, count: usize) -> Vec<Instant> {
    let mut events = stage.balance.control().events();
    let mut moments = Vec::new();
    while moments.len() < count {
        let failed = |e: &Event| matches!(e, Event::DialFailed { id: of, .. } if *of == *id);
        next_event(&mut events, failed).await;
        moments.push(Instant::now());
    }
    moments
}

fn gaps(moments: &[Instant]) -> Vec<Duration> {
    moments.windows(2).map(|pair| pair[1] - pair[0]).collect()
}

#[tokio::test(start_paused = true)]
async fn dials_back_off_with_jitter_up_to_five_seconds() {
    let stage = Stage::of(&["a"]).await;
    stage.node("b").when_dialled(Gets::Refused);
    stage.announce(set(["a", "b"]));
    let gaps = gaps(&failures(&stage, "b", 60).await);
    // A timer is late by up to a millisecond.
    for (attempt, gap) in gaps.iter().enumerate() {
        let longest = (100 * MS * (1 << attempt.min(10))).min(5 * SECOND);
        assert!(*gap <= longest + MS, "{gap:?} after failure {attempt}");
    }
    assert!(gaps[10..].iter().any(|gap| *gap > 2 * SECOND), "{gaps:?}");
    assert!(gaps[10..].iter().any(|gap| *gap < 2 * SECOND), "{gaps:?}");
}

#[tokio::test(start_paused = true)]
async fn while_nothing_is_usable_no_dial_waits_longer_than_half_a_second() {
    let stage = Stage::unfed(BalanceConfig::default());
    stage.node("a").when_dialled(Gets::Refused);
    stage.announce(set(["a"]));
    let gaps = gaps(&failures(&stage, "a", 40).await);
    assert!(gaps.iter().all(|gap| *gap <= 501 * MS), "{gaps:?}");
}

#[tokio::test(start_paused = true)]
async fn long_waits_are_cut_short_when_the_last_usable_member_goes() {
    let stage = Stage::of(&["a"]).await;
    let b = stage.node("b");
    b.when_dialled(Gets::Refused);
    stage.announce(set(["a", "b"]));
    for _ in 0..20 {
        // Far in its backoff.
        failures(&stage, "b", 10).await;
        stage.node("a").when_polled(Gets::Refused);
        stage.node("a").when_dialled(Gets::Refused);
        let began = Instant::now();
        let call = tokio::spawn(stage.balance.clone().call(()));
        stage.until(|status| status.usable == 0).await;
        b.when_dialled(Gets::Ready);
        assert_eq!(call.await.unwrap().unwrap(), "b");
        assert!(began.elapsed() <= 515 * MS, "{:?}", began.elapsed());

        stage.node("a").when_polled(Gets::Ready);
        stage.node("a").when_dialled(Gets::Ready);
        stage.until(|status| status.usable == 2).await;
        b.when_dialled(Gets::Refused);
        b.when_polled(Gets::Refused);
        while stage.balance.control().status().usable == 2 {
            stage.call().await.unwrap();
        }
        b.when_polled(Gets::Ready);
    }
}

#[tokio::test(start_paused = true)]
async fn an_instance_that_moves_again_and_back_ends_where_it_is_announced() {
    let stage = Stage::of(&["a"]).await;
    let a = stage.node("a");
    let at = |port| {
        [instance("a").with_address(addr(port))]
            .into_iter()
            .collect()
    };
    // The dials to ports 81 and 82 lead nowhere, and then it is back.
    a.when_dialled(Gets::Nowhere);
    stage.announce(at(81));
    stage.until(|_| a.dials() == 2).await;
    stage.announce(at(82));
    stage.until(|_| a.dials() == 3).await;
    stage.announce(at(80));
    sleep(60 * SECOND).await;
    assert_eq!(a.dials(), 3, "the connection that stands is the right one");
    assert_eq!(a.dialling(), 0);
    assert_eq!(stage.call().await.unwrap(), "a");
    assert_eq!(stage.state("a"), Some(MemberState::Usable));
}

#[tokio::test(start_paused = true)]
async fn a_moved_instance_keeps_its_connection_until_the_new_address_answers() {
    let stage = Stage::of(&["a"]).await;
    let a = stage.node("a");
    a.when_dialled(Gets::Refused);
    stage.announce([instance("a").with_address(addr(81))].into_iter().collect());
    for _ in 0..20 {
        failures(&stage, "a", 1).await;
        assert_eq!(stage.call().await.unwrap(), "a");
    }
    a.when_dialled(Gets::Ready);
    let dials = a.dials();
    stage.until(|_| a.dials() > dials).await;
    assert_eq!(stage.call().await.unwrap(), "a");
    assert_eq!(a.alive(), 1);
}

#[tokio::test(start_paused = true)]
async fn new_alternates_mean_a_new_dial_and_a_new_rank_does_not() {
    let stage = Stage::of(&["a"]).await;
    let a = stage.node("a");
    stage.announce([instance("a").with_rank(1)].into_iter().collect());
    sleep(60 * SECOND).await;
    assert_eq!(a.dials(), 1);
    let moved = || instance("a").with_alternates([addr(81), addr(82)]);
    stage.announce([moved()].into_iter().collect());
    stage.until(|_| a.dials() == 2).await;
    stage.announce([moved().with_rank(2)].into_iter().collect());
    sleep(60 * SECOND).await;
    assert_eq!(a.dials(), 2);
    assert_eq!(a.alive(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_dial_that_succeeds_after_its_instance_left_is_dropped() {
    let gate = Arc::new(tokio::sync::Notify::new());
    let alive = Arc::new(());
    let (script, feed) = Script::new();
    let connector = service_fn({
        let (gate, alive) = (Arc::clone(&gate), Arc::clone(&alive));
        move |_: Instance| {
            let (gate, alive) = (Arc::clone(&gate), Arc::clone(&alive));
            async move {
                gate.notified().await;
                let service = service_fn(move |(): ()| {
                    let _alive = &alive;
                    ready(Ok::<_, Infallible>(()))
                });
                Ok::<_, Infallible>(service)
            }
        }
    });
    let balance = BalanceLayer::new(script, "worker:http")
        .unwrap()
        .layer(connector);
    feed.send(Ok(set(["a"]))).unwrap();
    sleep(SECOND).await;
    feed.send(Ok(set([]).confirmed())).unwrap();
    sleep(500 * MS).await;
    gate.notify_waiters();
    sleep(SECOND).await;
    assert_eq!(balance.control().status().usable, 0);
    assert_eq!(
        Arc::strong_count(&alive),
        2,
        "the test's and the connector's"
    );
}

#[tokio::test(start_paused = true)]
async fn a_new_instance_waits_for_no_instance_that_cannot_be_reached() {
    let stage = Stage::unfed(BalanceConfig::default());
    let ids: Vec<_> = (0..60).map(|number| format!("nowhere-{number}")).collect();
    for id in &ids {
        stage.node(id).when_dialled(Gets::Nowhere);
    }
    stage.announce(set(ids.iter().map(String::as_str)));
    sleep(100 * MS).await;
    let began = Instant::now();
    stage.announce(set(ids.iter().map(String::as_str).chain(["a"])));
    assert_eq!(stage.call().await.unwrap(), "a");
    assert!(began.elapsed() < 20 * MS, "dials run side by side");
}

#[tokio::test(start_paused = true)]
async fn a_connector_is_asked_for_readiness_before_every_dial() {
    /// Neither `Clone` nor `Sync`; ready for one dial at a time, after a while.
    struct Strict {
        ready: Cell<bool>,
        pause: Option<std::pin::Pin<Box<tokio::time::Sleep>>>,
        dials: Arc<AtomicUsize>,
    }
    impl Service<Instance> for Strict {
        type Response = World;
        type Error = Infallible;
        type Future = Ready<Result<World, Infallible>>;

        fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
            let pause = self.pause.get_or_insert_with(|| Box::pin(sleep(100 * MS)));
            if pause.as_mut().poll(cx).is_ready() {
                self.pause = None;
                self.ready.set(true);
                return Poll::Ready(Ok(()));
            }
            Poll::Pending
        }

        fn call(&mut self, _: Instance) -> Self::Future {
            assert!(self.ready.take(), "called without being ready");
            self.dials.fetch_add(1, SeqCst);
            ready(Ok(World::default()))
        }
    }
    let dials = Arc::new(AtomicUsize::new(0));
    let list = List::new(["a", "b", "c"].map(instance)).unwrap();
    let balance = BalanceLayer::new(list, "worker:http")
        .unwrap()
        .layer(Strict {
            ready: Cell::new(false),
            pause: None,
            dials: Arc::clone(&dials),
        });
    sleep(SECOND).await;
    assert_eq!(
        balance.control().status().usable,
        3,
        "{}",
        balance.control().status()
    );
    assert_eq!(dials.load(SeqCst), 3);
}

#[tokio::test(start_paused = true)]
async fn only_the_newest_of_many_sets_is_dialled() {
    let (script, feed) = Script::new();
    let world = World::default();
    feed.send(Err(DiscoveryError::backend("asking", "not yet")))
        .unwrap();
    for number in 0..20 {
        feed.send(Ok(set([format!("i{number}").as_str()]))).unwrap();
    }
    let balance = BalanceLayer::new(script, "worker:http")
        .unwrap()
        .layer(world.clone());
    balance.control().wait_usable(SECOND).await.unwrap();
    assert_eq!(balance.control().status().members.len(), 1);
    assert_eq!(
        (world.node("i18").dials(), world.node("i19").dials()),
        (0, 1)
    );
}

#[tokio::test(start_paused = true)]
async fn a_shorter_connect_timeout_counts_for_the_next_dial() {
    let stage = Stage::unfed(BalanceConfig::default());
    stage.node("a").when_dialled(Gets::Nowhere);
    stage.announce(set(["a"]));
    stage.until(|_| stage.node("a").dials() == 1).await;
    let config = BalanceConfig::builder().connect_timeout(10 * MS);
    stage.balance.control().reconfigure(config.build().unwrap());
    let moments = failures(&stage, "a", 2).await;
    let gap = moments[1] - moments[0];
    assert!(gap <= 120 * MS, "{gap:?} for a backoff and 10 ms");
}

#[tokio::test(start_paused = true)]
async fn more_dials_at_once_are_allowed_without_a_restart() {
    let config = BalanceConfig::builder()
        .connect_concurrency(1)
        .connect_timeout(3600 * SECOND);
    let stage = Stage::with(config.build().unwrap(), &["usable"]).await;
    stage.node("a").when_dialled(Gets::Nowhere);
    stage.announce(set(["a", "usable"]));
    stage.until(|_| stage.node("a").dialling() == 1).await;
    stage.announce(set(["a", "b", "usable"]));
    sleep(10 * SECOND).await;
    assert_eq!(stage.balance.control().status().usable, 1, "b has no turn");
    stage
        .balance
        .control()
        .reconfigure(BalanceConfig::default());
    stage.until(|status| status.usable == 2).await;
}

/// A connector that never answers for instances whose id begins with `dead`.
fn black_holes() -> impl Service<Instance, Response = World, Error = Infallible, Future: Send> + Send
{
    service_fn(|instance: Instance| async move {
        if instance.id().as_str().starts_with("dead") {
            std::future::pending::<()>().await;
        }
        Ok(World::default())
    })
}

#[tokio::test(start_paused = true)]
async fn a_few_that_live_are_found_among_hundreds_that_are_silent() {
    for (dead, alive) in [(200, 4), (500, 10)] {
        // The order of dials is random: each round is another one.
        for _ in 0..20 {
            let dead = (0..dead).map(|number| instance(&format!("dead-{number}")));
            let alive = (0..alive).map(|number| instance(&format!("living-{number}")));
            let list = List::new(dead.chain(alive)).unwrap();
            let began = Instant::now();
            let layer = BalanceLayer::new(list, "worker:http").unwrap();
            let balance = layer.layer(black_holes());
            balance.control().wait_usable(3 * SECOND).await.unwrap();
            let took = began.elapsed();
            assert!(
                took < 2500 * MS,
                "{took:?} of {} members",
                balance.control().status()
            );
        }
    }
}

#[tokio::test(start_paused = true)]
async fn silent_dials_make_room_for_more_only_while_nothing_is_usable_and_not_for_all() {
    let (script, feed) = Script::new();
    let under_way = Arc::new(AtomicUsize::new(0));
    let connector = service_fn({
        let under_way = Arc::clone(&under_way);
        move |instance: Instance| {
            let under_way = Arc::clone(&under_way);
            async move {
                if instance.id() == "living" {
                    return Ok::<_, Infallible>(World::default());
                }
                under_way.fetch_add(1, SeqCst);
                std::future::pending().await
            }
        }
    });
    let config = BalanceConfig::builder()
        .connect_concurrency(3)
        .connect_timeout(3600 * SECOND);
    let balance = BalanceLayer::new(script, "worker:http")
        .unwrap()
        .config(config.build().unwrap())
        .layer(connector);
    let dead: Vec<_> = (0..100).map(|number| format!("dead-{number}")).collect();
    let dead = || dead.iter().map(String::as_str);
    feed.send(Ok(set(dead()))).unwrap();
    let mut seen = Vec::new();
    sleep(100 * MS).await;
    for _ in 0..10 {
        seen.push(under_way.load(SeqCst));
        sleep(250 * MS).await;
    }
    assert_eq!(seen, [3, 6, 9, 12, 15, 18, 21, 24, 24, 24]);
    drop(balance);

    // Where somebody is usable, silent ones count like others.
    let stage = Stage::with(
        BalanceConfig::builder()
            .connect_concurrency(3)
            .build()
            .unwrap(),
        &["living"],
    )
    .await;
    let nodes: Vec<_> = dead().map(|id| stage.node(id)).collect();
    for node in &nodes {
        node.when_dialled(Gets::Nowhere);
    }
    stage.announce(set(dead().chain(["living"])));
    sleep(1900 * MS).await;
    let under_way: usize = nodes.iter().map(|node| node.dialling()).sum();
    assert_eq!(under_way, 3);
}

#[tokio::test(start_paused = true)]
async fn a_new_instance_is_dialled_before_those_that_failed() {
    let (script, feed) = Script::new();
    let dialled = Arc::new(std::sync::Mutex::new(Vec::new()));
    let connector = service_fn({
        let dialled = Arc::clone(&dialled);
        move |instance: Instance| {
            let id = instance.id().to_string();
            dialled.lock().unwrap().push(id.clone());
            async move {
                if id == "usable" {
                    return Ok(World::default());
                }
                sleep(10 * MS).await;
                Err(std::io::Error::from_raw_os_error(111))
            }
        }
    });
    let at_once = rolecall::Backoff::new(MS, MS);
    let config = BalanceConfig::builder()
        .connect_concurrency(1)
        .connect_backoff(at_once);
    let balance = BalanceLayer::new(script, "worker:http")
        .unwrap()
        .config(config.build().unwrap())
        .layer(connector);
    feed.send(Ok(set(["usable"]))).unwrap();
    balance.control().wait_usable(SECOND).await.unwrap();
    let known: Vec<_> = (0..30).map(|number| format!("refused-{number}")).collect();
    let known = || known.iter().map(String::as_str).chain(["usable"]);
    feed.send(Ok(set(known()))).unwrap();
    for round in 0..20 {
        // All were tried by then, and wait for their turn.
        sleep(SECOND).await;
        let new = format!("new-{round}");
        let before = dialled.lock().unwrap().len();
        feed.send(Ok(set(known().chain([new.as_str()])))).unwrap();
        sleep(50 * MS).await;
        let dialled = dialled.lock().unwrap();
        let turn = dialled[before..].iter().position(|id| *id == new);
        assert!(turn.is_some_and(|turn| turn <= 1), "{turn:?}");
    }
}

#[test]
fn a_dial_that_blocks_its_thread_holds_up_neither_the_driver_nor_other_dials() {
    let (release, blocked) = std::sync::mpsc::channel::<()>();
    let blocked = Arc::new(std::sync::Mutex::new(Some(blocked)));
    let connector = service_fn(move |instance: Instance| {
        let blocked = Arc::clone(&blocked);
        async move {
            if instance.id() == "blocks" {
                let blocked = blocked.lock().unwrap().take();
                let patience = Duration::from_secs(20);
                blocked.map(|blocked| blocked.recv_timeout(patience));
            }
            Ok::<_, Infallible>(World::default())
        }
    });
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(3)
        .enable_time()
        .build()
        .unwrap();
    let (script, feed) = Script::new();
    let balance = runtime.block_on(async {
        let layer = BalanceLayer::new(script, "worker:http").unwrap();
        let balance = layer.layer(connector);
        feed.send(Ok(set(["blocks"]))).unwrap();
        while balance.control().status().members.is_empty() {
            sleep(MS).await;
        }
        feed.send(Ok(set(["a", "b", "blocks"]))).unwrap();
        let both = async {
            while balance.control().status().usable < 2 {
                sleep(MS).await;
            }
        };
        tokio::time::timeout(10 * SECOND, both).await.unwrap();
        balance
    });
    assert_eq!(
        balance.control().status().usable,
        2,
        "{}",
        balance.control().status()
    );
    release.send(()).unwrap();
    runtime.block_on(async {
        while balance.control().status().usable < 3 {
            sleep(MS).await;
        }
    });
}

#[tokio::test(start_paused = true)]
async fn one_layer_makes_balancers_that_share_nothing() {
    let list = List::new([instance("a")]).unwrap();
    let layer = BalanceLayer::new(list, "worker:http").unwrap();
    let (one, two) = (World::default(), World::default());
    let (first, mut second) = (layer.layer(one.clone()), layer.clone().layer(two.clone()));
    first.control().wait_usable(SECOND).await.unwrap();
    drop(first);
    assert_eq!(second.call(()).await.unwrap(), "a");
    assert_eq!((one.node("a").alive(), two.node("a").alive()), (0, 1));
}

#[tokio::test(start_paused = true)]
async fn a_function_of_the_instance_is_its_service_without_a_dial() {
    let list = List::new(["a", "b"].map(instance)).unwrap();
    let client = service_fn(|request: String| ready(Ok::<_, Infallible>(request)));
    let mut balance = BalanceLayer::new(list, "worker:http")
        .unwrap()
        .layer(connect::retarget(
            client,
            |instance: &Instance, path: &str| format!("{}{path}", instance.id()),
        ));
    let mut answers = Vec::new();
    for _ in 0..50 {
        answers.push(balance.call("/x").await.unwrap());
    }
    answers.sort();
    answers.dedup();
    assert_eq!(answers, ["a/x", "b/x"]);
    drop(balance.control().events().boxed());
}

#[tokio::test(start_paused = true)]
async fn to_announce_an_instance_anew_neither_repeats_nor_hastens_its_dial() {
    let stage = Stage::of(&["a"]).await;
    let (b, c) = (stage.node("b"), stage.node("c"));
    b.when_dialled(Gets::Nowhere);
    c.when_dialled(Gets::Refused);
    stage.announce(set(["a", "b", "c"]));
    // Far in its backoff.
    failures(&stage, "c", 12).await;
    stage.until(|_| b.dialling() == 1).await;
    let before = (b.dials(), c.dials());
    let known = |round: u16| {
        let anew = |id| instance(id).with_metadata("round", round.to_string());
        ["a", "b", "c"].map(anew).into_iter().collect()
    };
    for round in 0..100 {
        stage.announce(known(round));
        tokio::task::yield_now().await;
    }
    assert!(b.dials() - before.0 <= 1 && c.dials() - before.1 <= 1);
}
