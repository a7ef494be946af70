use std::net::IpAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::channel::mpsc;
use futures::stream::{self, BoxStream};
use futures::{FutureExt, StreamExt};
use rolecall::discovery::DiscoveryError;
use rolecall::guard::{Guard, GuardEvent};
use rolecall::{Boundary, Discovery, Instance, InstanceSet, List, Registry, Target};
use tokio::time::Instant;

use super::support::*;

type Answer = Result<InstanceSet, DiscoveryError>;

/// Says of every boundary what the test says.
struct Scripted(Mutex<Option<mpsc::UnboundedReceiver<Answer>>>);

impl Scripted {
    fn new() -> (mpsc::UnboundedSender<Answer>, Arc<Self>) {
        let (answers, receiver) = mpsc::unbounded();
        (answers, Arc::new(Self(Mutex::new(Some(receiver)))))
    }
}

impl Discovery for Scripted {
    fn watch(&self, _: &Target) -> BoxStream<'static, Answer> {
        stream::empty().boxed()
    }

    fn peers(&self, _: &Boundary) -> BoxStream<'static, Answer> {
        self.0.lock().unwrap().take().unwrap().boxed()
    }

    fn refresh(&self, _: &Target) {}
}

fn set(ips: &[&str]) -> InstanceSet {
    let peers = ips
        .iter()
        .map(|ip| Instance::new(format!("worker/{ip}"), (ip.parse::<IpAddr>().unwrap(), 0)));
    peers.collect()
}

#[tokio::test(start_paused = true)]
async fn a_peer_is_admitted_from_its_registration_to_its_deregistration() {
    let registry = Registry::new();
    let guard = Guard::builder(registry.clone(), boundary("shop"))
        .build()
        .unwrap();
    let mut events = guard.events();
    assert!(!guard.admits(STRANGER), "nobody is admitted by default");
    let began = Instant::now();
    let lease = register(&registry, "shop", STRANGER).await;
    until(&guard, &mut events, STRANGER, true).await;
    assert!(!guard.admits(FRIEND));
    lease.deregister().await.unwrap();
    until(&guard, &mut events, STRANGER, false).await;
    assert!(
        began.elapsed() < Duration::from_secs(1),
        "it waits for no timer"
    );
}

#[tokio::test(start_paused = true)]
async fn a_grant_admits_another_boundary_and_can_be_taken_back() {
    let registry = Registry::new();
    let _lease = register(&registry, "billing", FRIEND).await;
    let guard = Guard::builder(registry.clone(), boundary("shop"))
        .build()
        .unwrap();
    in_time(guard.synced()).await;
    assert!(!guard.admits(FRIEND));
    for _ in 0..3 {
        guard.allow(boundary("billing"));
        in_time(guard.synced()).await;
        assert!(guard.admits(FRIEND));
        assert!(guard.revoke(&boundary("billing")));
        assert!(!guard.admits(FRIEND), "at once");
        // Before the watcher heard of it.
        guard.allow(boundary("billing"));
        guard.revoke(&boundary("billing"));
    }
    assert!(!guard.revoke(&boundary("billing")));
}

#[tokio::test(start_paused = true)]
async fn an_address_is_explained() {
    let registry = Registry::new();
    let _lease = register(&registry, "billing", FRIEND).await;
    let guard = Guard::builder(registry.clone(), boundary("shop"))
        .allow(boundary("billing"))
        .allow(Boundary::default())
        .build()
        .unwrap();
    assert_eq!(
        guard.explain(STRANGER).to_string(),
        "denied: 127.0.0.9; discovery has not answered yet for boundary shop, billing or default"
    );
    in_time(guard.synced()).await;
    tokio::time::advance(Duration::from_secs(12)).await;
    let why = guard.explain(STRANGER);
    assert!(!why.is_admitted() && why.instance().is_none());
    assert_eq!(why.age(), Some(Duration::from_secs(12)));
    assert_eq!(
        why.to_string(),
        "denied: no instance registered in boundary shop, billing or default has address 127.0.0.9; 12 s old"
    );
    let why = guard.explain("::ffff:127.0.0.8".parse().unwrap());
    assert!(why.is_admitted());
    assert_eq!(why.ip(), FRIEND);
    let text = why.to_string();
    assert!(text.starts_with("admitted: worker/"), "{text}");
    assert!(
        text.ends_with(" of boundary billing has address 127.0.0.8; 12 s old"),
        "{text}"
    );
}

