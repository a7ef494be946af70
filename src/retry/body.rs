//! Request bodies that can be sent twice.

use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll, Waker, ready};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};

use crate::http::rewound::{Piece, Rewound};

/// What [`Retry`](super::Retry) can send again: all that is `Clone`, and a [`ReplayBody`] that was read to its end.
pub trait TryClone: Sized {
    /// A clone, if there can be one.
    fn try_clone(&self) -> Option<Self>;
}

impl<T: Clone> TryClone for T {
    fn try_clone(&self) -> Option<Self> {
        Some(self.clone())
    }
}

/// A request body of which [`Replay`](super::Replay) read what was at hand.
///
/// Read to its end, it can be sent again. Else it is sent once, the rest after what was read.
pub struct ReplayBody<B: Body> {
    body: Rewound<B>,
    /// How the reading ended.
    failed: Option<B::Error>,
}

impl<B: Body + Unpin> ReplayBody<B> {
    /// Reads a body as far as it is at hand, and not much beyond `limit` bytes.
    pub(super) fn read(body: B, limit: usize) -> Self {
        let mut read = Self {
            body: Rewound::new(body),
            failed: None,
        };
        let mut left = limit;
        while let Some(bytes) = read.read_frame(left) {
            // An endless row of empty frames ends too.
            match left.checked_sub(bytes.max(1)) {
                Some(less) => left = less,
                None => break,
            }
        }
        read
    }

    /// Reads one frame of data, and tells how many bytes it had. None if that was the end, or is at hand no more.
    fn read_frame(&mut self, left: usize) -> Option<usize> {
        let Rewound {
            data,
            trailers,
            rest,
        } = &mut self.body;
        let body = rest.as_mut()?;
        if body.is_end_stream() {
            *rest = None;
            return None;
        }
        if body.size_hint().lower() > left as u64 {
            return None;
        }
        // What is pending is polled again by whoever sends the rest, with a waker that wakes.
        let mut cx = Context::from_waker(Waker::noop());
        let Poll::Ready(frame) = Pin::new(body).poll_frame(&mut cx) else {
            return None;
        };
        let ended = match frame {
            None => Ok(None),
            Some(Err(error)) => Err(error),
            Some(Ok(frame)) => match frame.into_data() {
                Ok(frame) => {
                    let frame = Piece::Own(frame).into_bytes();
                    let bytes = frame.len();
                    data.push_back(frame);
                    return Some(bytes);
                }
                Err(frame) => Ok(frame.into_trailers().ok()),
            },
        };
        *rest = None;
        match ended {
            Ok(ended) => *trailers = ended,
            Err(error) => self.failed = Some(error),
        }
        None
    }
}

impl<B: Body> ReplayBody<B> {
    fn is_whole(&self) -> bool {
        self.body.rest.is_none() && self.failed.is_none()
    }
}

impl<B: Body> TryClone for ReplayBody<B> {
    fn try_clone(&self) -> Option<Self> {
        self.is_whole().then(|| Self {
            body: Rewound {
                data: self.body.data.clone(),
                trailers: self.body.trailers.clone(),
                rest: None,
            },
            failed: None,
        })
    }
}

impl<B: Body + Unpin> Body for ReplayBody<B>
where
    B::Error: Unpin,
{
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(cx));
        Poll::Ready(match frame {
            Some(frame) => Some(frame.map(|frame| frame.map_data(Piece::into_bytes))),
            None => self.failed.take().map(Err),
        })
    }

    fn is_end_stream(&self) -> bool {
        self.failed.is_none() && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let read = self.body.size_hint();
        if self.failed.is_none() {
            return read;
        }
        let mut hint = SizeHint::new();
        hint.set_lower(read.lower());
        hint
    }
}

