//! The first answer to a watch.

use super::check::Done;
use super::subject::{Ability, Subject};
use super::watching::{addr, at, find, worker};
use crate::error::discovery::DiscoveryErrorKind;

pub(super) async fn an_unknown_role_is_an_error_until_it_appears(subject: &dyn Subject) -> Done {
    let mut watch = subject.watch("default/worker:http");
    let error = watch.next().await.expect_err("nobody announced the role");
    assert_eq!(error.kind(), DiscoveryErrorKind::UnknownRole, "{error}");
    let _lease = subject.announced(worker(1)).await;
    watch.until_found(&[1]).await;
    Done::Passed
}

pub(super) async fn the_first_answer_is_the_whole_set(subject: &dyn Subject) -> Done {
    let _leases = [
        subject.announced(worker(1)).await,
        subject.announced(worker(2)).await,
        subject.announced(worker(3)).await,
    ];
    // Where news take their time, they have arrived now.
    subject
        .watch("default/worker:http")
        .until_found(&[1, 2, 3])
        .await;
    let mut watch = subject.watch("default/worker:http");
    let first = watch.next().await.expect("a set");
    assert_eq!(watch.found(&first), [1, 2, 3]);
    assert_eq!(first.is_confirmed(), subject.has(Ability::Confirmation));
    assert!(first.duplicates().is_empty());
    Done::Passed
}

pub(super) async fn a_role_whose_instances_left_is_an_empty_set(subject: &dyn Subject) -> Done {
    let mut early = subject.watch("default/worker:http");
    let lease = subject.announced(worker(1)).await;
    early.until_found(&[1]).await;
    lease.deregister().await.unwrap();
    let left = early.until_found(&[]).await;
    assert_eq!(left.is_confirmed(), subject.has(Ability::Confirmation));
    match subject.watch("default/worker:http").next().await {
        Ok(set) => {
            assert!(set.is_empty(), "{set:?}");
            assert_eq!(set.is_confirmed(), subject.has(Ability::Confirmation));
        }
        Err(error) => {
            assert!(!subject.has(Ability::Memory), "{error}");
            assert_eq!(error.kind(), DiscoveryErrorKind::UnknownRole, "{error}");
        }
    }
    Done::Passed
}

pub(super) async fn an_unknown_endpoint_is_an_error_until_it_appears(
    subject: &dyn Subject,
) -> Done {
    let registration = worker(1).endpoint("admin", addr(1, 81));
    let lease = subject.announced(registration).await;
    subject.watch("default/worker:http").until_found(&[1]).await;
    let mut watch = subject.watch("default/worker:grpc");
    let error = watch.next().await.expect_err("nobody has the endpoint");
    assert_eq!(error.kind(), DiscoveryErrorKind::UnknownEndpoint, "{error}");
    let text = error.to_string();
    assert!(text.ends_with("it has \"admin\", \"http\""), "{text}");
    lease.add_endpoint("grpc", addr(1, 90)).await.unwrap();
    let set = watch.until_found(&[1]).await;
    assert_eq!(at(find(&set, 1)), addr(1, 90));
    lease.remove_endpoint("grpc").await.unwrap();
    watch.until_found(&[]).await;
    Done::Passed
}

pub(super) async fn watches_of_two_handles_agree(subject: &dyn Subject) -> Done {
    let mut here = subject.watch("default/worker:http");
    let mut there = subject.watch("default/worker:http");
    let _first = subject.announced(worker(1)).await;
    let _second = subject.announced(worker(2)).await;
    let here = here.until_found(&[1, 2]).await;
    let there = there.until_found(&[1, 2]).await;
    assert!(here.iter().eq(there.iter()), "{here:?} is not {there:?}");
    Done::Passed
}

pub(super) async fn a_hint_blocks_nobody_and_changes_nothing(subject: &dyn Subject) -> Done {
    let handle = subject.open();
    let target = "default/worker:http".parse().unwrap();
    handle.refresh(&target);
    let _lease = subject.announced(worker(1)).await;
    let mut watch = subject.watch_by(&handle, "default/worker:http");
    watch.until_found(&[1]).await;
    for _ in 0..1000 {
        handle.refresh(&target);
    }
    let _second = subject.announced(worker(2)).await;
    let whole = |set: &crate::model::instance::InstanceSet| {
        assert!(!set.is_empty(), "it never left");
        set.len() == 2
    };
    watch.until(whole).await;
    Done::Passed
}
