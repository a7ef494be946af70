//! Discovery from a stream of inserts and removals.

use std::error::Error as StdError;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Wake, Waker};

use futures_core::Stream;
use futures_util::{StreamExt, stream};
use tokio::sync::watch as signal;

use super::listing::Listing;
use super::{BoxStream, Discovery, DiscoveryError};
use crate::instance::{Instance, InstanceId, InstanceSet};
use crate::target::Target;

/// One step of a membership.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// This instance is there, in place of an earlier one of its id.
    Insert(Instance),
    /// The instance of this id is gone; nothing happens if it was not there.
    Remove(InstanceId),
}

/// A discovery from a stream of single changes, such as tower's `Discover` or a watch of your own.
///
/// The stream is one membership, and every target gets it. All watches of it and of its clones share what the stream
/// said so far: each begins with the present set, and each drives the stream, so none waits for another. The first set
/// is made when the stream has given its first change, of all changes that are ready by then.
///
/// An error is reported to every watch and ends nothing: the stream is polled on. When it ends, every watch ends
/// after the last set; if it never gave a change, that set is empty.
///
/// # Examples
///
/// ```
/// use futures::stream;
/// use rolecall::Instance;
/// use rolecall::discovery::{Change, from_changes};
///
/// let instance = Instance::new("worker-1", ([127, 0, 0, 1], 8001).into());
/// let discovery = from_changes(stream::iter([Ok::<_, std::io::Error>(Change::Insert(instance))]));
/// ```
pub fn from_changes<S, E>(changes: S) -> Changes
where
    S: Stream<Item = Result<Change, E>> + Send + 'static,
    E: Into<Box<dyn StdError + Send + Sync>>,
{
    let source = changes.map(|change| {
        change.map_err(|error| DiscoveryError::backend("reading the stream of changes", error))
    });
    let bell = Arc::new(Bell::default());
    Changes {
        shared: Arc::new(Shared {
            waker: bell.clone().into(),
            bell,
            state: Mutex::new(State {
                source: Some(Box::pin(source)),
                listing: Listing::default(),
                errors: 0,
                error: None,
            }),
        }),
        confirmed: false,
    }
}

/// The discovery that [`from_changes`] makes; clones share the stream.
#[derive(Clone)]
pub struct Changes {
    shared: Arc<Shared>,
    confirmed: bool,
}

impl Changes {
    /// Vouches for the stream: what it removes is gone, also if few or none are left.
    ///
    /// By default its sets are not [confirmed](InstanceSet::confirmed): a sudden loss of most instances is doubted for a
    /// while, since many such streams relay what a lookup happened to answer.
    #[must_use]
    pub fn confirmed(mut self) -> Self {
        self.confirmed = true;
        self
    }
}

impl Discovery for Changes {
    fn watch(&self, _: &Target) -> BoxStream<'static, Result<InstanceSet, DiscoveryError>> {
        let watch = Watch {
            shared: self.shared.clone(),
            news: self.shared.bell.0.subscribe(),
            confirmed: self.confirmed,
            told: None,
            errors_told: 0,
        };
        Box::pin(stream::unfold(watch, |mut watch| async move {
            let answer = watch.next().await?;
            Some((answer, watch))
        }))
    }
}

impl fmt::Debug for Changes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Changes")
            .field("confirmed", &self.confirmed)
            .finish_non_exhaustive()
    }
}

struct Watch {
    shared: Arc<Shared>,
    news: signal::Receiver<()>,
    confirmed: bool,
    told: Option<u64>,
    errors_told: u64,
}

impl Watch {
    async fn next(&mut self) -> Option<Result<InstanceSet, DiscoveryError>> {
        loop {
            // Before looking, so that a change during the look rings again.
            self.news.mark_unchanged();
            if let Poll::Ready(answer) = self.look() {
                return answer;
            }
            self.news.changed().await.ok()?;
        }
    }

    fn look(&mut self) -> Poll<Option<Result<InstanceSet, DiscoveryError>>> {
        let mut state = self
            .shared
            .state
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if state.advance(&self.shared.waker) {
            self.shared.bell.ring();
        }
        let ended = state.source.is_none();
        let version = state.listing.version();
        if self.told != Some(version) && (version > 0 || ended) {
            self.told = Some(version);
            let set = state.listing.set();
            return Poll::Ready(Some(Ok(if self.confirmed { set.confirmed() } else { set })));
        }
        if self.errors_told < state.errors {
            self.errors_told = state.errors;
            if let Some(error) = &state.error {
                return Poll::Ready(Some(Err(error.clone())));
            }
        }
        if ended {
            Poll::Ready(None)
        } else {
            Poll::Pending
        }
    }
}

struct Shared {
    state: Mutex<State>,
    bell: Arc<Bell>,
    /// Rings the bell, so that the stream wakes every watch and not only the one that polled it last.
    waker: Waker,
}

#[derive(Default)]
struct Bell(signal::Sender<()>);

impl Bell {
    fn ring(&self) {
        self.0.send_replace(());
    }
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.ring();
    }
}

