//! The load: requests at random moments, whatever became of the earlier ones.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use rand::SeedableRng;
use rand::rngs::SmallRng;
use rolecall::BoxError;
use tokio::runtime::Handle;
use tokio::sync::mpsc::{self, UnboundedReceiver, UnboundedSender};
use tokio::time::timeout_at;

use crate::chance::exponential;
use crate::contestants::Ask;

/// Requests per second, in the mean.
pub(crate) const RATE: u32 = 450;
/// How long a caller waits for an answer.
pub(crate) const PATIENCE: Duration = Duration::from_secs(1);

/// What became of one request; times since the load began.
#[derive(Clone, Copy)]
pub(crate) struct Call {
    /// When it was due. A request that goes out late, since this process was busy, has waited already.
    pub(crate) due: Duration,
    pub(crate) ended: Duration,
    /// The server that answered; nothing of a request that failed.
    pub(crate) answered_by: Option<u8>,
}

impl Call {
    pub(crate) fn took(&self) -> Duration {
        self.ended - self.due
    }
}

/// Sends until it is dropped.
pub(crate) struct Load {
    began: Instant,
    over: Arc<AtomicBool>,
    sender: Option<JoinHandle<usize>>,
    ended: UnboundedReceiver<Call>,
    calls: Vec<Call>,
}

impl Load {
    /// Sends requests from now on. The same seed gives the same moments.
    pub(crate) fn start(ask: Ask, seed: u64) -> Self {
        let over = Arc::new(AtomicBool::new(false));
        let (calls, ended) = mpsc::unbounded_channel();
        let began = Instant::now();
        let (runtime, told) = (Handle::current(), Arc::clone(&over));
        // A thread's sleep is exact to a twentieth of a millisecond; tokio's timer rounds up to the next whole one.
        let sender = thread::spawn(move || send(&runtime, began, &told, &ask, seed, &calls));
        Self {
            began,
            over,
            sender: Some(sender),
            ended,
            calls: Vec::new(),
        }
    }

    pub(crate) fn elapsed(&self) -> Duration {
        self.began.elapsed()
    }

    /// Lets it go on until then.
    pub(crate) async fn go_on_until(&mut self, until: Duration) {
        let until = (self.began + until).into();
        while let Ok(Some(call)) = timeout_at(until, self.ended.recv()).await {
            self.calls.push(call);
        }
    }

    /// What ended so far.
    pub(crate) fn calls(&self) -> &[Call] {
        &self.calls
    }

    /// Sends no more, and waits for the last answers.
    pub(crate) async fn finish(mut self) -> Result<Vec<Call>, BoxError> {
        self.over.store(true, Relaxed);
        let sender = self.sender.take().ok_or("the load was finished before")?;
        let sent = sender.join().map_err(|_| "the load's thread panicked")?;
        while let Some(call) = self.ended.recv().await {
            self.calls.push(call);
        }
        if self.calls.len() != sent {
            return Err("a request's task panicked".into());
        }
        Ok(std::mem::take(&mut self.calls))
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.over.store(true, Relaxed);
        if let Some(sender) = self.sender.take() {
            // It panics only where a panic is under way.
            let _ = sender.join();
        }
    }
}

/// Returns how many it sent.
fn send(
    runtime: &Handle,
    began: Instant,
    over: &AtomicBool,
    ask: &Ask,
    seed: u64,
    calls: &UnboundedSender<Call>,
) -> usize {
    let mut chance = SmallRng::seed_from_u64(seed);
    let (mut due, mut sent) = (Duration::ZERO, 0);
    while !over.load(Relaxed) {
        due += exponential(&mut chance, Duration::from_secs(1) / RATE);
        thread::sleep((began + due).saturating_duration_since(Instant::now()));
        let (ask, calls) = (Arc::clone(ask), calls.clone());
        runtime.spawn(async move {
            let answer = timeout_at((began + due + PATIENCE).into(), ask()).await;
            // Nobody listens where the trial was broken off.
            let _ = calls.send(Call {
                due,
                ended: began.elapsed(),
                answered_by: answer.ok().and_then(Result::ok),
            });
        });
        sent += 1;
    }
    sent
}
