//! Calls that an instance did not act on, and that go to another one.

use std::any::Any;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::Request;
use http_body::{Body, Frame, SizeHint};

use crate::http::classify;
use crate::http::returned::unread;
use crate::http::rewound::{Piece, Rewound};

/// tonic's body, part of which was read before.
struct Resent(Rewound<tonic::body::Body>);

impl Body for Resent {
    type Data = Bytes;
    type Error = tonic::Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, tonic::Status>>> {
        let frame = ready!(Pin::new(&mut self.0).poll_frame(cx));
        Poll::Ready(frame.map(|frame| frame.map(|frame| frame.map_data(Piece::into_bytes))))
    }

    fn is_end_stream(&self) -> bool {
        self.0.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.0.size_hint()
    }
}

/// The request of an error, whose body is tonic's, or was not read.
pub(super) fn take_back<R: 'static>(error: &mut dyn Any) -> Option<Request<R>> {
    let request: Request<Rewound<R>> = classify::take_back(error)?;
    let request: Box<dyn Any> = Box::new(request);
    match request.downcast::<Request<Rewound<tonic::body::Body>>>() {
        Ok(request) => {
            let request = request.map(|body| tonic::body::Body::new(Resent(body)));
            let request: Box<dyn Any> = Box::new(request);
            request.downcast().ok().map(|request| *request)
        }
        Err(request) => unread(*request.downcast::<Request<Rewound<R>>>().ok()?),
    }
}
