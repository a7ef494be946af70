use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use http::{Request, Response};
use http_body::Body;
use pin_project_lite::pin_project;
use tower_service::Service;

use super::body::ResponseBody;
use super::classify::GrpcClassifier;
use super::code::Head;
use super::deadline::Deadline;
use super::first_message::Held;
use super::outcome::TrackedBody;
use super::status;
use crate::balance::{self, Balance};
use crate::error::{BoxError, Error};
use crate::http::extensions::Wishes;
use crate::http::{ReplayBody, ResendFuture};
use crate::model::target::Target;

type BalanceFuture<S> = balance::ResponseFuture<S, Request<ReplayBody>, GrpcClassifier, Wishes>;

type CallFuture<S> = ResendFuture<BalanceFuture<S>, Balance<S, GrpcClassifier>>;

pin_project! {
    /// The answer of a [`Channel`](super::Channel).
    ///
    /// # Cancellation
    ///
    /// Dropped at any moment, it resets the stream and gives back the slot that it holds. If the request was with an
    /// instance, that counts as [cancelled](crate::Attempt).
    #[must_use = "futures do nothing unless polled"]
    pub struct ResponseFuture<S, B>
    where
        S: Service<Request<ReplayBody>>,
    {
        // None once it is over.
        #[pin]
        call: Option<CallFuture<S>>,
        // What it came to, if that is held until the first message.
        held: Option<Held<B>>,
        holds: bool,
        target: Arc<Target>,
        deadline: Option<Deadline>,
    }
}

impl<S, B> ResponseFuture<S, B>
where
    S: Service<Request<ReplayBody>>,
{
    /// `holds`: whether the caller sees nothing before the first message.
    pub(super) fn new(
        call: CallFuture<S>,
        holds: bool,
        target: Arc<Target>,
        deadline: Option<Deadline>,
    ) -> Self {
        Self {
            call: Some(call),
            held: None,
            holds,
            target,
            deadline,
        }
    }
}

impl<S, B> Future for ResponseFuture<S, B>
where
    S: Service<Request<ReplayBody>, Response = Response<B>> + Clone + Send + Sync + 'static,
    S::Error: Into<BoxError> + 'static,
    B: Body<Error: Into<BoxError> + 'static>,
{
    type Output = Result<Response<ResponseBody<B>>, Error>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.as_mut().project();
        let answer = if let Some(deadline) = this.deadline
            && deadline.has_passed(cx)
        {
            let call = this.call.as_ref().as_pin_ref();
            let call = call.map(|call| call.get_ref().call());
            let instance = match this.held {
                Some(held) => held.instance(),
                None => call.and_then(|call| call.instance()),
            };
            let waited_for = call.and_then(|call| call.waits_for());
            let instance = instance.cloned();
            Err(status::timed_out(
                this.target,
                instance,
                deadline.after,
                waited_for,
            ))
        } else {
            ready!(self.as_mut().poll_answer(cx))
        };
        let mut this = self.project();
        this.call.set(None);
        *this.held = None;
        Poll::Ready(answer)
    }
}

impl<S, B> ResponseFuture<S, B>
where
    S: Service<Request<ReplayBody>, Response = Response<B>> + Clone + Send + Sync + 'static,
    S::Error: Into<BoxError> + 'static,
    B: Body<Error: Into<BoxError> + 'static>,
{
    fn poll_answer(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Response<ResponseBody<B>>, Error>> {
        let mut this = self.project();
        if this.held.is_none() {
            let call = this.call.as_mut().as_pin_mut();
            let call = call.expect("a future is not polled again after it was ready");
            let response = ready!(call.poll(cx)).map_err(status::with_status)?;
            let response = grpc_only(response, this.target)?;
            if !*this.holds || Head::of(&response) != Head::Begun {
                let (target, deadline) = (Arc::clone(this.target), this.deadline.take());
                let answer = response.map(|body| ResponseBody::new(body, target, deadline));
                return Poll::Ready(Ok(answer));
            }
            *this.held = Some(Held::new(response));
        }
        let held = this.held.as_mut().expect("it was put there just now");
        let response = ready!(held.poll(this.target, cx))?;
        let (target, deadline) = (Arc::clone(this.target), this.deadline.take());
        Poll::Ready(Ok(
            response.map(|rest| ResponseBody::rest(rest, target, deadline))
        ))
    }
}

/// tonic would take the page of a proxy for messages.
fn grpc_only<B>(
    response: Response<TrackedBody<B>>,
    target: &Target,
) -> Result<Response<TrackedBody<B>>, Error>
where
    B: Body,
{
    match Head::of(&response) {
        Head::Ended(_) | Head::Begun => Ok(response),
        Head::Foreign(status) => {
            let instance = response.body().instance().clone();
            Err(status::foreign(
                target,
                instance,
                status,
                response.headers(),
            ))
        }
    }
}

impl<S, B> fmt::Debug for ResponseFuture<S, B>
where
    S: Service<Request<ReplayBody>>,
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResponseFuture").finish_non_exhaustive()
    }
}
