//! Where the status of an answer stands, and what it says of the instance.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use http::header::{CONTENT_TYPE, HeaderMap};
use http::{Response, StatusCode};
use tonic::Code;

use crate::balance::Outcome;
use crate::http::{classify, retry_after};

const GRPC_STATUS: &str = "grpc-status";

/// What the head of an answer tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Head {
    /// The status already: the answer has no messages ("trailers-only").
    Ended(Code),
    /// Messages follow, and the status in the trailers.
    Begun,
    /// Something else than a gRPC server answered, say a proxy.
    Foreign(StatusCode),
}

impl Head {
    pub(super) fn of<B>(response: &Response<B>) -> Self {
        let headers = response.headers();
        if let Some(code) = written(headers) {
            Self::Ended(code)
        } else if response.status() == StatusCode::OK && is_grpc(headers) {
            Self::Begun
        } else {
            Self::Foreign(response.status())
        }
    }
}

/// The status in headers or trailers.
pub(super) fn written(headers: &HeaderMap) -> Option<Code> {
    let code = headers.get(GRPC_STATUS)?;
    Some(Code::from_bytes(code.as_bytes()))
}

fn is_grpc(headers: &HeaderMap) -> bool {
    let content = headers.get(CONTENT_TYPE);
    content.is_some_and(|content| content.as_bytes().starts_with(b"application/grpc"))
}

/// How a status is called.
pub(super) fn name(code: Code) -> &'static str {
    match code {
        Code::Ok => "Ok",
        Code::Cancelled => "Cancelled",
        Code::Unknown => "Unknown",
        Code::InvalidArgument => "InvalidArgument",
        Code::DeadlineExceeded => "DeadlineExceeded",
        Code::NotFound => "NotFound",
        Code::AlreadyExists => "AlreadyExists",
        Code::PermissionDenied => "PermissionDenied",
        Code::ResourceExhausted => "ResourceExhausted",
        Code::FailedPrecondition => "FailedPrecondition",
        Code::Aborted => "Aborted",
        Code::OutOfRange => "OutOfRange",
        Code::Unimplemented => "Unimplemented",
        Code::Internal => "Internal",
        Code::Unavailable => "Unavailable",
        Code::DataLoss => "DataLoss",
        Code::Unauthenticated => "Unauthenticated",
    }
}

/// By the table "HTTP to gRPC Status Code Mapping" of the gRPC documentation.
pub(super) fn of_http(status: StatusCode) -> Code {
    match status {
        StatusCode::BAD_REQUEST => Code::Internal,
        StatusCode::UNAUTHORIZED => Code::Unauthenticated,
        StatusCode::FORBIDDEN => Code::PermissionDenied,
        StatusCode::NOT_FOUND => Code::Unimplemented,
        StatusCode::TOO_MANY_REQUESTS
        | StatusCode::BAD_GATEWAY
        | StatusCode::SERVICE_UNAVAILABLE
        | StatusCode::GATEWAY_TIMEOUT => Code::Unavailable,
        _ => Code::Unknown,
    }
}

/// By the table "Errors" of "gRPC over HTTP2", for a stream that was reset.
pub(super) fn of_reset(reason: h2::Reason) -> Code {
    match reason {
        h2::Reason::NO_ERROR
        | h2::Reason::PROTOCOL_ERROR
        | h2::Reason::INTERNAL_ERROR
        | h2::Reason::FLOW_CONTROL_ERROR
        | h2::Reason::SETTINGS_TIMEOUT
        | h2::Reason::FRAME_SIZE_ERROR
        | h2::Reason::COMPRESSION_ERROR
        | h2::Reason::CONNECT_ERROR => Code::Internal,
        h2::Reason::REFUSED_STREAM => Code::Unavailable,
        h2::Reason::CANCEL => Code::Cancelled,
        h2::Reason::ENHANCE_YOUR_CALM => Code::ResourceExhausted,
        h2::Reason::INADEQUATE_SECURITY => Code::PermissionDenied,
        _ => Code::Unknown,
    }
}

/// The default outcome of a status.
fn outcome(code: Code) -> Outcome {
    match code {
        Code::Unknown
        | Code::DeadlineExceeded
        | Code::Internal
        | Code::Unavailable
        | Code::DataLoss => Outcome::Failure,
        Code::ResourceExhausted => Outcome::Overloaded(None),
        _ => Outcome::Success,
    }
}

/// What the status says of the instance: the default rules, or a function of the program.
#[derive(Clone, Default)]
pub(super) struct Rules(pub(super) Option<Arc<dyn Fn(Code) -> Outcome + Send + Sync>>);

