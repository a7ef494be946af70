//! The first answer to a watch.

use rolecall::discovery::DiscoveryErrorKind;

use crate::subject::{Answers, Subject, addr, ids, worker};

pub(crate) async fn an_unknown_role_is_an_error_until_it_appears(subject: &dyn Subject) {
    let backend = subject.open();
    let mut answers = Answers::of(&backend, "worker:http");
    let error = answers.next().await.unwrap_err();
    assert_eq!(error.kind(), DiscoveryErrorKind::UnknownRole, "{error}");
    let _lease = backend.register(worker("w-1")).await.unwrap();
    assert_eq!(ids(&answers.set().await), ["w-1"]);
}

pub(crate) async fn the_first_answer_is_the_whole_set_and_confirmed(subject: &dyn Subject) {
    let backend = subject.open();
    let _leases = [
        backend.register(worker("w-1")).await.unwrap(),
        backend.register(worker("w-2")).await.unwrap(),
        backend.register(worker("w-3")).await.unwrap(),
    ];
    let first = Answers::of(&subject.open(), "worker:http").next().await;
    let first = first.unwrap();
    assert_eq!(ids(&first), ["w-1", "w-2", "w-3"]);
    assert_eq!(first.is_confirmed(), subject.confirms());
    assert!(first.duplicates().is_empty());
}

pub(crate) async fn an_empty_role_is_an_empty_confirmed_set(subject: &dyn Subject) {
    let backend = subject.open();
    let lease = backend.register(worker("w-1")).await.unwrap();
    lease.deregister().await.unwrap();
    for handle in [backend, subject.open()] {
        match Answers::of(&handle, "worker:http").next().await {
            Ok(set) => {
                assert!(set.is_empty());
                assert_eq!(set.is_confirmed(), subject.confirms());
            }
            Err(error) => {
                assert!(!subject.remembers(), "{error}");
                assert_eq!(error.kind(), DiscoveryErrorKind::UnknownRole, "{error}");
            }
        }
    }
}

pub(crate) async fn an_unknown_endpoint_lists_the_known_ones(subject: &dyn Subject) {
    let backend = subject.open();
    let registration = worker("w-1").endpoint("admin", addr(81));
    let lease = backend.register(registration).await.unwrap();
    let mut answers = Answers::of(&backend, "worker:grpc");
    let error = answers.next().await.unwrap_err();
    assert_eq!(error.kind(), DiscoveryErrorKind::UnknownEndpoint, "{error}");
    let text = error.to_string();
    assert!(text.ends_with("it has \"admin\", \"http\""), "{text}");
    lease.add_endpoint("grpc", addr(90)).await.unwrap();
    let set = answers.set().await;
    assert_eq!(*set.get("w-1").unwrap().address(), addr(90));
    lease.remove_endpoint("grpc").await.unwrap();
    answers.until(|set| set.is_empty()).await;
}

pub(crate) async fn watches_of_two_handles_agree(subject: &dyn Subject) {
    let (writer, reader) = (subject.open(), subject.open());
    let mut here = Answers::of(&writer, "worker:http");
    let mut there = Answers::of(&reader, "worker:http");
    assert!(here.next().await.is_err() && there.next().await.is_err());
    let _first = writer.register(worker("w-1")).await.unwrap();
    let _second = reader.register(worker("w-2")).await.unwrap();
    let here = here.until(|set| set.len() == 2).await;
    let there = there.until(|set| set.len() == 2).await;
    assert_eq!(here, there);
}
