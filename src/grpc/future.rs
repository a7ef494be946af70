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
use super::classify::ClassifyStatus;
use super::code::Head;
use super::deadline::Deadline;
use super::status;
use super::tracked::TrackedBody;
use crate::service;
use crate::{BoxError, Error, Target};

pin_project! {
    /// The answer of a [`Channel`](super::Channel).
    ///
    /// # Cancellation
    ///
    /// Dropped at any moment, it resets the stream and gives back the slot that it holds. If the request was with an
    /// instance, that counts as [cancelled](crate::Attempt).
    #[must_use = "futures do nothing unless polled"]
    pub struct ResponseFuture<S>
    where
        S: Service<Request<tonic::body::Body>>,
    {
        // None once it is over.
        #[pin]
        call: Option<service::ResponseFuture<S, Request<tonic::body::Body>, ClassifyStatus>>,
        target: Arc<Target>,
        deadline: Option<Deadline>,
    }
}

impl<S> ResponseFuture<S>
where
    S: Service<Request<tonic::body::Body>>,
{
    pub(super) fn new(
        call: service::ResponseFuture<S, Request<tonic::body::Body>, ClassifyStatus>,
        target: Arc<Target>,
        deadline: Option<Deadline>,
    ) -> Self {
        Self {
            call: Some(call),
            target,
            deadline,
        }
    }
}

impl<S, B> Future for ResponseFuture<S>
where
    S: Service<Request<tonic::body::Body>, Response = Response<B>> + Clone + Send + Sync + 'static,
    S::Error: Into<BoxError> + 'static,
    B: Body<Error: Into<BoxError> + 'static>,
{
    type Output = Result<Response<ResponseBody<B>>, Error>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        let call = this.call.as_mut().as_pin_mut();
        let mut call = call.expect("a future is not polled again after it was ready");
        let answer = if let Some(deadline) = this.deadline
            && deadline.has_passed(cx)
        {
            let instance = call.instance().cloned();
            Err(status::timed_out(this.target, instance, deadline.after))
        } else {
            let answer = ready!(call.as_mut().poll(cx));
            answer.map_err(status::with_status).and_then(|response| {
                let response = grpc_only(response, this.target)?;
                let (target, deadline) = (Arc::clone(this.target), this.deadline.take());
                Ok(response.map(|body| ResponseBody::new(body, target, deadline)))
            })
        };
        this.call.set(None);
        Poll::Ready(answer)
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

impl<S> fmt::Debug for ResponseFuture<S>
where
    S: Service<Request<tonic::body::Body>>,
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResponseFuture").finish_non_exhaustive()
    }
}
