//! A caller that asks 200 times a second, whatever became of the earlier requests.

use std::collections::BTreeMap;
use std::fmt;
use std::mem;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use http_body_util::BodyExt;
use hyper::Request;
use rolecall::BoxError;
use rolecall::http::{Body, Client};
use tokio::sync::oneshot;
use tokio::task::{JoinError, JoinHandle, JoinSet};
use tokio::time::interval;

#[derive(Default)]
pub(crate) struct Outcomes {
    answered: u64,
    pub(crate) failed: BTreeMap<String, u64>,
}

impl Outcomes {
    pub(crate) fn failures(&self) -> u64 {
        self.failed.values().sum()
    }
}

impl fmt::Display for Outcomes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} answered, {} failed", self.answered, self.failures())?;
        self.failed
            .iter()
            .try_for_each(|(error, count)| write!(f, "\n    {count} × {error}"))
    }
}

pub(crate) struct Traffic {
    outcomes: Arc<Mutex<Outcomes>>,
    stop: oneshot::Sender<()>,
    calls: JoinHandle<()>,
}

impl Traffic {
    pub(crate) fn start(client: Client) -> Self {
        let outcomes = Arc::new(Mutex::new(Outcomes::default()));
        let counted = Arc::clone(&outcomes);
        let (stop, mut stopped) = oneshot::channel();
        let calls = tokio::spawn(async move {
            let mut pace = interval(Duration::from_millis(5));
            let mut calls = JoinSet::new();
            loop {
                tokio::select! {
                    _ = &mut stopped => break,
                    _ = pace.tick() => {
                        calls.spawn(call(client.clone(), Arc::clone(&counted)));
                    }
                    Some(_) = calls.join_next() => {}
                }
            }
            calls.join_all().await;
        });
        Self {
            outcomes,
            stop,
            calls,
        }
    }

    /// What became of the requests since this was last asked.
    pub(crate) fn take(&self) -> Outcomes {
        mem::take(&mut *self.outcomes.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Sends no more, and waits for the last answer.
    pub(crate) async fn finish(self) -> Result<Outcomes, JoinError> {
        drop(self.stop);
        self.calls.await?;
        Ok(mem::take(
            &mut *self.outcomes.lock().unwrap_or_else(PoisonError::into_inner),
        ))
    }
}

async fn call(client: Client, outcomes: Arc<Mutex<Outcomes>>) {
    let called = async {
        let response = client.request(Request::new(Body::empty())).await?;
        response.into_body().collect().await?;
        Ok::<_, BoxError>(())
    };
    let called = called.await;
    let mut outcomes = outcomes.lock().unwrap_or_else(PoisonError::into_inner);
    match called {
        Ok(()) => outcomes.answered += 1,
        Err(error) => *outcomes.failed.entry(error.to_string()).or_default() += 1,
    }
}
