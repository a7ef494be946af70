//! One case for a while: how many requests, how long each, how much CPU time.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rolecall::BoxError;
use tokio::runtime::Runtime;
use tokio::task::JoinSet;

use crate::process::{cpu_micros, own_cpu_micros};

type Asked = Pin<Box<dyn Future<Output = Result<(), BoxError>> + Send>>;

/// Sends a request of the caller with this number and reads its answer. Boxed for each request, for all contestants alike.
pub(crate) type Ask = Arc<dyn Fn(u16) -> Asked + Send + Sync>;

pub(crate) struct Case<'a> {
    pub(crate) name: &'static str,
    pub(crate) runtime: &'a Runtime,
    pub(crate) ask: Ask,
    /// Where requests take a hop.
    pub(crate) proxy: Option<u32>,
}

/// Latencies and CPU times are in microseconds.
pub(crate) struct Sample {
    pub(crate) per_second: f64,
    pub(crate) p50: f64,
    pub(crate) p99: f64,
    pub(crate) cpu: f64,
    pub(crate) cpu_of_caller: f64,
    pub(crate) allocations: f64,
    pub(crate) allocated_bytes: f64,
}

impl Case<'_> {
    /// Keeps so many requests in flight for so long.
    pub(crate) fn run(
        &mut self,
        servers: &[u32],
        in_flight: u16,
        time: Duration,
    ) -> Result<Sample, BoxError> {
        let others = || -> std::io::Result<f64> {
            servers
                .iter()
                .chain(&self.proxy)
                .map(|pid| cpu_micros(*pid))
                .sum()
        };
        let (others_before, own_before) = (others()?, own_cpu_micros()?);
        let began = Instant::now();
        let mut took = Ok(Vec::new());
        // All of the caller runs in this thread.
        let allocated = allocation_counter::measure(|| {
            took = self.runtime.block_on(ask_for(&self.ask, in_flight, time));
        });
        let mut took = took?;
        let elapsed = began.elapsed();
        let calls = took.len() as f64;
        let own = own_cpu_micros()? - own_before;
        let others = others()? - others_before;
        took.sort_unstable();
        let at = |quantile: f64| {
            let rank = (quantile * calls) as usize;
            took.get(rank)
                .map_or(f64::NAN, |took| took.as_secs_f64() * 1e6)
        };
        Ok(Sample {
            per_second: calls / elapsed.as_secs_f64(),
            p50: at(0.5),
            p99: at(0.99),
            cpu: (own + others) / calls,
            cpu_of_caller: own / calls,
            allocations: allocated.count_total as f64 / calls,
            allocated_bytes: allocated.bytes_total as f64 / calls,
        })
    }
}

async fn ask_for(ask: &Ask, in_flight: u16, time: Duration) -> Result<Vec<Duration>, BoxError> {
    let deadline = Instant::now() + time;
    let mut callers = JoinSet::new();
    for caller in 0..in_flight {
        let ask = Arc::clone(ask);
        callers.spawn(async move {
            let mut took = Vec::new();
            let mut sent = Instant::now();
            while sent < deadline {
                ask(caller).await?;
                let answered = Instant::now();
                took.push(answered - sent);
                sent = answered;
            }
            Ok::<_, BoxError>(took)
        });
    }
    let mut took = Vec::new();
    for caller in callers.join_all().await {
        took.extend(caller?);
    }
    Ok(took)
}
