//! Discovery from a stream of inserts and removals.

use std::error::Error as StdError;
use std::fmt;
use std::mem;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Wake, Waker};

use futures_core::Stream;
use futures_util::{StreamExt, stream};
use tokio::sync::watch as signal;

use super::backend::Listing;
use super::{BoxStream, Discovery, DiscoveryError, no_peers};
use crate::model::instance::{Instance, InstanceId, InstanceSet};
use crate::model::name::Boundary;
use crate::model::target::Target;

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
/// after the last set; if it never gave a change, that set is empty. A panic of the stream is that of the watch that
/// polled it, and the end of it for the others.
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
    let source = changes.map(|change| {
        change.map_err(|error| DiscoveryError::backend("reading the stream of changes", error))
    });
    let bell = Arc::new(Bell::default());
    Changes {
        shared: Arc::new(Shared {
            waker: bell.clone().into(),
            bell,
            state: Mutex::new(State {
                source: Source::Idle(Box::pin(source)),
                missed: false,
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

    /// An error: the stream knows no boundaries.
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
        self.shared.advance();
        let mut state = self.shared.state();
        let ended = matches!(state.source, Source::Ended);
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

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        // No code of others runs under the lock, so a poisoned state is a whole one.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes what the stream has ready. The stream is foreign code: it is polled with no lock held, by one watch at a time.
    fn advance(&self) {
        let Some(mut source) = self.state().lend() else {
            return;
        };
        let mut turn = Turn {
            shared: self,
            source: Source::Ended,
            taken: Vec::new(),
        };
        let mut cx = Context::from_waker(&self.waker);
        while turn.taken.len() < MOST_AT_ONCE {
            match source.as_mut().poll_next(&mut cx) {
                Poll::Ready(Some(answer)) => turn.taken.push(answer),
                Poll::Ready(None) => return,
                Poll::Pending => break,
            }
        }
        turn.source = Source::Idle(source);
    }
}

/// One watch's turn with the stream. What it took counts all at once when the turn is over, also by a panic of the stream.
struct Turn<'a> {
    shared: &'a Shared,
    /// What is left of it for the next turn.
    source: Source,
    taken: Vec<Answer>,
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        let source = mem::replace(&mut self.source, Source::Ended);
        let is_news = !self.taken.is_empty() || matches!(source, Source::Ended);
        let mut state = self.shared.state();
        // Errors of others, to be dropped after the lock.
        let overcome: Vec<_> = self
            .taken
            .drain(..)
            .filter_map(|answer| state.take(answer))
            .collect();
        state.source = source;
        let missed = mem::take(&mut state.missed);
        drop(state);
        drop(overcome);
        if is_news || missed {
            self.shared.bell.ring();
        }
    }
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
    source: Source,
    /// Whether a watch looked while another one had the stream: what woke it may have been for the next turn.
    missed: bool,
    listing: Listing,
    /// How many errors there were, and the last one unless a change came after it.
    errors: u64,
    error: Option<DiscoveryError>,
}

enum Source {
    Idle(BoxStream<'static, Answer>),
    /// A watch has it.
    Lent,
    Ended,
}

type Answer = Result<Change, DiscoveryError>;

/// Lets a stream that is always ready not hide its news for ever.
const MOST_AT_ONCE: usize = 1024;

impl State {
    fn lend(&mut self) -> Option<BoxStream<'static, Answer>> {
        match mem::replace(&mut self.source, Source::Lent) {
            Source::Idle(source) => return Some(source),
            Source::Lent => self.missed = true,
            Source::Ended => self.source = Source::Ended,
        }
        None
    }

    /// Applies an answer; the error that it overcame comes back.
    fn take(&mut self, answer: Answer) -> Option<DiscoveryError> {
        match answer {
            Ok(Change::Insert(instance)) => {
                self.listing.insert(instance, self.listing.version() + 1)
            }
            Ok(Change::Remove(id)) => self.listing.remove(&id, self.listing.version() + 1),
            Err(error) => {
                self.errors += 1;
                return self.error.replace(error);
            }
        }
        self.error.take()
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
        assert_eq!(set.get("b").unwrap().address().port().unwrap(), 3);
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

    #[test]
    fn a_stream_may_itself_watch_what_is_made_of_it() {
        let (done, finished) = std::sync::mpsc::channel();
        // On a thread of its own, so that it fails instead of hanging.
        std::thread::spawn(move || {
            let itself = Arc::new(std::sync::OnceLock::<Changes>::new());
            let asked = itself.clone();
            let changes = from_changes(stream::iter([insert("a", 1)]).inspect(move |_| {
                let mut answers = watch(asked.get().expect("set before the first poll"));
                assert!(now(&mut answers).is_none(), "nothing was said yet");
            }));
            let mut answers = watch(&changes);
            assert!(itself.set(changes).is_ok());
            done.send(set_now(&mut answers).len()).unwrap();
        });
        let answered = finished.recv_timeout(std::time::Duration::from_secs(10));
        assert_eq!(answered, Ok(1));
    }

    #[test]
    fn a_panic_of_the_stream_is_its_end_for_all_other_watches() {
        let panics = stream::poll_fn(|_| -> Poll<Option<Step>> { panic!("the stream panics") });
        let changes = from_changes(stream::iter([insert("a", 1)]).chain(panics));
        let mut answers = [watch(&changes), watch(&changes)];
        let first = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            now(&mut answers[0]).is_some()
        }));
        assert!(first.is_err(), "the panic is not hidden");
        assert_eq!(set_now(&mut answers[1]).len(), 1, "what it said before");
        assert!(now(&mut answers[1]).unwrap().is_none());
    }

    #[test]
    fn a_watch_that_was_woken_while_another_one_had_the_stream_is_woken_again() {
        let other = Arc::new(Mutex::new(None::<tokio_test::task::Spawn<Answers>>));
        let woken = Arc::clone(&other);
        let mut polls = 0;
        let changes = from_changes(stream::poll_fn(move |cx| {
            polls += 1;
            match polls {
                1 => Poll::Ready(Some(insert("a", 1))),
                4 => {
                    cx.waker().wake_by_ref();
                    let mut woken = woken.lock().unwrap();
                    assert!(woken.as_mut().unwrap().poll_next().is_pending());
                    Poll::Pending
                }
                5 => Poll::Ready(Some(insert("b", 2))),
                _ => Poll::Pending,
            }
        }));
        let mut asleep = tokio_test::task::spawn(watch(&changes));
        assert!(asleep.poll_next().is_ready() && asleep.poll_next().is_pending());
        *other.lock().unwrap() = Some(asleep);
        let mut brief = watch(&changes);
        assert_eq!(set_now(&mut brief).len(), 1);
        drop(brief);
        let mut other = other.lock().unwrap().take().unwrap();
        assert!(other.is_woken(), "nobody else is left to poll the stream");
        assert!(matches!(other.poll_next(), Poll::Ready(Some(Ok(set))) if set.len() == 2));
    }
}
