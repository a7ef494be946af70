use std::fmt;
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::future::{Either, pending, select};
use futures_util::stream;
use tokio::sync::{Notify, watch as signal};
use tokio::time;

use super::cache_file::CacheFile;
use super::sharing::Shared;
use crate::discovery::backend::{Backoff, guarded, is_unsupported, next_of};
use crate::discovery::disk::{self, LATE};
use crate::discovery::fault::Fault;
use crate::discovery::{BoxFuture, BoxStream, Discovery, Lease, Registrar, Registration};
use crate::error::discovery::{DiscoveryError, RegisterError};
use crate::model::instance::InstanceSet;
use crate::model::name::Boundary;
use crate::model::target::Target;
use crate::runtime::clock;

type Answer = Result<InstanceSet, DiscoveryError>;

/// A source that says nothing is given that long before the stored set stands in for it.
const PATIENCE: Duration = Duration::from_millis(250);

/// Between two writes of one file.
const PACE: Duration = Duration::from_secs(1);

/// The longest pause before a write that failed is tried again.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// How long a set that may be a half answer is not stored: as long as a balancer doubts it by default.
const GRACE: Duration = Duration::from_secs(30);

/// The discovery that [`DiscoveryExt::cached`](crate::DiscoveryExt::cached) makes; clones share its watches.
#[derive(Clone)]
pub struct Cached<D> {
    stored: Shared<Stored<D>>,
}

impl<D: Discovery> Cached<D> {
    pub(super) fn new(discovery: D, folder: &Path) -> Self {
        let folder = folder.to_owned();
        Self {
            stored: Shared::new(Stored { discovery, folder }),
        }
    }
}

impl<D: Discovery> Discovery for Cached<D> {
    fn watch(&self, target: &Target) -> BoxStream<'static, Answer> {
        self.stored.watch(target)
    }

    fn peers(&self, boundary: &Boundary) -> BoxStream<'static, Answer> {
        self.stored.peers(boundary)
    }

    fn refresh(&self, target: &Target) {
        self.stored.refresh(target);
    }
}

impl<D: Registrar> Registrar for Cached<D> {
    fn register(
        &self,
        registration: Registration,
    ) -> BoxFuture<'static, Result<Lease, RegisterError>> {
        self.stored.register(registration)
    }
}

impl<D: fmt::Debug> fmt::Debug for Cached<D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Cached").field(&self.stored).finish()
    }
}

/// A discovery whose every watch reads and writes a file. It is polled by the task of a [`Shared`], so in a runtime.
#[derive(Debug)]
struct Stored<D> {
    discovery: D,
    folder: PathBuf,
}

impl<D: Discovery> Discovery for Stored<D> {
    fn watch(&self, target: &Target) -> BoxStream<'static, Answer> {
        let source = guarded(|| self.discovery.watch(target));
        Watch::new(source, CacheFile::of_target(&self.folder, target)).into_stream()
    }

    fn peers(&self, boundary: &Boundary) -> BoxStream<'static, Answer> {
        let source = guarded(|| self.discovery.peers(boundary));
        Watch::new(source, CacheFile::of_peers(&self.folder, boundary)).into_stream()
    }

    fn refresh(&self, target: &Target) {
        self.discovery.refresh(target);
    }
}

impl<D: Registrar> Registrar for Stored<D> {
    fn register(
        &self,
        registration: Registration,
    ) -> BoxFuture<'static, Result<Lease, RegisterError>> {
        self.discovery.register(registration)
    }
}

/// One watch of the source, and the file of its sets.
struct Watch {
    file: Arc<CacheFile>,
    /// `None` after its end.
    source: Option<BoxStream<'static, Answer>>,
    /// Gives the stored set when its time has come; `None` once it has, or once the source gave a set.
    stored: Option<BoxFuture<'static, Result<Option<InstanceSet>, DiscoveryError>>>,
    /// Told that the source failed: the stored set is needed now.
    needed: Arc<Notify>,
    /// The newest set for the task that writes; it ends when this is dropped.
    newest: Option<signal::Sender<InstanceSet>>,
}

impl Watch {
    fn new(source: BoxStream<'static, Answer>, file: CacheFile) -> Self {
        let file = Arc::new(file);
        let needed = Arc::new(Notify::new());
        let (read, told) = (Arc::clone(&file), Arc::clone(&needed));
        Self {
            file,
            source: Some(source),
            stored: Some(Box::pin(async move {
                let stored = read_from(&read).await;
                let stored = stored
                    .map_err(|fault| DiscoveryError::backend("reading a cached set", fault))?;
                if stored.is_some() {
                    let patience = pin!(time::sleep(PATIENCE));
                    select(patience, pin!(told.notified())).await;
                }
                Ok(stored)
            })),
            needed,
            newest: None,
        }
    }

