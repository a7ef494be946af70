use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use futures_core::Stream;
use futures_util::StreamExt;
use tokio::sync::Notify;

use super::backoff::Backoff;
use super::guarded::guarded;
use super::newest::Newest;
use super::task::Task;
use crate::discovery::{BoxStream, Discovery, no_peers};
use crate::error::discovery::DiscoveryError;
use crate::model::instance::InstanceSet;
use crate::model::name::Boundary;
use crate::model::target::Target;

type Answer = Result<InstanceSet, DiscoveryError>;

/// A discovery whose source is watched for each target: one watch of it for all watches of the target.
///
/// `watch` opens the source for one target. A stream that ends or panics is opened again after a pause, and until it gives
/// a set the last one stays. The source is watched only while somebody watches the target. Its boundaries have no list of
/// peers unless it is [given](PerTarget::with_peers).
///
/// # Panics
///
/// A watch has to be polled in a tokio runtime with timers; elsewhere it gives nothing.
///
/// # Examples
///
/// ```
/// use futures::{StreamExt, stream};
/// use rolecall::discovery::backend::{Backoff, per_target};
/// use rolecall::{Discovery, Instance, Target};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// // What a subscription to some server would give.
/// let subscribe = |target: Target| {
///     let id = format!("{}-1", target.role());
///     let set = [Instance::new(id, ([10, 0, 0, 7], 80))].into_iter().collect();
///     stream::iter([Ok(set)]).chain(stream::pending())
/// };
/// let discovery = per_target(subscribe, Backoff::default());
/// let mut sets = discovery.watch(&"worker:http".parse()?);
/// assert!(sets.next().await.ok_or("ended")??.get("worker-1").is_some());
/// # Ok(())
/// # }
/// ```
pub fn per_target<F, S>(watch: F, backoff: Backoff) -> PerTarget
where
    F: Fn(Target) -> S + Send + Sync + 'static,
    S: Stream<Item = Answer> + Send + 'static,
{
    PerTarget::refreshed(move |target, _| watch(target), backoff)
}

/// The discovery that [`per_target`] and [`poll`](super::poll) make; clones share the watches.
#[derive(Clone)]
pub struct PerTarget {
    targets: Fanout<Target>,
    peers: Option<Fanout<Boundary>>,
}

impl PerTarget {
    /// Of a source that looks again when it is notified.
    pub(super) fn refreshed<F, S>(watch: F, backoff: Backoff) -> Self
    where
        F: Fn(Target, Arc<Notify>) -> S + Send + Sync + 'static,
        S: Stream<Item = Answer> + Send + 'static,
    {
        Self {
            targets: Fanout::new(watch, Some(backoff)),
            peers: None,
        }
    }

    /// Lists the instances of a boundary by this source, opened and shared as those of targets are.
    #[must_use]
    pub fn with_peers<F, S>(mut self, watch: F, backoff: Backoff) -> Self
    where
        F: Fn(Boundary) -> S + Send + Sync + 'static,
        S: Stream<Item = Answer> + Send + 'static,
    {
        self.peers = Some(Fanout::new(
            move |boundary, _| watch(boundary),
            Some(backoff),
        ));
        self
    }
}

impl Discovery for PerTarget {
    fn watch(&self, target: &Target) -> BoxStream<'static, Answer> {
        self.targets.watch(target)
    }

    fn peers(&self, boundary: &Boundary) -> BoxStream<'static, Answer> {
        match &self.peers {
            Some(peers) => peers.watch(boundary),
            None => no_peers(),
        }
    }

    fn refresh(&self, target: &Target) {
        self.targets.refresh(target);
    }
}

impl fmt::Debug for PerTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PerTarget").finish_non_exhaustive()
    }
}

type Open<K> = dyn Fn(K, Arc<Notify>) -> BoxStream<'static, Answer> + Send + Sync;

/// One watch of a source for each key, whose answers all watches of that key share.
pub(in crate::discovery) struct Fanout<K> {
    shared: Arc<Shared<K>>,
}

