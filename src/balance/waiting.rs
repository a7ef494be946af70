use std::borrow::Cow;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use tokio::sync::futures::OwnedNotified;
use tower_service::Service;

use super::attempt::Picked;
#[cfg(feature = "grpc")]
use super::control::Controlled;
use super::inner::Inner;
use super::patience::{LocalFault, Patience};
use crate::error::{BoxError, Error};
use crate::fleet::{PickError, Verdict};
use crate::model::hints::Hints;
use crate::model::instance::InstanceId;
use crate::runtime::clock;
use crate::runtime::local_fault::is_local_fault;

/// A call that no instance has yet.
///
/// ```text
///                   no member usable             picked, not ready
///   ┌───────────────────┐◀──────────────────────────────┐
///   │ wait for a usable │        pick      ┌────────────┴─────────────┐    ready
///   │ member, or fail   │─────────────────▶│ poll it and a runner-up  │──────────▶ call
///   └───────────────────┘                  └──────────────────────────┘
/// ```
///
/// At each event of the fleet, candidates that may not be picked any more are given up, and an empty place is filled again.
pub(super) struct Waiting<S, C> {
    inner: Arc<Inner<S, C>>,
    began: Instant,
    /// Instances to which this process could open no connection because it lacked a resource of its own.
    avoid: Vec<InstanceId>,
    /// The pick and the runner-up. Each holds a slot.
    candidates: [Option<Candidate<S, C>>; 2],
    /// Whether a runner-up was looked for since the last event.
    searched: bool,
    /// Ready at the next event. `None` until the call first waits for one.
    event: Option<Pin<Box<OwnedNotified>>>,
    patience: Patience,
    /// Why the last candidate was lost.
    lost: Option<BoxError>,
    local_fault: Option<LocalFault>,
}

struct Candidate<S, C> {
    picked: Picked<S, C>,
    service: S,
}

/// A slot, and the service it is for, ready.
pub(super) type Ready<S, C> = (Picked<S, C>, S);

