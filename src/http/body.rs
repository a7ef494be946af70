//! A response body that holds the load of its instance until it ends.

use std::any::Any;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use http::StatusCode;
use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;

use super::error::BodyError;
use super::label::label;
use crate::balance::{Attempt, Outcome};

pin_project! {
    /// A response body that tells the balancer how it ended; see [`HttpClassifier`](super::HttpClassifier).
    ///
    /// # Cancellation
    ///
    /// Dropped before its end it frees the slot of its instance.
    #[derive(Debug)]
    pub struct TrackedBody<B> {
        #[pin]
        body: B,
        judgement: Option<Judgement>,
    }
}

impl<B: Body> TrackedBody<B> {
    pub(super) fn new(body: B, mut judgement: Judgement) -> Self {
        if body.is_end_stream() {
            judgement.end();
        }
        let judgement = Some(judgement);
        Self { body, judgement }
    }

    /// A body whose attempt is judged elsewhere.
    pub(super) fn untracked(body: B) -> Self {
        let judgement = None;
        Self { body, judgement }
    }
}

impl<B: Body<Error: 'static>> Body for TrackedBody<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        let mut this = self.project();
        let frame = ready!(this.body.as_mut().poll_frame(cx));
        if let Some(judgement) = this.judgement {
            match &frame {
                Some(Err(error)) => judgement.broken(error),
                Some(Ok(_)) if !this.body.is_end_stream() => {}
                Some(Ok(_)) | None => judgement.end(),
            }
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// An attempt whose head was answered, and the outcome it comes to unless its body breaks.
#[derive(Debug)]
pub(super) struct Judgement {
    attempt: Option<Attempt>,
    outcome: Outcome,
    status: StatusCode,
}

impl Judgement {
    pub(super) fn new(attempt: Attempt, outcome: Outcome, status: StatusCode) -> Self {
        Self {
            attempt: Some(attempt),
            outcome,
            status,
        }
    }

    fn end(&mut self) {
        if let Some(attempt) = self.attempt.take() {
            self.outcome.end(attempt, Some(label(self.status)));
        }
    }

    fn broken(&mut self, error: &dyn Any) {
        if let Some(attempt) = self.attempt.take() {
            match error.downcast_ref() {
                Some(error) if BodyError::is_callers(error) => attempt.neutral(),
                _ => attempt.failure_labelled("response body broken"),
            }
        }
    }
}

impl Drop for Judgement {
    /// A bad status is known without the body, and callers seldom read it to the end.
    fn drop(&mut self) {
        if !matches!(self.outcome, Outcome::Success) {
            self.end();
        }
    }
}