impl Rules {
    /// The outcome of a status, and of what stands beside it.
    pub(super) fn outcome(&self, code: Code, beside: &HeaderMap) -> Outcome {
        let outcome = match &self.0 {
            Some(outcomes) => outcomes(code),
            None => outcome(code),
        };
        match outcome {
            Outcome::Overloaded(None) => Outcome::Overloaded(pushback(beside)),
            outcome => outcome,
        }
    }
}

impl fmt::Debug for Rules {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Rules").finish_non_exhaustive()
    }
}

/// For how long an instance with too much to do wants to be left alone, by the gRPC proposal A6.
fn pushback(headers: &HeaderMap) -> Option<Duration> {
    let asked = headers.get("grpc-retry-pushback-ms")?.to_str().ok()?;
    let millis = asked.parse::<u32>().ok()?;
    Some(retry_after::bounded(Duration::from_millis(millis.into())))
}

/// The outcome of an answer that is not gRPC. Nobody but the instance is to blame for that, unless the answer is about the
/// caller, or about the load.
pub(super) fn foreign_outcome(status: StatusCode, headers: &HeaderMap) -> Outcome {
    match status {
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => Outcome::Success,
        StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE => {
            classify::outcome(status, headers)
        }
        _ => Outcome::Failure,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(status: u16, headers: &[(&'static str, &'static str)]) -> Head {
        let mut response = Response::builder().status(status);
        for &(name, value) in headers {
            response = response.header(name, value);
        }
        Head::of(&response.body(()).unwrap())
    }

    #[test]
    fn a_status_in_the_head_counts_whatever_http_says() {
        let status = (GRPC_STATUS, "5");
        assert_eq!(answer(200, &[status]), Head::Ended(Code::NotFound));
        assert_eq!(answer(503, &[status]), Head::Ended(Code::NotFound));
    }

    #[test]
    fn a_status_that_is_no_number_is_unknown() {
        for text in ["", "17", "-1", "ok", "00"] {
            assert_eq!(
                answer(200, &[(GRPC_STATUS, text)]),
                Head::Ended(Code::Unknown)
            );
        }
    }

    #[test]
    fn only_grpc_content_with_status_200_is_the_beginning_of_an_answer() {
        let grpc = ("content-type", "application/grpc+proto");
        let html = ("content-type", "text/html");
        assert_eq!(answer(200, &[grpc]), Head::Begun);
        assert_eq!(answer(200, &[html]), Head::Foreign(StatusCode::OK));
        assert_eq!(answer(200, &[]), Head::Foreign(StatusCode::OK));
        let refused = Head::Foreign(StatusCode::BAD_GATEWAY);
        assert_eq!(answer(502, &[grpc]), refused);
    }

    #[test]
    fn what_answers_in_place_of_the_instance_may_say_for_how_long() {
        let outcome = |status: u16, wait: Option<&'static str>| {
            let wait = wait.map(|wait| (http::header::RETRY_AFTER, wait.parse().unwrap()));
            let status = StatusCode::from_u16(status).unwrap();
            foreign_outcome(status, &wait.into_iter().collect())
        };
        let overloaded = |seconds| Outcome::Overloaded(Some(Duration::from_secs(seconds)));
        for status in [429, 503] {
            assert_eq!(outcome(status, Some("7")), overloaded(7));
            assert_eq!(outcome(status, Some("0")), overloaded(1));
            assert_eq!(outcome(status, Some("3600")), overloaded(60));
        }
        for nothing in [None, Some("soon")] {
            assert_eq!(outcome(429, nothing), Outcome::Overloaded(None));
            assert_eq!(outcome(503, nothing), Outcome::Failure);
        }
        assert_eq!(outcome(502, Some("7")), Outcome::Failure);
        assert_eq!(outcome(403, Some("7")), Outcome::Success);
    }

    #[test]
    fn a_pushback_is_read_within_the_same_bounds() {
        let read = |text: &'static str| {
            let header = (
                "grpc-retry-pushback-ms".parse().unwrap(),
                text.parse().unwrap(),
            );
            pushback(&HeaderMap::from_iter([header]))
        };
        assert_eq!(read("2500"), Some(Duration::from_millis(2500)));
        assert_eq!(read("0"), Some(Duration::from_secs(1)));
        assert_eq!(read("4294967295"), Some(Duration::from_secs(60)));
        for text in ["", "-1", "soon", "4294967296"] {
            assert_eq!(read(text), None, "{text:?}");
        }
    }
}
