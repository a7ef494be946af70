//! The starter's side of a worker's process.

use std::env;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use rolecall::BoxError;
use rustix::process::{Pid, Signal, kill_process};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use crate::book::Book;

/// The argument that makes this binary a worker.
pub(crate) const AS_WORKER: &str = "work";

/// Dropped, it is killed.
pub(crate) struct Process {
    child: Child,
    listening: JoinHandle<()>,
}

impl Process {
    /// Starts a worker that registers in a folder, and writes down what it says.
    pub(crate) fn start(name: &str, folder: &str, book: &Book) -> Result<Self, BoxError> {
        let mut child = Command::new(env::current_exe()?)
            .arg(AS_WORKER)
            .env("ROLECALL_ROLE", "worker")
            .env("ROLECALL_BOUNDARY", "example")
            .env("ROLECALL_ID", name)
            .env("ROLECALL_DISCOVERY", format!("folder:{folder}"))
            .env("ROLECALL_BIND", "127.0.0.1")
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()?;
        let says = child.stdout.take().ok_or("no pipe")?;
        let (name, book) = (name.to_owned(), book.clone());
        let listening = tokio::spawn(async move {
            let mut lines = BufReader::new(says).lines();
            while let Ok(Some(line)) = lines.next_line().await {
                book.write(&name, &line);
            }
        });
        Ok(Self { child, listening })
    }

    pub(crate) fn signal(&self, signal: Signal) -> Result<(), BoxError> {
        let id = self
            .child
            .id()
            .and_then(|id| Pid::from_raw(id.cast_signed()));
        Ok(kill_process(id.ok_or("the worker ended")?, signal)?)
    }

    /// Waits until it has ended, and all it said was heard.
    pub(crate) async fn ended(&mut self) -> Result<ExitStatus, BoxError> {
        let status = timeout(Duration::from_secs(20), self.child.wait()).await??;
        (&mut self.listening).await?;
        Ok(status)
    }
}
