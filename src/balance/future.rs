use std::fmt;
use std::future::Future;
use std::mem;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use pin_project_lite::pin_project;
use tokio::task::coop::{consume_budget, unconstrained};
use tower_service::Service;

use super::attempt::Picked;
use super::classify::Classify;
use super::span;
use super::waiting::Waiting;
use crate::error::{BoxError, Error};
use crate::fleet::Verdict;
use crate::model::hints::Sending;
#[cfg(feature = "grpc")]
use crate::model::instance::InstanceId;
use crate::runtime::timer::Timer;
use crate::runtime::{clock, timer};

pin_project! {
    /// The response of a [`Balance`](crate::Balance). `X` is the [context](Classify::Context) of its request.
    ///
    /// # Cancellation
    ///
    /// Dropping the future frees the slot that it holds. If an instance has the request, the attempt counts as
    /// [cancelled](crate::Attempt).
    #[must_use = "futures do nothing unless polled"]
    // The context is a parameter of its own rather than `C::Context`, so that no bound on `Classify` is needed here. The
    // compiler would have to prove that bound to check that a task is `Send`, and fails to do so for errors with a
    // lifetime, such as `&'static str`.
    pub struct ResponseFuture<S, Req, C, X = ()>
    where
        S: Service<Req>,
    {
        #[pin]
        state: State<S::Future, S, Req, C, X>,
    }
}

pin_project! {
    #[project = StateProj]
    enum State<F, S, Req, C, X> {
        /// An instance has the request.
        Sent { #[pin] sent: Sent<F, S, C, X> },
        /// No instance has it yet.
        Waiting { held: Box<Held<S, Req, C, X>> },
        Failed { error: Option<Error> },
    }
}

pin_project! {
    /// A separate struct, so that the tag of `State` takes a whole word. With these fields in the variant itself, a small
    /// future would share a word with a tag of one byte, and the state would be copied in pieces of odd sizes (measured).
    struct Sent<F, S, C, X> {
        #[pin]
        future: F,
        picked: Picked<S, C>,
        context: Kept<X>,
        // Times the attempt, if attempts have a limit. The first poll without a response starts it.
        timeout: Option<Pin<Box<Timer>>>,
        // How long the call waited before, in microseconds.
        waited: u32,
        // Which attempt of its request this is, from 1. Zero once it is recorded in the caller's span.
        attempt: u32,
    }
}

/// The context of a request. Its tag takes a whole word, for the same reason as that of `State`.
#[repr(u64)]
enum Kept<X> {
    Context(X),
    Taken,
}

/// A waiting call, and its request with the context: `None` once sent.
struct Held<S, Req, C, X> {
    waiting: Waiting<S, C>,
    request: Option<(Req, X)>,
}

impl<F, S, C, X> Sent<F, S, C, X> {
    fn new(future: F, picked: Picked<S, C>, context: X, sending: Sending) -> Self {
        Self {
            future,
            picked,
            context: Kept::Context(context),
            timeout: None,
            waited: 0,
            attempt: sending.earlier_attempts().saturating_add(1),
        }
    }
}

impl<S, Req, C, X> ResponseFuture<S, Req, C, X>
where
    S: Service<Req>,
{
    pub(super) fn sent(
        picked: Picked<S, C>,
        context: X,
        future: S::Future,
        sending: Sending,
    ) -> Self {
        let sent = Sent::new(future, picked, context, sending);
        let state = State::Sent { sent };
        Self { state }
    }

    pub(super) fn waiting(waiting: Waiting<S, C>, request: Req, context: X) -> Self {
        let request = Some((request, context));
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
            State::Sent { sent } => Some(sent.picked.instance().id()),
            State::Waiting { .. } | State::Failed { .. } => None,
        }
    }
}

#[cfg(feature = "grpc")]
impl<S, Req, C, X> ResponseFuture<S, Req, C, X>
where
    S: Service<Req> + Send + Sync + 'static,
    C: Send + Sync + 'static,
{
    /// The error that the call would fail with now. `None` while a member is usable.
    pub(crate) fn waits_for(&self) -> Option<Error> {
        match &self.state {
            State::Waiting { held } => held.waiting.refusal(),
            State::Sent { .. } | State::Failed { .. } => None,
        }
    }
}

