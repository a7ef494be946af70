//! What tonic's clients are told where no instance gave a status.

use std::error::Error as StdError;
use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderMap, StatusCode};
use tonic::{Code, Status};

use super::code;
use crate::error::{BoxError, Error, ErrorKind};
use crate::model::instance::InstanceId;
use crate::model::target::Target;
use crate::runtime::causes::chain;

/// Puts a status between an error and its cause, where tonic's clients look for one.
pub(super) fn with_status(error: Error) -> Error {
    error.wrap_source(|error, cause| {
        let found = cause.as_deref().and_then(|cause| find(cause));
        let text = text(error, cause.as_deref());
        let mut status = match found {
            Some(status) => Status::with_details_and_metadata(
                status.code(),
                text,
                status.details().to_vec().into(),
                status.metadata().clone(),
            ),
            None => Status::new(code_of(error, cause.as_deref()), text),
        };
        if let Some(cause) = cause {
            status.set_source(Arc::from(cause));
        }
        Box::new(status)
    })
}

/// The caller's time was over.
///
/// `waited_for`: why no instance had the call.
pub(super) fn timed_out(
    target: &Target,
    instance: Option<InstanceId>,
    after: Duration,
    waited_for: Option<Error>,
) -> Error {
    let waited_for = waited_for.map(Into::into);
    Error::deadline(target.clone(), instance, waited_for).wrap_source(|error, cause| {
        let mut text = format!("{error} ({after:?})");
        if let Some(cause) = &cause {
            // Writing to a string does not fail.
            let _ = write!(text, ": {cause}");
        }
        let mut status = Status::deadline_exceeded(text);
        if let Some(cause) = cause {
            status.set_source(Arc::from(cause));
        }
        Box::new(status)
    })
}

/// A body broke.
pub(super) fn broken(target: &Target, instance: InstanceId, cause: BoxError) -> Error {
    with_status(Error::call(target.clone(), instance, true, cause))
}

/// What answered is no gRPC server.
pub(super) fn foreign(
    target: &Target,
    instance: InstanceId,
    status: StatusCode,
    headers: &HeaderMap,
) -> Error {
    let content = headers.get(http::header::CONTENT_TYPE);
    let content = content.map_or_else(
        || "none".into(),
        |content| {
            String::from_utf8_lossy(content.as_bytes())
                .escape_debug()
                .take(64)
                .collect::<String>()
        },
    );
    let text = format!("HTTP status {status} and no gRPC status, content-type: {content}");
    let cause = Status::new(code::of_http(status), text);
    with_status(Error::call(target.clone(), instance, true, cause.into()))
}

fn code_of(error: &Error, cause: Option<&(dyn StdError + Send + Sync + 'static)>) -> Code {
    match error.kind() {
        ErrorKind::Saturated => return Code::ResourceExhausted,
        ErrorKind::Deadline => return Code::DeadlineExceeded,
        _ => {}
    }
    let reset = cause.and_then(|cause| {
        let reset = chain(cause).find_map(|error| error.downcast_ref::<h2::Error>())?;
        reset.reason().filter(|_| reset.is_reset())
    });
    reset.map_or(Code::Unavailable, code::of_reset)
}

/// An error with its causes, to the first that is a status.
fn text(error: &Error, cause: Option<&(dyn StdError + Send + Sync + 'static)>) -> String {
    let mut text = error.to_string();
    for cause in cause.into_iter().flat_map(|cause| chain(cause)) {
        // Writing to a string does not fail.
        let _ = match cause.downcast_ref::<Status>() {
            None => write!(text, ": {cause}"),
            Some(status) => {
                let _ = write!(text, ": {}", status.message());
                break;
            }
        };
    }
    text
}

fn find<'a>(error: &'a (dyn StdError + 'static)) -> Option<&'a Status> {
    chain(error).find_map(|error| error.downcast_ref())
}