struct Shared<K> {
    open: Arc<Open<K>>,
    /// Whether a stream that ends is opened again.
    reopen: Option<Backoff>,
    watched: Mutex<HashMap<K, Weak<Watched>>>,
}

struct Watched {
    newest: Newest,
    task: Arc<Task>,
    refresh: Arc<Notify>,
}

impl<K: Clone + Eq + std::hash::Hash + Send + Sync + 'static> Fanout<K> {
    pub(in crate::discovery) fn new<F, S>(open: F, reopen: Option<Backoff>) -> Self
    where
        F: Fn(K, Arc<Notify>) -> S + Send + Sync + 'static,
        S: Stream<Item = Answer> + Send + 'static,
    {
        Self {
            shared: Arc::new(Shared {
                open: Arc::new(move |key, refresh| Box::pin(open(key, refresh))),
                reopen,
                watched: Mutex::default(),
            }),
        }
    }

    pub(in crate::discovery) fn watch(&self, key: &K) -> BoxStream<'static, Answer> {
        let watched = self.shared.watched(key);
        let answers = watched.task.feeding(watched.newest.read());
        // The answers of a key are shared while anybody reads them.
        Box::pin(answers.map(move |answer| {
            let _ = &watched;
            answer
        }))
    }

    pub(in crate::discovery) fn refresh(&self, key: &K) {
        let watched = self.shared.lock().get(key).and_then(Weak::upgrade);
        if let Some(watched) = watched {
            watched.refresh.notify_one();
        }
    }
}

impl<K> Clone for Fanout<K> {
    fn clone(&self) -> Self {
        Self {
            shared: Arc::clone(&self.shared),
        }
    }
}

impl<K: Clone + Eq + std::hash::Hash + Send + Sync + 'static> Shared<K> {
    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<K, Weak<Watched>>> {
        self.watched.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn watched(&self, key: &K) -> Arc<Watched> {
        let made = self.make(key);
        let mut watched = self.lock();
        let there = watched.get(key).and_then(Weak::upgrade);
        if let Some(there) = there
            && !there.newest.has_ended()
        {
            return there;
        }
        watched.retain(|_, watched| watched.strong_count() > 0);
        watched.insert(key.clone(), Arc::downgrade(&made));
        made
    }

    fn make(&self, key: &K) -> Arc<Watched> {
        let newest = Newest::default();
        let refresh = Arc::new(Notify::new());
        let (open, reopen, key) = (Arc::clone(&self.open), self.reopen, key.clone());
        let (fed, asked) = (newest.clone(), Arc::clone(&refresh));
        let task = Task::new(move |mut users| {
            let (open, key) = (Arc::clone(&open), key.clone());
            let (newest, refresh) = (fed.clone(), Arc::clone(&asked));
            async move {
                let _followed = Followed(newest.clone());
                let read = read(|| open(key.clone(), Arc::clone(&refresh)), reopen, &newest);
                users.while_any(read).await;
                // Not to be started again by those who have yet to read its end.
                users.gone().await;
            }
        });
        Arc::new(Watched {
            newest,
            task,
            refresh,
        })
    }
}

/// Dropped with the task, also when its runtime ends.
struct Followed(Newest);

impl Drop for Followed {
    fn drop(&mut self) {
        if !self.0.has_ended() {
            self.0.doubt();
        }
    }
}

async fn read(
    open: impl Fn() -> BoxStream<'static, Answer>,
    reopen: Option<Backoff>,
    newest: &Newest,
) {
    let mut pauses = reopen.unwrap_or_default().pauses();
    loop {
        let mut answers = guarded(&open);
        while let Some(answer) = answers.next().await {
            let is_error = answer.is_err();
            newest.give(answer);
            if is_error {
                // A source whose errors are always ready would keep this thread for good.
                tokio::task::yield_now().await;
            } else {
                pauses.reset();
            }
        }
        if reopen.is_none() {
            return newest.end();
        }
        pauses.pause().await;
    }
}
