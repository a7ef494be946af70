//! Many tasks that share one balancer, each through its own clone.

#![expect(clippy::disallowed_methods, reason = "a bench reads the clock")]

use std::fmt::Debug;
use std::future::poll_fn;
use std::hint::black_box;
use std::time::{Duration, Instant};

use tokio::runtime::Runtime;
use tokio::task::{JoinSet, coop};
use tower::Service;

use super::service::Request;

/// Shares `calls` out over `tasks` tasks and says how long they took in all.
pub(crate) fn throughput<S>(runtime: &Runtime, service: &S, tasks: u64, calls: u64) -> Duration
where
    S: Service<Request, Response = u16, Error: Debug, Future: Send> + Clone + Send + 'static,
{
    runtime.block_on(async {
        let start = Instant::now();
        let mut callers = JoinSet::new();
        for _ in 0..tasks {
            let mut service = service.clone();
            callers.spawn(async move {
                for _ in 0..calls.div_ceil(tasks) {
                    // Where the balancer never waits, gives way as often as a socket would make it.
                    coop::consume_budget().await;
                    call(&mut service).await;
                }
            });
        }
        callers.join_all().await;
        start.elapsed()
    })
}

/// Has `tasks` tasks make `each` calls each and gives the nanoseconds of every one of them, from
/// asking for readiness to the answer.
pub(crate) fn latencies<S>(runtime: &Runtime, service: &S, tasks: usize, each: usize) -> Vec<u64>
where
    S: Service<Request, Response = u16, Error: Debug, Future: Send> + Clone + Send + 'static,
{
    runtime.block_on(async {
        let mut callers = JoinSet::new();
        for _ in 0..tasks {
            let mut service = service.clone();
            callers.spawn(async move {
                let mut latencies = Vec::with_capacity(each);
                for _ in 0..each {
                    coop::consume_budget().await;
                    let start = Instant::now();
                    call(&mut service).await;
                    latencies.push(start.elapsed().as_nanos() as u64);
                }
                latencies
            });
        }
        callers.join_all().await.concat()
    })
}

async fn call<S>(service: &mut S)
where
    S: Service<Request, Response = u16, Error: Debug>,
{
    poll_fn(|cx| service.poll_ready(cx))
        .await
        .expect("a balancer of ready services is ready");
    black_box(
        service
            .call(Request)
            .await
            .expect("ready services do not fail"),
    );
}
