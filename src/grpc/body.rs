//! The body of an answer, as tonic's clients read it.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;

use super::deadline::Deadline;
use super::status;
use super::tracked::TrackedBody;
use crate::{BoxError, Error, Target};

pin_project! {
    /// The messages and the trailers of an answer.
    ///
    /// Its [`Error`] has a [`tonic::Status`] as its source, and names target and instance.
    ///
    /// # Cancellation
    ///
    /// Dropped before its end it resets the stream and frees the slot of its instance.
    #[derive(Debug)]
    pub struct ResponseBody<B> {
        // None after an error, and in a body that never was one.
        #[pin]
        call: Option<Call<B>>,
    }
}

pin_project! {
    #[derive(Debug)]
    struct Call<B> {
        #[pin]
        body: TrackedBody<B>,
        target: Arc<Target>,
        deadline: Option<Deadline>,
    }
}

impl<B> ResponseBody<B> {
    pub(super) fn new(
        body: TrackedBody<B>,
        target: Arc<Target>,
        deadline: Option<Deadline>,
    ) -> Self {
        let call = Some(Call {
            body,
            target,
            deadline,
        });
        Self { call }
    }
}

impl<B> Body for ResponseBody<B>
where
    B: Body<Error: Into<BoxError> + 'static>,
{
    type Data = B::Data;
    type Error = Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<B::Data>, Error>>> {
        let mut slot = self.project().call;
        let Some(call) = slot.as_mut().as_pin_mut() else {
            return Poll::Ready(None);
        };
        let frame = ready!(call.poll_frame(cx));
        if matches!(frame, Some(Err(_))) {
            slot.set(None);
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        let call = self.call.as_ref();
        call.is_none_or(|call| call.body.is_end_stream())
    }

    fn size_hint(&self) -> SizeHint {
        let call = self.call.as_ref();
        call.map_or_else(|| SizeHint::with_exact(0), |call| call.body.size_hint())
    }
}

impl<B> Call<B>
where
    B: Body<Error: Into<BoxError> + 'static>,
{
    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<B::Data>, Error>>> {
        let mut this = self.project();
        if let Some(deadline) = this.deadline
            && deadline.has_passed(cx)
        {
            let instance = Some(this.body.instance().clone());
            let error = status::timed_out(this.target, instance, deadline.after);
            return Poll::Ready(Some(Err(error)));
        }
        let frame = ready!(this.body.as_mut().poll_frame(cx));
        let broken = |error: B::Error| {
            let instance = this.body.instance().clone();
            status::broken(this.target, instance, error.into())
        };
        Poll::Ready(frame.map(|frame| frame.map_err(broken)))
    }
}

/// An empty body, which tonic's interceptors make.
impl<B> Default for ResponseBody<B> {
    fn default() -> Self {
        Self { call: None }
    }
}
