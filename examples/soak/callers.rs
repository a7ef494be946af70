//! Callers that come and go, wait, lose patience, and leave answers unread.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures::StreamExt;
use http_body_util::{BodyExt, Empty};
use hyper::Request;
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};
use rolecall::http::{self, Connection, Connector, HttpClassifier};
use rolecall::{Balance, BalanceLayer, BoxError, Discovery};
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{sleep, sleep_until, timeout};
use tower::{Layer, Service};

use crate::discovery::Announcer;
use crate::ledger::{Ending, Ledger};
use crate::servers;

/// Requests per second in the mean.
pub(crate) const BUSY_RATE: u32 = 350;
pub(crate) const SMALL_RATE: u32 = 10;
/// Pooled connections are closed after this.
pub(crate) const IDLE: Duration = Duration::from_secs(2);
/// How long callers wait.
const PATIENCE: Duration = Duration::from_secs(1);
/// A caller that was held up does not make up for more than this.
const MOST_BEHIND: Duration = Duration::from_millis(200);
/// Requests of a caller that builds a balancer for them, and drops it.
const BRIEF_REQUESTS: u32 = 20;
const BRIEF_EVERY: Duration = Duration::from_secs(3);

pub(crate) type Client = Balance<Connection<Empty<Bytes>>, HttpClassifier>;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Caller {
    Busy,
    Small,
    /// Builds a balancer, uses it for a moment, and drops it.
    Brief,
}

impl fmt::Display for Caller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Busy => "busy",
            Self::Small => "small",
            Self::Brief => "brief",
        })
    }
}

/// A balancer of its own.
pub(crate) fn client(discovery: impl Discovery) -> Result<Client, BoxError> {
    let layer = BalanceLayer::new(discovery, "worker:http")?.classify(HttpClassifier::new());
    Ok(layer.layer(Connector::new().idle_timeout(IDLE)))
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    Run,
    Pause,
    Stop,
}

/// All callers; they stop when this is dropped.
pub(crate) struct Callers {
    mode: watch::Sender<Mode>,
    /// How many callers have no request under way and send none.
    idle: watch::Sender<usize>,
    callers: JoinSet<Result<(), BoxError>>,
}

impl Callers {
    pub(crate) fn start(
        busy: &Client,
        small: &Client,
        announcer: &Announcer,
        ledger: &Arc<Ledger>,
        seed: u64,
    ) -> Self {
        let mode = watch::Sender::new(Mode::Run);
        let idle = watch::Sender::new(0);
        let requests = Arc::<AtomicU64>::default();
        let mut callers = JoinSet::new();
        let steady = [
            (Caller::Busy, busy, BUSY_RATE),
            (Caller::Small, small, SMALL_RATE),
        ];
        for (name, client, rate) in steady {
            // The reader ends with the balancer.
            tokio::spawn(read_events(
                name,
                client.control().events(),
                Arc::clone(ledger),
            ));
            let caller = Task {
                name,
                ledger: Arc::clone(ledger),
                requests: Arc::clone(&requests),
                mode: mode.subscribe(),
                idle: idle.clone(),
                rng: SmallRng::seed_from_u64(seed ^ u64::from(rate)),
            };
            callers.spawn(caller.call_steadily(client.clone(), rate));
        }
        let brief = Task {
            name: Caller::Brief,
            ledger: Arc::clone(ledger),
            requests,
            mode: mode.subscribe(),
            idle: idle.clone(),
            rng: SmallRng::seed_from_u64(seed),
        };
        callers.spawn(brief.call_briefly(announcer.clone()));
        Self {
            mode,
            idle,
            callers,
        }
    }

    /// Returns when no request is under way.
    pub(crate) async fn pause(&self) {
        self.mode.send_replace(Mode::Pause);
        let callers = self.callers.len();
        // The sender is here.
        let _ = self
            .idle
            .subscribe()
            .wait_for(|idle| *idle == callers)
            .await;
    }

    pub(crate) fn resume(&self) {
        self.mode.send_replace(Mode::Run);
    }

    /// Ends all callers, and returns when they are gone.
    pub(crate) async fn finish(mut self) -> Result<(), BoxError> {
        self.mode.send_replace(Mode::Stop);
        while let Some(ended) = self.callers.join_next().await {
            ended??;
        }
        Ok(())
    }
}

async fn read_events(
    caller: Caller,
    mut events: impl futures::Stream<Item = rolecall::Event> + Unpin,
    ledger: Arc<Ledger>,
) {
    while let Some(event) = events.next().await {
        ledger.event(caller, &event);
    }
}

/// The task of one caller.
struct Task {
    name: Caller,
    ledger: Arc<Ledger>,
    requests: Arc<AtomicU64>,
    mode: watch::Receiver<Mode>,
    idle: watch::Sender<usize>,
    rng: SmallRng,
}

/// How a request is made.
#[derive(Clone, Copy, Debug)]
enum Way {
    /// Waits for the answer, and reads it.
    Patient,
    /// Waits for the answer, and drops it unread.
    Unread,
    /// Drops the response future after this.
    Dropped(Duration),
    /// Is a task that is aborted after this.
    Aborted(Duration),
}

