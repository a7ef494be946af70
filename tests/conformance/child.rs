//! Registrants in processes of their own: this test binary, started again as one.

use std::env;
use std::io::{BufRead, BufReader, Write};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{self, Command, Stdio};
use std::time::Duration;

use futures::StreamExt;
use rolecall::discovery::Folder;
use rolecall::{Discovery, Registrar};

use crate::support::{addr, worker};

/// A process that registers `default/worker`; killed when dropped.
pub(crate) struct Child {
    process: process::Child,
    output: BufReader<process::ChildStdout>,
}

impl Child {
    /// One that changes what it says all the time, so that a kill finds it at anything.
    pub(crate) fn start(folder: &Path, id: &str) -> Self {
        Self::start_at(folder, id, addr(80))
    }

    pub(crate) fn start_at(folder: &Path, id: &str, at: SocketAddr) -> Self {
        let mut process = Command::new(env::current_exe().unwrap())
            .args(["--exact", "child::registrant", "--ignored", "--nocapture"])
            .env("ROLECALL_TEST_FOLDER", folder)
            .env("ROLECALL_TEST_ID", id)
            .env("ROLECALL_TEST_ADDR", at.to_string())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let output = BufReader::new(process.stdout.take().unwrap());
        Self { process, output }
    }

    /// Waits until it is registered.
    pub(crate) fn registered(&mut self) {
        let mut said = String::new();
        while !said.contains("registered\n") {
            let read = self.output.read_line(&mut said).unwrap();
            assert!(read > 0, "the child could not register: {said}");
        }
    }

    pub(crate) fn kill(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// The child's half. It ends with its parent.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
#[ignore = "started by other tests"]
async fn registrant() {
    let (Ok(folder), Ok(id), Ok(at)) = (
        env::var("ROLECALL_TEST_FOLDER"),
        env::var("ROLECALL_TEST_ID"),
        env::var("ROLECALL_TEST_ADDR"),
    ) else {
        return println!("not started by a test");
    };
    let discovery = Folder::new(folder);
    let mut at: SocketAddr = at.parse().unwrap();
    let registration = worker(&id).endpoint("http", at);
    let registration = registration.metadata("port", "padding".repeat(100));
    let lease = match discovery.register(registration).await {
        Ok(lease) => lease,
        Err(error) => return println!("refused: {error:?}"),
    };
    println!("registered");
    std::io::stdout().flush().unwrap();
    std::thread::spawn(|| {
        let mut end = String::new();
        let _ = std::io::stdin().read_line(&mut end);
        process::exit(0);
    });
    // It watches too, and so sweeps up after others that were killed.
    let mut sets = Discovery::watch(&discovery, &"worker:http".parse().unwrap());
    tokio::spawn(async move { while sets.next().await.is_some() {} });
    let mut pace = tokio::time::interval(Duration::from_millis(3));
    // The first is at once.
    pace.tick().await;
    loop {
        pace.tick().await;
        at.set_port(1000 + (at.port() + 1) % 60_000);
        lease.add_endpoint("http", at).await.unwrap();
    }
}
