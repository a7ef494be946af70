//! An etcd of this program's own.

use std::env;
use std::fs;
use std::io;
use std::net::TcpListener;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::{Duration, Instant};

use rolecall::BoxError;
use tokio::net::TcpStream;
use tokio::process::{Child, Command};
use tokio::time::sleep;

/// Dropped, it is killed and its data is removed.
pub(crate) struct Etcd {
    folder: PathBuf,
    ports: [u16; 2],
    process: Option<Child>,
}

impl Etcd {
    pub(crate) async fn start() -> Result<Self, BoxError> {
        let name = format!("rolecall-etcd-role-{}", std::process::id());
        let folder = env::temp_dir().join(name);
        fs::create_dir_all(&folder)?;
        // Below the ports that the system gives to callers, one of which could take them while etcd is down.
        let start = u16::try_from(std::process::id() % 20_000)?;
        let mut free =
            (10_000 + start..32_000).filter(|port| TcpListener::bind(("127.0.0.1", *port)).is_ok());
        let (Some(client), Some(peer)) = (free.next(), free.next()) else {
            return Err("no port is free".into());
        };
        let ports = [client, peer];
        let mut etcd = Self {
            folder,
            ports,
            process: None,
        };
        etcd.restart().await?;
        Ok(etcd)
    }

    pub(crate) fn endpoint(&self) -> String {
        format!("127.0.0.1:{}", self.ports[0])
    }

    /// Starts it with the data that it has.
    pub(crate) async fn restart(&mut self) -> Result<(), BoxError> {
        let [client, peer] = self.ports.map(|port| format!("http://127.0.0.1:{port}"));
        let program = env::var_os("ROLECALL_ETCD").unwrap_or_else(|| "etcd".into());
        let started = Command::new(program)
            .args([
                "--name",
                "example",
                "--logger",
                "zap",
                "--log-level",
                "error",
            ])
            .args([
                "--listen-client-urls",
                &client,
                "--advertise-client-urls",
                &client,
            ])
            .args([
                "--listen-peer-urls",
                &peer,
                "--initial-advertise-peer-urls",
                &peer,
            ])
            .args(["--initial-cluster", &format!("example={peer}")])
            .arg("--data-dir")
            .arg(self.folder.join("data"))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn();
        self.process = Some(started.map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => "etcd is not installed: apt install etcd-server, or set ROLECALL_ETCD to its path".into(),
            _ => BoxError::from(error),
        })?);
        let began = Instant::now();
        while TcpStream::connect(self.endpoint()).await.is_err() {
            if began.elapsed() > Duration::from_secs(20) {
                return Err("etcd does not listen".into());
            }
            sleep(Duration::from_millis(20)).await;
        }
        Ok(())
    }

    pub(crate) async fn kill(&mut self) -> io::Result<()> {
        match self.process.take() {
            Some(mut process) => process.kill().await,
            None => Ok(()),
        }
    }
}

impl Drop for Etcd {
    fn drop(&mut self) {
        drop(self.process.take());
        let _ = fs::remove_dir_all(&self.folder);
    }
}