impl Task {
    async fn call_steadily(mut self, client: Client, rate: u32) -> Result<(), BoxError> {
        let mut under_way = JoinSet::new();
        let mut due = Instant::now();
        loop {
            if self.must_stop(&mut under_way).await? {
                return Ok(());
            }
            let gap = -f64::ln(1.0 - self.rng.random::<f64>()) / f64::from(rate);
            due = due.max(Instant::now() - MOST_BEHIND) + Duration::from_secs_f64(gap);
            sleep_until(due.into()).await;
            let way = self.way();
            under_way.spawn(self.request(client.clone(), way));
            while let Some(ended) = under_way.try_join_next() {
                ended?;
            }
        }
    }

    async fn call_briefly(mut self, announcer: Announcer) -> Result<(), BoxError> {
        let mut under_way = JoinSet::new();
        loop {
            if self.must_stop(&mut under_way).await? {
                return Ok(());
            }
            // Half of them are dropped while discovery is still watched, half after the watch ended.
            let client = if self.rng.random() {
                client(announcer.ending())?
            } else {
                client(announcer.beginning_well())?
            };
            if let Err(error) = client.control().wait_usable(Duration::from_secs(5)).await {
                let what = format!("a new balancer is not usable: {error}");
                self.ledger.violation(what);
            }
            for _ in 0..BRIEF_REQUESTS {
                under_way.spawn(self.request(client.clone(), Way::Patient));
                sleep(Duration::from_millis(5)).await;
            }
            // Some are under way when it is dropped.
            drop(client);
            let mut mode = self.mode.clone();
            mode.mark_unchanged();
            // A change ends the wait.
            let _ = timeout(BRIEF_EVERY, mode.changed()).await;
            while let Some(ended) = under_way.try_join_next() {
                ended?;
            }
        }
    }

    /// Lets requests end and waits, while callers pause; says whether they stop.
    async fn must_stop(&mut self, under_way: &mut JoinSet<()>) -> Result<bool, BoxError> {
        if *self.mode.borrow_and_update() == Mode::Run {
            return Ok(false);
        }
        while let Some(ended) = under_way.join_next().await {
            ended?;
        }
        self.idle.send_modify(|idle| *idle += 1);
        // Without a sender the callers were dropped.
        let goes_on = self.mode.wait_for(|mode| *mode != Mode::Pause).await;
        let stops = goes_on.map_or(true, |mode| *mode == Mode::Stop);
        self.idle.send_modify(|idle| *idle -= 1);
        Ok(stops)
    }

    fn way(&mut self) -> Way {
        let soon = Duration::from_micros(self.rng.random_range(0..10_000));
        match self.rng.random_range(0..100) {
            0..80 => Way::Patient,
            80..90 => Way::Unread,
            90..95 => Way::Dropped(soon),
            _ => Way::Aborted(soon),
        }
    }

    fn request(&self, client: Client, way: Way) -> impl Future<Output = ()> + use<> {
        // From 1: an empty entry of the ledger reads as request 0.
        let number = 1 + self.requests.fetch_add(1, Relaxed);
        let (name, ledger) = (self.name, Arc::clone(&self.ledger));
        async move {
            let sent = Instant::now();
            let ending = match way {
                Way::Patient => within(PATIENCE, ask(client, number, true)).await,
                Way::Unread => within(PATIENCE, ask(client, number, false)).await,
                Way::Dropped(after) => {
                    let ending = timeout(after, ask(client, number, true)).await;
                    ending.unwrap_or(Ending::Cancelled)
                }
                Way::Aborted(after) => {
                    aborted(after, tokio::spawn(ask(client, number, true))).await
                }
            };
            ledger.ended(name, number, sent, &ending);
        }
    }
}

async fn within(patience: Duration, ending: impl Future<Output = Ending>) -> Ending {
    timeout(patience, ending).await.unwrap_or(Ending::TimedOut)
}

async fn aborted(after: Duration, mut task: JoinHandle<Ending>) -> Ending {
    if let Ok(ended) = timeout(after, &mut task).await {
        return ended.unwrap_or_else(|error| Ending::Failed(None, error.to_string()));
    }
    task.abort();
    match task.await {
        Ok(ending) => ending,
        Err(error) if error.is_cancelled() => Ending::Cancelled,
        Err(error) => Ending::Failed(None, error.to_string()),
    }
}

async fn ask(mut client: Client, number: u64, reads: bool) -> Ending {
    let request = Request::get("/").header(servers::NUMBER, number);
    let request = match request.body(Empty::new()) {
        Ok(request) => request,
        Err(error) => return Ending::Failed(None, error.to_string()),
    };
    let answer = async {
        let response = client.call(request).await?;
        let by = http::answered_by(&response).and_then(|id| servers::number(id.as_str()));
        let status = response.status();
        if reads {
            response.into_body().collect().await?;
        }
        Ok::<_, BoxError>((by, status))
    };
    match answer.await {
        Ok((Some(by), status)) if status.is_success() => Ending::Answered(by),
        Ok((by, status)) => Ending::Failed(by, status.to_string()),
        Err(error) => {
            let ours = rolecall::Error::find(&*error).and_then(rolecall::Error::instance);
            let by = ours.and_then(|id| servers::number(id.as_str()));
            Ending::Failed(by, with_causes(&*error))
        }
    }
}

fn with_causes(error: &(dyn std::error::Error + 'static)) -> String {
    let causes = std::iter::successors(Some(error), |error| error.source());
    let texts: Vec<_> = causes.map(ToString::to_string).collect();
    texts.join(": ")
}
