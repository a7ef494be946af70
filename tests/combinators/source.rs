//! A discovery whose answers the test says.

use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::channel::mpsc;
use futures::{FutureExt, StreamExt};
use rolecall::discovery::{BoxStream, DiscoveryError};
use rolecall::{Boundary, Discovery, Instance, InstanceSet, Target};

pub(crate) type Answer = Result<InstanceSet, DiscoveryError>;

/// Clones are the same source. What is said reaches the watches that are open then.
#[derive(Clone, Debug, Default)]
pub(crate) struct Source {
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    watches: Mutex<Vec<mpsc::UnboundedSender<Answer>>>,
    /// What each watch is told when it is opened.
    first: Mutex<Option<Answer>>,
    opened: AtomicUsize,
    refreshed: AtomicUsize,
}

impl Source {
    pub(crate) fn say(&self, answer: Answer) {
        let watches = self.shared.watches.lock().unwrap();
        for watch in &*watches {
            let _ = watch.unbounded_send(answer.clone());
        }
    }

    pub(crate) fn fails_from_the_start(&self, error: Answer) {
        *self.shared.first.lock().unwrap() = Some(error);
    }

    /// Ends all watches.
    pub(crate) fn end(&self) {
        self.shared.watches.lock().unwrap().clear();
    }

    /// Watches that are open.
    pub(crate) fn open(&self) -> usize {
        let mut watches = self.shared.watches.lock().unwrap();
        watches.retain(|watch| !watch.is_closed());
        watches.len()
    }

    /// How often a watch was opened.
    pub(crate) fn opened(&self) -> usize {
        self.shared.opened.load(Relaxed)
    }

    pub(crate) fn refreshed(&self) -> usize {
        self.shared.refreshed.load(Relaxed)
    }

    fn answers(&self) -> BoxStream<'static, Answer> {
        let (watch, answers) = mpsc::unbounded();
        if let Some(first) = self.shared.first.lock().unwrap().clone() {
            watch.unbounded_send(first).unwrap();
        }
        self.shared.watches.lock().unwrap().push(watch);
        self.shared.opened.fetch_add(1, Relaxed);
        Box::pin(answers)
    }
}

impl Discovery for Source {
    fn watch(&self, _: &Target) -> BoxStream<'static, Answer> {
        self.answers()
    }

    fn peers(&self, _: &Boundary) -> BoxStream<'static, Answer> {
        self.answers()
    }

    fn refresh(&self, _: &Target) {
        self.shared.refreshed.fetch_add(1, Relaxed);
    }
}

/// A set of these ids, at a port of its own.
pub(crate) fn set(ids: &[&str], port: u16) -> InstanceSet {
    let at = |id: &&str| Instance::new(*id, ([127, 0, 0, 1], port));
    ids.iter().map(at).collect()
}

pub(crate) fn fault(cause: &str) -> Answer {
    Err(DiscoveryError::backend("asking", cause.to_owned()))
}

pub(crate) fn unknown() -> Answer {
    Err(DiscoveryError::unknown_role(&target()))
}

pub(crate) fn target() -> Target {
    "default/worker:http".parse().unwrap()
}

pub(crate) fn ids(set: &InstanceSet) -> Vec<&str> {
    set.iter().map(|instance| instance.id().as_str()).collect()
}

pub(crate) struct Watch(pub(crate) BoxStream<'static, Answer>);

impl Watch {
    pub(crate) fn of(discovery: &impl Discovery) -> Self {
        Self(discovery.watch(&target()))
    }

    /// What is there without waiting for time to pass; tasks get to run.
    pub(crate) async fn now(&mut self) -> Option<Option<Answer>> {
        for _ in 0..100 {
            if let Some(answer) = self.0.next().now_or_never() {
                return Some(answer);
            }
            tokio::task::yield_now().await;
        }
        None
    }

    pub(crate) async fn set(&mut self) -> InstanceSet {
        self.next().await.unwrap()
    }

    pub(crate) async fn error(&mut self) -> String {
        self.next().await.unwrap_err().to_string()
    }

    /// The next answer, whenever it comes.
    pub(crate) async fn next(&mut self) -> Answer {
        let next = tokio::time::timeout(Duration::from_secs(600), self.0.next());
        next.await.expect("an answer").expect("no end")
    }
}
