use std::future::Future;
use std::mem;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use tokio::sync::futures::OwnedNotified;
use tower_service::Service;

use super::attempt::Picked;
use super::balance::Inner;
use crate::error::{BoxError, Error};
use crate::fleet::{PickError, Verdict};
use crate::model::instance::InstanceId;
use crate::runtime::local_fault::is_local_fault;
use crate::runtime::timer::Timer;
use crate::runtime::{clock, timer};

/// A call on its way to an instance that can take it.
///
/// ```text
///                    nobody usable                picked, not ready
///   ┌───────────────────┐◀──────────────────────────────┐
///   │ wait for a usable │        pick      ┌────────────┴─────────────┐    ready
///   │ one, or too long  │─────────────────▶│ poll it and a runner-up  │──────────▶ call
///   └───────────────────┘                  └──────────────────────────┘
/// ```
///
/// At each event of the fleet a candidate that may not be picked any more is given up, and a free place goes to another.
pub(super) struct Waiting<S, C> {
    inner: Arc<Inner<S, C>>,
    avoid: Vec<InstanceId>,
    /// The pick and the runner-up, each with a slot, while neither is ready.
    candidates: [Option<Candidate<S, C>>; 2],
    /// Whether the fleet was searched for a runner-up since the last event.
    searched: bool,
    news: Option<Pin<Box<OwnedNotified>>>,
    /// Since when there has been nobody for this call, however often somebody was for a moment.
    in_vain_since: Option<Instant>,
    /// By how many beginnings and ends of drivers before. With another one it counts anew.
    driven: u64,
    deadline: Option<(Instant, Pin<Box<Timer>>)>,
    /// Why the last candidate was lost.
    lost: Option<BoxError>,
    local_fault: Option<LocalFault>,
}

/// This process had no file descriptor, local port or memory for the connection to a member. Nobody is asked for a moment
/// then, for the next member may well find nothing either.
struct LocalFault {
    /// When the first came, of this call.
    since: Instant,
    /// Whom the last was for.
    id: InstanceId,
    pause: Pause,
}

enum Pause {
    Until(Pin<Box<Timer>>),
    /// Without a timer it never ends.
    Endless,
    Over,
}

