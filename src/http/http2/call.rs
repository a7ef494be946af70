//! One request over an HTTP/2 connection, and its response.

use std::error::Error;
use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use h2::client::ResponseFuture;
use h2::ext::Protocol;
use h2::{Reason, RecvStream};
use http::header::{CONNECTION, CONTENT_LENGTH, HeaderMap, HeaderName, HeaderValue, TE};
use http::header::{TRANSFER_ENCODING, UPGRADE};
use http::{Method, Request, Response};
use http_body::{Body, Frame, SizeHint};

use super::connection::Slot;
use super::upload::Upload;
use crate::error::BoxError;
use crate::http::error::{BodyError, CallError};

/// A request that was sent. Dropping it resets its stream.
pub(in crate::http) struct Call(Step);

enum Step {
    Waits(ResponseFuture, Held),
    Failed(CallError),
    Over,
}

/// What a stream holds until it ends.
struct Held {
    upload: Option<Upload>,
    slot: Slot,
    /// How often the connection was written to before the request.
    writes: u64,
}

impl Call {
    /// Sends a request whose target is in the form that HTTP/2 wants.
    pub(in crate::http) fn send<B>(slot: Slot, request: Request<B>) -> Self
    where
        B: Body + Send + Unpin + 'static,
        B::Data: Send,
        B::Error: Into<BoxError>,
    {
        let (mut head, body) = request.into_parts();
        let protocol = head.extensions.remove::<Protocol>();
        // They are the caller's code, which nothing of the connection may be locked for.
        head.extensions.clear();
        let is_connect = head.method == Method::CONNECT;
        if let Some(protocol) = protocol.filter(|_| is_connect) {
            if !slot.connection().takes_extended_connect() {
                let error = CallError::request(slot.connection().addr(), NoExtendedConnect.into());
                return Self(Step::Failed(error));
            }
            head.extensions.insert(protocol);
        }
        strip_connection_headers(&mut head.headers);
        let length = body.size_hint().exact();
        if let Some(length) = length
            && !is_connect
            && (length != 0 || has_payload(&head.method))
            && !head.headers.contains_key(CONTENT_LENGTH)
        {
            let length = HeaderValue::from(length);
            head.headers.insert(CONTENT_LENGTH, length);
        }
        let ends = body.is_end_stream();
        let addr = slot.connection().addr();
        let begun = match slot.begin(Request::from_parts(head, ()), ends) {
            Ok(begun) => begun,
            Err(error) => {
                let is_callers = error.reason().is_none() && !error.is_io();
                let cause = slot.connection().cause(error);
                return Self(Step::Failed(match is_callers {
                    true => CallError::request(addr, cause),
                    false => slot.connection().unsent(cause),
                }));
            }
        };
        let writes = begun.writes();
        let upload = match ends {
            true => Ok(None),
            false => Upload::start(body, begun.body, slot.connection().runtime()).map(Some),
        };
        Self(match upload {
            Ok(upload) => {
                let held = Held {
                    upload,
                    slot,
                    writes,
                };
                Step::Waits(begun.response, held)
            }
            Err(failed) => Step::Failed(CallError::request(addr, failed)),
        })
    }
}

impl Future for Call {
    type Output = Result<Response<Received>, CallError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match std::mem::replace(&mut self.0, Step::Over) {
            Step::Waits(mut response, held) => match Pin::new(&mut response).poll(cx) {
                Poll::Pending => {
                    self.0 = Step::Waits(response, held);
                    Poll::Pending
                }
                Poll::Ready(Ok(response)) => {
                    let (head, body) = response.into_parts();
                    let connection = held.slot.connection();
                    if let Err(error) = check_size(&head.headers, connection.header_limit()) {
                        let error = CallError::too_large(connection.addr(), error.into());
                        return Poll::Ready(Err(error));
                    }
                    let body = Received::new(body, &head.headers, held);
                    Poll::Ready(Ok(Response::from_parts(head, body)))
                }
                Poll::Ready(Err(error)) => Poll::Ready(Err(held.call_error(error))),
            },
            Step::Failed(error) => Poll::Ready(Err(error)),
            Step::Over => Poll::Pending,
        }
    }
}

impl Held {
    fn call_error(self, error: h2::Error) -> CallError {
        let connection = self.slot.connection();
        let addr = connection.addr();
        if let Some(failed) = self.upload.as_ref().and_then(Upload::take_failed) {
            return CallError::request(addr, failed);
        }
        let reason = error.reason();
        let (is_reset, is_go_away) = (error.is_reset(), error.is_go_away());
        let is_remote = error.is_remote();
        // All that h2 tells of a head over its limit is that it reset the stream, as for one that is malformed.
        let is_too_large = is_reset && error.is_library() && reason == Some(Reason::PROTOCOL_ERROR);
        let cause = connection.cause(error);
        // RFC 9113, 8.7: it did not act on a request whose stream it refused, nor on those after the last that a `GOAWAY` names.
        if is_remote && is_go_away {
            CallError::go_away(addr, cause, reason == Some(Reason::NO_ERROR))
        } else if is_remote && is_reset && reason == Some(Reason::REFUSED_STREAM) {
            CallError::refused(addr, cause)
        } else if is_too_large {
            CallError::too_large(addr, cause)
        } else if !is_reset && connection.has_written_nothing_since(self.writes) {
            connection.unsent(cause)
        } else {
            CallError::sent(addr, cause)
        }
    }
}