impl<S, C> Waiting<S, C>
where
    S: Clone + Send + Sync + 'static,
    C: Send + Sync + 'static,
{
    /// # Errors
    ///
    /// `max_waiting` calls wait already.
    pub(super) fn new(inner: Arc<Inner<S, C>>) -> Result<Self, Error> {
        inner.shared.begin_waiting()?;
        Ok(Self {
            inner,
            began: clock::now(),
            avoid: Vec::new(),
            candidates: [None, None],
            searched: false,
            event: None,
            patience: Patience::default(),
            lost: None,
            local_fault: None,
        })
    }

    /// Starts with a candidate that was not ready yet.
    pub(super) fn with_candidate(mut self, picked: Picked<S, C>, service: S) -> Self {
        self.candidates[0] = Some(Candidate { picked, service });
        self
    }

    /// Starts after the loss of a candidate.
    pub(super) fn after_loss(mut self, picked: &mut Picked<S, C>, error: BoxError) -> Self {
        self.lose(picked, error);
        self
    }

    /// How long it has waited.
    pub(super) fn waited(&self) -> Duration {
        clock::now().saturating_duration_since(self.began)
    }

    /// Ready with a slot and its service. `hints` is called before every pick.
    ///
    /// A round of the loop ends the poll, or does one of these: it fills an empty place, it marks the fleet as searched, or
    /// it takes an event. Places are emptied by a loss, which takes a connection out of the fleet or begins a pause, and by
    /// an event. Connections and events come from other tasks. So a poll makes as many rounds as there are connections to
    /// lose, and a few more.
    pub(super) fn poll<'h, Req>(
        &mut self,
        hints: impl Fn(&C) -> Hints<'h>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Ready<S, C>, Error>>
    where
        S: Service<Req>,
        S::Error: Into<BoxError>,
    {
        loop {
            if let Some(ready) = self.poll_candidates(cx) {
                return Poll::Ready(Ok(ready));
            }
            ready!(self.poll_pause(cx))?;
            if !self.has_candidate() {
                if let Err(why) = self.find_first(&hints) {
                    ready!(self.poll_usable(&why, cx))?;
                }
            } else if self.searched {
                ready!(self.poll_event(cx));
            } else {
                self.find_runner_up(&hints);
            }
        }
    }

    fn has_candidate(&self) -> bool {
        self.candidates.iter().any(Option::is_some)
    }

    /// The first candidate that is ready. Candidates that fail are lost.
    fn poll_candidates<Req>(&mut self, cx: &mut Context<'_>) -> Option<Ready<S, C>>
    where
        S: Service<Req>,
        S::Error: Into<BoxError>,
    {
        for place in 0..self.candidates.len() {
            let slot = &mut self.candidates[place];
            let Some(candidate) = slot else {
                continue;
            };
            match candidate.service.poll_ready(cx) {
                Poll::Pending => {}
                Poll::Ready(Ok(())) => {
                    let ready = slot.take()?;
                    give_up(&mut self.candidates, |_| true);
                    return Some((ready.picked, ready.service));
                }
                Poll::Ready(Err(error)) => {
                    let mut lost = slot.take()?;
                    self.lose(&mut lost.picked, error.into());
                }
            }
        }
        None
    }

    fn lose(&mut self, picked: &mut Picked<S, C>, error: BoxError) {
        self.searched = false;
        if end_lost(picked, &error) {
            // Other instances may still have a connection.
            let id = picked.instance().id();
            if !self.avoid.contains(id) {
                self.avoid.push(id.clone());
            }
            self.local_fault = Some(LocalFault::new(id.clone(), self.local_fault.take()));
        }
        self.lost = Some(error);
    }

    /// Ready when members can be picked again after a fault of this process.
    fn poll_pause(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        let is_alone = !self.has_candidate();
        let Some(fault) = &mut self.local_fault else {
            return Poll::Ready(Ok(()));
        };
        let patience = || self.inner.fleet.config().unavailable_after();
        if ready!(fault.poll(is_alone, patience, cx)) {
            return Poll::Ready(Ok(()));
        }
        let target = self.inner.shared.target.clone();
        let cause = self.lost.take().unwrap_or_else(|| "no connection".into());
        Poll::Ready(Err(Error::call(
            target,
            fault.instance().clone(),
            false,
            cause,
        )))
    }

    fn find_first<'h>(&mut self, hints: impl Fn(&C) -> Hints<'h>) -> Result<(), PickError> {
        self.listen();
        let hints = hints(&self.inner.shared.classifier);
        let avoid = joined(hints, &self.avoid);
        let picked = Picked::pick(&self.inner, hints.avoiding(&avoid))?;
        self.candidates[0] = Some(Candidate::new(picked));
        self.searched = false;
        Ok(())
    }

    /// Gives up candidates that may not be picked any more, and looks for a second one beside a remaining one.
    fn find_runner_up<'h>(&mut self, hints: impl Fn(&C) -> Hints<'h>) {
        self.listen();
        self.searched = true;
        let fleet = &self.inner.fleet;
        let hints = hints(&self.inner.shared.classifier);
        let is_pinned = hints.pinned().is_some();
        give_up(&mut self.candidates, |candidate| {
            !fleet.is_pickable(candidate.picked.slot(), is_pinned)
        });
        if is_pinned {
            return;
        }
        let ([Some(first), place @ None] | [place @ None, Some(first)]) = &mut self.candidates
        else {
            return;
        };
        let avoid = joined(hints, &self.avoid);
        let beside = [&*avoid, &[first.picked.instance().id().clone()]].concat();
        let Ok(mut runner_up) = Picked::pick(&self.inner, Hints::avoid(&beside)) else {
            return;
        };
        let is_avoided = |picked: &Picked<_, _>| avoid.contains(picked.instance().id());
        // An instance to avoid is picked only if no other is left, and the first candidate is another one. It may still
        // become ready.
        let is_worse = is_avoided(&runner_up) && !is_avoided(&first.picked);
        if first.picked.slot().shares_member(runner_up.slot()) || is_worse {
            runner_up.end(Verdict::Unused);
        } else {
            *place = Some(Candidate::new(runner_up));
        }
    }

    /// Subscribes to events. Called before a look at the fleet, so that no event in between is missed.
    fn listen(&mut self) {
        let look_again = &self.inner.shared.look_again;
        self.event
            .get_or_insert_with(|| Box::pin(Arc::clone(look_again).notified_owned()))
            .as_mut()
            .enable();
    }

    /// Ready at the next event.
    fn poll_event(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if let Some(event) = &mut self.event {
            ready!(event.as_mut().poll(cx));
        }
        self.event = None;
        self.searched = false;
        Poll::Ready(())
    }

    /// Ready at the next event, or with an error once the call has waited long enough.
    fn poll_usable(&mut self, why: &PickError, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        let until = match why {
            why if why.is_final() => None,
            _ => self.patience.until(&self.inner),
        };
        if let PickError::Pinned { id, .. } = why
            && until.is_some()
        {
            self.inner.want(id);
        }
        let is_driven = self.inner.start_driver();
        if let Some(until) = until.filter(|_| is_driven) {
            if self.poll_event(cx).is_ready() {
                return Poll::Ready(Ok(()));
            }
            if self.patience.poll_until(until, cx).is_pending() {
                return Poll::Pending;
            }
        }
        Poll::Ready(Err(self.inner.refusal(why, self.lost.take())))
    }
}