struct State {
    /// `None` once it ended.
    source: Option<BoxStream<'static, Result<Change, DiscoveryError>>>,
    listing: Listing,
    /// How many errors there were, and the last one unless a change came after it.
    errors: u64,
    error: Option<DiscoveryError>,
}

/// Lets a stream that is always ready neither hold the lock nor hide its news for ever.
const MOST_AT_ONCE: usize = 1024;

impl State {
    /// Takes what the stream has ready. True if there was anything, so that every watch has to look.
    fn advance(&mut self, waker: &Waker) -> bool {
        let mut cx = Context::from_waker(waker);
        for taken in 0..MOST_AT_ONCE {
            let Some(source) = &mut self.source else {
                return taken > 0;
            };
            match source.as_mut().poll_next(&mut cx) {
                Poll::Ready(Some(Ok(change))) => self.apply(change),
                Poll::Ready(Some(Err(error))) => {
                    self.errors += 1;
                    self.error = Some(error);
                }
                Poll::Ready(None) => {
                    self.source = None;
                    return true;
                }
                Poll::Pending => return taken > 0,
            }
        }
        true
    }

    fn apply(&mut self, change: Change) {
        match change {
            Change::Insert(instance) => self.listing.insert(instance),
            Change::Remove(id) => self.listing.remove(&id),
        }
        self.error = None;
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;
    use futures::channel::mpsc;

    use super::*;

    type Answers = BoxStream<'static, Result<InstanceSet, DiscoveryError>>;
    type Step = Result<Change, &'static str>;

    fn insert(id: &str, port: u16) -> Step {
        Ok(Change::Insert(Instance::new(
            id,
            ([127, 0, 0, 1], port).into(),
        )))
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

    fn now(answers: &mut Answers) -> Option<Option<Result<InstanceSet, DiscoveryError>>> {
        answers.next().now_or_never()
    }

    fn set_now(answers: &mut Answers) -> InstanceSet {
        now(answers).expect("news").expect("no end").expect("a set")
    }

    #[test]
    fn what_is_ready_together_is_one_set() {
        let (steps, changes) = scripted();
        let mut answers = watch(&changes);
        assert!(now(&mut answers).is_none(), "nothing was said yet");
        for step in [
            insert("a", 1),
            insert("b", 2),
            remove("a"),
            insert("b", 3),
            remove("x"),
        ] {
            steps.unbounded_send(step).unwrap();
        }
        let set = set_now(&mut answers);
        assert_eq!(set.len(), 1);
        assert_eq!(set.get("b").unwrap().addr().port(), 3);
        assert!(!set.is_confirmed());
        assert!(now(&mut answers).is_none());
        steps.unbounded_send(insert("b", 3)).unwrap();
        assert!(
            now(&mut answers).is_none(),
            "saying the same again is no news"
        );
    }

    #[test]
    fn every_watch_begins_with_the_present_set() {
        let (steps, changes) = scripted();
        steps.unbounded_send(insert("a", 1)).unwrap();
        let mut first = watch(&changes);
        assert_eq!(set_now(&mut first).len(), 1);
        let mut second = watch(&changes.clone().confirmed());
        let set = set_now(&mut second);
        assert!(set.len() == 1 && set.is_confirmed());
    }

    #[tokio::test]
    async fn a_watch_that_is_not_polled_holds_up_nobody() {
        let (steps, changes) = scripted();
        let mut idle = watch(&changes);
        assert!(now(&mut idle).is_none(), "polled once, and never again");
        let mut dropped = watch(&changes);
        assert!(now(&mut dropped).is_none());
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

    #[test]
    fn an_error_reaches_every_watch_and_changes_no_membership() {
        let (steps, changes) = scripted();
        let mut answers = [watch(&changes), watch(&changes)];
        steps.unbounded_send(insert("a", 1)).unwrap();
        steps.unbounded_send(Err("connection reset")).unwrap();
        for answers in &mut answers {
            assert_eq!(set_now(answers).len(), 1);
            let error = now(answers).unwrap().unwrap().unwrap_err();
            assert_eq!(error.source().unwrap().to_string(), "connection reset");
            assert!(now(answers).is_none());
        }
        steps.unbounded_send(insert("b", 2)).unwrap();
        let mut late = watch(&changes);
        assert_eq!(set_now(&mut late).len(), 2);
        assert!(
            now(&mut late).is_none(),
            "an error that was overcome is history"
        );
    }

    #[test]
    fn the_end_of_the_stream_ends_every_watch_after_its_last_set() {
        let (steps, changes) = scripted();
        let mut early = watch(&changes);
        assert!(now(&mut early).is_none());
        steps.unbounded_send(insert("a", 1)).unwrap();
        drop(steps);
        for mut answers in [early, watch(&changes)] {
            assert_eq!(set_now(&mut answers).len(), 1);
            assert!(now(&mut answers).unwrap().is_none());
        }
    }

    #[test]
    fn a_stream_that_ends_at_once_says_that_nobody_is_there() {
        let changes = from_changes(stream::empty::<Step>());
        let mut answers = watch(&changes);
        assert!(set_now(&mut answers).is_empty());
        assert!(now(&mut answers).unwrap().is_none());
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
}
