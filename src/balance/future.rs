use std::fmt;
use std::future::Future;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use pin_project_lite::pin_project;
use tokio::task::coop::{consume_budget, unconstrained};
use tower_service::Service;

use super::attempt::{Picked, noting_unsent};
use super::balance::Inner;
use super::classify::Classify;
use super::waiting::Waiting;
use crate::error::{BoxError, Error};
use crate::fleet::Verdict;
use crate::model::instance::InstanceId;
use crate::runtime::timer::Timer;
use crate::runtime::{clock, timer};

pin_project! {
    /// The response of a [`Balance`](crate::Balance).
    ///
    /// # Cancellation
    ///
    /// Dropped at any moment, it gives back the slot that it holds. If the request was with an instance, that counts as
    /// [cancelled](crate::Attempt).
    #[must_use = "futures do nothing unless polled"]
    pub struct ResponseFuture<S, Req, C>
    where
        S: Service<Req>,
    {
        #[pin]
        state: State<S::Future, S, Req, C>,
    }
}

pin_project! {
    #[project = StateProj]
    enum State<F, S, Req, C> {
        /// With an instance.
        Sent { #[pin] sent: Sent<F, S, C> },
        /// Waiting for an instance that can take it.
        Waiting { held: Box<Held<S, Req, C>> },
        Failed { error: Option<Error> },
    }
}

pin_project! {
    /// A whole of its own, so that the tag of the state is as wide as everything else: beside a small future it would be a
    /// byte, and the state be moved in odd pieces.
    struct Sent<F, S, C> {
        #[pin]
        future: F,
        judged: Picked<S, C>,
        // In one box, since every request moves this.
        extra: Option<Box<Extra>>,
    }
}

/// What few attempts have.
#[derive(Default)]
struct Extra {
    /// Runs from the first poll that found no answer, where attempts have a time limit.
    timeout: Option<Pin<Box<Timer>>>,
    /// Instances that the request had better not go to if it comes back, where the call had to wait.
    avoid: Vec<InstanceId>,
}

/// A call that waits, and what it is to send.
struct Held<S, Req, C> {
    waiting: Waiting<S, C>,
    request: Option<Req>,
}

impl<F, S, C> Sent<F, S, C> {
    fn new(future: F, judged: Picked<S, C>) -> Self {
        Self {
            future,
            judged,
            extra: None,
        }
    }
}

impl<S: Service<Req>, Req, C> ResponseFuture<S, Req, C> {
    pub(super) fn sent(judged: Picked<S, C>, future: S::Future) -> Self {
        let sent = Sent::new(future, judged);
        let state = State::Sent { sent };
        Self { state }
    }

    pub(super) fn waiting(waiting: Waiting<S, C>, request: Req) -> Self {
        let request = Some(request);
        let held = Box::new(Held { waiting, request });
        let state = State::Waiting { held };
        Self { state }
    }

    pub(super) fn failed(error: Error) -> Self {
        let error = Some(error);
        let state = State::Failed { error };
        Self { state }
    }

    /// The instance that has the request.
    #[cfg(feature = "grpc")]
    pub(crate) fn instance(&self) -> Option<&InstanceId> {
        match &self.state {
            State::Sent { sent } => Some(sent.judged.instance().id()),
            State::Waiting { .. } | State::Failed { .. } => None,
        }
    }
}

impl<S, Req, C> Future for ResponseFuture<S, Req, C>
where
    S: Service<Req> + Clone + Send + Sync + 'static,
    S::Error: Into<BoxError>,
    C: Classify<Req, S::Response, S::Error> + Send + Sync + 'static,
{
    type Output = Result<C::Response, Error>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut state = self.project().state;
        loop {
            match state.as_mut().project() {
                StateProj::Sent { sent } => {
                    let sent = sent.project();
                    let Poll::Ready(result) = sent.future.poll(cx) else {
                        let hub = &sent.judged.connected().hub;
                        let limit = ready!(poll_timeout(hub.attempt_timeout, sent.extra, cx));
                        let target = hub.target.clone();
                        let id = sent.judged.instance().id().clone();
                        sent.judged.end(Verdict::Unanswered);
                        // Drops the service's future, and with it an answer that comes later.
                        state.set(State::Failed { error: None });
                        return Poll::Ready(Err(Error::unanswered(target, id, limit)));
                    };
                    match classified(sent.judged, sent.extra, result) {
                        Ok(answer) => return Poll::Ready(answer),
                        Err(held) => state.set(State::Waiting { held }),
                    }
                }
                StateProj::Waiting { held } => {
                    let (judged, mut service) = match ready!(held.waiting.poll::<Req>(cx)) {
                        Ok(ready) => ready,
                        Err(error) => {
                            state.set(State::Failed { error: Some(error) });
                            continue;
                        }
                    };
                    let request = held.request.take().expect(POLLED_AGAIN);
                    let future = service.call(request);
                    let mut sent = Sent::new(future, judged);
                    let avoid = held.waiting.take_avoid();
                    if !avoid.is_empty() {
                        sent.extra.get_or_insert_default().avoid = avoid;
                    }
                    state.set(State::Sent { sent });
                }
                StateProj::Failed { error } => {
                    // Whoever tries again without pause must not starve what makes somebody usable.
                    ready!(pin!(consume_budget()).poll(cx));
                    return Poll::Ready(Err(error.take().expect(POLLED_AGAIN)));
                }
            }
        }
    }
}

