//! What kubelet and controllers do in a cluster: start pods, and write down what became of them.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;
use std::{env, fs};

use rolecall::BoxError;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};
use tokio::time::{sleep, timeout};

use crate::stand_in::{ApiServer, Slice, endpoint, pod};
use crate::work::PORT;

pub(crate) const NAMESPACE: &str = "shop";

/// The argument that makes this binary a worker.
pub(crate) const AS_WORKER: &str = "work";

/// The address that the caller has, as a pod of the namespace.
pub(crate) const CALLER: [u8; 4] = [127, 0, 0, 200];

const LONG: Duration = Duration::from_secs(20);

/// What the manifest's `preStop` gives callers to hear that a pod goes.
const PRE_STOP: Duration = Duration::from_secs(1);

pub(crate) struct Cluster {
    pub(crate) server: ApiServer,
    config: PathBuf,
    /// All pods listen at the same port, each at an address of its own.
    port: u16,
    running: BTreeMap<u8, Child>,
    /// The endpoints of the slice, and which of them terminate.
    listed: BTreeMap<u8, bool>,
}

impl Cluster {
    pub(crate) fn of(server: ApiServer) -> Result<Self, BoxError> {
        let config =
            env::temp_dir().join(format!("rolecall-kubernetes-role-{}", std::process::id()));
        fs::write(&config, server.kubeconfig())?;
        server.put(pod(NAMESPACE, "caller", "Running", &["127.0.0.200"]));
        // Free at one address, and so most likely at the others.
        let port = std::net::TcpListener::bind("127.0.0.1:0")?
            .local_addr()?
            .port();
        Ok(Self {
            server,
            config,
            port,
            running: BTreeMap::new(),
            listed: BTreeMap::new(),
        })
    }

    /// Starts a pod, and lists it once it is ready.
    pub(crate) async fn start(&mut self, number: u8) -> Result<(), BoxError> {
        let (name, ip) = (name(number), ip(number));
        self.server.put(pod(NAMESPACE, &name, "Running", &[&ip]));
        let mut child = Command::new(env::current_exe()?)
            .arg(AS_WORKER)
            .env("KUBECONFIG", &self.config)
            .env("ROLECALL_DISCOVERY", "kubernetes:")
            .env("ROLECALL_ROLE", "worker")
            .env("ROLECALL_BOUNDARY", NAMESPACE)
            .env("ROLECALL_ID", &name)
            .env("ROLECALL_BIND", &ip)
            .env(PORT, self.port.to_string())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()?;
        let says = child.stdout.take().ok_or("no pipe")?;
        let mut lines = BufReader::new(says).lines();
        let line = timeout(LONG, lines.next_line()).await??;
        if line.as_deref() != Some("ready") {
            return Err(format!("{name} did not get ready").into());
        }
        self.running.insert(number, child);
        self.list(number, false);
        Ok(())
    }

    /// Deletes a pod as `kubectl delete pod` does.
    pub(crate) async fn delete(&mut self, number: u8) -> Result<ExitStatus, BoxError> {
        self.list(number, true);
        sleep(PRE_STOP).await;
        let ended = self.signal(number, Signal::TERM).await?;
        self.forget(number);
        Ok(ended)
    }

    /// Kills a pod's process and tells nobody.
    pub(crate) async fn kill(&mut self, number: u8) -> Result<(), BoxError> {
        self.signal(number, Signal::KILL).await.map(drop)
    }

    /// Takes a pod that is gone from the slice.
    pub(crate) fn forget(&mut self, number: u8) {
        self.listed.remove(&number);
        self.write();
        self.server.delete("pods", NAMESPACE, &name(number));
    }

    /// Ends all pods.
    pub(crate) async fn end(mut self) -> Result<(), BoxError> {
        for number in self.running.keys().copied().collect::<Vec<_>>() {
            self.signal(number, Signal::TERM).await?;
        }
        Ok(())
    }

    async fn signal(&mut self, number: u8, signal: Signal) -> Result<ExitStatus, BoxError> {
        let mut child = self.running.remove(&number).ok_or("no such pod")?;
        let id = child.id().and_then(|id| Pid::from_raw(id.cast_signed()));
        kill_process(id.ok_or("the pod has ended")?, signal)?;
        Ok(timeout(LONG, child.wait()).await??)
    }

    fn list(&mut self, number: u8, is_terminating: bool) {
        self.listed.insert(number, is_terminating);
        self.write();
    }

    fn write(&self) {
        let endpoints = self.listed.iter().map(|(number, is_terminating)| {
            let mut endpoint = endpoint(&name(*number), &ip(*number));
            endpoint["conditions"] =
                json!({ "ready": !is_terminating, "serving": true, "terminating": is_terminating });
            endpoint
        });
        let slice = Slice::new(NAMESPACE, "worker", "worker-a").port("http", self.port);
        self.server.put(slice.endpoints(endpoints).into());
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.config);
    }
}

pub(crate) fn name(number: u8) -> String {
    format!("worker-{number}")
}

fn ip(number: u8) -> String {
    format!("127.0.0.{number}")
}
