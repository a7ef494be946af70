//! Discovery from a stream of inserts and removals.

use std::error::Error as StdError;
use std::fmt;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use futures_core::Stream;
use futures_util::{FutureExt, StreamExt, stream};
use tokio::sync::{Mutex, OwnedMutexGuard};
use tokio::task;

use super::backend::{Fanout, Listing};
use super::{BoxStream, Discovery, no_peers};
use crate::error::discovery::DiscoveryError;
use crate::model::instance::{Instance, InstanceId, InstanceSet};
use crate::model::name::Boundary;
use crate::model::target::Target;
use crate::runtime::panic::Panicked;

/// One step of a membership.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// Adds this instance, or replaces the one with its id.
    Insert(Instance),
    /// Removes the instance with this id. Does nothing if there is none.
    Remove(InstanceId),
}

/// Makes a discovery from a stream of single changes, such as tower's `Discover` or a watch of your own.
///
/// The stream describes one set, which every target gets. All watches of it and of its clones share that set, and each starts
/// with the current one. The first set contains all changes that are ready when the stream gives its first change. The stream
/// is read only while there is a watch.
///
/// An error is reported to every watch, and the stream is read further. When the stream ends, every watch ends after the last
/// set. That set is empty if there was no change. A panic of the stream is reported as an error and ends it.
///
/// # Panics
///
/// A watch must be polled inside a tokio runtime. Outside, it stays pending.
///
/// # Examples
///
/// ```
/// use futures::stream;
/// use rolecall::Instance;
/// use rolecall::discovery::{Change, from_changes};
///
/// let instance = Instance::new("worker-1", ([127, 0, 0, 1], 8001));
/// let discovery = from_changes(stream::iter([Ok::<_, std::io::Error>(Change::Insert(instance))]));
/// ```
pub fn from_changes<S, E>(changes: S) -> Changes
where
    S: Stream<Item = Result<Change, E>> + Send + 'static,
    E: Into<Box<dyn StdError + Send + Sync>>,
{
    let failed = |error| DiscoveryError::backend("reading the stream of changes", error);
    let changes = AssertUnwindSafe(changes).catch_unwind();
    let changes = changes.map(move |polled| match polled {
        Ok(change) => change.map_err(|error| failed(error.into())),
        Err(panic) => Err(failed(Panicked::new(panic).into())),
    });
    let membership = Arc::new(Mutex::new(Membership {
        changes: Some(Box::pin(changes.ready_chunks(MOST_AT_ONCE))),
        listing: Listing::default(),
    }));
    // One run at a time has the membership, and the next one goes on with it.
    let run = move |(), _| {
        let membership = Arc::clone(&membership).lock_owned();
        membership.map(Run::answers).flatten_stream()
    };
    Changes {
        sets: Fanout::new(run, None),
        confirmed: false,
    }
}

/// The discovery of [`from_changes`]. Clones share the stream.
#[derive(Clone)]
pub struct Changes {
    sets: Fanout<()>,
    confirmed: bool,
}

impl Changes {
    /// Marks the sets as [confirmed](InstanceSet::confirmed), so that the loss of most instances is not doubted.
    ///
    /// By default they are not confirmed, because many such streams relay the answers of a lookup that may fail.
    #[must_use]
    pub fn confirmed(mut self) -> Self {
        self.confirmed = true;
        self
    }
}

impl Discovery for Changes {
    fn watch(&self, _: &Target) -> BoxStream<'static, Result<InstanceSet, DiscoveryError>> {
        let sets = self.sets.watch(&());
        if self.confirmed {
            Box::pin(sets.map(|answer| answer.map(InstanceSet::confirmed)))
        } else {
            sets
        }
    }

    /// Returns [`no_peers`](super::no_peers): the stream has no boundaries.
    fn peers(&self, _: &Boundary) -> BoxStream<'static, Result<InstanceSet, DiscoveryError>> {
        no_peers()
    }

    fn refresh(&self, _: &Target) {}
}

impl fmt::Debug for Changes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Changes")
            .field("confirmed", &self.confirmed)
            .finish_non_exhaustive()
    }
}

/// The number of changes after which a set is published, although the stream is still ready.
const MOST_AT_ONCE: usize = 1024;

/// The current set, and the rest of the stream.
struct Membership {
    /// `None` after its end.
    changes: Option<BoxStream<'static, Vec<Result<Change, DiscoveryError>>>>,
    listing: Listing,
}

