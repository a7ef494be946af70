//! Visibility between boundaries. The balancer decides, so it is the same over every backend.

use std::error::Error as _;
use std::sync::Arc;

use rolecall::discovery::{Change, from_changes};
use rolecall::{
    BalanceLayer, Boundary, Discovery, ErrorKind, Instance, Lease, List, Registrar, Registration,
    Registry, Visibility,
};
use tower::{Layer, Service};

use crate::support::{World, addr};

fn boundary(name: &str) -> Boundary {
    Boundary::new(name).unwrap()
}

/// The same instance of `media/worker:http` in each of them.
async fn backends(visibility: Visibility) -> (Lease, [(&'static str, Arc<dyn Discovery>); 3]) {
    let instance = Instance::new("w-1", addr(80)).with_visibility(visibility.clone());
    let registry = Registry::new();
    let registration = Registration::new("worker")
        .id("w-1")
        .boundary("media")
        .endpoint("http", addr(80))
        .visibility(visibility);
    let lease = registry.register(registration).await.unwrap();
    let list = List::new([instance.clone()]).unwrap();
    let changes = [Ok::<_, std::io::Error>(Change::Insert(instance))];
    let changes = from_changes(futures::stream::iter(changes));
    let backends: [(_, Arc<dyn Discovery>); 3] = [
        ("registry", Arc::new(registry)),
        ("list", Arc::new(list)),
        ("changes", Arc::new(changes)),
    ];
    (lease, backends)
}

#[tokio::test(start_paused = true)]
async fn every_backend_is_seen_by_the_same_rules() {
    let granted = || Visibility::Granted(vec![boundary("billing"), boundary("batch")]);
    for (visibility, callers) in [
        (Visibility::Internal, &["media"][..]),
        (granted(), &["media", "batch", "billing"]),
        (
            Visibility::Public,
            &["media", "batch", "billing", "default"],
        ),
    ] {
        let (_lease, backends) = backends(visibility.clone()).await;
        for (backend, discovery) in backends {
            for caller in ["media", "batch", "billing", "default"] {
                let layer = BalanceLayer::new(Arc::clone(&discovery), "media/worker:http");
                let layer = layer.unwrap().boundary(boundary(caller));
                let answer = layer.layer(World::default()).call(()).await;
                let case = format!("{visibility:?} in the {backend}, called from {caller}");
                if callers.contains(&caller) {
                    assert!(answer.is_ok(), "{case}");
                    continue;
                }
                let error = answer.expect_err(&case);
                assert!(
                    matches!(error.kind(), ErrorKind::NotVisible),
                    "{case}: {error}"
                );
                assert!(!error.was_sent());
                assert_eq!(
                    error.to_string(),
                    "media/worker:http: not visible from here"
                );
                assert_eq!(
                    error.source().unwrap().to_string(),
                    format!(
                        "no instance of media/worker:http is visible from boundary \"{caller}\": they \
                         belong to boundary \"media\", and are visible elsewhere only if they are \
                         registered as public or as granted to \"{caller}\""
                    )
                );
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_grant_taken_back_takes_effect_at_once_where_the_source_confirms() {
    let (registry, friend) = (Registry::new(), boundary("friend"));
    let worker = |id: &str, port, visibility| {
        let worker = Registration::new("worker").id(id).boundary("media");
        worker.endpoint("http", addr(port)).visibility(visibility)
    };
    let granted = worker("w-1", 81, Visibility::Granted(vec![friend.clone()]));
    let lease = registry.register(granted).await.unwrap();
    let layer = BalanceLayer::new(registry.clone(), "media/worker:http").unwrap();
    let mut balance = layer.boundary(friend).layer(World::default());
    balance.call(()).await.expect("the grant is in force");

    let internal = worker("w-2", 82, Visibility::Internal);
    let _internal = registry.register(internal).await.unwrap();
    lease.deregister().await.unwrap();
    // Long before the grace of a set that is doubted.
    let refused = async {
        loop {
            match balance.call(()).await {
                Err(error) if matches!(error.kind(), ErrorKind::NotVisible) => break,
                _ => tokio::task::yield_now().await,
            }
        }
    };
    let limit = std::time::Duration::from_secs(5);
    tokio::time::timeout(limit, refused).await.expect("refused");
}
