use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use futures_util::StreamExt;

use super::mirror::Mirror;
use crate::discovery::BoxStream;
use crate::error::discovery::DiscoveryError;
use crate::model::instance::InstanceSet;

type Answer = Result<InstanceSet, DiscoveryError>;

/// One mirror for each subject, such as a role, while anybody reads it; clones share them.
pub(in crate::discovery) struct Mirrors<K> {
    open: Arc<dyn Fn(K) -> Mirror + Send + Sync>,
    read: Arc<Mutex<HashMap<K, Weak<Mirror>>>>,
}

impl<K: Clone + Eq + Hash> Mirrors<K> {
    /// `open` makes the mirror of a subject, which does nothing until it is read.
    pub(in crate::discovery) fn new(open: impl Fn(K) -> Mirror + Send + Sync + 'static) -> Self {
        Self {
            open: Arc::new(open),
            read: Arc::default(),
        }
    }

    /// Answers of the mirror of this subject. They keep it.
    pub(in crate::discovery) fn read(
        &self,
        subject: K,
        answers: impl FnOnce(&Mirror) -> BoxStream<'static, Answer>,
    ) -> BoxStream<'static, Answer> {
        let mirror = self.of(subject);
        let answers = answers(&mirror);
        Box::pin(answers.map(move |answer| {
            let _ = &mirror;
            answer
        }))
    }

    fn of(&self, subject: K) -> Arc<Mirror> {
        let made = Arc::new((self.open)(subject.clone()));
        // No foreign code runs under the lock, so it is whole if it is poisoned.
        let mut read = self.read.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(there) = read.get(&subject).and_then(Weak::upgrade) {
            return there;
        }
        read.retain(|_, mirror| mirror.strong_count() > 0);
        read.insert(subject, Arc::downgrade(&made));
        made
    }
}

impl<K> Clone for Mirrors<K> {
    fn clone(&self) -> Self {
        Self {
            open: Arc::clone(&self.open),
            read: Arc::clone(&self.read),
        }
    }
}
