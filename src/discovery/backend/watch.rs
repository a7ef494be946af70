//! One watch of a catalog: looks, tells what is new, and sleeps until something changed.

use std::sync::Arc;

use futures_util::stream;
use tokio::sync::watch as signal;

use super::contents::{Contents, Shared};
use crate::discovery::BoxStream;
use crate::error::discovery::DiscoveryError;
use crate::model::instance::InstanceSet;
use crate::model::name::{Boundary, EndpointName};
use crate::model::target::Target;

pub(super) enum Subject {
    Target { boundary: Boundary, target: Target },
    Peers(Boundary),
}

/// It keeps no queue: only what it told last, to know whether the present differs.
pub(super) struct Watch {
    shared: Arc<Shared>,
    subject: Subject,
    /// Rings for the role once that is known, before that at any change.
    news: signal::Receiver<()>,
    follows_role: bool,
    told: Option<Standing>,
    told_fault: Option<u64>,
    has_given_set: bool,
}

/// What a watch can have to tell.
#[derive(PartialEq)]
enum Standing {
    UnknownRole,
    UnknownEndpoint(Vec<EndpointName>),
    Listed {
        version: u64,
        is_confirmed: bool,
    },
    /// Forgotten since the watch gave a set.
    Gone,
}

type Answer = Result<InstanceSet, DiscoveryError>;

impl Watch {
    pub(super) fn new(shared: Arc<Shared>, subject: Subject) -> Self {
        let news = shared.changed.subscribe();
        Self {
            shared,
            subject,
            news,
            follows_role: false,
            told: None,
            told_fault: None,
            has_given_set: false,
        }
    }

    pub(super) fn into_stream(self) -> BoxStream<'static, Answer> {
        Box::pin(stream::unfold(self, |mut watch| async move {
            let answer = watch.next().await?;
            Some((answer, watch))
        }))
    }

    async fn next(&mut self) -> Option<Answer> {
        loop {
            // Before looking, so that a change during the look rings again.
            self.news.mark_unchanged();
            if let Some(answer) = self.look() {
                self.has_given_set |= answer.is_ok();
                return Some(answer);
            }
            self.news.changed().await.ok()?;
        }
    }

    /// What is new: the set first, then the fault.
    fn look(&mut self) -> Option<Answer> {
        let shared = Arc::clone(&self.shared);
        let mut contents = shared.contents();
        let fault = contents.fault.clone();
        if fault.is_none() && self.told_fault.take().is_some() {
            // The set again: it says that the fault is over.
            self.told = None;
        }
        if contents.is_listed {
            let (standing, answer) = self.standing(&mut contents);
            // While a backend fails, nobody knows what it does not have.
            let is_told = standing == Standing::UnknownRole && fault.is_some();
            if !is_told && self.is_news(&standing) {
                self.told = Some(standing);
                return Some(answer);
            }
        }
        let (number, error) = fault?;
        (self.told_fault != Some(number)).then(|| {
            self.told_fault = Some(number);
            Err(error)
        })
    }

    fn is_news(&self, standing: &Standing) -> bool {
        match (&self.told, standing) {
            // That a set is no longer confirmed is no news of it.
            (
                Some(Standing::Listed {
                    version: told,
                    is_confirmed: was_confirmed,
                }),
                Standing::Listed {
                    version,
                    is_confirmed,
                },
            ) => told != version || (*is_confirmed && !was_confirmed),
            (told, _) => told.as_ref() != Some(standing),
        }
    }

    fn standing(&mut self, contents: &mut Contents) -> (Standing, Answer) {
        let is_confirmed = contents.is_confirmed;
        let listed = |version, set: InstanceSet| {
            let set = if is_confirmed { set.confirmed() } else { set };
            let standing = Standing::Listed {
                version,
                is_confirmed,
            };
            (standing, Ok(set))
        };
        let (boundary, target) = match &self.subject {
            Subject::Target { boundary, target } => (boundary, target),
            Subject::Peers(boundary) => {
                let (version, set) = contents.peers(boundary);
                return listed(version, set);
            }
        };
        let gone = || (Standing::Gone, listed(0, InstanceSet::empty()).1);
        let Some(known) = contents.role(boundary, target.role()) else {
            if self.has_given_set {
                return gone();
            }
            let error = DiscoveryError::unknown_role(target);
            return (Standing::UnknownRole, Err(error));
        };
        if !self.follows_role {
            self.news = known.subscribe();
            self.follows_role = true;
        }
        if let Some(listing) = known.listing(target.endpoint()) {
            return listed(listing.version(), listing.set());
        }
        if self.has_given_set {
            return gone();
        }
        let names: Vec<_> = known.endpoint_names().cloned().collect();
        let error = DiscoveryError::unknown_endpoint(target, names.iter().cloned());
        (Standing::UnknownEndpoint(names), Err(error))
    }
}
