//! A caller of the service: 500 requests a second, counted by who answered.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::StreamExt;
use rolecall::discovery::Kubernetes;
use rolecall::{BalanceLayer, BoxError, Error, Event, Instance};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpSocket;
use tokio::task::JoinHandle;
use tokio::time::{MissedTickBehavior, interval, sleep};
use tower::{Layer, ServiceExt, service_fn};

use crate::pods::{CALLER, Cluster, NAMESPACE, name};

#[derive(Default)]
struct Counts {
    answers: BTreeMap<String, usize>,
    /// By the instance that failed, or "none".
    failures: BTreeMap<String, usize>,
    ejections: usize,
    /// Trials that failed, each after an ejection had ended.
    failed_trials: usize,
    /// How often this process did not run for a second or more. Failures of that time eject nobody.
    stalls: usize,
}

/// Ends with it.
pub(crate) struct Calls {
    counts: Arc<Mutex<Counts>>,
    sending: JoinHandle<()>,
    listening: JoinHandle<()>,
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
        let mut events = balance.control().events();
        let counted = Arc::clone(&counts);
        let listening = tokio::spawn(async move {
            while let Some(event) = events.next().await {
                let mut counts = counted.lock().unwrap_or_else(PoisonError::into_inner);
                match event {
                    Event::Ejected { .. } => counts.ejections += 1,
                    Event::TrialFailed { .. } => counts.failed_trials += 1,
                    Event::Stalled { .. } => counts.stalls += 1,
                    _ => continue,
                }
                println!("  {event}");
            }
        });
        let counted = Arc::clone(&counts);
        let sending = tokio::spawn(async move {
            let mut ticks = interval(Duration::from_millis(2));
            // A burst after each stall would be the next stall.
            ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
            loop {
                ticks.tick().await;
                let (balance, counts) = (balance.clone(), Arc::clone(&counted));
                tokio::spawn(async move {
                    let answer: Result<String, Error> = balance.oneshot(()).await;
                    let mut counts = counts.lock().unwrap_or_else(PoisonError::into_inner);
                    match answer {
                        Ok(name) => *counts.answers.entry(name).or_default() += 1,
                        Err(error) => {
                            let failed = error.instance().map(ToString::to_string);
                            let failed = failed.unwrap_or_else(|| "none".to_owned());
                            *counts.failures.entry(failed).or_default() += 1;
                        }
                    }
                });
            }
        });
        Ok(Self {
            counts,
            sending,
            listening,
        })
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
        self.counted(|counts| counts.failures.values().sum())
    }

    pub(crate) fn failures_of(&self, pod: u8) -> usize {
        self.counted(|counts| counts.failures.get(&name(pod)).copied().unwrap_or_default())
    }

    pub(crate) fn ejections(&self) -> usize {
        self.counted(|counts| counts.ejections)
    }

    pub(crate) fn stalls(&self) -> usize {
        self.counted(|counts| counts.stalls)
    }

    /// How many requests failed, and how many of them were trials.
    ///
    /// The end of a trial is counted by the request and by its event, in either order.
    pub(crate) async fn settled_failures(&self) -> (usize, usize) {
        let read = || {
            let failures = self.failures();
            (failures, self.counted(|counts| counts.failed_trials))
        };
        let mut last = read();
        loop {
            sleep(Duration::from_millis(100)).await;
            let now = read();
            if now == last {
                return now;
            }
            last = now;
        }
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
        self.listening.abort();
    }
}
