//! Request bodies that can be sent twice.

use std::collections::VecDeque;
use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use bytes::{Buf, Bytes};
use http::HeaderMap;
use http_body::{Body, Frame, SizeHint};

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
    data: VecDeque<Bytes>,
    trailers: Option<HeaderMap>,
    rest: Rest<B>,
}

enum Rest<B: Body> {
    None,
    Body(B),
    Failed(B::Error),
}

impl<B: Body + Unpin> ReplayBody<B> {
    /// Reads a body as far as it is at hand, and not much beyond `limit` bytes.
    pub(super) fn read(mut body: B, limit: usize) -> Self {
        let mut read = Self {
            data: VecDeque::new(),
            trailers: None,
            rest: Rest::None,
        };
        let mut left = limit;
        // What is pending is polled again by whoever sends the rest, with a waker that wakes.
        let mut cx = Context::from_waker(Waker::noop());
        while !body.is_end_stream() {
            if body.size_hint().lower() > left as u64 {
                read.rest = Rest::Body(body);
                break;
            }
            match Pin::new(&mut body).poll_frame(&mut cx) {
                Poll::Ready(None) => break,
                Poll::Ready(Some(Ok(frame))) => {
                    let Some(bytes) = read.keep(frame) else { break };
                    // An endless row of empty frames ends too.
                    let bytes = bytes.max(1);
                    if bytes > left {
                        read.rest = Rest::Body(body);
                        break;
                    }
                    left -= bytes;
                }
                Poll::Ready(Some(Err(error))) => {
                    read.rest = Rest::Failed(error);
                    break;
                }
                Poll::Pending => {
                    read.rest = Rest::Body(body);
                    break;
                }
            }
        }
        read
    }

    /// How many bytes of data it had; none for trailers, after which nothing comes.
    fn keep(&mut self, frame: Frame<B::Data>) -> Option<usize> {
        match frame.into_data() {
            Ok(mut data) => {
                let bytes = data.copy_to_bytes(data.remaining());
                let length = bytes.len();
                self.data.push_back(bytes);
                Some(length)
            }
            Err(frame) => {
                self.trailers = frame.into_trailers().ok();
                None
            }
        }
    }
}

impl<B: Body> TryClone for ReplayBody<B> {
    fn try_clone(&self) -> Option<Self> {
        matches!(self.rest, Rest::None).then(|| Self {
            data: self.data.clone(),
            trailers: self.trailers.clone(),
            rest: Rest::None,
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
        if let Some(data) = self.data.pop_front() {
            return Poll::Ready(Some(Ok(Frame::data(data))));
        }
        match &mut self.rest {
            Rest::None => {}
            Rest::Failed(_) => {
                if let Rest::Failed(error) = std::mem::replace(&mut self.rest, Rest::None) {
                    return Poll::Ready(Some(Err(error)));
                }
            }
            Rest::Body(body) => {
                let frame = Pin::new(body).poll_frame(cx);
                return frame.map_ok(|frame| {
                    frame.map_data(|mut data| data.copy_to_bytes(data.remaining()))
                });
            }
        }
        let trailers = self.trailers.take();
        Poll::Ready(trailers.map(|trailers| Ok(Frame::trailers(trailers))))
    }

    fn is_end_stream(&self) -> bool {
        let read = self.data.is_empty() && self.trailers.is_none();
        read && match &self.rest {
            Rest::None => true,
            Rest::Body(body) => body.is_end_stream(),
            Rest::Failed(_) => false,
        }
    }

    fn size_hint(&self) -> SizeHint {
        let read = self.data.iter().map(|data| data.len() as u64).sum::<u64>();
        let mut hint = match &self.rest {
            Rest::None => SizeHint::with_exact(0),
            Rest::Body(body) => body.size_hint(),
            Rest::Failed(_) => SizeHint::new(),
        };
        let upper = hint.upper().and_then(|upper| upper.checked_add(read));
        let lower = hint.lower().saturating_add(read);
        hint = SizeHint::new();
        hint.set_lower(lower);
        if let Some(upper) = upper {
            hint.set_upper(upper);
        }
        hint
    }
}

impl<B: Body> fmt::Debug for ReplayBody<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReplayBody")
            .field("is_whole", &matches!(self.rest, Rest::None))
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::pin::pin;

    use futures_util::{FutureExt, StreamExt, stream};
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
        assert_eq!(long.data.len(), 0);
        assert_eq!(long.size_hint().exact(), Some(7));
        assert!(long.try_clone().is_none());
    }

    #[test]
    fn an_endless_row_of_empty_frames_ends_at_the_limit() {
        let frames = stream::repeat_with(|| Ok::<_, Infallible>(Frame::data(Bytes::new())));
        let endless = ReplayBody::read(StreamBody::new(frames), 100);
        assert!(endless.try_clone().is_none());
        assert!(endless.data.len() <= 101);
    }

    #[test]
    fn a_body_that_fails_is_sent_once_up_to_its_failure() {
        let fails = ReplayBody::read(body(vec![data("one"), Err("no more")], true), 100);
        assert!(fails.try_clone().is_none());
        assert_eq!(collected(fails).unwrap().unwrap_err(), "no more");
    }
}
