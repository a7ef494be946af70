use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering::Acquire;
use std::task::{Context, Poll};
use std::time::Instant;

use tokio::runtime::Handle;
use tokio::sync::futures::OwnedNotified;
use tokio::time::Sleep;
use tower_service::Service;

use super::attempt::Picked;
use super::balance::Inner;
use super::clock;
use crate::fleet::{PickError, Verdict};
use crate::{BoxError, Error, InstanceId};

/// A call on its way to an instance that can take it.
///
/// ```text
///                    nobody usable                picked, not ready
///   ┌───────────────────┐◀──────────────────────────────┐
///   │ wait for a usable │        pick      ┌────────────┴─────────────┐    ready
///   │ one, or too long  │─────────────────▶│ poll it and a runner-up  │──────────▶ call
///   └───────────────────┘                  └──────────────────────────┘
/// ```
pub(super) struct Waiting<S, C> {
    inner: Arc<Inner<S, C>>,
    began: Instant,
    avoid: Vec<InstanceId>,
    /// The pick and the runner-up, each with a slot, while neither is ready.
    candidates: [Option<Candidate<S, C>>; 2],
    /// Whether there has been a runner-up for the present candidate.
    ran_up: bool,
    news: Option<Pin<Box<OwnedNotified>>>,
    deadline: Option<(Instant, Pin<Box<Sleep>>)>,
    /// Why the last candidate was lost.
    lost: Option<BoxError>,
}

struct Candidate<S, C> {
    judged: Picked<S, C>,
    service: S,
}

/// A slot, and the service it is for, ready.
pub(super) type Ready<S, C> = (Picked<S, C>, S);

impl<S, C> Waiting<S, C>
where
    S: Clone + Send + Sync + 'static,
    C: Send + Sync + 'static,
{
    pub(super) fn new(inner: Arc<Inner<S, C>>, avoid: &[InstanceId]) -> Self {
        Self {
            inner,
            began: clock::now(),
            avoid: avoid.to_vec(),
            candidates: [None, None],
            ran_up: false,
            news: None,
            deadline: None,
            lost: None,
        }
    }

    /// Begins with a candidate that was not ready yet.
    pub(super) fn with_candidate(mut self, judged: Picked<S, C>, service: S) -> Self {
        self.candidates[0] = Some(Candidate { judged, service });
        self
    }

    /// Begins after a candidate was lost.
    pub(super) fn after_loss(mut self, error: BoxError) -> Self {
        self.lost = Some(error);
        self
    }

    pub(super) fn poll<Req>(&mut self, cx: &mut Context<'_>) -> Poll<Result<Ready<S, C>, Error>>
    where
        S: Service<Req>,
        S::Error: Into<BoxError>,
    {
        loop {
            if let Some(ready) = self.poll_candidates(cx) {
                return Poll::Ready(Ok(ready));
            }
            let standing = self.candidates.iter().flatten().next();
            if let Some(candidate) = standing {
                if self.ran_up {
                    return Poll::Pending;
                }
                let first = candidate.judged.instance().id().clone();
                self.find_runner_up(first);
            } else if let Err(why) = self.find_first() {
                match self.poll_usable(&why, cx) {
                    Poll::Ready(Ok(())) => {}
                    Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                    Poll::Pending => return Poll::Pending,
                }
            }
        }
    }

    /// The first candidate that is ready. A lost one is sent back to dialling.
    fn poll_candidates<Req>(&mut self, cx: &mut Context<'_>) -> Option<Ready<S, C>>
    where
        S: Service<Req>,
        S::Error: Into<BoxError>,
    {
        for slot in &mut self.candidates {
            let Some(candidate) = slot else {
                continue;
            };
            match candidate.service.poll_ready(cx) {
                Poll::Pending => {}
                Poll::Ready(Ok(())) => {
                    let ready = slot.take()?;
                    for mut loser in self.candidates.iter_mut().filter_map(Option::take) {
                        loser.judged.end(Verdict::Neutral);
                    }
                    return Some((ready.judged, ready.service));
                }
                Poll::Ready(Err(error)) => {
                    candidate.judged.end(Verdict::Unsent);
                    self.lost = Some(error.into());
                    *slot = None;
                    self.ran_up = false;
                }
            }
        }
        None
    }

    fn find_first(&mut self) -> Result<(), PickError> {
        // Listening begins before the look, so that whoever becomes usable in between is not missed.
        let usable = &self.inner.hub.usable;
        let news = self
            .news
            .get_or_insert_with(|| Box::pin(Arc::clone(usable).notified_owned()));
        news.as_mut().enable();
        let pick = self.inner.pick(&self.avoid)?;
        self.candidates[0] = Some(Candidate::new(pick));
        self.ran_up = false;
        Ok(())
    }

    fn find_runner_up(&mut self, first: InstanceId) {
        self.ran_up = true;
        self.avoid.push(first);
        let runner_up = self.inner.pick(&self.avoid).ok();
        let first = self.avoid.pop();
        let runner_up = runner_up.map(Candidate::new);
        let free = self.candidates.iter_mut().find(|slot| slot.is_none());
        if let (Some(mut runner_up), Some(free)) = (runner_up, free) {
            if first.as_ref() == Some(runner_up.judged.instance().id()) {
                runner_up.judged.end(Verdict::Neutral);
            } else {
                *free = Some(runner_up);
            }
        }
    }

    /// Ready when it is worth looking again.
    fn poll_usable(&mut self, why: &PickError, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        let inner = &self.inner;
        let patience = inner.patience(why, self.began);
        let can_wait = inner.start_driver() && Handle::try_current().is_ok();
        let Some(until) = patience.filter(|_| can_wait) else {
            return Poll::Ready(Err(inner.refusal(why, self.lost.take())));
        };
        if let Some(news) = &mut self.news
            && news.as_mut().poll(cx).is_ready()
        {
            self.news = None;
            return Poll::Ready(Ok(()));
        }
        let sleep = match &mut self.deadline {
            Some((at, sleep)) if *at == until => sleep,
            deadline => {
                let sleep = Box::pin(tokio::time::sleep_until(until.into()));
                &mut deadline.insert((until, sleep)).1
            }
        };
        match sleep.as_mut().poll(cx) {
            Poll::Ready(()) => Poll::Ready(Err(inner.refusal(why, self.lost.take()))),
            Poll::Pending => Poll::Pending,
        }
    }
}

impl<S: Clone + Send + Sync + 'static, C: Send + Sync + 'static> Candidate<S, C> {
    fn new(judged: Picked<S, C>) -> Self {
        let service = judged.connected().service.clone();
        Self { judged, service }
    }
}

impl<S, C> Inner<S, C>
where
    S: Clone + Send + Sync + 'static,
    C: Send + Sync + 'static,
{
    /// Until when it is worth waiting for a call that began then; `None`: not at all.
    fn patience(&self, why: &PickError, began: Instant) -> Option<Instant> {
        if matches!(why, PickError::Saturated) {
            return None;
        }
        let driven = self.hub.driven.load(Acquire);
        let since = self.fleet.unusable_since().filter(|_| driven);
        let until = since.unwrap_or(began) + self.fleet.config().unavailable_after();
        (clock::now() < until).then_some(until)
    }
}
