//! Open-loop load: requests come on a schedule, whatever became of the earlier ones.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body_util::{BodyExt, Empty};
use hyper::Request;
use rolecall::http;
use rolecall::{BoxError, InstanceId};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval_at, timeout};
use tower::Service;

pub(crate) type Client = http::Client<Empty<Bytes>>;

/// What became of one request.
#[derive(Clone, Debug)]
pub(crate) struct Call {
    pub(crate) sent: Instant,
    /// How much later than scheduled: the doing of this process and its machine.
    late: Duration,
    pub(crate) took: Duration,
    /// Who answered, well or badly.
    pub(crate) by: Option<InstanceId>,
    pub(crate) error: Option<String>,
}

/// Requests that are over.
#[derive(Clone, Debug, Default)]
pub(crate) struct Calls(pub(crate) Vec<Call>);

impl Calls {
    /// Those sent in that time.
    pub(crate) fn sent(&self, from: Instant, to: Instant) -> Self {
        let within = |call: &&Call| call.sent >= from && call.sent < to;
        Self(self.0.iter().filter(within).cloned().collect())
    }

    pub(crate) fn failed(&self) -> usize {
        self.0.iter().filter(|call| call.error.is_some()).count()
    }

    pub(crate) fn failed_percent(&self) -> f64 {
        100.0 * self.failed() as f64 / self.0.len().max(1) as f64
    }

    /// Whether one in a hundred was sent so late that the machine has to be busy with other things: then what is measured
    /// are those.
    pub(crate) fn starved(&self) -> bool {
        let late = |call: &&Call| call.late > Duration::from_millis(40);
        self.0.iter().filter(late).count() * 100 > self.0.len()
    }

    /// What an instance answered well, as a share of all good answers.
    pub(crate) fn share(&self, id: &str) -> f64 {
        let good = || self.0.iter().filter(|call| call.error.is_none());
        let own = good().filter(|call| call.by.as_ref().is_some_and(|by| *by == *id));
        own.count() as f64 / good().count().max(1) as f64
    }

    /// Of the good answers.
    pub(crate) fn mean_latency(&self) -> Duration {
        let good = || self.0.iter().filter(|call| call.error.is_none());
        good().map(|call| call.took).sum::<Duration>() / good().count().max(1) as u32
    }

    /// The failures, by what they say.
    pub(crate) fn errors(&self) -> String {
        let mut errors: Vec<_> = self
            .0
            .iter()
            .filter_map(|call| call.error.as_deref())
            .collect();
        errors.sort_unstable();
        let kinds = errors.chunk_by(|a, b| a == b);
        kinds
            .map(|kind| format!("\n  {} times: {}", kind.len(), kind[0]))
            .collect()
    }
}

/// Callers at work; they stop when this is dropped.
pub(crate) struct Load {
    stop: watch::Sender<bool>,
    callers: JoinSet<()>,
    calls: Arc<Mutex<Calls>>,
}

impl Load {
    /// One caller for each client, `rate` requests per second in all; each gives up after `patience`.
    pub(crate) fn start(
        clients: impl IntoIterator<Item = Client>,
        rate: f64,
        patience: Option<Duration>,
    ) -> Self {
        let clients: Vec<_> = clients.into_iter().collect();
        let period = Duration::from_secs_f64(clients.len() as f64 / rate);
        let (stop, stopped) = watch::channel(false);
        let calls = Arc::<Mutex<Calls>>::default();
        let mut callers = JoinSet::new();
        let now = tokio::time::Instant::now();
        for (number, client) in clients.iter().enumerate() {
            let first = now + period * number as u32 / clients.len() as u32;
            let (client, calls, mut stopped) =
                (client.clone(), Arc::clone(&calls), stopped.clone());
            callers.spawn(async move {
                let mut ticks = interval_at(first, period);
                ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
                let mut under_way = JoinSet::new();
                loop {
                    tokio::select! {
                        _ = stopped.changed() => break,
                        due = ticks.tick() => {
                            let late = due.elapsed();
                            under_way.spawn(one(client.clone(), late, patience, Arc::clone(&calls)));
                        }
                        Some(done) = under_way.join_next() => done.expect("a request panicked"),
                    }
                }
                while let Some(done) = under_way.join_next().await {
                    done.expect("a request panicked");
                }
            });
        }
        Self {
            stop,
            callers,
            calls,
        }
    }

    /// Those that are over by now.
    pub(crate) fn so_far(&self) -> Calls {
        self.calls.lock().unwrap().clone()
    }

    /// Sends no more, and waits for the last answer.
    pub(crate) async fn finish(mut self) -> Calls {
        self.stop.send_replace(true);
        let last = async {
            while let Some(done) = self.callers.join_next().await {
                done.expect("a caller panicked");
            }
        };
        let is_over = timeout(Duration::from_secs(60), last).await;
        is_over.expect("every request comes to an end");
        self.so_far()
    }
}

async fn one(
    mut client: Client,
    late: Duration,
    patience: Option<Duration>,
    calls: Arc<Mutex<Calls>>,
) {
    let sent = Instant::now();
    let answer = async {
        let response = client.call(Request::new(Empty::new())).await?;
        let by = http::answered_by(&response).cloned();
        let status = response.status();
        response.into_body().collect().await?;
        Ok::<_, BoxError>((by, status))
    };
    let answer = match patience {
        Some(patience) => timeout(patience, answer).await,
        None => Ok(answer.await),
    };
    let (by, error) = match answer {
        Ok(Ok((by, status))) if status.is_success() => (by, None),
        Ok(Ok((by, status))) => (by, Some(status.to_string())),
        Ok(Err(error)) => {
            let ours = rolecall::Error::find(&*error);
            let by = ours.and_then(|ours| ours.instance()).cloned();
            (by, Some(text(&*error)))
        }
        Err(_) => (None, Some("given up".to_owned())),
    };
    let took = sent.elapsed();
    let call = Call {
        sent,
        late,
        took,
        by,
        error,
    };
    calls.lock().unwrap().0.push(call);
}

/// An error with its causes.
fn text(error: &(dyn std::error::Error + 'static)) -> String {
    let causes = std::iter::successors(Some(error), |error| error.source());
    let texts: Vec<_> = causes.map(ToString::to_string).collect();
    texts.join(": ")
}
