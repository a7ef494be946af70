//! A worker: its environment says where it is, and no line of it knows Kubernetes.

use std::env;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use rolecall::{BoxError, Worker};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::signal::unix::{SignalKind, signal};

/// Where it listens; without it, or as 0, at a free port.
pub(crate) const PORT: &str = "PORT";

pub(crate) async fn run() -> Result<(), BoxError> {
    let mut told_to_end = signal(SignalKind::terminate())?;
    let bind: IpAddr = env::var("ROLECALL_BIND")?.parse()?;
    let port = env::var(PORT).map_or(Ok(0), |port| port.parse())?;
    let worker = Worker::from_env()?;
    let mut listener = worker
        .listen_at("http", SocketAddr::new(bind, port))
        .await?;
    tokio::spawn(async move {
        loop {
            let (mut connection, _) = listener.accept().await;
            // Gives back each byte until its caller goes.
            tokio::spawn(async move {
                while let Ok(byte) = connection.read_u8().await {
                    connection.write_u8(byte).await?;
                }
                std::io::Result::Ok(())
            });
        }
    });
    println!("ready");
    told_to_end.recv().await;
    let drained = worker.drain(Duration::from_secs(10)).await?;
    match drained.open {
        0 => Ok(()),
        open => Err(format!("{open} connections were open").into()),
    }
}
