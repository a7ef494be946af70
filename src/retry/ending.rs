//! What came of one attempt.

use http::header::HeaderMap;
use http::{Response, StatusCode};

use crate::error::{Error, ErrorKind};
use crate::http::extensions::instance_of;
use crate::http::resend::{is_free, ours};
use crate::http::{CallError, Tried};
use crate::model::instance::InstanceId;

/// How an attempt ended, as far as another one is to follow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ending {
    /// Answered, and not by a failure that another instance may do better.
    Answered,
    /// No instance acted on the request. `free`: it may be sent again at once.
    Unsent { free: bool },
    /// An instance may have acted on it.
    Failed,
    /// It would fail again, or there is nobody to ask.
    Final,
}

/// The ending, and the instance that the request was with.
pub(super) fn of<B, E: 'static>(result: &Result<Response<B>, E>) -> (Ending, Option<InstanceId>) {
    match result {
        Ok(response) => {
            let id = instance_of(response.extensions()).cloned();
            let failed = is_failed(response.status()) || is_grpc_unavailable(response.headers());
            let ending = if failed {
                Ending::Failed
            } else {
                Ending::Answered
            };
            (ending, id)
        }
        Err(error) => match ours(error) {
            Some(error) => (of_error(error), error.instance().cloned()),
            // Of a layer in between, a time limit for one.
            None => (Ending::Failed, None),
        },
    }
}

fn of_error(error: &Error) -> Ending {
    match error.kind() {
        ErrorKind::Call if CallError::find(error).is_some_and(CallError::is_callers) => {
            Ending::Final
        }
        ErrorKind::Call if !error.was_sent() => Ending::Unsent {
            free: is_free(error),
        },
        // Where it was the caller's whole time that passed, `Retry` finds none left.
        ErrorKind::Deadline if error.was_sent() => Ending::Failed,
        ErrorKind::Call => Ending::Failed,
        _ => Ending::Final,
    }
}

/// What says that the instance, or a proxy before it, could not serve; others are answers.
fn is_failed(status: StatusCode) -> bool {
    matches!(
        status,
        StatusCode::BAD_GATEWAY | StatusCode::SERVICE_UNAVAILABLE | StatusCode::GATEWAY_TIMEOUT
    )
}

/// In the head, where no message went before.
fn is_grpc_unavailable(headers: &HeaderMap) -> bool {
    headers
        .get("grpc-status")
        .is_some_and(|status| status == "14")
}

/// What a [`Resend`](crate::http::Resend) below did: the instance that the request was with before it was sent again.
pub(super) fn resent<B, E: 'static>(result: &Result<Response<B>, E>) -> Resent {
    let id = match result {
        Ok(response) => {
            let tried = response.extensions().get::<Tried>();
            tried.and_then(|tried| tried.instances().first())
        }
        Err(error) => match ours(error) {
            Some(error) => error.resent(),
            None => return Resent::Unknown,
        },
    };
    id.cloned().map_or(Resent::No, Resent::From)
}

/// Whether a request was sent again without a retry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Resent {
    No,
    From(InstanceId),
    /// The error of a layer in between does not tell.
    Unknown,
}
