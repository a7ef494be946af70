//! The newest answer of one watch, for any number of readers.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Poll;

use futures_util::stream;
use tokio::sync::watch as signal;

use crate::discovery::BoxStream;
use crate::error::discovery::DiscoveryError;
use crate::model::instance::InstanceSet;

type Answer = Result<InstanceSet, DiscoveryError>;

/// Clones share it. Readers keep no queue: each gets the newest set, and then the newest error unless a set came after it.
#[derive(Clone, Default)]
pub(in crate::discovery) struct Newest {
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    bell: signal::Sender<()>,
}

#[derive(Default)]
struct State {
    sets: u64,
    set: Option<InstanceSet>,
    errors: u64,
    error: Option<DiscoveryError>,
    has_ended: bool,
}

impl State {
    /// Whether the source itself gave a set.
    fn is_live(&self) -> bool {
        let set = self.set.as_ref();
        set.is_some_and(|set| set.provisional_age().is_none())
    }
}

impl Newest {
    pub(in crate::discovery) fn give(&self, answer: Answer) {
        let overcome = {
            let mut state = self.shared.state();
            match answer {
                // The source has started again in another runtime: what it gave itself is newer.
                Ok(set) if set.provisional_age().is_some() && state.is_live() => None,
                Ok(set) => {
                    state.sets += 1;
                    let is_live = set.provisional_age().is_none();
                    state.set = Some(set);
                    // A stand-in overcomes no error of the source.
                    state.error.take_if(|_| is_live)
                }
                Err(error) => {
                    state.errors += 1;
                    state.error.replace(error)
                }
            }
        };
        // Foreign, so with no lock held.
        drop(overcome);
        self.shared.bell.send_replace(());
    }

    /// The source is not followed any more: its set grows old.
    pub(in crate::discovery) fn doubt(&self) {
        let mut state = self.shared.state();
        state.set = state.set.take().map(InstanceSet::unconfirmed);
    }

    /// No more answers come.
    pub(in crate::discovery) fn end(&self) {
        self.shared.state().has_ended = true;
        self.shared.bell.send_replace(());
    }

    pub(in crate::discovery) fn has_ended(&self) -> bool {
        self.shared.state().has_ended
    }

    pub(in crate::discovery) fn read(&self) -> BoxStream<'static, Answer> {
        let reader = Reader {
            bell: self.shared.bell.subscribe(),
            shared: Arc::clone(&self.shared),
            sets: 0,
            errors: 0,
        };
        Box::pin(stream::unfold(reader, |mut reader| async move {
            let answer = reader.next().await?;
            Some((answer, reader))
        }))
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        // No foreign code runs under the lock, so a poisoned state is whole.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

struct Reader {
    shared: Arc<Shared>,
    bell: signal::Receiver<()>,
    /// How many it was told of.
    sets: u64,
    errors: u64,
}

impl Reader {
    async fn next(&mut self) -> Option<Answer> {
        loop {
            // Before looking, so that a change during the look rings again.
            self.bell.mark_unchanged();
            if let Poll::Ready(answer) = self.look() {
                return answer;
            }
            self.bell.changed().await.ok()?;
        }
    }

    fn look(&mut self) -> Poll<Option<Answer>> {
        let state = self.shared.state();
        if let Some(set) = &state.set
            && self.sets != state.sets
        {
            self.sets = state.sets;
            return Poll::Ready(Some(Ok(set.clone())));
        }
        if let Some(error) = &state.error
            && self.errors != state.errors
        {
            self.errors = state.errors;
            return Poll::Ready(Some(Err(error.clone())));
        }
        if state.has_ended {
            return Poll::Ready(None);
        }
        Poll::Pending
    }
}

#[cfg(test)]
mod tests {
    use futures::{FutureExt, StreamExt};

    use super::*;
    use crate::model::instance::Instance;

    fn set(count: u16) -> InstanceSet {
        let at = |n: u16| Instance::new(n.to_string(), ([127, 0, 0, 1], n));
        (1..=count).map(at).collect()
    }

    #[test]
    fn each_reader_gets_the_newest_set_then_the_newest_error_then_the_end() {
        let newest = Newest::default();
        let mut early = newest.read();
        assert!(early.next().now_or_never().is_none());
        newest.give(Err(DiscoveryError::backend("asking", "overcome")));
        newest.give(Ok(set(1)));
        newest.give(Ok(set(2)));
        newest.give(Err(DiscoveryError::backend("asking", "now")));
        newest.end();
        for mut reader in [early, newest.read()] {
            let mut next = || reader.next().now_or_never().expect("an answer");
            assert_eq!(next().unwrap().unwrap().len(), 2);
            let error = next().unwrap().unwrap_err();
            assert!(error.with_causes().ends_with("now"), "{error}");
            assert!(next().is_none());
        }
    }
}
