//! A caller of the service: 500 requests a second, counted by who answered.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rolecall::discovery::Kubernetes;
use rolecall::{BalanceLayer, BoxError, Error, Instance};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpSocket;
use tokio::task::JoinHandle;
use tokio::time::{interval, sleep};
use tower::{Layer, ServiceExt, service_fn};

use crate::pods::{CALLER, Cluster, NAMESPACE, name};

#[derive(Default)]
struct Counts {
    answers: BTreeMap<String, usize>,
    failures: usize,
}

/// Ends with it.
pub(crate) struct Calls {
    counts: Arc<Mutex<Counts>>,
    sending: JoinHandle<()>,
}

/// One request: a byte there and back, and who did it.
async fn request(instance: Instance) -> io::Result<String> {
    let socket = TcpSocket::new_v4()?;
    socket.bind(SocketAddr::from((CALLER, 0)))?;
    let address = instance.address().tcp().ok_or(io::ErrorKind::Unsupported)?;
    let mut stream = socket.connect(address).await?;
    stream.write_u8(7).await?;
    stream.read_u8().await?;
    Ok(instance.id().to_string())
}

impl Calls {
    pub(crate) async fn begin(cluster: &Cluster) -> Result<Self, BoxError> {
        let uri = format!("http://{}", cluster.server.address()).parse()?;
        let client = kube::Client::try_from(kube::Config::new(uri))?;
        let discovery = Kubernetes::with_client(client);
        let layer = BalanceLayer::new(discovery, "worker:http")?.boundary(NAMESPACE.parse()?);
        let connector = service_fn(|instance: Instance| async move {
            let instance = service_fn(move |(): ()| request(instance.clone()));
            Ok::<_, io::Error>(instance)
        });
        let balance = layer.layer(connector);
        balance
            .control()
            .wait_usable(Duration::from_secs(10))
            .await?;
        let counts = Arc::<Mutex<Counts>>::default();
        let counted = Arc::clone(&counts);
        let sending = tokio::spawn(async move {
            let mut ticks = interval(Duration::from_millis(2));
            loop {
                ticks.tick().await;
                let (balance, counts) = (balance.clone(), Arc::clone(&counted));
                tokio::spawn(async move {
                    let answer: Result<String, Error> = balance.oneshot(()).await;
                    let mut counts = counts.lock().unwrap_or_else(PoisonError::into_inner);
                    match answer {
                        Ok(name) => *counts.answers.entry(name).or_default() += 1,
                        Err(error) => {
                            println!("  failed: {error}");
                            counts.failures += 1;
                        }
                    }
                });
            }
        });
        Ok(Self { counts, sending })
    }

    fn counted<T>(&self, count: impl FnOnce(&Counts) -> T) -> T {
        count(&self.counts.lock().unwrap_or_else(PoisonError::into_inner))
    }

    pub(crate) fn answers_of(&self, pod: u8) -> usize {
        self.counted(|counts| counts.answers.get(&name(pod)).copied().unwrap_or_default())
    }

    pub(crate) fn answers(&self) -> usize {
        self.counted(|counts| counts.answers.values().sum())
    }

    pub(crate) fn failures(&self) -> usize {
        self.counted(|counts| counts.failures)
    }

    /// What was sent until now is answered, or has failed.
    pub(crate) async fn settle(&self) {
        sleep(Duration::from_secs(1)).await;
    }

    pub(crate) fn print(&self) {
        self.counted(|counts| {
            for (name, answers) in &counts.answers {
                println!("  {name} answered {answers}");
            }
        });
    }
}

impl Drop for Calls {
    fn drop(&mut self) {
        self.sending.abort();
    }
}