#[tokio::test(start_paused = true)]
async fn an_ipv4_address_is_the_same_in_ipv6_clothes() {
    let (answers, discovery) = Scripted::new();
    let guard = Guard::builder(discovery, boundary("shop")).build().unwrap();
    answers
        .unbounded_send(Ok(set(&["::ffff:10.0.0.7", "10.0.0.8", "fd00::1"])))
        .unwrap();
    in_time(guard.synced()).await;
    for ip in ["10.0.0.7", "::ffff:10.0.0.7", "::ffff:10.0.0.8", "fd00::1"] {
        assert!(guard.admits(ip.parse().unwrap()), "{ip}");
    }
    for ip in ["10.0.0.9", "::10.0.0.7", "::ffff:10.0.0.9", "fd00::2"] {
        assert!(!guard.admits(ip.parse().unwrap()), "{ip}");
    }
}

#[tokio::test(start_paused = true)]
async fn errors_and_an_end_of_discovery_change_nothing_and_are_told() {
    let (answers, discovery) = Scripted::new();
    let guard = Guard::builder(discovery, boundary("shop")).build().unwrap();
    let mut events = guard.events();
    answers.unbounded_send(Ok(set(&["127.0.0.8"]))).unwrap();
    peers_changed(&mut events).await;
    tokio::time::advance(Duration::from_secs(60)).await;
    let error = DiscoveryError::backend("watching etcd", "connection refused");
    answers.unbounded_send(Err(error)).unwrap();
    event(&mut events, |e| {
        matches!(e, GuardEvent::DiscoveryFailed { .. })
    })
    .await;
    assert!(guard.admits(FRIEND));
    assert_eq!(
        guard.explain(STRANGER).to_string(),
        "denied: no instance registered in boundary shop has address 127.0.0.9; 60 s old; discovery of shop's peers reports: \
         discovery failed while watching etcd: connection refused"
    );
    drop(answers);
    event(&mut events, |e| {
        matches!(e, GuardEvent::DiscoveryEnded { .. })
    })
    .await;
    assert!(guard.admits(FRIEND));
    let status = guard.status();
    assert_eq!(status.boundaries[0].set_age, Some(Duration::from_secs(60)));
    assert_eq!(status.boundaries[0].addresses, 1);
    assert!(status.boundaries[0].discovery_error.is_some());
}

#[tokio::test(start_paused = true)]
async fn ever_new_errors_of_discovery_are_told_of_in_few_events_and_counted() {
    let (answers, discovery) = Scripted::new();
    let guard = Guard::builder(discovery, boundary("shop")).build().unwrap();
    let mut events = guard.events();
    let fails = |n: u32| {
        let error = DiscoveryError::backend("watching etcd", format!("revision {n} is gone"));
        answers.unbounded_send(Err(error)).unwrap();
    };
    (0..10_000).for_each(fails);
    answers.unbounded_send(Ok(set(&["127.0.0.8"]))).unwrap();
    let mut told = 0;
    event(&mut events, |event| {
        told += usize::from(matches!(event, GuardEvent::DiscoveryFailed { .. }));
        matches!(event, GuardEvent::PeersChanged { .. })
    })
    .await;
    assert_eq!(told, 10);
    tokio::time::advance(Duration::from_secs(10)).await;
    fails(10_000);
    let omitted = event(&mut events, |event| {
        matches!(event, GuardEvent::DiscoveryErrorsOmitted { .. })
    })
    .await;
    assert!(
        matches!(
            omitted,
            GuardEvent::DiscoveryErrorsOmitted { count: 9990, .. }
        ),
        "{omitted}"
    );
    event(&mut events, |e| {
        matches!(e, GuardEvent::DiscoveryFailed { .. })
    })
    .await;
    let known = guard.status().boundaries[0].discovery_error.clone();
    assert!(known.unwrap().ends_with("revision 10000 is gone"));
}