impl<S, Req, C, X> Future for ResponseFuture<S, Req, C, X>
where
    S: Service<Req> + Clone + Send + Sync + 'static,
    S::Error: Into<BoxError>,
    C: Classify<Req, S::Response, S::Error, Context = X> + Send + Sync + 'static,
{
    type Output = Result<C::Response, Error>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut state = self.project().state;
        loop {
            match state.as_mut().project() {
                StateProj::Sent { sent } => {
                    let sent = sent.project();
                    let waited = Duration::from_micros((*sent.waited).into());
                    // At the first poll: a span that is entered with the future is the current one only from then on.
                    if let attempt @ 1.. = mem::take(sent.attempt) {
                        span::record(sent.picked.instance(), attempt, waited);
                    }
                    let Poll::Ready(result) = sent.future.poll(cx) else {
                        let shared = &sent.picked.connected().shared;
                        let limit = ready!(poll_timeout(shared.attempt_timeout, sent.timeout, cx));
                        let target = shared.target.clone();
                        let id = sent.picked.instance().id().clone();
                        sent.picked.end(Verdict::Unanswered);
                        // Drops the service's future, and with it a response that comes later.
                        state.set(State::Failed { error: None });
                        return Poll::Ready(Err(Error::unanswered(target, id, limit)));
                    };
                    let Kept::Context(context) = mem::replace(sent.context, Kept::Taken) else {
                        unreachable!("{POLLED_AGAIN}");
                    };
                    return Poll::Ready(classified(sent.picked, context, result, waited));
                }
                StateProj::Waiting { held } => {
                    let Held { waiting, request } = &mut **held;
                    let (_, context) = request.as_ref().expect(POLLED_AGAIN);
                    let hints = |classifier: &C| classifier.hints(context);
                    let (picked, mut service) = match ready!(waiting.poll::<Req>(hints, cx)) {
                        Ok(ready) => ready,
                        Err(error) => {
                            state.set(State::Failed { error: Some(error) });
                            continue;
                        }
                    };
                    let (request, context) = request.take().expect(POLLED_AGAIN);
                    let waited = waiting.waited();
                    let shared = &picked.connected().shared;
                    let sending = shared.classifier.hints(&context).sending();
                    shared.count_sending(sending);
                    let mut sent = Sent::new(service.call(request), picked, context, sending);
                    sent.waited = waited.as_micros().try_into().unwrap_or(u32::MAX);
                    state.set(State::Sent { sent });
                }
                StateProj::Failed { error } => {
                    // A caller that retries without a pause must not starve the tasks that make a member usable.
                    ready!(pin!(consume_budget()).poll(cx));
                    return Poll::Ready(Err(error.take().expect(POLLED_AGAIN)));
                }
            }
        }
    }
}

/// Returns an attempt's time limit once it has passed. Without a limit it is always pending.
fn poll_timeout(
    limit: Option<Duration>,
    timeout: &mut Option<Pin<Box<Timer>>>,
    cx: &mut Context<'_>,
) -> Poll<Duration> {
    let Some(limit) = limit else {
        return Poll::Pending;
    };
    if timeout.is_none() {
        *timeout = timer::sleep_until(clock::now() + limit);
    }
    let Some(sleep) = timeout else {
        return Poll::Pending;
    };
    // Unconstrained, because a service that uses up the task's budget at each poll would keep the timer from ever firing.
    ready!(pin!(unconstrained(sleep.as_mut())).poll(cx));
    Poll::Ready(limit)
}

const POLLED_AGAIN: &str = "a future is not polled again after it was ready";

/// Ends the attempt, and makes the result for the caller.
fn classified<S, Req, C>(
    picked: &mut Picked<S, C>,
    context: C::Context,
    result: Result<S::Response, S::Error>,
    waited: Duration,
) -> Result<C::Response, Error>
where
    S: Service<Req> + Send + Sync + 'static,
    S::Error: Into<BoxError>,
    C: Classify<Req, S::Response, S::Error> + Send + Sync + 'static,
{
    let attempt = picked.pass_on(waited);
    let shared = &picked.connected().shared;
    let failed = match shared.classifier.classify(context, result, attempt) {
        Ok(response) => return Ok(response),
        Err(failed) => failed,
    };
    let id = picked.instance().id().clone();
    let error: BoxError = failed.error.into();
    let below = error.downcast_ref::<Error>();
    let was_sent = failed.was_sent && below.is_none_or(Error::was_sent);
    Err(Error::call(shared.target.clone(), id, was_sent, error))
}

impl<S, Req, C, X> fmt::Debug for ResponseFuture<S, Req, C, X>
where
    S: Service<Req>,
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResponseFuture").finish_non_exhaustive()
    }
}
