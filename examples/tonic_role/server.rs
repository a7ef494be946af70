//! A server in a process of its own: this program, started again with a name to serve under.

use std::env;
use std::net::{Ipv4Addr, SocketAddr};
use std::process::Stdio;
use std::time::Duration;

use rolecall::BoxError;
use rustix::process::{Pid, Signal, kill_process};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader};
use tokio::net::TcpListener;
use tokio::process::{Child, Command};
use tokio::time::timeout;
use tonic::transport::server::TcpIncoming;

use crate::greeter::Greeter;

const SERVE: &str = "serve";

/// The name to serve under, if this process is to be a server.
pub(crate) fn asked_for() -> Option<String> {
    let mut args = env::args().skip(1);
    args.next().filter(|arg| arg == SERVE).and(args.next())
}

/// Serves on a free port, which it prints, until its starter is gone.
pub(crate) async fn serve(name: String) -> Result<(), BoxError> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    println!("{}", listener.local_addr()?);
    let incoming = TcpIncoming::from(listener).with_nodelay(Some(true));
    let serving = tonic::transport::Server::builder()
        .add_service(Greeter { name })
        .serve_with_incoming(incoming);
    let mut end = Vec::new();
    let mut starter = tokio::io::stdin();
    tokio::select! {
        served = serving => served?,
        _ = starter.read_to_end(&mut end) => {}
    }
    Ok(())
}

/// A server process. Dropped, it is killed, also while it is stopped.
pub(crate) struct Server {
    addr: SocketAddr,
    process: Child,
}

impl Server {
    pub(crate) async fn start(name: &str) -> Result<Self, BoxError> {
        let mut process = Command::new(env::current_exe()?)
            .args([SERVE, name])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()?;
        let stdout = process.stdout.take().ok_or("no standard output")?;
        let mut lines = BufReader::new(stdout).lines();
        let line = timeout(Duration::from_secs(10), lines.next_line()).await??;
        let addr = line.ok_or("the server ended")?.parse()?;
        Ok(Self { addr, process })
    }

    pub(crate) fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Ends it as a crash would.
    pub(crate) fn kill(&mut self) -> Result<(), BoxError> {
        Ok(self.process.start_kill()?)
    }

    /// It keeps its connections, which the kernel goes on to accept, and does nothing any more.
    pub(crate) fn stop(&self) -> Result<(), BoxError> {
        self.signal(Signal::STOP)
    }

    pub(crate) fn go_on(&self) -> Result<(), BoxError> {
        self.signal(Signal::CONT)
    }

    fn signal(&self, signal: Signal) -> Result<(), BoxError> {
        let id = self
            .process
            .id()
            .and_then(|id| Pid::from_raw(id.cast_signed()));
        Ok(kill_process(id.ok_or("the server ended")?, signal)?)
    }
}