#[tokio::test(start_paused = true)]
async fn a_discovery_that_cannot_list_peers_admits_nobody_and_says_so() {
    let list = List::from_addrs(["127.0.0.8:80".parse().unwrap()]).unwrap();
    let nowhere = "192.0.2.1".parse().unwrap();
    let guard = Guard::builder(list, boundary("shop")).allow_networks(nowhere);
    let guard = guard.build().unwrap();
    let mut events = guard.events();
    event(&mut events, |e| {
        matches!(e, GuardEvent::DiscoveryFailed { .. })
    })
    .await;
    in_time(guard.synced()).await;
    assert!(!guard.admits(FRIEND));
    let why = guard.explain(FRIEND).to_string();
    assert!(why.contains("unsupported: listing the peers"), "{why}");
}

#[tokio::test(start_paused = true)]
async fn a_discovery_that_panics_ends_no_guard() {
    struct Panics;
    impl Discovery for Panics {
        fn watch(&self, _: &Target) -> BoxStream<'static, Answer> {
            stream::empty().boxed()
        }
        fn peers(&self, _: &Boundary) -> BoxStream<'static, Answer> {
            let first = stream::iter([Ok(set(&["127.0.0.8"]))]);
            first.chain(stream::poll_fn(|_| panic!("broken"))).boxed()
        }

        fn refresh(&self, _: &Target) {}
    }
    let guard = Guard::builder(Panics, boundary("shop")).build().unwrap();
    let mut events = guard.events();
    event(&mut events, |e| {
        matches!(e, GuardEvent::DiscoveryFailed { .. })
    })
    .await;
    event(&mut events, |e| {
        matches!(e, GuardEvent::DiscoveryEnded { .. })
    })
    .await;
    assert!(guard.admits(FRIEND));
}

#[tokio::test(start_paused = true)]
async fn a_poisoned_answer_breaks_nothing_and_forges_no_line() {
    let (answers, discovery) = Scripted::new();
    let guard = Guard::builder(discovery, boundary("shop")).build().unwrap();
    let long = "x".repeat(1 << 20);
    let many = (0..90_000_u32).map(|n| {
        let ip = std::net::Ipv4Addr::from_bits((11 << 24) + n);
        Instance::new(format!("worker/{n}"), (ip, 0))
    });
    let evil = [
        Instance::new("a\nadmitted: everybody\u{1b}[2J", (FRIEND, 0)),
        Instance::new(long, (STRANGER, 0)),
        Instance::new("", ([0, 0, 0, 0], 0)),
        Instance::new("b", ([224, 0, 0, 1], 9)),
    ];
    answers
        .unbounded_send(Ok(evil.into_iter().chain(many).collect()))
        .unwrap();
    in_time(guard.synced()).await;
    assert_eq!(guard.status().boundaries[0].addresses, 90_004);
    let why = guard.explain(FRIEND).to_string();
    assert!(!why.chars().any(char::is_control), "{why}");
    assert!(guard.explain(STRANGER).to_string().len() < 200);
}

#[tokio::test(start_paused = true)]
async fn its_last_clone_ends_the_watching() {
    let (answers, discovery) = Scripted::new();
    let guard = Guard::builder(discovery, boundary("shop")).build().unwrap();
    let clone = guard.clone();
    answers.unbounded_send(Ok(set(&["127.0.0.8"]))).unwrap();
    in_time(guard.synced()).await;
    let mut events = guard.events();
    drop(guard);
    answers.unbounded_send(Ok(set(&["127.0.0.9"]))).unwrap();
    until(&clone, &mut events, STRANGER, true).await;
    assert!(clone.admits(STRANGER) && !clone.admits(FRIEND));
    drop(clone);
    in_time(async {
        while !answers.is_closed() {
            tokio::task::yield_now().await;
        }
    })
    .await;
    assert!(in_time(events.next()).await.is_none());
}

