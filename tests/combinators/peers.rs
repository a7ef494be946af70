//! Whether a combination lists peers is known at once, so that a guard that would deny everybody is refused.

use std::sync::Arc;

use rolecall::guard::{Guard, GuardErrorKind};
use rolecall::{Boundary, Discovery, DiscoveryExt, List, Registry};

use crate::source::{Source, Watch, fault, ids, set};

type Any = Arc<dyn Discovery>;

fn without() -> Any {
    Arc::new(List::new([]).unwrap())
}

fn listing() -> Any {
    Arc::new(Registry::new())
}

fn silent() -> Any {
    Arc::new(Source::default())
}

/// A folder that no test writes to.
fn cached(discovery: Any) -> Any {
    let folder = std::env::temp_dir().join("rolecall-no-such-cache");
    Arc::new(discovery.cached(folder))
}

fn shared(discovery: Any) -> Any {
    Arc::new(discovery.shared())
}

fn merged(left: Any, right: Any) -> Any {
    Arc::new(left.merge(right))
}

fn or(first: Any, other: Any) -> Any {
    Arc::new(first.or(other))
}

fn is_refused(discovery: Any) -> bool {
    match Guard::builder(discovery, Boundary::default()).build() {
        Ok(_) => false,
        Err(error) => {
            assert_eq!(error.kind(), GuardErrorKind::NoPeers);
            true
        }
    }
}

#[tokio::test]
async fn a_guard_is_refused_where_no_part_lists_peers() {
    assert!(is_refused(without()) && !is_refused(listing()));
    for wrap in [shared, cached] {
        assert!(is_refused(wrap(without())) && !is_refused(wrap(listing())));
        assert!(is_refused(wrap(wrap(without()))));
        assert!(!is_refused(wrap(silent())), "it may list them yet");
    }
    for both in [merged, or] {
        assert!(is_refused(both(without(), without())));
        assert!(is_refused(both(shared(without()), cached(without()))));
        for has in [listing, silent] {
            assert!(!is_refused(both(without(), has())));
            assert!(!is_refused(both(has(), without())));
        }
        assert!(!is_refused(shared(both(cached(without()), listing()))));
    }
}

#[tokio::test(start_paused = true)]
async fn peers_are_those_of_the_part_that_lists_them() {
    for combine in [merged, or] {
        for is_first in [true, false] {
            let source = Source::default();
            let listing: Any = Arc::new(source.clone());
            let combined = match is_first {
                true => combine(listing, without()),
                false => combine(without(), listing),
            };
            let mut peers = Watch(combined.peers(&Boundary::default()));
            assert!(peers.now().await.is_none(), "the part without says nothing");
            source.say(Ok(set(&["a"], 1).confirmed()));
            let all = peers.set().await;
            assert_eq!(ids(&all), ["a"]);
            assert!(all.is_confirmed(), "nobody else can list any");
            source.say(fault("down"));
            assert!(peers.next().await.is_err());
            source.end();
            assert!(peers.now().await.unwrap().is_none());
        }
    }
    for neither in [
        merged(without(), without()),
        or(without(), without()),
        shared(without()),
        cached(without()),
    ] {
        let mut peers = Watch(neither.peers(&Boundary::default()));
        assert!(peers.next().await.is_err());
        assert!(
            peers.now().await.unwrap().is_none(),
            "told once, and the end"
        );
    }
}