#[cfg(feature = "grpc")]
impl<S: Send + Sync + 'static, C: Send + Sync + 'static> Waiting<S, C> {
    /// What the call would fail with now, unless a member is usable.
    pub(super) fn refusal(&self) -> Option<Error> {
        self.inner.check_usable().err()
    }
}

impl<S, C> Drop for Waiting<S, C> {
    /// The request is sent, has failed, or was dropped by the caller.
    fn drop(&mut self) {
        give_up(&mut self.candidates, |_| true);
        self.inner.shared.end_waiting();
        #[cfg(feature = "metrics")]
        if let Some(samples) = self.inner.shared.samples.get() {
            let now = clock::now();
            let waited = now.saturating_duration_since(self.began);
            samples.wait.record(waited.as_secs_f64());
        }
    }
}

impl<S: Clone + Send + Sync + 'static, C: Send + Sync + 'static> Candidate<S, C> {
    fn new(picked: Picked<S, C>) -> Self {
        let service = picked.connected().service.clone();
        Self { picked, service }
    }
}

/// Gives up candidates without a verdict: they never had the request.
fn give_up<S, C>(
    candidates: &mut [Option<Candidate<S, C>>; 2],
    unwanted: impl Fn(&Candidate<S, C>) -> bool,
) {
    for place in candidates {
        if let Some(mut candidate) = place.take_if(|candidate| unwanted(candidate)) {
            candidate.picked.end(Verdict::Unused);
        }
    }
}

/// Ends a pick whose service failed to get ready: its connection is dialled again, unless this process lacks a resource.
/// Returns whether it does.
pub(super) fn end_lost<S, C>(picked: &mut Picked<S, C>, error: &BoxError) -> bool
where
    S: Send + Sync + 'static,
    C: Send + Sync + 'static,
{
    let is_local = is_local_fault(&**error);
    picked.end(match is_local {
        true => Verdict::Neutral,
        false => Verdict::Unsent,
    });
    is_local
}

/// The instances that the request asks to avoid, and those that its call avoids. Allocates only if there are both.
fn joined<'a>(hints: Hints<'a>, avoid: &'a [InstanceId]) -> Cow<'a, [InstanceId]> {
    match (hints.avoided(), avoid) {
        (hinted, []) => Cow::Borrowed(hinted),
        ([], avoid) => Cow::Borrowed(avoid),
        (hinted, avoid) => Cow::Owned([hinted, avoid].concat()),
    }
}