#[test]
fn made_outside_a_runtime_it_begins_with_the_first_question_inside_one() {
    let registry = Registry::new();
    let guard = Guard::builder(registry.clone(), boundary("shop"))
        .build()
        .unwrap();
    assert!(!guard.admits(FRIEND));
    let _lease = register(&registry, "shop", FRIEND).now_or_never().unwrap();
    runtime().block_on(async {
        in_time(guard.synced()).await;
        assert!(guard.admits(FRIEND));
    });
}

fn runtime() -> tokio::runtime::Runtime {
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    runtime.enable_time().build().unwrap()
}

#[test]
fn news_that_ended_are_not_asked_for_again_in_another_runtime() {
    let (answers, discovery) = Scripted::new();
    let guard = Guard::builder(discovery, boundary("shop")).build().unwrap();
    answers.unbounded_send(Ok(set(&["127.0.0.8"]))).unwrap();
    drop(answers);
    let mut events = guard.events();
    runtime().block_on(async {
        in_time(guard.synced()).await;
        event(&mut events, |e| {
            matches!(e, GuardEvent::DiscoveryEnded { .. })
        })
        .await;
    });
    runtime().block_on(async {
        assert!(guard.admits(FRIEND));
        let mut events = guard.events();
        guard.allow(boundary("billing"));
        // Of which alone there is something to ask, once too often for this discovery.
        let asked = event(&mut events, |_| true).await;
        assert!(
            matches!(asked, GuardEvent::BoundaryAllowed { .. }),
            "{asked}"
        );
        let GuardEvent::DiscoveryFailed { boundary, .. } = event(&mut events, |_| true).await
        else {
            unreachable!("it panics when it is asked twice");
        };
        assert_eq!(boundary.as_str(), "billing");
    });
}

#[test]
fn when_its_runtime_ended_it_goes_on_inside_the_next() {
    let registry = Registry::new();
    let guard = Guard::builder(registry.clone(), boundary("shop"))
        .build()
        .unwrap();
    let friend = register(&registry, "shop", FRIEND).now_or_never().unwrap();
    runtime().block_on(async { in_time(guard.synced()).await });
    // That runtime is gone.
    let _stranger = register(&registry, "shop", STRANGER).now_or_never();
    friend.deregister().now_or_never().unwrap().unwrap();
    assert!(guard.admits(FRIEND) && !guard.admits(STRANGER), "unheard");
    for _ in 0..2 {
        runtime().block_on(async {
            let mut events = guard.events();
            until(&guard, &mut events, STRANGER, true).await;
            assert!(!guard.admits(FRIEND));
        });
    }
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_lacks_everybody_is_doubted_for_a_while_unless_it_is_confirmed() {
    let (answers, discovery) = Scripted::new();
    let guard = Guard::builder(discovery, boundary("shop"))
        .cut_off(true)
        .build()
        .unwrap();
    let mut events = guard.events();
    answers.unbounded_send(Ok(set(&["127.0.0.8"]))).unwrap();
    until(&guard, &mut events, FRIEND, true).await;
    // Of a file caught half written, say.
    answers.unbounded_send(Ok(InstanceSet::empty())).unwrap();
    tokio::time::sleep(Duration::from_secs(29)).await;
    assert!(guard.admits(FRIEND));
    answers.unbounded_send(Ok(set(&["127.0.0.8"]))).unwrap();
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert!(guard.admits(FRIEND), "the whole answer ended the doubt");
    answers.unbounded_send(Ok(InstanceSet::empty())).unwrap();
    tokio::time::sleep(Duration::from_secs(29)).await;
    assert!(guard.admits(FRIEND));
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert!(!guard.admits(FRIEND), "believed in the end");
    answers.unbounded_send(Ok(set(&["127.0.0.8"]))).unwrap();
    until(&guard, &mut events, FRIEND, true).await;
    let began = Instant::now();
    let empty = InstanceSet::empty().confirmed();
    answers.unbounded_send(Ok(empty)).unwrap();
    until(&guard, &mut events, FRIEND, false).await;
    assert!(began.elapsed() < Duration::from_secs(1), "at once");
}
