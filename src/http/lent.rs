//! A request that can be sent again if the instance did not act on it.

use std::pin::Pin;
use std::task::{Context, Poll};

use http::Request;
use http::request::Parts;
use http_body::{Body, Frame, SizeHint};

/// The body that is sent in place of the caller's.
pub(super) enum Lent<B> {
    /// The caller's had nothing in it, and is kept.
    Nothing,
    Body(B),
}

/// What is kept of a request while it is sent.
pub(super) struct Kept<B>(Option<(Parts, B)>);

/// Keeps what is needed to send a request again, unless it has a body: that is read but once.
pub(super) fn lend<B: Body>(request: Request<B>) -> (Request<Lent<B>>, Kept<B>) {
    if !request.body().is_end_stream() {
        return (request.map(Lent::Body), Kept(None));
    }
    let (head, body) = request.into_parts();
    let lent = Request::from_parts(head.clone(), Lent::Nothing);
    (lent, Kept(Some((head, body))))
}

impl<B> Kept<B> {
    /// The request, if it was kept or came back by itself.
    pub(super) fn restore(self, returned: Option<Request<Lent<B>>>) -> Option<Request<B>> {
        if let Some((head, body)) = self.0 {
            return Some(Request::from_parts(head, body));
        }
        let (head, body) = returned?.into_parts();
        match body {
            Lent::Body(body) => Some(Request::from_parts(head, body)),
            Lent::Nothing => None,
        }
    }
}

impl<B: Body + Unpin> Body for Lent<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        match self.get_mut() {
            Self::Nothing => Poll::Ready(None),
            Self::Body(body) => Pin::new(body).poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Nothing => true,
            Self::Body(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Nothing => SizeHint::with_exact(0),
            Self::Body(body) => body.size_hint(),
        }
    }
}
