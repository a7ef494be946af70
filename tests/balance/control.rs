//! The handle that has no type parameters.

use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use rolecall::{BalanceConfig, BalanceLayer, Control, EjectionReason, ErrorKind, List, connect};
use tower::{Layer, Service};

use crate::support::{Does, Stage, World, instance};

const SECOND: Duration = Duration::from_secs(1);

#[tokio::test(start_paused = true)]
async fn controls_of_different_balancers_are_of_one_type() {
    let list = || List::new([instance("a")]).unwrap();
    let first = BalanceLayer::new(list(), "worker:http")
        .unwrap()
        .layer(World::default());
    let connector = connect::per_instance(|_: &rolecall::Instance| {
        tower::service_fn(|number: u32| async move { Ok::<_, std::io::Error>(number) })
    });
    let second = BalanceLayer::new(list(), "other:http")
        .unwrap()
        .classify_fn(|_: &Result<u32, std::io::Error>| rolecall::Outcome::Success)
        .layer(connector);
    let controls: Vec<Control> = vec![first.control().clone(), second.control().clone()];
    for control in &controls {
        control.wait_usable(SECOND).await.unwrap();
        assert_eq!(control.status().usable, 1);
    }
    assert_eq!(*controls[1].target(), *second.target());
}

#[tokio::test(start_paused = true)]
async fn a_control_does_not_keep_its_balancer_alive() {
    let stage = Stage::of(&["a"]).await;
    let control = stage.balance.control().clone();
    let a = stage.node("a");
    let Stage { balance, feed, .. } = stage;
    let mut events = control.events();
    assert!(control.eject(&"a".into(), SECOND));
    assert!(control.restore(&"a".into()));
    drop(balance);
    // The driver ends, and drops its discovery.
    feed.closed().await;
    while events.next().await.is_some() {}

    assert_eq!(a.alive(), 0, "its connection is closed");
    let status = control.status();
    assert!(status.members.is_empty() && status.usable == 0);
    assert_eq!(status.target.as_ref(), Some(control.target()));
    assert!(
        control.events().next().await.is_none(),
        "at its end at once"
    );
    assert!(!control.eject(&"a".into(), SECOND) && !control.restore(&"a".into()));
    control.reconfigure(BalanceConfig::default());
    let error = control.wait_usable(3600 * SECOND).await.unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::Unresolved), "{error:?}");
    let source = std::error::Error::source(&error).unwrap().to_string();
    assert!(source.contains("last clone"), "{source}");
}

#[tokio::test(start_paused = true)]
async fn a_shared_reference_to_a_balancer_is_a_service() {
    let stage = Stage::of(&["a"]).await;
    let shared = Arc::new(stage.balance.clone());
    let calls = (0..3).map(|_| {
        let shared = Arc::clone(&shared);
        tokio::spawn(async move { (&*shared).call(()).await })
    });
    for answer in futures::future::join_all(calls).await {
        assert_eq!(answer.unwrap().unwrap(), "a");
    }
}

#[tokio::test(start_paused = true)]
async fn the_label_of_a_failure_is_in_reason_and_status() {
    let list = List::new(["a", "b"].map(instance)).unwrap();
    let world = World::default();
    world.node("a").when_called(Does::Fail);
    let balance = BalanceLayer::new(list, "worker:http")
        .unwrap()
        .classify(Labels)
        .layer(world.clone());
    balance.control().wait_usable(SECOND).await.unwrap();
    let member = |id: &str| {
        let members = balance.control().status().members;
        let member = members.into_iter().find(|m| *m.instance.id() == *id);
        member.unwrap()
    };
    for _ in 0..1000 {
        let _ = balance.clone().call(()).await;
        if member("a").ejection.is_some() {
            break;
        }
    }
    let (a, b) = (member("a"), member("b"));
    assert_eq!(
        (a.last_failure, b.last_failure),
        (Some("out of paper"), None)
    );
    let reason = a.ejection.unwrap().reason;
    let EjectionReason::FailuresInRow { label, .. } = reason else {
        panic!("{reason}");
    };
    assert_eq!(label, Some("out of paper"));
    assert!(
        reason.to_string().contains(", the last: out of paper ("),
        "{reason}"
    );
    let table = balance.control().status().to_string();
    assert!(table.contains("the last: out of paper"), "{table}");
}

struct Labels;

impl<Req, Res, Err> rolecall::Classify<Req, Res, Err> for Labels {
    type Response = Res;
    type Context = ();

    fn begin(&self, _: &Req) {}

    fn classify(
        &self,
        (): (),
        result: Result<Res, Err>,
        attempt: rolecall::Attempt,
    ) -> Result<Res, rolecall::Failed<Err>> {
        match &result {
            Ok(_) => attempt.success(),
            Err(_) => attempt.failure_labelled("out of paper"),
        }
        result.map_err(rolecall::Failed::sent)
    }
}
