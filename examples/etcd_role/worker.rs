//! A worker: what a program of yours looks like, and the starter's side of its process.

use std::convert::Infallible;
use std::env;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Empty;
use hyper::Response;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use rolecall::{BoxError, Worker};
use rustix::process::{Pid, Signal, kill_process};
use tokio::process::{Child, Command};
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::timeout;

/// The argument that makes this binary a worker.
pub(crate) const AS_WORKER: &str = "work";

pub(crate) async fn run() -> Result<(), BoxError> {
    let mut told_to_end = signal(SignalKind::terminate())?;
    let worker = Worker::from_env()?;
    let mut listener = worker.listen("http").await?;
    worker.register().await?;
    tokio::spawn(async move {
        loop {
            let (connection, _) = listener.accept().await;
            let empty =
                service_fn(|_| async { Ok::<_, Infallible>(Response::new(Empty::<Bytes>::new())) });
            tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(connection), empty));
        }
    });
    told_to_end.recv().await;
    worker.drain(Duration::from_secs(5)).await?;
    Ok(())
}

/// Dropped, it is killed.
pub(crate) struct Process(Child);

impl Process {
    pub(crate) fn start(name: &str, uri: &str) -> Result<Self, BoxError> {
        let child = Command::new(env::current_exe()?)
            .arg(AS_WORKER)
            .env("ROLECALL_ROLE", "worker")
            .env("ROLECALL_ID", name)
            .env("ROLECALL_DISCOVERY", uri)
            .env("ROLECALL_BIND", "127.0.0.1")
            .stdout(Stdio::null())
            .kill_on_drop(true)
            .spawn()?;
        Ok(Self(child))
    }

    pub(crate) fn signal(&self, signal: Signal) -> Result<(), BoxError> {
        let id = self.0.id().and_then(|id| Pid::from_raw(id.cast_signed()));
        Ok(kill_process(id.ok_or("the worker ended")?, signal)?)
    }

    pub(crate) async fn ended(&mut self) -> Result<ExitStatus, BoxError> {
        Ok(timeout(Duration::from_secs(20), self.0.wait()).await??)
    }
}
