//! Answers of which a caller sees nothing before the first message.
//!
//! A server that sends the head of a stream at once may fail all the same before it has said anything. As long as the caller
//! knows of no head, such a call can be made again.

use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use http::Response;
use http::response::Parts;
use http_body::{Body, Frame, SizeHint};

use super::outcome::TrackedBody;
use super::status;
use crate::error::{BoxError, Error};
use crate::model::instance::InstanceId;
use crate::model::target::Target;

/// Marks a request whose answer is held: an extension. Only for one whose body is all at hand, since otherwise the caller may
/// wait for the head before it sends more.
#[derive(Debug, Clone, Copy)]
pub(crate) struct HoldHead;

/// An answer that has begun, without a message yet.
#[derive(Debug)]
pub(super) struct Held<B> {
    /// `None` once the answer was given away.
    answer: Option<(Parts, Pin<Box<TrackedBody<B>>>)>,
}

/// What follows a head: the first frame, and where the others come from.
pub(super) struct Rest<B: Body> {
    first: Option<Frame<B::Data>>,
    body: Pin<Box<TrackedBody<B>>>,
}

impl<B: Body> Held<B> {
    pub(super) fn new(response: Response<TrackedBody<B>>) -> Self {
        let (head, body) = response.into_parts();
        let answer = Some((head, Box::pin(body)));
        Self { answer }
    }

    pub(super) fn instance(&self) -> Option<&InstanceId> {
        let (_, body) = self.answer.as_ref()?;
        Some(body.instance())
    }
}

impl<B> Held<B>
where
    B: Body<Error: Into<BoxError> + 'static>,
{
    /// The answer with its first message. A status without a message is put into the head, where it stands if a server knows
    /// it at once.
    pub(super) fn poll(
        &mut self,
        target: &Target,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Response<Rest<B>>, Error>> {
        let (_, body) = self
            .answer
            .as_mut()
            .expect("it is polled until it is ready");
        let first = ready!(body.as_mut().poll_frame(cx));
        let (mut head, body) = self.answer.take().expect("it was there just now");
        let first = match first {
            Some(Err(error)) => {
                let instance = body.instance().clone();
                return Poll::Ready(Err(status::broken(target, instance, error.into())));
            }
            Some(Ok(frame)) => match frame.into_trailers() {
                Ok(trailers) => {
                    head.headers.extend(trailers);
                    None
                }
                Err(frame) => Some(frame),
            },
            None => None,
        };
        Poll::Ready(Ok(Response::from_parts(head, Rest { first, body })))
    }
}

impl<B: Body> Rest<B> {
    pub(super) fn instance(&self) -> &InstanceId {
        self.body.instance()
    }
}

// Nothing in it is pinned in place.
impl<B: Body> Unpin for Rest<B> {}

impl<B: Body<Error: 'static>> Body for Rest<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        match self.first.take() {
            Some(first) => Poll::Ready(Some(Ok(first))),
            None => self.body.as_mut().poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.first.is_none() && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        match self.first {
            // Nobody needs to know, and it is not what the rest says.
            Some(_) => SizeHint::default(),
            None => self.body.size_hint(),
        }
    }
}

impl<B: Body> fmt::Debug for Rest<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Rest").finish_non_exhaustive()
    }
}
