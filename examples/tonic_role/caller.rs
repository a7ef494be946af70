//! An open-loop caller for each channel: a call every 20 ms, whatever became of the earlier ones.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rolecall::{BoxError, grpc};
use tokio::sync::oneshot;
use tokio::task::{JoinError, JoinHandle, JoinSet};
use tokio::time::{MissedTickBehavior, interval};
use tonic::{Request, Status, transport};

use crate::greeter::{GreeterClient, Hello};

const GAP: Duration = Duration::from_millis(20);
/// How long a call may take; both channels keep to it.
const PATIENCE: Duration = Duration::from_millis(500);
/// One call in so many is a stream.
const STREAMS: usize = 10;

/// Which channel a call went over.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Over {
    Rolecall,
    BalanceList,
}

/// What became of one call.
pub(crate) struct Call {
    pub(crate) phase: &'static str,
    pub(crate) over: Over,
    /// The server that answered, or what the failure said.
    pub(crate) result: Result<String, Status>,
}

pub(crate) struct Callers {
    phase: Arc<Mutex<&'static str>>,
    stop: oneshot::Sender<()>,
    calls: JoinHandle<Result<Vec<Call>, JoinError>>,
}

impl Callers {
    pub(crate) fn start(
        ours: GreeterClient<grpc::Channel>,
        theirs: GreeterClient<transport::Channel>,
    ) -> Self {
        let phase = Arc::new(Mutex::new(""));
        let (stop, stopped) = oneshot::channel();
        let calls = tokio::spawn(send(ours, theirs, Arc::clone(&phase), stopped));
        Self { phase, stop, calls }
    }

    /// Books the calls from now on under this name.
    pub(crate) fn enter(&self, name: &'static str) {
        println!("{name}");
        *self.phase.lock().unwrap_or_else(PoisonError::into_inner) = name;
    }

    /// Sends no more, and waits for the last answer; fails if a call's task panicked.
    pub(crate) async fn finish(self) -> Result<Vec<Call>, BoxError> {
        drop(self.stop);
        Ok(self.calls.await??)
    }
}

async fn send(
    ours: GreeterClient<grpc::Channel>,
    theirs: GreeterClient<transport::Channel>,
    phase: Arc<Mutex<&'static str>>,
    mut stopped: oneshot::Receiver<()>,
) -> Result<Vec<Call>, JoinError> {
    let mut tick = interval(GAP);
    tick.set_missed_tick_behavior(MissedTickBehavior::Burst);
    let mut under_way = JoinSet::new();
    let mut calls = Vec::new();
    let mut count = 0;
    loop {
        tokio::select! {
            biased;
            _ = &mut stopped => break,
            Some(call) = under_way.join_next() => calls.push(call?),
            _ = tick.tick() => {
                let phase = *phase.lock().unwrap_or_else(PoisonError::into_inner);
                let streams = count % STREAMS == 0;
                count += 1;
                let (ours, theirs) = (ours.clone(), theirs.clone());
                under_way.spawn(async move {
                    let result = one(ours, streams).await;
                    Call { phase, over: Over::Rolecall, result }
                });
                under_way.spawn(async move {
                    let result = one(theirs, streams).await;
                    Call { phase, over: Over::BalanceList, result }
                });
            }
        }
    }
    while let Some(call) = under_way.join_next().await {
        calls.push(call?);
    }
    Ok(calls)
}

/// The same call over either channel.
async fn one<T>(mut greeter: GreeterClient<T>, streams: bool) -> Result<String, Status>
where
    T: tonic::client::GrpcService<tonic::body::Body>,
    T::ResponseBody: hyper::body::Body<Data = bytes::Bytes> + Send + 'static,
    <T::ResponseBody as hyper::body::Body>::Error: Into<BoxError> + Send,
{
    let mut hello = Request::new(Hello {
        name: "you".to_owned(),
    });
    hello.set_timeout(PATIENCE);
    if !streams {
        return Ok(greeter.greet(hello).await?.into_inner().from);
    }
    let mut greetings = greeter.greet_thrice(hello).await?.into_inner();
    let mut from = String::new();
    while let Some(greeting) = greetings.message().await? {
        from = greeting.from;
    }
    Ok(from)
}
