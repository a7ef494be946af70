//! What others write under our prefix, and what the server forgets.

use std::time::Duration;

use etcd_client::{CompactionOptions, PutOptions};
use rolecall::discovery::{DiscoveryErrorKind, LeaseState, RegisterErrorKind};
use rolecall::{Discovery, Registrar};
use tokio::runtime::Builder;

use crate::server::Server;
use crate::{Answers, causes, foreign, ids, open, until_state, worker};

#[tokio::test]
async fn foreign_keys_are_told_once_and_hide_nobody() {
    let server = Server::start();
    let backend = open(&server);
    let mut client = foreign(&server).await;
    let _lease = backend.register(worker("w-1")).await.unwrap();
    let garbage = [
        ("rolecall/default/worker/text", "\u{1b}[31m\n".repeat(1000)),
        (
            "rolecall/default/worker/torn",
            "{\"rolecall\":1,".to_owned(),
        ),
        ("rolecall/default/worker/", String::new()),
        (
            "rolecall/default/worker/w-2",
            r#"{"rolecall":1,"role":"worker","id":"w-9"}"#.to_owned(),
        ),
        (
            "rolecall/default/worker/later",
            r#"{"rolecall":2}"#.to_owned(),
        ),
    ];
    let others = [
        ("rolecall", "x"),
        ("rolecall/default", "x"),
        ("rolecallx/default/worker/w", "x"),
    ];
    for (key, value) in others {
        client.put(key, value, None).await.unwrap();
    }
    let mut answers = Answers::of(&open(&server), "worker:http");
    assert_eq!(ids(&answers.next().await.unwrap()), ["w-1"]);
    for (key, value) in &garbage {
        client.put(*key, value.as_str(), None).await.unwrap();
        let error = answers.error().await;
        assert_eq!(error.kind(), DiscoveryErrorKind::Backend);
        let text = causes(&error);
        assert!(text.contains(key), "{text}");
        assert!(
            text.len() < 4096 && !text.contains(char::is_control),
            "{text:?}"
        );
    }
    let refused = backend.register(worker("torn")).await.unwrap_err();
    assert_eq!(refused.kind(), RegisterErrorKind::IdTaken, "it is not ours");
    let third = backend.register(worker("w-3")).await.unwrap();
    answers.until(|set| ids(set) == ["w-1", "w-3"]).await;
    let mut fresh = Answers::of(&open(&server), "worker:http");
    assert_eq!(ids(&fresh.next().await.unwrap()), ["w-1", "w-3"]);
    let text = causes(&fresh.next().await.unwrap_err());
    assert!(text.contains("5 keys"), "{text}");
    third.deregister().await.unwrap();
    for (key, _) in garbage {
        let kept = client.get(key, None).await.unwrap();
        assert_eq!(kept.kvs().len(), 1, "{key} is not ours to delete");
    }
}

#[tokio::test]
async fn a_record_that_somebody_deletes_is_written_again() {
    let server = Server::start();
    let lease = open(&server).register(worker("w-1")).await.unwrap();
    let mut answers = Answers::of(&open(&server), "worker:http");
    answers.until(|set| set.len() == 1).await;
    let mut client = foreign(&server).await;
    client
        .delete("rolecall/default/worker/w-1", None)
        .await
        .unwrap();
    answers.until(|set| set.is_empty()).await;
    answers.until(|set| set.len() == 1).await;
    until_state(&lease, |state| matches!(state, LeaseState::Announced)).await;
}

#[tokio::test]
async fn an_id_is_free_when_the_lease_of_its_holder_expires() {
    let server = Server::start();
    let mut client = foreign(&server).await;
    let held = client.lease_grant(1, None).await.unwrap().id();
    let options = PutOptions::new().with_lease(held);
    let key = "rolecall/default/worker/w-1";
    client.put(key, "{}", Some(options)).await.unwrap();
    let backend = open(&server);
    let refused = backend.register(worker("w-1")).await.unwrap_err();
    assert_eq!(refused.kind(), RegisterErrorKind::IdTaken);
    let taken_over = async {
        loop {
            match backend.register(worker("w-1")).await {
                Ok(lease) => return lease,
                Err(error) => assert_eq!(error.kind(), RegisterErrorKind::IdTaken),
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    let taken_over = tokio::time::timeout(crate::PATIENCE, taken_over).await;
    taken_over.unwrap().deregister().await.unwrap();
}

/// A watcher that does not read for so long that the server forgot what it has to tell it.
#[test]
fn a_watcher_that_slept_through_a_compaction_lists_again() {
    let server = Server::start();
    let (here, there) = (
        Builder::new_current_thread().enable_all().build().unwrap(),
        Builder::new_multi_thread().enable_all().build().unwrap(),
    );
    let backend = open(&server);
    let (lease, mut client) = there.block_on(async {
        let lease = backend.register(worker("w-1")).await.unwrap();
        (lease, foreign(&server).await)
    });
    let mut answers = Answers::of(&open(&server), "worker:http");
    here.block_on(answers.until(|set| set.len() == 1));
    // Nothing runs `here` now. More is written than buffers take, and compacted.
    let second = there.block_on(async {
        let big = "x".repeat(256 << 10);
        for _ in 0..200 {
            let key = "rolecall/default/worker/big";
            client.put(key, big.as_str(), None).await.unwrap();
        }
        client
            .delete("rolecall/default/worker/big", None)
            .await
            .unwrap();
        let second = backend.register(worker("w-2")).await.unwrap();
        let newest = client.get("rolecall", None).await.unwrap();
        let newest = newest.header().unwrap().revision();
        let options = CompactionOptions::new().with_physical();
        client.compact(newest, Some(options)).await.unwrap();
        second
    });
    let cancelled = async {
        loop {
            let text = causes(&answers.error().await);
            if text.contains("compacted") {
                return text;
            }
        }
    };
    println!("{}", here.block_on(cancelled));
    here.block_on(answers.until(|set| ids(set) == ["w-1", "w-2"]));
    there.block_on(async {
        lease.deregister().await.unwrap();
        second.deregister().await.unwrap();
    });
}

#[tokio::test]
async fn peers_are_those_of_one_boundary() {
    let server = Server::start();
    let backend = open(&server);
    let _one = backend.register(worker("w-1")).await.unwrap();
    let _other = backend
        .register(worker("w-1").boundary("media"))
        .await
        .unwrap();
    let mut peers = Answers::from(backend.peers(&"media".parse().unwrap()));
    assert_eq!(
        ids(&peers.until(|set| !set.is_empty()).await),
        ["worker/w-1"]
    );
}
