//! What a balancer and a guard make of a backend's bad days.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use rolecall::discovery::conformance::{BadDay, bad_days};
use rolecall::guard::Guard;
use rolecall::{
    BalanceLayer, Boundary, Discovery, DiscoveryExt, Instance, InstanceSet, List, connect,
};
use tokio::time;
use tower::{Layer, ServiceExt, service_fn};

fn good() -> Vec<Instance> {
    let at = |n: u8| Instance::new(format!("good-{n}"), ([127, 0, 0, n], 80));
    (1..=8).map(at).collect()
}

fn days() -> Vec<BadDay> {
    let good: InstanceSet = good().into_iter().collect();
    let days = bad_days(good);
    assert_eq!(days.len(), 10);
    days
}

/// Calls ten times a second, between which twenty bad answers come.
async fn served(how: &str, day: &BadDay, seconds: u32, discovery: Arc<dyn Discovery>) {
    let layer = BalanceLayer::new(discovery, "worker:http").unwrap();
    let balance = layer.layer(connect::per_instance(|_: &Instance| {
        service_fn(|(): ()| async { Ok::<_, Infallible>(()) })
    }));
    let day = format!("{how}: {}", day.name());
    for call in 0..seconds * 10 {
        let called = time::timeout(Duration::from_secs(1), balance.clone().oneshot(()));
        let called = called
            .await
            .unwrap_or_else(|_| panic!("{day}: call {call} waits"));
        called.unwrap_or_else(|error| panic!("{day}: call {call}: {error}"));
        time::sleep(Duration::from_millis(100)).await;
    }
    let status = balance.control().status();
    let members = status
        .members
        .iter()
        .map(|member| member.instance.id().as_str());
    for instance in good() {
        let id = instance.id().as_str();
        assert!(
            members.clone().any(|member| member == id),
            "{day}: {id} is lost"
        );
    }
    assert_eq!(status.members.len(), 8, "{day}: a hostile one was taken in");
}

#[tokio::test(start_paused = true)]
async fn a_balancer_serves_through_every_bad_day() {
    for day in days() {
        served("alone", &day, 4, Arc::new(day.clone())).await;
    }
}

#[tokio::test(start_paused = true)]
async fn combinations_serve_through_every_bad_day() {
    for day in days() {
        served("shared", &day, 1, Arc::new(day.clone().shared())).await;
        let list = List::new(good()).unwrap();
        served("merged", &day, 1, Arc::new(day.clone().merge(list.clone()))).await;
        served("or", &day, 1, Arc::new(day.clone().or(list))).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_guard_admits_its_peers_through_every_bad_day() {
    for day in days() {
        let name = day.name();
        let guard = Guard::builder(day, Boundary::default()).build().unwrap();
        guard.synced().await;
        for _ in 0..40 {
            time::sleep(Duration::from_millis(100)).await;
            for instance in good() {
                let ip = instance.address().ip().unwrap();
                assert!(guard.admits(ip), "{name}: {ip} is denied");
            }
        }
        assert!(!guard.admits([127, 0, 0, 9].into()), "{name}");
    }
}
