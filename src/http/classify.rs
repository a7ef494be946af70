//! Judges an instance by the status of its responses and by how their bodies end.

use std::any::Any;

use http::{Response, StatusCode};

use super::body::{Judgement, TrackedBody};
use super::error::CallError;
use crate::{Attempt, BoxError, Classify, InstanceId, Outcome};

/// Classifies HTTP responses.
///
/// | Result | Outcome |
/// |---|---|
/// | status below 500 | success |
/// | status 429 | overloaded: it is given less to do, and not blamed |
/// | status 500 and above | failure |
/// | a [`CallError`] whose request was not sent | unsent |
/// | any other error | failure |
///
/// The latency is taken when the head of the response arrives. The instance's load counts the request until the body ends:
/// the outcome is told then. A body that breaks is a failure. One dropped before its end is cancelled, unless the status says
/// failure or overloaded: callers seldom read those bodies.
///
/// A [`CallError`] is recognized as the error itself, or anywhere in the sources of a [`BoxError`].
#[derive(Debug, Clone, Copy, Default)]
#[non_exhaustive]
pub struct ClassifyStatus;

impl ClassifyStatus {
    /// The classifier; it has no settings.
    #[must_use]
    pub fn new() -> Self {
        Self
    }
}

impl<Req, B, E> Classify<Req, Response<B>, E> for ClassifyStatus
where
    B: http_body::Body,
    E: 'static,
{
    type Response = Response<TrackedBody<B>>;

    fn classify(
        &self,
        result: Result<Response<B>, E>,
        mut attempt: Attempt,
    ) -> Result<Self::Response, E> {
        match result {
            Ok(mut response) => {
                attempt.answered();
                let id = attempt.instance().id().clone();
                response.extensions_mut().insert(AnsweredBy(id));
                let judgement = Judgement::new(attempt, outcome(response.status()));
                Ok(response.map(|body| TrackedBody::new(body, judgement)))
            }
            Err(error) => {
                if was_sent(&error) {
                    attempt.failure();
                } else {
                    attempt.unsent();
                }
                Err(error)
            }
        }
    }
}

fn outcome(status: StatusCode) -> Outcome {
    match status {
        StatusCode::TOO_MANY_REQUESTS => Outcome::Overloaded(None),
        status if status.is_server_error() => Outcome::Failure,
        _ => Outcome::Success,
    }
}

fn was_sent(error: &dyn Any) -> bool {
    let found = match error.downcast_ref::<BoxError>() {
        Some(boxed) => CallError::find(&**boxed),
        None => error.downcast_ref(),
    };
    found.is_none_or(CallError::was_sent)
}

#[derive(Debug, Clone)]
struct AnsweredBy(InstanceId);

/// The instance that gave a response, if [`ClassifyStatus`] classified it.
#[must_use]
pub fn answered_by<B>(response: &Response<B>) -> Option<&InstanceId> {
    response.extensions().get().map(|AnsweredBy(id)| id)
}
