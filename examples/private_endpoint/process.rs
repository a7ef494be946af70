//! A process of this program, started again with a part to play. It gets the registry's news, and commands, a line each,
//! over its standard input, and answers each command with a line.

use std::env;
use std::net::IpAddr;
use std::process::Stdio;
use std::time::Duration;

use futures::StreamExt;
use rolecall::discovery::{BoxStream, DiscoveryError};
use rolecall::{Boundary, BoxError, Discovery, InstanceSet, Registry, Target};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::sync::mpsc;
use tokio::time::timeout;

use crate::news::Told;

const PATIENCE: Duration = Duration::from_secs(10);

/// The part that this process is to play, and its address.
pub(crate) fn asked_for() -> Option<(&'static str, IpAddr)> {
    let mut args = env::args().skip(1);
    let part = match args.next()?.as_str() {
        "serve" => "serve",
        "call" => "call",
        _ => return None,
    };
    Some((part, args.next()?.parse().ok()?))
}

/// Dropped, it is killed.
pub(crate) struct Process {
    pub(crate) ip: String,
    lines: mpsc::UnboundedSender<String>,
    answers: Lines<BufReader<ChildStdout>>,
    _process: Child,
}

impl Process {
    pub(crate) async fn start(part: &str, ip: &str, registry: &Registry) -> Result<Self, BoxError> {
        let mut process = Command::new(env::current_exe()?)
            .args([part, ip])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()?;
        let stdout = process.stdout.take().ok_or("no standard output")?;
        let stdin = process.stdin.take().ok_or("no standard input")?;
        let (lines, to_write) = mpsc::unbounded_channel();
        tokio::spawn(write(stdin, to_write));
        for target in ["shop/catalog:lines", "shop/catalog:admin"] {
            let sets = Discovery::watch(registry, &Target::try_from(target)?);
            tokio::spawn(pass_on(format!("set {target}"), sets, lines.clone()));
        }
        for boundary in ["shop", "billing"] {
            let sets = registry.peers(&Boundary::new(boundary)?);
            tokio::spawn(pass_on(format!("peers {boundary}"), sets, lines.clone()));
        }
        Ok(Self {
            ip: ip.to_owned(),
            lines,
            answers: BufReader::new(stdout).lines(),
            _process: process,
        })
    }

    pub(crate) async fn ask(&mut self, command: &str) -> Result<String, BoxError> {
        self.lines.send(command.to_owned())?;
        let answer = timeout(PATIENCE, self.answers.next_line()).await??;
        Ok(answer.ok_or("the process ended")?)
    }
}

async fn write(mut stdin: ChildStdin, mut lines: mpsc::UnboundedReceiver<String>) {
    while let Some(line) = lines.recv().await {
        // A process that is gone does not answer, which is found then.
        if stdin
            .write_all(format!("{line}\n").as_bytes())
            .await
            .is_err()
        {
            return;
        }
    }
}

/// Sends every set as a line; errors change nothing.
async fn pass_on(
    what: String,
    mut sets: BoxStream<'static, Result<InstanceSet, DiscoveryError>>,
    lines: mpsc::UnboundedSender<String>,
) {
    while let Some(answer) = sets.next().await {
        let Ok(set) = answer else { continue };
        let instances: Vec<Told> = set.iter().map(Told::of).collect();
        let Ok(json) = serde_json::to_string(&instances) else {
            return;
        };
        if lines.send(format!("{what} {json}")).is_err() {
            return;
        }
    }
}
