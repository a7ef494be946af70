//! An open-loop caller: a request every 2.5 ms, whatever became of the earlier ones.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use http_body_util::BodyExt;
use hyper::Request;
use rolecall::BoxError;
use rolecall::http::{self, Body, Client};
use tokio::sync::oneshot;
use tokio::task::{JoinError, JoinHandle, JoinSet};
use tokio::time::{MissedTickBehavior, interval, timeout};

const GAP: Duration = Duration::from_micros(2500);
/// How long a caller waits for an answer.
pub(crate) const PATIENCE: Duration = Duration::from_secs(1);
const PROGRESS: Duration = Duration::from_millis(500);

/// What became of one request.
pub(crate) struct Call {
    pub(crate) phase: &'static str,
    pub(crate) sent: Instant,
    /// Since the phase began.
    pub(crate) sent_after: Duration,
    pub(crate) took: Duration,
    /// The instance that answered, or the one that failed.
    pub(crate) instance: Option<String>,
    pub(crate) error: Option<String>,
}

pub(crate) struct Caller {
    phase: Arc<Mutex<(&'static str, Instant)>>,
    stop: oneshot::Sender<()>,
    calls: JoinHandle<Result<Vec<Call>, JoinError>>,
}

impl Caller {
    pub(crate) fn start(client: Client) -> Self {
        let phase = Arc::new(Mutex::new(("", Instant::now())));
        let (stop, stopped) = oneshot::channel();
        let calls = tokio::spawn(send(client, Arc::clone(&phase), stopped));
        Self { phase, stop, calls }
    }

    /// Books the requests from now on under this name.
    pub(crate) fn enter(&self, name: &'static str) {
        *self.phase.lock().unwrap_or_else(PoisonError::into_inner) = (name, Instant::now());
    }

    /// Sends no more, and waits for the last answer; fails if a request's task panicked.
    pub(crate) async fn finish(self) -> Result<Vec<Call>, JoinError> {
        drop(self.stop);
        self.calls.await?
    }
}

async fn send(
    client: Client,
    phase: Arc<Mutex<(&'static str, Instant)>>,
    mut stopped: oneshot::Receiver<()>,
) -> Result<Vec<Call>, JoinError> {
    let mut tick = interval(GAP);
    tick.set_missed_tick_behavior(MissedTickBehavior::Burst);
    let mut progress = interval(PROGRESS);
    let mut under_way = JoinSet::new();
    let mut calls = Vec::new();
    loop {
        tokio::select! {
            biased;
            _ = &mut stopped => break,
            Some(call) = under_way.join_next() => calls.push(call?),
            _ = progress.tick() => print_progress(&calls, under_way.len()),
            _ = tick.tick() => {
                let (name, began) = *phase.lock().unwrap_or_else(PoisonError::into_inner);
                under_way.spawn(one(client.clone(), name, began));
            }
        }
    }
    while let Some(call) = under_way.join_next().await {
        calls.push(call?);
    }
    Ok(calls)
}

async fn one(client: Client, phase: &'static str, began: Instant) -> Call {
    let sent = Instant::now();
    let answer = async {
        let response = client.request(Request::new(Body::empty())).await?;
        let instance = http::answered_by(&response).map(ToString::to_string);
        if !response.status().is_success() {
            return Err(format!("{}", response.status()).into());
        }
        response.into_body().collect().await?;
        Ok::<_, BoxError>(instance)
    };
    let (instance, error) = match timeout(PATIENCE, answer).await {
        Err(_) => (None, Some(format!("no answer within {PATIENCE:?}"))),
        Ok(Ok(instance)) => (instance, None),
        Ok(Err(error)) => {
            let ours = rolecall::Error::find(&*error);
            let instance = ours
                .and_then(|ours| ours.instance())
                .map(ToString::to_string);
            (instance, Some(text(&*error)))
        }
    };
    Call {
        phase,
        sent,
        sent_after: sent.saturating_duration_since(began),
        took: sent.elapsed(),
        instance,
        error,
    }
}

/// An error with its causes.
fn text(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}

fn print_progress(calls: &[Call], under_way: usize) {
    if let Some(last) = calls.last() {
        let failed = calls.iter().filter(|call| call.error.is_some()).count();
        let answered = calls.len() - failed;
        println!(
            "{:<9} {answered:>5} answered  {failed} failed  {under_way} under way",
            last.phase
        );
    }
}
