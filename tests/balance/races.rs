//! Real threads: wakes that must not be missed, requests that must not be lost, slots that must not leak.

use std::future::{Ready, ready};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::task::{Context, Poll};
use std::time::Duration;

use rolecall::{BalanceConfig, BalanceLayer, ErrorKind, Instance, connect};
use tokio::task::{JoinSet, yield_now};
use tokio::time::timeout;
use tower::{Layer, Service};

use crate::support::{Fault, Script, set};

/// Far more than any of this takes: what is not done by then was forgotten.
const FORGOTTEN: Duration = Duration::from_secs(60);

/// Counts itself; depending on its instance, it loses its connection or keeps callers waiting now and then.
struct Moody {
    id: String,
    polls: usize,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    alive: AtomicUsize,
    polls: AtomicUsize,
}

impl Moody {
    fn new(id: String, shared: Arc<Shared>) -> Self {
        shared.alive.fetch_add(1, SeqCst);
        let polls = 0;
        Self { id, polls, shared }
    }
}

impl Clone for Moody {
    fn clone(&self) -> Self {
        Self::new(self.id.clone(), Arc::clone(&self.shared))
    }
}

impl Drop for Moody {
    fn drop(&mut self) {
        self.shared.alive.fetch_sub(1, SeqCst);
    }
}

impl Service<()> for Moody {
    type Response = String;
    type Error = Fault;
    type Future = Ready<Result<String, Fault>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Fault>> {
        let number = self.shared.polls.fetch_add(1, SeqCst);
        self.polls += 1;
        match self.id.as_str() {
            "lossy" if number.is_multiple_of(5) => Poll::Ready(Err(Fault(self.id.clone()))),
            "lazy" if self.polls < 3 => {
                cx.waker().wake_by_ref();
                Poll::Pending
            }
            _ => Poll::Ready(Ok(())),
        }
    }

    fn call(&mut self, (): ()) -> Self::Future {
        ready(Ok(self.id.clone()))
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn while_one_instance_stays_no_request_is_lost_whatever_the_others_do() {
    let shared = Arc::new(Shared::default());
    let (script, feed) = Script::new();
    let made = Arc::clone(&shared);
    let connector = connect::per_instance(move |instance: &Instance| {
        Moody::new(instance.id().to_string(), Arc::clone(&made))
    });
    let balance = BalanceLayer::new(script, "worker:http")
        .unwrap()
        .layer(connector);
    let stop = Arc::new(AtomicBool::new(false));
    let churn = tokio::spawn({
        let stop = Arc::clone(&stop);
        async move {
            let rosters: [&[&str]; 5] = [
                &["steady"],
                &["steady", "lossy"],
                &["steady", "lossy", "lazy"],
                &["steady", "lazy"],
                &["steady", "other", "lossy"],
            ];
            for ids in rosters.into_iter().cycle() {
                feed.send(Ok(set(ids.iter().copied()).confirmed())).unwrap();
                yield_now().await;
                if stop.load(SeqCst) {
                    return feed;
                }
            }
            feed
        }
    });
    let mut callers = JoinSet::new();
    for _ in 0..8 {
        let mut balance = balance.clone();
        callers.spawn(async move {
            for _ in 0..1000 {
                let answer = timeout(FORGOTTEN, balance.call(())).await;
                answer
                    .expect("woken")
                    .expect("steady was there all the time");
                yield_now().await;
            }
        });
    }
    while let Some(done) = callers.join_next().await {
        done.unwrap();
    }
    stop.store(true, SeqCst);
    let feed = timeout(FORGOTTEN, churn).await.unwrap().unwrap();
    let status = balance.control().status();
    assert!(status.members.iter().all(|m| m.in_flight == 0), "{status}");
    drop(balance);
    timeout(FORGOTTEN, feed.closed())
        .await
        .expect("the driver ends");
    while shared.alive.load(SeqCst) > 0 {
        yield_now().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn whoever_waits_is_woken_when_somebody_comes_however_short() {
    let config = BalanceConfig::builder()
        .unavailable_after(FORGOTTEN)
        .build()
        .unwrap();
    let (script, feed) = Script::new();
    let shared = Arc::new(Shared::default());
    let connector = connect::per_instance(move |instance: &Instance| {
        Moody::new(instance.id().to_string(), Arc::clone(&shared))
    });
    let balance = BalanceLayer::new(script, "worker:http")
        .unwrap()
        .config(config)
        .layer(connector);
    let served = Arc::new(AtomicUsize::new(0));
    let mut callers = JoinSet::new();
    for _ in 0..4 {
        let (mut balance, served) = (balance.clone(), Arc::clone(&served));
        callers.spawn(async move {
            for _ in 0..500 {
                let answer = timeout(FORGOTTEN, balance.call(())).await;
                assert_eq!(answer.expect("woken").unwrap(), "a");
                served.fetch_add(1, SeqCst);
                yield_now().await;
            }
        });
    }
    // It goes as soon as one of those that waited was served, and comes back when it is gone.
    while !callers.is_empty() {
        let before = served.load(SeqCst);
        feed.send(Ok(set(["a"]))).unwrap();
        while served.load(SeqCst) == before && !callers.is_empty() {
            yield_now().await;
            while let Some(done) = callers.try_join_next() {
                done.unwrap();
            }
        }
        feed.send(Ok(set([]).confirmed())).unwrap();
        while !balance.control().status().members.is_empty() {
            yield_now().await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn a_cap_is_never_exceeded_by_callers_on_several_threads() {
    let config = BalanceConfig::builder().max_in_flight(2).build().unwrap();
    let (script, feed) = Script::new();
    let now = Arc::new(AtomicUsize::new(0));
    let connector = connect::per_instance(move |_: &Instance| {
        let now = Arc::clone(&now);
        tower::service_fn(move |(): ()| {
            let now = Arc::clone(&now);
            async move {
                let under_way = now.fetch_add(1, SeqCst) + 1;
                yield_now().await;
                now.fetch_sub(1, SeqCst);
                Ok::<_, Fault>(under_way)
            }
        })
    });
    let balance = BalanceLayer::new(script, "worker:http")
        .unwrap()
        .config(config)
        .layer(connector);
    feed.send(Ok(set(["a"]))).unwrap();
    balance.control().wait_usable(FORGOTTEN).await.unwrap();
    let mut callers = JoinSet::new();
    for _ in 0..6 {
        let mut balance = balance.clone();
        callers.spawn(async move {
            for _ in 0..2000 {
                match balance.call(()).await {
                    Ok(under_way) => assert!(under_way <= 2, "{under_way} of 2"),
                    Err(error) => assert!(matches!(error.kind(), ErrorKind::Saturated), "{error}"),
                }
                yield_now().await;
            }
        });
    }
    while let Some(done) = callers.join_next().await {
        done.unwrap();
    }
    assert_eq!(balance.control().status().members[0].in_flight, 0);
}
