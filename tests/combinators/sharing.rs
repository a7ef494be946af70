use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use rolecall::{Boundary, Discovery, DiscoveryExt, Registrar, Registration, Registry};
use tokio::runtime::Builder;

use crate::source::{Source, Watch, fault, ids, set, target};

#[tokio::test(start_paused = true)]
async fn one_watch_of_each_target_and_boundary_serves_all() {
    let source = Source::default();
    let shared = source.clone().shared();
    let mut watches = [(); 5].map(|()| Watch::of(&shared.clone()));
    for watch in &mut watches {
        assert!(watch.now().await.is_none());
    }
    assert_eq!(source.opened(), 1);
    let omitted = "worker:http".parse().unwrap();
    let mut same = Watch(shared.watch(&omitted));
    assert!(same.now().await.is_none());
    assert_eq!(source.opened(), 1, "the boundary default is meant");
    let mut other = Watch(shared.watch(&"other:http".parse().unwrap()));
    let mut peers = [(); 2].map(|()| Watch(shared.peers(&Boundary::default())));
    assert!(other.now().await.is_none());
    for watch in &mut peers {
        assert!(watch.now().await.is_none());
    }
    assert_eq!(source.opened(), 3);
    source.say(Ok(set(&["a"], 1)));
    source.say(Ok(set(&["a", "b"], 1)));
    for watch in &mut watches {
        assert_eq!(ids(&watch.set().await), ["a", "b"], "the newest, no queue");
    }
    let mut late = Watch::of(&shared);
    assert_eq!(late.set().await.len(), 2, "it begins with the newest set");
    source.say(fault("down"));
    late.error().await;
    let mut later = Watch::of(&shared);
    assert_eq!(later.set().await.len(), 2);
    later.error().await;
    shared.refresh(&target());
    assert_eq!(source.refreshed(), 1);
}

#[tokio::test(start_paused = true)]
async fn the_shared_watch_ends_with_the_last_of_its_watches() {
    let source = Source::default();
    let shared = source.clone().shared();
    let (mut one, mut two) = (Watch::of(&shared), Watch::of(&shared));
    assert!(one.now().await.is_none() && two.now().await.is_none());
    drop(one);
    assert!(two.now().await.is_none());
    assert_eq!(source.open(), 1);
    drop(two);
    tokio::time::sleep(Duration::from_millis(1)).await;
    assert_eq!(source.open(), 0);
    let mut again = Watch::of(&shared);
    assert!(again.now().await.is_none());
    assert_eq!(source.opened(), 2);
}

#[tokio::test(start_paused = true)]
async fn the_end_of_the_source_is_the_end_of_every_watch() {
    let source = Source::default();
    let shared = source.clone().shared();
    let (mut one, mut two) = (Watch::of(&shared), Watch::of(&shared));
    assert!(one.now().await.is_none() && two.now().await.is_none());
    source.say(Ok(set(&["a"], 1)));
    source.end();
    for watch in [&mut one, &mut two] {
        assert_eq!(watch.set().await.len(), 1);
        assert!(watch.now().await.unwrap().is_none());
    }
}

#[test]
fn it_survives_the_end_of_one_of_two_runtimes() {
    let source = Source::default();
    let shared = source.clone().shared();
    let runtime = || Builder::new_current_thread().enable_all().build().unwrap();
    let first = runtime();
    let mut here = Watch::of(&shared);
    first.block_on(async { assert!(here.now().await.is_none()) });

    let (seen, sets) = mpsc::channel();
    let mut there = Watch::of(&shared);
    thread::spawn(move || {
        runtime().block_on(async {
            while let Ok(set) = there.next().await {
                seen.send(set.len()).unwrap();
            }
        });
    });
    source.say(Ok(set(&["a"], 1)));
    first.block_on(async { assert_eq!(here.set().await.len(), 1) });
    let patience = Duration::from_secs(30);
    assert_eq!(sets.recv_timeout(patience).unwrap(), 1);
    assert_eq!(source.opened(), 1);
    drop(first);
    while source.opened() == 1 {
        thread::sleep(Duration::from_millis(1));
    }
    source.say(Ok(set(&["a", "b"], 1)));
    assert_eq!(sets.recv_timeout(patience).unwrap(), 2);
    source.say(fault("the end of the test"));
}

#[tokio::test(start_paused = true)]
async fn registrations_reach_the_registrar() {
    let shared = Registry::new().shared();
    let registration = Registration::new("worker").endpoint("http", ([127, 0, 0, 1], 1));
    let _lease = shared.register(registration).await.unwrap();
    assert_eq!(Watch::of(&shared).set().await.len(), 1);
}

#[test]
fn without_timers_it_gives_nothing_and_does_not_spin() {
    let source = Source::default();
    let shared = source.clone().shared();
    let mut watch = Watch::of(&shared);
    let without = Builder::new_current_thread().build().unwrap();
    without.block_on(async { assert!(watch.now().await.is_none()) });
    assert_eq!(source.opened(), 0);
    let with = Builder::new_current_thread().enable_all().build().unwrap();
    with.block_on(async { assert!(watch.now().await.is_none()) });
    assert_eq!(source.opened(), 1, "it begins where it can");
    source.say(Ok(set(&["a"], 1)));
    with.block_on(async { assert_eq!(watch.set().await.len(), 1) });
}

#[test]
fn a_set_of_a_runtime_that_ended_is_not_confirmed_any_more() {
    let source = Source::default();
    let shared = source.clone().shared();
    let runtime = || Builder::new_current_thread().enable_all().build().unwrap();
    let first = runtime();
    let mut kept = Watch::of(&shared);
    first.block_on(async {
        assert!(kept.now().await.is_none());
        source.say(Ok(set(&["a"], 1).confirmed()));
        assert!(kept.set().await.is_confirmed());
    });
    drop(first);
    runtime().block_on(async {
        let mut late = Watch::of(&shared);
        assert!(!late.set().await.is_confirmed());
    });
}