/// Reads the stream until it ends or there is no watch.
struct Run {
    membership: OwnedMutexGuard<Membership>,
    /// The version of the set that it returned last.
    given: Option<u64>,
    error: Option<DiscoveryError>,
}

impl Run {
    fn answers(
        membership: OwnedMutexGuard<Membership>,
    ) -> impl Stream<Item = Result<InstanceSet, DiscoveryError>> + Send {
        let run = Self {
            membership,
            given: None,
            error: None,
        };
        stream::unfold(run, |mut run| async move {
            let answer = run.next().await?;
            Some((answer, run))
        })
    }

    async fn next(&mut self) -> Option<Result<InstanceSet, DiscoveryError>> {
        loop {
            let Membership { changes, listing } = &mut *self.membership;
            let version = listing.version();
            if self.given != Some(version) && (version > 0 || changes.is_none()) {
                self.given = Some(version);
                return Some(Ok(listing.set()));
            }
            if let Some(error) = self.error.take() {
                return Some(Err(error));
            }
            let Some(chunk) = changes.as_mut()?.next().await else {
                *changes = None;
                continue;
            };
            let is_full = chunk.len() == MOST_AT_ONCE;
            for change in chunk {
                let version = listing.version() + 1;
                // A change says that the source works again.
                self.error = match change {
                    Ok(Change::Insert(instance)) => {
                        listing.insert(instance, version);
                        None
                    }
                    Ok(Change::Remove(id)) => {
                        listing.remove(&id, version);
                        None
                    }
                    Err(error) => Some(error),
                };
            }
            if is_full {
                // Other tasks get to run.
                task::yield_now().await;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::task::Poll;

    use futures::channel::mpsc;

    use super::*;

    type Answers = BoxStream<'static, Result<InstanceSet, DiscoveryError>>;
    type Step = Result<Change, &'static str>;

    fn insert(id: &str, port: u16) -> Step {
        Ok(Change::Insert(Instance::new(id, ([127, 0, 0, 1], port))))
    }

    fn remove(id: &str) -> Step {
        Ok(Change::Remove(id.into()))
    }

    fn watch(changes: &Changes) -> Answers {
        changes.watch(&"worker:http".parse().unwrap())
    }

    fn scripted() -> (mpsc::UnboundedSender<Step>, Changes) {
        let (steps, stream) = mpsc::unbounded();
        (steps, from_changes(stream))
    }

    /// Returns the set after the reading task has run.
    async fn now(answers: &mut Answers) -> Option<Option<Result<InstanceSet, DiscoveryError>>> {
        for _ in 0..100 {
            if let Some(answer) = answers.next().now_or_never() {
                return Some(answer);
            }
            task::yield_now().await;
        }
        None
    }

    async fn set_now(answers: &mut Answers) -> InstanceSet {
        now(answers)
            .await
            .expect("news")
            .expect("no end")
            .expect("a set")
    }

    #[tokio::test]
    async fn what_is_ready_together_is_one_set() {
        let (steps, changes) = scripted();
        let mut answers = watch(&changes);
        assert!(now(&mut answers).await.is_none(), "nothing was said yet");
        for step in [
            insert("a", 1),
            insert("b", 2),
            remove("a"),
            insert("b", 3),
            remove("x"),
        ] {
            steps.unbounded_send(step).unwrap();
        }
        let set = set_now(&mut answers).await;
        assert_eq!(set.len(), 1);
        assert_eq!(set.get("b").unwrap().address().port().unwrap(), 3);
        assert!(!set.is_confirmed());
        assert!(now(&mut answers).await.is_none());
        steps.unbounded_send(insert("b", 3)).unwrap();
        assert!(
            now(&mut answers).await.is_none(),
            "saying the same again is no news"
        );
    }

    #[tokio::test]
    async fn every_watch_begins_with_the_present_set() {
        let (steps, changes) = scripted();
        steps.unbounded_send(insert("a", 1)).unwrap();
        let mut first = watch(&changes);
        assert_eq!(set_now(&mut first).await.len(), 1);
        let mut second = watch(&changes.clone().confirmed());
        let set = set_now(&mut second).await;
        assert!(set.len() == 1 && set.is_confirmed());
    }

    #[tokio::test]
    async fn a_watch_that_is_not_polled_holds_up_nobody() {
        let (steps, changes) = scripted();
        let mut idle = watch(&changes);
        assert!(
            now(&mut idle).await.is_none(),
            "polled once, and never again"
        );
        let mut dropped = watch(&changes);
        assert!(now(&mut dropped).await.is_none());
        let mut waiting = [watch(&changes), watch(&changes)].map(|mut answers| {
            tokio::spawn(async move { answers.next().await.unwrap().unwrap().len() })
        });
        tokio::task::yield_now().await;
        drop(dropped);
        steps.unbounded_send(insert("a", 1)).unwrap();
        for woken in &mut waiting {
            assert_eq!(woken.await.unwrap(), 1);
        }
    }

    #[tokio::test]
    async fn an_error_reaches_every_watch_and_changes_no_membership() {
        let (steps, changes) = scripted();
        let mut answers = [watch(&changes), watch(&changes)];
        steps.unbounded_send(insert("a", 1)).unwrap();
        steps.unbounded_send(Err("connection reset")).unwrap();
        for answers in &mut answers {
            assert_eq!(set_now(answers).await.len(), 1);
            let error = now(answers).await.unwrap().unwrap().unwrap_err();
            assert_eq!(error.source().unwrap().to_string(), "connection reset");
            assert!(now(answers).await.is_none());
        }
        steps.unbounded_send(insert("b", 2)).unwrap();
        assert_eq!(set_now(&mut answers[0]).await.len(), 2);
        let mut late = watch(&changes);
        assert_eq!(set_now(&mut late).await.len(), 2);
        assert!(
            now(&mut late).await.is_none(),
            "an error that was overcome is history"
        );
    }

    #[tokio::test]
    async fn the_end_of_the_stream_ends_every_watch_after_its_last_set() {
        let (steps, changes) = scripted();
        let mut early = watch(&changes);
        assert!(now(&mut early).await.is_none());
        steps.unbounded_send(insert("a", 1)).unwrap();
        drop(steps);
        for mut answers in [early, watch(&changes)] {
            assert_eq!(set_now(&mut answers).await.len(), 1);
            assert!(now(&mut answers).await.unwrap().is_none());
        }
    }

    #[tokio::test]
    async fn a_stream_that_ends_at_once_says_that_nobody_is_there() {
        let changes = from_changes(stream::empty::<Step>());
        let mut answers = watch(&changes);
        assert!(set_now(&mut answers).await.is_empty());
        assert!(now(&mut answers).await.unwrap().is_none());
    }

    #[tokio::test]
    async fn a_stream_that_is_always_ready_does_not_starve_its_watchers() {
        let same = stream::repeat_with(|| insert("a", 1)).take(5 * MOST_AT_ONCE);
        let changes = from_changes(
            same.chain(stream::iter([insert("b", 2)]))
                .chain(stream::pending()),
        );
        let mut answers = watch(&changes);
        assert_eq!(answers.next().await.unwrap().unwrap().len(), 1);
        assert_eq!(answers.next().await.unwrap().unwrap().len(), 2);
    }

    #[tokio::test]
    async fn a_stream_may_itself_watch_what_is_made_of_it() {
        let itself = Arc::new(std::sync::OnceLock::<Changes>::new());
        let asked = itself.clone();
        let changes = from_changes(stream::iter([insert("a", 1)]).inspect(move |_| {
            let mut answers = watch(asked.get().expect("set before the first poll"));
            assert!(
                answers.next().now_or_never().is_none(),
                "nothing was said yet"
            );
        }));
        let mut answers = watch(&changes);
        assert!(itself.set(changes).is_ok());
        assert_eq!(set_now(&mut answers).await.len(), 1);
    }

    #[tokio::test]
    async fn a_panic_of_the_stream_is_its_last_error() {
        let panics = stream::poll_fn(|_| -> Poll<Option<Step>> { panic!("out of tune") });
        let changes = from_changes(stream::iter([insert("a", 1)]).chain(panics));
        for mut answers in [watch(&changes), watch(&changes)] {
            assert_eq!(set_now(&mut answers).await.len(), 1, "what it said before");
            let error = now(&mut answers).await.unwrap().unwrap().unwrap_err();
            assert!(error.with_causes().ends_with("panicked: out of tune"));
            assert!(now(&mut answers).await.unwrap().is_none());
        }
    }

    #[tokio::test]
    async fn a_watch_goes_on_where_the_last_one_ended() {
        let (steps, changes) = scripted();
        let mut brief = watch(&changes);
        steps.unbounded_send(insert("a", 1)).unwrap();
        assert_eq!(set_now(&mut brief).await.len(), 1);
        drop(brief);
        steps.unbounded_send(insert("b", 2)).unwrap();
        let mut next = watch(&changes);
        while set_now(&mut next).await.len() < 2 {}
        assert!(now(&mut next).await.is_none());
    }
}