/// The body of a response. Dropped before its end it resets the stream, and the body of the request is dropped.
pub(in crate::http) struct Received {
    body: RecvStream,
    /// Whether there may be more data before the trailers.
    has_data: bool,
    /// How much of the announced length is to come.
    left: Option<u64>,
    /// `None` at the end.
    held: Option<Held>,
}

impl Received {
    fn new(body: RecvStream, headers: &HeaderMap, held: Held) -> Self {
        let left = headers.get(CONTENT_LENGTH);
        let left = left.and_then(|length| length.to_str().ok()?.parse().ok());
        let mut received = Self {
            body,
            has_data: true,
            left,
            held: Some(held),
        };
        if received.body.is_end_stream() {
            received.end();
        }
        received
    }

    fn end(&mut self) {
        if let Some(Held {
            upload: Some(upload),
            ..
        }) = self.held.take()
        {
            upload.answered();
        }
    }

    fn fail(&mut self, error: h2::Error) -> BodyError {
        let held = self.held.take();
        let failed = held.as_ref().and_then(|held| held.upload.as_ref());
        match failed.and_then(Upload::take_failed) {
            Some(failed) => BodyError::request(failed),
            None => BodyError::response(match held {
                Some(held) => held.slot.connection().cause(error),
                None => error.into(),
            }),
        }
    }
}

impl Body for Received {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = self.get_mut();
        if this.held.is_none() {
            return Poll::Ready(None);
        }
        if this.has_data {
            match ready!(this.body.poll_data(cx)) {
                Some(Ok(data)) => {
                    // It fails only for more than was received.
                    let _ = this.body.flow_control().release_capacity(data.len());
                    this.left = this.left.map(|left| left.saturating_sub(data.len() as u64));
                    if this.body.is_end_stream() {
                        this.end();
                    }
                    return Poll::Ready(Some(Ok(Frame::data(data))));
                }
                Some(Err(error)) => return Poll::Ready(Some(Err(this.fail(error)))),
                None => this.has_data = false,
            }
        }
        Poll::Ready(match ready!(this.body.poll_trailers(cx)) {
            Ok(trailers) => {
                let held = this.held.as_ref();
                let limit = held.map_or(usize::MAX, |held| held.slot.connection().header_limit());
                this.end();
                trailers.map(|trailers| match check_size(&trailers, limit) {
                    Ok(()) => Ok(Frame::trailers(trailers)),
                    Err(error) => Err(BodyError::too_large(error.into())),
                })
            }
            Err(error) => Some(Err(this.fail(error))),
        })
    }

    fn is_end_stream(&self) -> bool {
        self.held.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        match (&self.held, self.left) {
            (None, _) => SizeHint::with_exact(0),
            (Some(_), Some(left)) => SizeHint::with_exact(left),
            (Some(_), None) => SizeHint::default(),
        }
    }
}

/// Counts the size of header fields: RFC 9113, 6.5.2.
fn check_size(fields: &HeaderMap, limit: usize) -> Result<(), TooLarge> {
    const OVERHEAD: usize = 32;
    let size =
        |(name, value): (&HeaderName, &HeaderValue)| name.as_str().len() + value.len() + OVERHEAD;
    let size = fields.iter().map(size).sum();
    match size > limit {
        true => Err(TooLarge { size, limit }),
        false => Ok(()),
    }
}

/// Header fields or trailers exceed our own limit.
#[derive(Debug)]
struct TooLarge {
    size: usize,
    limit: usize,
}

impl fmt::Display for TooLarge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { size, limit } = self;
        write!(
            f,
            "{size} bytes of header fields, where {limit} are the limit"
        )
    }
}

impl Error for TooLarge {}

/// The server has not said that it takes an extended `CONNECT`, so none may be sent: RFC 8441, 3.
#[derive(Debug)]
struct NoExtendedConnect;

impl fmt::Display for NoExtendedConnect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the instance takes no extended CONNECT")
    }
}

impl Error for NoExtendedConnect {}

/// Whether a request of this method says how long its body is, though it is empty: RFC 9110, 8.6.
fn has_payload(method: &Method) -> bool {
    !matches!(
        *method,
        Method::GET | Method::HEAD | Method::DELETE | Method::CONNECT
    )
}

/// Removes what concerns an HTTP/1.1 connection only, and would make the request malformed: RFC 9113, 8.2.2.
fn strip_connection_headers(headers: &mut HeaderMap) {
    const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
    const PROXY_CONNECTION: HeaderName = HeaderName::from_static("proxy-connection");
    if let Some(named) = headers.remove(CONNECTION)
        && let Ok(named) = named.to_str()
    {
        for name in named.split(',') {
            headers.remove(name.trim());
        }
    }
    for name in [KEEP_ALIVE, PROXY_CONNECTION, TRANSFER_ENCODING, UPGRADE] {
        headers.remove(name);
    }
    if headers.get(TE).is_some_and(|te| te != "trailers") {
        headers.remove(TE);
    }
}
