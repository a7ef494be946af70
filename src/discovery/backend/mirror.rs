use std::error::Error as StdError;
use std::fmt;
use std::future::Future;
use std::sync::Arc;

use futures_core::Stream;
use futures_util::{FutureExt, StreamExt};

use super::backoff::Backoff;
use super::catalog::Catalog;
use super::task::Task;
use super::update::CatalogUpdate;
use crate::discovery::{BoxStream, Discovery};
use crate::error::discovery::DiscoveryError;
use crate::model::instance::InstanceSet;
use crate::model::name::Boundary;
use crate::model::target::Target;
use crate::runtime::clock;
use crate::runtime::panic::{Panicked, caught};

/// A discovery that mirrors a source which lists everything and then tells changes.
///
/// `open` opens the source: first the stream gives a [`Replace`](CatalogUpdate::Replace) of everything, then updates. While
/// there are watches, one task reads one stream for all of them.
///
/// - Updates that are ready together become visible together.
/// - An `Err` reaches every watch, and after a pause the stream is read on. The next update says that the fault is over.
/// - A stream that ends or panics is opened again after a pause. Until it has listed again, the last contents stay.
/// - Sets are not confirmed unless the stream says so by [`Confirmed`](CatalogUpdate::Confirmed).
///
/// # Panics
///
/// A watch has to be polled in a tokio runtime with timers; elsewhere it gives nothing.
///
/// # Examples
///
/// ```
/// use futures::{StreamExt, stream};
/// use rolecall::discovery::backend::{Backoff, CatalogUpdate, Scope, mirror};
/// use rolecall::{Discovery, Registration};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// // What a list and then a watch of some store would give.
/// let open = || {
///     let worker = Registration::new("worker").endpoint("http", ([10, 0, 0, 7], 80));
///     let listed = worker.validate().map(|worker| CatalogUpdate::Replace(Scope::All, vec![worker]));
///     stream::iter([listed]).chain(stream::pending())
/// };
/// let discovery = mirror(open, Backoff::default());
/// let mut sets = discovery.watch(&"worker:http".parse()?);
/// assert_eq!(sets.next().await.ok_or("ended")??.len(), 1);
/// # Ok(())
/// # }
/// ```
pub fn mirror<F, S, E>(open: F, backoff: Backoff) -> Mirror
where
    F: Fn() -> S + Send + Sync + 'static,
    S: Stream<Item = Result<CatalogUpdate, E>> + Send + 'static,
    E: Into<Box<dyn StdError + Send + Sync>> + Send + 'static,
{
    let open = Arc::new(open);
    Mirror::fed_by(move |catalog| {
        let open = Arc::clone(&open);
        async move { run(&*open, backoff, &catalog).await }
    })
}

/// The discovery that [`mirror`] makes; clones share the task and the contents.
#[derive(Clone)]
pub struct Mirror {
    catalog: Catalog,
    task: Arc<Task>,
}

impl Mirror {
    /// Of work that feeds the catalog while there are watches.
    pub(in crate::discovery) fn fed_by<W>(
        work: impl Fn(Catalog) -> W + Send + Sync + 'static,
    ) -> Self
    where
        W: Future<Output = ()> + Send + 'static,
    {
        let catalog = Catalog::pending();
        let fed = catalog.clone();
        let task = Task::new(move |mut users| {
            let (catalog, work) = (fed.clone(), work(fed.clone()));
            async move {
                let _followed = Followed(catalog);
                users.while_any(work).await;
            }
        });
        Self { catalog, task }
    }

    /// The work, for those who need it without a watch.
    #[cfg(all(feature = "folder", unix))]
    pub(in crate::discovery) fn task(&self) -> &Arc<Task> {
        &self.task
    }
}

/// Dropped with the task, also when its runtime ends: nothing is followed then, and what is here grows old.
struct Followed(Catalog);

impl Drop for Followed {
    fn drop(&mut self) {
        self.0.unlist();
    }
}

/// Updates that are applied at once, at most.
const MOST_AT_ONCE: usize = 1024;

async fn run<F, S, E>(open: &F, backoff: Backoff, catalog: &Catalog)
where
    F: Fn() -> S,
    S: Stream<Item = Result<CatalogUpdate, E>> + Send + 'static,
    E: Into<Box<dyn StdError + Send + Sync>>,
{
    let mut pauses = backoff.pauses();
    loop {
        let mut since = clock::now();
        let mut updates = match caught(open) {
            Ok(stream) => caught_stream(stream).fuse(),
            Err(panic) => {
                catalog.fault(DiscoveryError::backend("opening the source", panic));
                pauses.pause().await;
                continue;
            }
        };
        while let Some(first) = updates.next().await {
            let mut batch = Vec::new();
            let mut failed = None;
            let mut next = Some(first);
            // What is ready is applied at once. An error ends it: the source is not asked again before the pause.
            while let Some(update) = next.take() {
                match update {
                    Ok(update) => {
                        if batch.is_empty() {
                            batch.push(CatalogUpdate::Recovered);
                        }
                        batch.push(update);
                    }
                    Err(error) => failed = Some(error),
                }
                if failed.is_none() && batch.len() <= MOST_AT_ONCE {
                    next = updates.next().now_or_never().flatten();
                }
            }
            if !batch.is_empty() {
                pauses.steady(since);
            }
            batch.extend(failed.clone().map(CatalogUpdate::Fault));
            catalog.apply(batch);
            if failed.is_some() {
                pauses.pause().await;
                since = clock::now();
            }
        }
        pauses.pause().await;
    }
}

/// The stream, whose panic is its last error.
fn caught_stream<S, T, E>(
    stream: S,
) -> impl Stream<Item = Result<T, DiscoveryError>> + Send + use<S, T, E>
where
    S: Stream<Item = Result<T, E>> + Send + 'static,
    E: Into<Box<dyn StdError + Send + Sync>>,
{
    std::panic::AssertUnwindSafe(Box::pin(stream))
        .catch_unwind()
        .map(|polled| match polled {
            Ok(Ok(item)) => Ok(item),
            Ok(Err(error)) => Err(DiscoveryError::backend("reading the source", error)),
            Err(panic) => {
                let panic = Panicked::new(panic);
                Err(DiscoveryError::backend("reading the source", panic))
            }
        })
}

impl Discovery for Mirror {
    fn watch(&self, target: &Target) -> BoxStream<'static, Result<InstanceSet, DiscoveryError>> {
        self.task.feeding(self.catalog.watch(target))
    }

    fn peers(
        &self,
        boundary: &Boundary,
    ) -> BoxStream<'static, Result<InstanceSet, DiscoveryError>> {
        self.task.feeding(self.catalog.peers(boundary))
    }

    fn refresh(&self, _: &Target) {}
}

impl fmt::Debug for Mirror {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Mirror").finish_non_exhaustive()
    }
}