impl<B: Body> fmt::Debug for ReplayBody<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReplayBody")
            .field("is_whole", &self.is_whole())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::pin::pin;

    use futures_util::{FutureExt, StreamExt, stream};
    use http::HeaderMap;
    use http_body_util::{BodyExt, Collected, Full, StreamBody};

    use super::*;

    type Failure = &'static str;

    fn data(text: &'static str) -> Result<Frame<Bytes>, Failure> {
        Ok(Frame::data(Bytes::from_static(text.as_bytes())))
    }

    /// A body of these frames, which are all at hand; then it is pending for ever, or ends.
    fn body(
        frames: Vec<Result<Frame<Bytes>, Failure>>,
        ends: bool,
    ) -> impl Body<Data = Bytes, Error = Failure> + Unpin {
        let rest = if ends {
            stream::empty().left_stream()
        } else {
            stream::pending().right_stream()
        };
        StreamBody::new(stream::iter(frames).chain(rest))
    }

    fn collected<B: Body<Data = Bytes>>(body: B) -> Option<Result<Collected<Bytes>, B::Error>> {
        pin!(body.collect()).as_mut().now_or_never()
    }

    #[test]
    fn what_is_at_hand_to_its_end_can_be_sent_again_with_its_trailers() {
        let mut trailers = HeaderMap::new();
        trailers.insert("checksum", 7.into());
        let frames = vec![data("one "), data("two"), Ok(Frame::trailers(trailers))];
        let first = ReplayBody::read(body(frames, true), 7);
        let second = first.try_clone().unwrap();
        let third = second.try_clone().unwrap();
        assert_eq!(third.size_hint().exact(), Some(7));
        for body in [first, second, third] {
            assert!(!body.is_end_stream());
            let collected = collected(body).unwrap().unwrap();
            assert_eq!(collected.trailers().unwrap()["checksum"], "7");
            assert_eq!(collected.to_bytes(), "one two");
        }
    }

    #[test]
    fn an_empty_body_can_be_sent_again() {
        for limit in [0, 10] {
            let empty = ReplayBody::read(Full::<Bytes>::default(), limit);
            assert!(empty.try_clone().unwrap().is_end_stream());
        }
    }

    #[test]
    fn a_body_that_is_not_at_hand_is_sent_once_and_read_no_further() {
        let waits = ReplayBody::read(body(vec![data("one")], false), 100);
        assert!(waits.try_clone().is_none());
        let mut waits = pin!(waits);
        let frame = waits.frame().now_or_never().unwrap().unwrap();
        assert_eq!(frame.unwrap().into_data().unwrap(), "one");
        assert!(waits.frame().now_or_never().is_none(), "as it comes");
    }

    #[test]
    fn a_body_beyond_the_limit_is_sent_once_and_whole() {
        for limit in [0, 1, 3, 6] {
            let frames = vec![data("one "), data("two")];
            let long = ReplayBody::read(body(frames, true), limit);
            assert!(long.try_clone().is_none(), "limit {limit}");
            assert_eq!(collected(long).unwrap().unwrap().to_bytes(), "one two");
        }
        // One that tells its length is not touched.
        let long = ReplayBody::read(Full::<Bytes>::from("one two"), 6);
        assert_eq!(long.body.data.len(), 0);
        assert_eq!(long.size_hint().exact(), Some(7));
        assert!(long.try_clone().is_none());
    }

    #[test]
    fn an_endless_row_of_empty_frames_ends_at_the_limit() {
        let frames = stream::repeat_with(|| Ok::<_, Infallible>(Frame::data(Bytes::new())));
        let endless = ReplayBody::read(StreamBody::new(frames), 100);
        assert!(endless.try_clone().is_none());
        assert!(endless.body.data.len() <= 101);
    }

    #[test]
    fn a_body_that_fails_is_sent_once_up_to_its_failure() {
        let fails = ReplayBody::read(body(vec![data("one"), Err("no more")], true), 100);
        assert!(fails.try_clone().is_none());
        assert_eq!(collected(fails).unwrap().unwrap_err(), "no more");
    }
}
