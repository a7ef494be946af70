//! The starter's side: processes, and the news that they give and get.

use std::env;
use std::process::{ExitStatus, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rolecall::discovery::Discovery;
use rolecall::{BoxError, InstanceId};
use rustix::process::{Pid, Signal, kill_process};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::sync::mpsc;
use tokio::time::timeout;

use crate::stdio::{self, News};
use crate::worker::AS_WORKER;

/// Tells everybody what anybody says.
#[derive(Clone)]
pub(crate) struct Crier(Arc<Mutex<Square>>);

struct Square {
    /// What is true now: the first that a newcomer hears.
    standing: Vec<News>,
    listeners: Vec<mpsc::UnboundedSender<Result<News, BoxError>>>,
}

impl Crier {
    /// A crier, and what it tells the starter itself.
    pub(crate) fn new() -> (Self, impl Discovery) {
        let crier = Self(Arc::new(Mutex::new(Square {
            standing: Vec::new(),
            listeners: Vec::new(),
        })));
        let discovery = stdio::discovery(crier.listen());
        (crier, discovery)
    }

    /// Starts a worker.
    pub(crate) fn start(&self, name: &str) -> Result<Worker, BoxError> {
        let mut process = Command::new(env::current_exe()?)
            .args([AS_WORKER, name])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()?;
        let pipes = process.stdin.take().zip(process.stdout.take());
        let (hears, says) = pipes.ok_or("no pipes")?;
        tokio::spawn(tell(self.listen(), hears));
        tokio::spawn(self.clone().follow(says, InstanceId::from(name)));
        Ok(Worker(process))
    }

    fn listen(&self) -> mpsc::UnboundedReceiver<Result<News, BoxError>> {
        let (tell, hear) = mpsc::unbounded_channel();
        let mut square = self.square();
        for news in &square.standing {
            // It is heard: `hear` is here.
            let _ = tell.send(Ok(news.clone()));
        }
        square.listeners.push(tell);
        hear
    }

    /// Cries what a worker says; that it is gone, when it says no more.
    async fn follow(self, says: ChildStdout, id: InstanceId) {
        let mut lines = BufReader::new(says).lines();
        while let Ok(Some(line)) = lines.next_line().await {
            match News::read(&line) {
                Ok(news) => self.cry(&news),
                Err(error) => eprintln!("{id} said {line:?}: {error}"),
            }
        }
        self.cry(&News::Gone(id));
    }

    fn cry(&self, news: &News) {
        let mut square = self.square();
        square
            .standing
            .retain(|standing| standing.id() != news.id());
        if let News::There(_) = news {
            square.standing.push(news.clone());
        }
        let tell =
            |listener: &mut mpsc::UnboundedSender<_>| listener.send(Ok(news.clone())).is_ok();
        square.listeners.retain_mut(tell);
    }

    fn square(&self) -> MutexGuard<'_, Square> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Passes news on to a worker, until it is gone.
async fn tell(mut news: mpsc::UnboundedReceiver<Result<News, BoxError>>, mut hears: ChildStdin) {
    while let Some(Ok(news)) = news.recv().await {
        let Ok(line) = news.line() else { return };
        if hears.write_all(line.as_bytes()).await.is_err() {
            return;
        }
    }
}

/// A worker's process. Dropped, it is killed.
pub(crate) struct Worker(Child);

impl Worker {
    /// SIGTERM.
    pub(crate) fn terminate(&self) -> Result<(), BoxError> {
        let id = self.0.id().and_then(|id| Pid::from_raw(id.cast_signed()));
        Ok(kill_process(id.ok_or("the worker ended")?, Signal::TERM)?)
    }

    pub(crate) async fn ended(&mut self) -> Result<ExitStatus, BoxError> {
        Ok(timeout(Duration::from_secs(20), self.0.wait()).await??)
    }
}
