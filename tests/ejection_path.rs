//! An ejection takes effect in the request that causes it: the very next pick avoids the member, before any other task runs.
//!
//! `.ci/ejection-path` runs this under callgrind and prints the source files that those two requests pass through. It counts
//! only what the last call of each `measured_` function does.

use std::future::{self, Future};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use futures::future::Either;
use rolecall::{BalanceLayer, BoxError, EjectionReason, Instance, List, MemberState};
use tokio::sync::Semaphore;
use tokio::time::sleep;
use tower::{Layer, Service, service_fn};

const LATENCY: Duration = Duration::from_millis(10);

/// The instance whose requests all fail.
const BAD: &str = "127.0.0.1:8002";

/// Sends one request and polls its response once.
#[inline(never)]
fn measured_request<S: Service<()>>(balance: &mut S) -> Poll<Result<S::Response, S::Error>>
where
    S::Future: Unpin,
{
    Pin::new(&mut balance.call(())).poll(&mut Context::from_waker(Waker::noop()))
}

/// Sends one request, and leaves its response for later.
#[inline(never)]
fn measured_pick<S: Service<()>>(balance: &mut S) -> S::Future {
    balance.call(())
}

#[tokio::test(start_paused = true)]
async fn the_pick_after_the_failure_that_ejects_avoids_the_member() {
    let bad_calls = Arc::new(AtomicU32::new(0));
    let [opened, held] = [0, 100].map(|permits| Arc::new(Semaphore::new(permits)));

    let connector = {
        let (bad_calls, opened) = (Arc::clone(&bad_calls), Arc::clone(&opened));
        let held = Arc::clone(&held);
        service_fn(move |instance: Instance| {
            let (bad_calls, opened) = (Arc::clone(&bad_calls), Arc::clone(&opened));
            let held = Arc::clone(&held);
            async move {
                let is_bad = instance.address().to_string() == BAD;
                if is_bad {
                    // Its connection is made once the other one is loaded.
                    opened.acquire().await.unwrap().forget();
                }
                let service = service_fn(move |()| {
                    if is_bad {
                        bad_calls.fetch_add(1, Relaxed);
                        return Either::Left(future::ready(Err("no")));
                    }
                    let held = Arc::clone(&held);
                    Either::Right(Box::pin(async move {
                        held.acquire().await.unwrap().forget();
                        sleep(LATENCY).await;
                        Ok("yes")
                    }))
                });
                Ok::<_, BoxError>(service)
            }
        })
    };
    let list = List::from_addrs(["127.0.0.1:8001".parse().unwrap(), BAD.parse().unwrap()]).unwrap();
    let mut balance = BalanceLayer::new(list, "worker:lines")
        .unwrap()
        .layer(connector);

    // One hundred successes make the other member a standard, and requests in flight make it dearer than failures do.
    for _ in 0..100 {
        assert_eq!(balance.call(()).await.unwrap(), "yes");
    }
    let in_flight: Vec<_> = (0..1000).map(|_| balance.call(())).collect();
    opened.add_permits(1);
    while balance.control().status().usable < 2 {
        sleep(LATENCY).await;
    }

    let mut failures = 0;
    while balance.control().status().ejections.ejected == 0 {
        // Meanwhile the driver has its turn.
        sleep(LATENCY).await;
        let answer = measured_request(&mut balance);
        assert!(matches!(answer, Poll::Ready(Err(_))), "{answer:?}");
        failures += 1;
        assert!(
            failures < 100,
            "never ejected: {}",
            balance.control().status()
        );
    }
    let next = measured_pick(&mut balance);

    assert_eq!(bad_calls.load(Relaxed), failures, "the next pick avoids it");
    let status = balance.control().status();
    let bad = status
        .members
        .iter()
        .find(|member| member.instance.address().to_string() == BAD);
    let bad = bad.unwrap();
    assert_eq!(bad.state, MemberState::Ejected, "{status}");
    let reason = &bad.ejection.as_ref().unwrap().reason;
    assert!(
        matches!(reason, EjectionReason::FailuresInRow { .. }),
        "{reason}"
    );
    held.add_permits(in_flight.len() + 1);
    assert_eq!(next.await.unwrap(), "yes");
}
