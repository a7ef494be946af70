//! One watcher of the registry: looks, tells what is new, and sleeps until something changed.

use std::sync::Arc;

use futures_util::stream;
use tokio::sync::watch as signal;

use super::super::{BoxStream, DiscoveryError};
use super::Shared;
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
}

#[derive(PartialEq)]
enum Standing {
    UnknownRole,
    UnknownEndpoint(Vec<EndpointName>),
    Listed { version: u64 },
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
            let (standing, answer) = self.look();
            if self.told.as_ref() != Some(&standing) {
                self.told = Some(standing);
                return Some(answer);
            }
            self.news.changed().await.ok()?;
        }
    }

    fn look(&mut self) -> (Standing, Answer) {
        let mut book = self.shared.book();
        let (boundary, target) = match &self.subject {
            Subject::Target { boundary, target } => (boundary, target),
            Subject::Peers(boundary) => {
                let (version, set) = book.peers(boundary);
                return (Standing::Listed { version }, Ok(set.confirmed()));
            }
        };
        let Some(entry) = book.role(boundary, target.role()) else {
            return (
                Standing::UnknownRole,
                Err(DiscoveryError::unknown_role(target)),
            );
        };
        if !self.follows_role {
            self.news = entry.subscribe();
            self.follows_role = true;
        }
        match entry.listing(target.endpoint()) {
            Some(listing) => {
                let version = listing.version();
                (Standing::Listed { version }, Ok(listing.set().confirmed()))
            }
            None => {
                let known: Vec<_> = entry.endpoint_names().cloned().collect();
                let error = DiscoveryError::unknown_endpoint(target, known.iter().cloned());
                (Standing::UnknownEndpoint(known), Err(error))
            }
        }
    }
}