    fn into_stream(self) -> BoxStream<'static, Answer> {
        Box::pin(stream::unfold(self, |mut watch| async move {
            let answer = watch.next().await?;
            Some((answer, watch))
        }))
    }

    async fn next(&mut self) -> Option<Answer> {
        loop {
            let told = {
                let stored = match &mut self.stored {
                    Some(stored) => Either::Left(stored),
                    None if self.source.is_none() => return None,
                    None => Either::Right(pending()),
                };
                let source = pin!(next_of(&mut self.source));
                match select(source, stored).await {
                    Either::Left((answer, _)) => Either::Left(answer),
                    Either::Right((stored, _)) => Either::Right(stored),
                }
            };
            match told {
                Either::Left(Some(Ok(set))) => {
                    self.stored = None;
                    self.store(&set);
                    return Some(Ok(set));
                }
                Either::Left(Some(Err(error))) if is_unsupported(&error) => {
                    // What an earlier source left has no successor here.
                    (self.source, self.stored) = (None, None);
                    return Some(Err(error));
                }
                Either::Left(Some(Err(error))) => {
                    self.needed.notify_one();
                    return Some(Err(error));
                }
                Either::Left(None) => {
                    self.source = None;
                    self.needed.notify_one();
                }
                Either::Right(stored) => {
                    self.stored = None;
                    match stored {
                        Ok(Some(set)) => {
                            self.file.log_use(&set);
                            return Some(Ok(set));
                        }
                        Ok(None) => {}
                        Err(error) => return Some(Err(error)),
                    }
                }
            }
        }
    }

    /// Hands a set to the task that writes the file.
    fn store(&mut self, set: &InstanceSet) {
        if set.provisional_age().is_some() {
            return;
        }
        match &self.newest {
            Some(newest) => drop(newest.send_replace(set.clone())),
            None => {
                let (newest, mut sets) = signal::channel(set.clone());
                sets.mark_changed();
                self.newest = Some(newest);
                tokio::spawn(write(Arc::clone(&self.file), sets));
            }
        }
    }
}

async fn read_from(file: &Arc<CacheFile>) -> Result<Option<InstanceSet>, Fault> {
    let read = Arc::clone(file);
    on_disk(file, move || read.read()).await
}

/// Does disk work on a thread for blocking work.
async fn on_disk<T: Send + 'static>(
    file: &CacheFile,
    work: impl FnOnce() -> Result<T, Fault> + Send + 'static,
) -> Result<T, Fault> {
    let late = || {
        let (path, after) = (file.path().display(), LATE);
        tracing::warn!(%path, ?after, "file of cached sets does not answer");
    };
    let done = disk::looked(work, late).await;
    done.unwrap_or_else(|error| Err(Fault::new(file.path(), error)))
}

/// Writes the newest set whenever there is another one, until the watch ends and its last set is written.
async fn write(file: Arc<CacheFile>, mut sets: signal::Receiver<InstanceSet>) {
    // What cannot be read is no reason to keep it.
    let stored = read_from(&file).await.ok().flatten();
    let mut stored = stored.map_or(0, |set| set.len());
    let mut pauses = Backoff::new(PACE, LONGEST_PAUSE).pauses();
    let mut is_failing = false;
    let mut has_ended = false;
    while !has_ended {
        if is_failing {
            // The end of the watch is a last chance.
            let (changed, paused) = (pin!(sets.changed()), pin!(pauses.pause()));
            has_ended = matches!(select(changed, paused).await, Either::Left((Err(_), _)));
        } else if sets.changed().await.is_err() {
            return;
        }
        // One that failed to be written has been judged.
        let is_new = sets.has_changed().unwrap_or_default() || !is_failing;
        let mut set = sets.borrow_and_update().clone();
        let grace_ends = clock::now() + GRACE;
        while is_new && may_be_half(&set, stored) {
            match changed_before(grace_ends, &mut sets).await {
                Some(Ok(())) => set = sets.borrow_and_update().clone(),
                // The watch has ended, and nobody knows whether this was the whole set.
                Some(Err(_)) => return,
                None => break,
            }
        }
        let (written, size) = (Arc::clone(&file), set.len());
        match on_disk(&file, move || written.write(&set)).await {
            Ok(()) => {
                stored = size;
                pauses.reset();
                if std::mem::take(&mut is_failing) {
                    tracing::info!(path = %file.path().display(), "sets are cached again");
                }
            }
            Err(fault) if !is_failing => {
                is_failing = true;
                let error: &dyn std::error::Error = &fault;
                tracing::warn!(error, "set could not be cached");
            }
            Err(_) => {}
        }
        time::sleep(PACE).await;
    }
}

async fn changed_before(
    at: Instant,
    sets: &mut signal::Receiver<InstanceSet>,
) -> Option<Result<(), signal::error::RecvError>> {
    time::timeout_at(at.into(), sets.changed()).await.ok()
}

fn may_be_half(set: &InstanceSet, stored: usize) -> bool {
    !set.is_confirmed() && (set.is_empty() && stored > 0 || set.len() * 2 < stored)
}
