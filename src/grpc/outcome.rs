//! The body of an answer, watched for the status at its end.

use std::any::Any;
use std::pin::Pin;
use std::task::{Context, Poll};

use http::HeaderMap;
use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;
use tonic::Code;

use super::code::{self, Rules};
use super::{details, origin};
use crate::balance::{Attempt, Outcome};
use crate::http::error::BodyError;
use crate::model::instance::InstanceId;

pin_project! {
    /// A response body that tells the balancer how it ended; see [`GrpcClassifier`](super::GrpcClassifier).
    ///
    /// # Cancellation
    ///
    /// Dropped before its end it frees the slot of its instance.
    #[derive(Debug)]
    pub struct TrackedBody<B> {
        #[pin]
        body: B,
        instance: InstanceId,
        judgement: Judgement,
    }
}

impl<B: Body> TrackedBody<B> {
    pub(super) fn new(body: B, instance: InstanceId, mut judgement: Judgement) -> Self {
        if body.is_end_stream() {
            judgement.ended();
        }
        Self {
            body,
            instance,
            judgement,
        }
    }

    /// The instance whose answer it is.
    pub(super) fn instance(&self) -> &InstanceId {
        &self.instance
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
        let Poll::Ready(mut frame) = this.body.as_mut().poll_frame(cx) else {
            this.judgement.waits();
            return Poll::Pending;
        };
        this.judgement.comes();
        match &mut frame {
            Some(Ok(frame)) => {
                if let Some(trailers) = frame.trailers_mut() {
                    let code = code::written(trailers);
                    details::check(trailers);
                    if let Some(code) = code {
                        origin::mark(trailers, code, this.instance);
                    }
                    this.judgement.ended_by(code, trailers);
                } else if this.body.is_end_stream() {
                    this.judgement.ended();
                }
            }
            Some(Err(error)) => this.judgement.broken(error),
            None => this.judgement.ended(),
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

/// An attempt whose head was answered.
#[derive(Debug)]
pub(super) struct Judgement {
    attempt: Option<Attempt>,
    rules: Rules,
    /// The outcome that the head told already, and the label of a failure.
    known: Option<(Outcome, &'static str)>,
    first: First,
}

/// The first message, or the end of an answer without one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum First {
    Unread,
    /// The caller has nothing but a head.
    Awaited,
    Come,
}

impl Judgement {
    pub(super) fn new(
        attempt: Attempt,
        rules: Rules,
        known: Option<(Outcome, &'static str)>,
    ) -> Self {
        Self {
            attempt: Some(attempt),
            rules,
            known,
            first: First::Unread,
        }
    }

    /// The caller has to wait for what comes next. Servers are free to send the head at once, as tonic's do in streams, and
    /// then it says nothing of how long they take.
    fn waits(&mut self) {
        if self.first == First::Unread
            && self.known.is_none()
            && let Some(attempt) = &mut self.attempt
        {
            attempt.still_waits();
            self.first = First::Awaited;
        }
    }

    fn comes(&mut self) {
        if self.first == First::Awaited
            && let Some(attempt) = &mut self.attempt
        {
            attempt.answered();
        }
        self.first = First::Come;
    }

    fn ended(&mut self) {
        self.ended_by(None, &HeaderMap::new());
    }

    /// With the status of the trailers, if that is written there.
    fn ended_by(&mut self, code: Option<Code>, trailers: &HeaderMap) {
        if let Some(attempt) = self.attempt.take() {
            let code = code.unwrap_or(Code::Unknown);
            let told = || (self.rules.outcome(code, trailers), code::name(code));
            let (outcome, label) = self.known.unwrap_or_else(told);
            outcome.end(attempt, Some(label));
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
    /// What the head told is known without the body, and clients do not read it to the end.
    fn drop(&mut self) {
        if self.known.is_some() {
            self.ended();
        }
    }
}
