//! The starter's own requests: one every 20 ms, whatever became of the earlier ones.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use http_body_util::BodyExt;
use hyper::Request;
use rolecall::BoxError;
use rolecall::http::{Body, Client};
use tokio::sync::oneshot;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{MissedTickBehavior, interval};

const GAP: Duration = Duration::from_millis(20);

/// What the workers did, and what failed.
#[derive(Default)]
struct Book {
    answered: BTreeMap<String, usize>,
    /// By peers.
    asked: BTreeMap<String, usize>,
    failures: Vec<String>,
}

pub(crate) struct Caller {
    book: Arc<Mutex<Book>>,
    stop: oneshot::Sender<()>,
    calls: JoinHandle<()>,
}

impl Caller {
    pub(crate) fn start(client: Client) -> Self {
        let book = Arc::<Mutex<Book>>::default();
        let (stop, stopped) = oneshot::channel();
        let calls = tokio::spawn(send(client, Arc::clone(&book), stopped));
        Self { book, stop, calls }
    }

    /// Whether each of these answered, and was asked by a peer.
    pub(crate) fn took_part(&self, names: &[&str]) -> bool {
        let book = open(&self.book);
        let did = |name: &&str| book.answered.contains_key(*name) && book.asked.contains_key(*name);
        names.iter().all(did)
    }

    /// Sends no more, prints what came of it, and tells whether that is as it should be.
    pub(crate) async fn finish(self, names: &[&str]) -> Result<bool, BoxError> {
        drop(self.stop);
        self.calls.await?;
        let book = open(&self.book);
        println!("\nworker  answered  asked by peers");
        for name in names {
            let of = |counts: &BTreeMap<String, usize>| counts.get(*name).copied().unwrap_or(0);
            let (answered, asked) = (of(&book.answered), of(&book.asked));
            println!("{name:<6}  {answered:>8}  {asked:>14}");
        }
        let (failed, answered) = (book.failures.len(), book.answered.values().sum::<usize>());
        println!("\n{failed} of {} requests failed", answered + failed);
        for failure in &book.failures {
            println!("  {failure}");
        }
        Ok(failed == 0)
    }
}

async fn send(client: Client, book: Arc<Mutex<Book>>, mut stopped: oneshot::Receiver<()>) {
    let mut tick = interval(GAP);
    tick.set_missed_tick_behavior(MissedTickBehavior::Burst);
    let mut under_way = JoinSet::new();
    loop {
        tokio::select! {
            biased;
            _ = &mut stopped => break,
            _ = tick.tick() => {
                let (client, book) = (client.clone(), Arc::clone(&book));
                under_way.spawn(async move {
                    let answer = ask(client).await;
                    let mut book = open(&book);
                    match answer {
                        Ok((worker, peer)) => {
                            *book.answered.entry(worker).or_default() += 1;
                            *book.asked.entry(peer).or_default() += 1;
                        }
                        Err(error) => book.failures.push(error.to_string()),
                    }
                });
            }
        }
    }
    under_way.join_all().await;
}

/// The worker that answered, and the peer that it asked.
async fn ask(client: Client) -> Result<(String, String), BoxError> {
    let answer = client
        .request(Request::get("/peer").body(Body::empty())?)
        .await?;
    let status = answer.status();
    let text = answer.into_body().collect().await?.to_bytes();
    let text = String::from_utf8_lossy(&text);
    let names = text.split_once(" asked ").filter(|_| status.is_success());
    let (worker, peer) = names.ok_or_else(|| format!("{status}: {text}"))?;
    Ok((worker.to_owned(), peer.to_owned()))
}

fn open(book: &Mutex<Book>) -> MutexGuard<'_, Book> {
    book.lock().unwrap_or_else(PoisonError::into_inner)
}