/// Ready with the time limit of an attempt once that is over; pending for ever where there is none.
fn poll_timeout(
    limit: Option<Duration>,
    extra: &mut Option<Box<Extra>>,
    cx: &mut Context<'_>,
) -> Poll<Duration> {
    let Some(limit) = limit else {
        return Poll::Pending;
    };
    let timeout = &mut extra.get_or_insert_default().timeout;
    if timeout.is_none() {
        *timeout = timer::sleep_until(clock::now() + limit);
    }
    let Some(sleep) = timeout else {
        return Poll::Pending;
    };
    // A service that uses up the task's budget at each poll leaves none for the timer.
    ready!(pin!(unconstrained(sleep.as_mut())).poll(cx));
    Poll::Ready(limit)
}

const POLLED_AGAIN: &str = "a future is not polled again after it was ready";

/// What came of an attempt: an answer, or the call once more, to go to another instance.
type Classified<S, Req, C, Res> = Result<Result<Res, Error>, Box<Held<S, Req, C>>>;

fn classified<S, Req, C>(
    judged: &mut Picked<S, C>,
    extra: &mut Option<Box<Extra>>,
    result: Result<S::Response, S::Error>,
) -> Classified<S, Req, C, C::Response>
where
    S: Service<Req> + Clone + Send + Sync + 'static,
    S::Error: Into<BoxError>,
    C: Classify<Req, S::Response, S::Error> + Send + Sync + 'static,
{
    let attempt = judged.pass_on();
    let hub = &judged.connected().hub;
    let (answer, unsent) =
        noting_unsent(attempt, |attempt| hub.classifier.classify(result, attempt));
    let mut error = match answer {
        Ok(answer) => return Ok(Ok(answer)),
        Err(error) => error,
    };
    let id = judged.instance().id();
    if unsent
        && let Some(inner) = hub.home::<Inner<S, C>>()
        && let Some(request) = hub.classifier.take_back(&mut error)
    {
        // Whatever the classifier knows of this request, it is never asked of an instance twice while another is usable.
        let mut avoid = extra.take().map_or_else(Vec::new, |extra| extra.avoid);
        for id in hub.classifier.avoid(&request).iter().chain([id]) {
            if !avoid.contains(id) {
                avoid.push(id.clone());
            }
        }
        let waiting = Waiting::new(inner, avoid).after_unsent(error.into());
        let request = Some(request);
        return Err(Box::new(Held { waiting, request }));
    }
    let error: BoxError = error.into();
    let below = error.downcast_ref::<Error>();
    let was_sent = !unsent && below.is_none_or(Error::was_sent);
    let target = hub.target.clone();
    Ok(Err(Error::call(target, id.clone(), was_sent, error)))
}

impl<S: Service<Req>, Req, C> fmt::Debug for ResponseFuture<S, Req, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResponseFuture").finish_non_exhaustive()
    }
}
