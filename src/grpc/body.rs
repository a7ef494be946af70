//! The body of an answer, as tonic's clients read it.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;

use super::deadline::Deadline;
use super::first_message::Rest;
use super::outcome::TrackedBody;
use super::status;
use crate::error::{BoxError, Error};
use crate::model::instance::InstanceId;
use crate::model::target::Target;

pin_project! {
    /// The messages and the trailers of an answer.
    ///
    /// Its [`Error`] has a [`tonic::Status`] as its source, and names target and instance.
    ///
    /// # Cancellation
    ///
    /// Dropped before its end it resets the stream and frees the slot of its instance.
    #[derive(Debug)]
    pub struct ResponseBody<B>
    where
        B: Body,
    {
        // None after an error, and in a body that never was one.
        #[pin]
        call: Option<Call<B>>,
    }
}

pin_project! {
    #[derive(Debug)]
    struct Call<B>
    where
        B: Body,
    {
        #[pin]
        source: Source<B>,
        target: Arc<Target>,
        deadline: Option<Deadline>,
    }
}

pin_project! {
    #[project = SourceProj]
    #[derive(Debug)]
    enum Source<B>
    where
        B: Body,
    {
        Whole { #[pin] body: TrackedBody<B> },
        Rest { #[pin] rest: Rest<B> },
    }
}

impl<B: Body> ResponseBody<B> {
    pub(super) fn new(
        body: TrackedBody<B>,
        target: Arc<Target>,
        deadline: Option<Deadline>,
    ) -> Self {
        Self::of(Source::Whole { body }, target, deadline)
    }

    /// Of an answer whose first message was waited for.
    pub(super) fn rest(rest: Rest<B>, target: Arc<Target>, deadline: Option<Deadline>) -> Self {
        Self::of(Source::Rest { rest }, target, deadline)
    }

    fn of(source: Source<B>, target: Arc<Target>, deadline: Option<Deadline>) -> Self {
        let call = Some(Call {
            source,
            target,
            deadline,
        });
        Self { call }
    }
}

impl<B: Body> Source<B> {
    fn instance(&self) -> &InstanceId {
        match self {
            Self::Whole { body } => body.instance(),
            Self::Rest { rest } => rest.instance(),
        }
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
        call.is_none_or(|call| match &call.source {
            Source::Whole { body } => body.is_end_stream(),
            Source::Rest { rest } => rest.is_end_stream(),
        })
    }

    fn size_hint(&self) -> SizeHint {
        let call = self.call.as_ref();
        call.map_or_else(
            || SizeHint::with_exact(0),
            |call| match &call.source {
                Source::Whole { body } => body.size_hint(),
                Source::Rest { rest } => rest.size_hint(),
            },
        )
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
            let instance = Some(this.source.instance().clone());
            let error = status::timed_out(this.target, instance, deadline.after, None);
            return Poll::Ready(Some(Err(error)));
        }
        let frame = ready!(match this.source.as_mut().project() {
            SourceProj::Whole { body } => body.poll_frame(cx),
            SourceProj::Rest { rest } => rest.poll_frame(cx),
        });
        let broken = |error: B::Error| {
            let instance = this.source.instance().clone();
            status::broken(this.target, instance, error.into())
        };
        Poll::Ready(frame.map(|frame| frame.map_err(broken)))
    }
}

/// An empty body, which tonic's interceptors make.
impl<B: Body> Default for ResponseBody<B> {
    fn default() -> Self {
        Self { call: None }
    }
}
