use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};

use super::error::BodyError;
use super::http1::body::Received as Http1;
use super::http2::call::Received as Http2;

/// The body of a response, as it comes from an instance.
///
/// # Errors
///
/// A [`BodyError`], after which it has ended: the connection or the stream was lost, or the body of the request failed.
///
/// # Cancellation
///
/// Dropped before its end it closes its HTTP/1.1 connection, and resets its HTTP/2 stream; the body of the request is dropped
/// too. At its end the body of the request is dropped if it was not sent yet: an instance that has answered does not need it.
/// The HTTP/2 stream is reset then, without an error, and the HTTP/1.1 connection is closed.
pub struct IncomingBody {
    protocol: Protocol,
}

enum Protocol {
    Http1(Http1),
    Http2(Http2),
}

impl From<Http1> for IncomingBody {
    fn from(body: Http1) -> Self {
        let protocol = Protocol::Http1(body);
        Self { protocol }
    }
}

impl From<Http2> for IncomingBody {
    fn from(body: Http2) -> Self {
        let protocol = Protocol::Http2(body);
        Self { protocol }
    }
}

impl Body for IncomingBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match &mut self.get_mut().protocol {
            Protocol::Http1(body) => Pin::new(body).poll_frame(cx),
            Protocol::Http2(body) => Pin::new(body).poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.protocol {
            Protocol::Http1(body) => body.is_end_stream(),
            Protocol::Http2(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.protocol {
            Protocol::Http1(body) => body.size_hint(),
            Protocol::Http2(body) => body.size_hint(),
        }
    }
}

impl fmt::Debug for IncomingBody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("IncomingBody").finish_non_exhaustive()
    }
}