/// Between two members that a call asks in vain because of a fault of this process.
const PAUSE: Duration = Duration::from_millis(50);

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
    pub(super) fn new(inner: Arc<Inner<S, C>>, avoid: Vec<InstanceId>) -> Self {
        Self {
            inner,
            avoid,
            candidates: [None, None],
            searched: false,
            news: None,
            in_vain_since: None,
            driven: 0,
            deadline: None,
            lost: None,
            local_fault: None,
        }
    }

    /// Begins with a candidate that was not ready yet.
    pub(super) fn with_candidate(mut self, judged: Picked<S, C>, service: S) -> Self {
        self.candidates[0] = Some(Candidate { judged, service });
        self
    }

    /// Begins after a candidate was lost.
    pub(super) fn after_loss(mut self, judged: &mut Picked<S, C>, error: BoxError) -> Self {
        self.lose(judged, error);
        self
    }

    /// Begins after an instance gave the request back unsent.
    pub(super) fn after_unsent(mut self, error: BoxError) -> Self {
        self.lost = Some(error);
        self
    }

    /// The instances that the request had better not go to, and those that this call found without a connection.
    pub(super) fn take_avoid(&mut self) -> Vec<InstanceId> {
        mem::take(&mut self.avoid)
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
            ready!(self.poll_pause(cx))?;
            if self.candidates.iter().all(Option::is_none) {
                if let Err(why) = self.find_first() {
                    ready!(self.poll_usable(&why, cx))?;
                }
            } else if self.searched {
                ready!(self.poll_news(cx));
            } else {
                self.find_runner_up();
            }
        }
    }

    /// The first candidate that is ready.
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
                    return Some((ready.judged, ready.service));
                }
                Poll::Ready(Err(error)) => {
                    let mut lost = slot.take()?;
                    self.lose(&mut lost.judged, error.into());
                }
            }
        }
        None
    }

    /// Sends a lost connection back to dialling, unless it is this process that could not have another one.
    fn lose(&mut self, judged: &mut Picked<S, C>, error: BoxError) {
        self.searched = false;
        if is_local_fault(&*error) {
            judged.end(Verdict::Neutral);
            // Others may have a connection still.
            let id = judged.instance().id();
            if !self.avoid.contains(id) {
                self.avoid.push(id.clone());
            }
            let now = clock::now();
            let since = self.local_fault.as_ref().map_or(now, |fault| fault.since);
            self.local_fault = Some(LocalFault {
                since,
                id: judged.instance().id().clone(),
                pause: timer::sleep_until(now + PAUSE).map_or(Pause::Endless, Pause::Until),
            });
        } else {
            judged.end(Verdict::Unsent);
        }
        self.lost = Some(error);
    }

    /// Ready when members can be asked again after a fault of this process.
    fn poll_pause(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        let Some(fault) = &mut self.local_fault else {
            return Poll::Ready(Ok(()));
        };
        let Inner { hub, fleet, .. } = &*self.inner;
        // One that is on its way may still get ready.
        let is_alone = self.candidates.iter().all(Option::is_none);
        match &mut fault.pause {
            Pause::Over => return Poll::Ready(Ok(())),
            Pause::Until(sleep) => {
                ready!(sleep.as_mut().poll(cx));
                fault.pause = Pause::Over;
                let patience = fleet.config().unavailable_after();
                if !is_alone || clock::now() < fault.since + patience {
                    return Poll::Ready(Ok(()));
                }
            }
            Pause::Endless if is_alone => {}
            Pause::Endless => return Poll::Pending,
        }
        let id = fault.id.clone();
        let cause = self.lost.take().unwrap_or_else(|| "no connection".into());
        Poll::Ready(Err(Error::call(hub.target.clone(), id, false, cause)))
    }

    fn find_first(&mut self) -> Result<(), PickError> {
        self.listen();
        let pick = self.inner.pick(&self.avoid)?;
        self.candidates[0] = Some(Candidate::new(pick));
        self.searched = false;
        Ok(())
    }

    /// Gives up candidates that may not be picked any more, and looks for another one beside the one that is left.
    fn find_runner_up(&mut self) {
        self.listen();
        self.searched = true;
        let fleet = &self.inner.fleet;
        give_up(&mut self.candidates, |candidate| {
            !fleet.is_pickable(candidate.judged.slot())
        });
        let ([Some(first), place @ None] | [place @ None, Some(first)]) = &mut self.candidates
        else {
            return;
        };
        let wished = self.avoid.len();
        self.avoid.push(first.judged.instance().id().clone());
        let runner_up = self.inner.pick(&self.avoid);
        self.avoid.truncate(wished);
        let Ok(mut runner_up) = runner_up else {
            return;
        };
        let avoided = |candidate: &Picked<_, _>| self.avoid.contains(candidate.instance().id());
        // An instance to avoid is picked only if no other one is left, and the first candidate is one.
        if first.judged.slot().shares_member(runner_up.slot())
            || avoided(&runner_up) && !avoided(&first.judged)
        {
            runner_up.end(Verdict::Neutral);
        } else {
            *place = Some(Candidate::new(runner_up));
        }
    }

    /// Begins to listen for events, before a look at the fleet, so that what comes in between is not missed.
    fn listen(&mut self) {
        let look_again = &self.inner.hub.look_again;
        self.news
            .get_or_insert_with(|| Box::pin(Arc::clone(look_again).notified_owned()))
            .as_mut()
            .enable();
    }

    /// Ready when it is worth looking again.
    fn poll_news(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if let Some(news) = &mut self.news {
            ready!(news.as_mut().poll(cx));
        }
        self.news = None;
        self.searched = false;
        Poll::Ready(())
    }

    /// Like [`poll_news`](Self::poll_news), while that is worth waiting for.
    fn poll_usable(&mut self, why: &PickError, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        let until = self.patience(why);
        let is_driven = self.inner.start_driver();
        if let Some(until) = until.filter(|_| is_driven) {
            if self.poll_news(cx).is_ready() {
                return Poll::Ready(Ok(()));
            }
            if self.deadline.as_ref().is_none_or(|(at, _)| *at != until) {
                self.deadline = timer::sleep_until(until).map(|sleep| (until, sleep));
            }
            if let Some((_, sleep)) = &mut self.deadline
                && sleep.as_mut().poll(cx).is_pending()
            {
                return Poll::Pending;
            }
        }
        Poll::Ready(Err(self.inner.refusal(why, self.lost.take())))
    }

    /// Until when it is worth waiting; `None`: not at all.
    fn patience(&mut self, why: &PickError) -> Option<Instant> {
        if matches!(why, PickError::Saturated) {
            return None;
        }
        let Inner { hub, fleet, .. } = &*self.inner;
        let now = clock::now();
        let driven = hub.driven();
        if driven != self.driven {
            self.driven = driven;
            self.in_vain_since = None;
        }
        let in_vain_since = *self.in_vain_since.get_or_insert(now);
        let unusable_since = fleet.unusable_since().filter(|_| hub.is_driven());
        let since = unusable_since.map_or(in_vain_since, |since| since.min(in_vain_since));
        let until = since + fleet.config().unavailable_after();
        (now < until).then_some(until)
    }
}

/// The caller went away.
impl<S, C> Drop for Waiting<S, C> {
    fn drop(&mut self) {
        give_up(&mut self.candidates, |_| true);
    }
}

/// Gives up candidates without a verdict: they never had the request.
fn give_up<S, C>(
    candidates: &mut [Option<Candidate<S, C>>; 2],
    unwanted: impl Fn(&Candidate<S, C>) -> bool,
) {
    for place in candidates {
        if let Some(mut candidate) = place.take_if(|candidate| unwanted(candidate)) {
            candidate.judged.end(Verdict::Neutral);
        }
    }
}

impl<S: Clone + Send + Sync + 'static, C: Send + Sync + 'static> Candidate<S, C> {
    fn new(judged: Picked<S, C>) -> Self {
        let service = judged.connected().service.clone();
        Self { judged, service }
    }
}
