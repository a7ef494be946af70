//! Judges an instance by the status of its responses and by how their bodies end.

use std::any::Any;

use http::{Request, Response, StatusCode};

use super::answered;
use super::body::{Judgement, TrackedBody};
use super::error::CallError;
use super::tried;
use crate::{Attempt, BoxError, Classify, InstanceId, Outcome};

/// Classifies HTTP responses.
///
/// | Result | Outcome |
/// |---|---|
/// | status below 500 | success |
/// | status 429 | overloaded: it is given less to do, and not blamed |
/// | status 500 and above | failure |
/// | a [`CallError`] whose request was not sent | unsent |
/// | a [`CallError`] whose request's own body failed | neutral |
/// | any other error | failure |
///
/// The latency is taken when the head of the response arrives. The instance's load counts the request until the body ends:
/// the outcome is told then. A body that breaks is a failure. One dropped before its end is cancelled, unless the status says
/// failure or overloaded: callers seldom read those bodies.
///
/// A request goes to another instance than those in its extension [`Tried`](super::Tried), while one is usable.
///
/// A [`CallError`] is recognized as the error itself, or anywhere in the sources of a [`BoxError`].
///
/// Which instance it was is told by [`answered_by`](super::answered_by) of the response, by [`Error::instance`](crate::Error::instance)
/// of an error, and in the field `rolecall.instance` of the caller's `tracing` span, if that declares one.
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

impl<R, B, E> Classify<Request<R>, Response<B>, E> for ClassifyStatus
where
    B: http_body::Body,
    E: 'static,
{
    type Response = Response<TrackedBody<B>>;

    fn avoid<'a>(&self, request: &'a Request<R>) -> &'a [InstanceId] {
        tried::of(request)
    }

    fn classify(
        &self,
        result: Result<Response<B>, E>,
        mut attempt: Attempt,
    ) -> Result<Self::Response, E> {
        answered::record(&attempt);
        match result {
            Ok(mut response) => {
                attempt.answered();
                answered::note(response.extensions_mut(), &attempt);
                let judgement = Judgement::new(attempt, outcome(response.status()));
                Ok(response.map(|body| TrackedBody::new(body, judgement)))
            }
            Err(error) => {
                attempt.end(unanswered(&error));
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

/// What it says of an instance that a request got no response.
pub(crate) fn unanswered(error: &dyn Any) -> Outcome {
    let found = match error.downcast_ref::<BoxError>() {
        Some(boxed) => CallError::find(&**boxed),
        None => error.downcast_ref::<CallError>(),
    };
    match found {
        Some(error) if !error.was_sent() => Outcome::Unsent,
        Some(error) if error.is_callers() => Outcome::Neutral,
        _ => Outcome::Failure,
    }
}
