//! A request that can be sent again if the instance did not act on it.
//!
//! hyper reads a body in a task of its own, and tells elsewhere that it was refused. So the body lies between the two: it is
//! read there, what was read is kept until the request is answered, and whoever is told of a refusal takes all of it away.

use std::pin::Pin;
use std::sync::{Arc, Mutex, TryLockError};
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use http::request::Parts;
use http::{HeaderMap, Request};
use http_body::{Body, Frame, SizeHint};

use super::pool::lock;
use super::rewound::{Piece, Rewound};

/// How much of a body is kept, in bytes. If more was read, it cannot be sent again.
const LIMIT: usize = 64 * 1024;
/// What a piece of it counts as at least, since an empty one takes memory too.
const LEAST: usize = 64;

/// The body that is sent in place of the caller's.
pub(super) enum Lent<B> {
    /// The caller's had nothing in it, and is kept.
    Nothing,
    Body(Arc<Desk<B>>),
}

/// Where a body lies while it is sent: until it is taken away.
///
/// Its reader locks it, and is in the caller's code then. The other side never waits for the lock, since it may be called
/// by that very code.
pub(super) type Desk<B> = Mutex<Option<Loan<B>>>;

/// What is kept of a request while it is sent.
pub(super) struct Kept<B> {
    head: Parts,
    body: KeptBody<B>,
}

enum KeptBody<B> {
    Empty(Rewound<B>),
    Lent(Lender<B>),
}

/// Keeps what is needed to send a request again.
pub(super) fn lend<B: Body + Unpin>(request: Request<Rewound<B>>) -> (Request<Lent<B>>, Kept<B>) {
    let (head, body) = request.into_parts();
    let (lent, body) = if body.is_end_stream() {
        (Lent::Nothing, KeptBody::Empty(body))
    } else {
        let desk = Arc::new(Mutex::new(Some(Loan::new(body))));
        (Lent::Body(desk.clone()), KeptBody::Lent(Lender(desk)))
    };
    let lent = Request::from_parts(head.clone(), lent);
    (lent, Kept { head, body })
}

impl<B> Kept<B> {
    /// The request as it was before it was sent, if all that was read of it is kept. What is left of it is not sent.
    pub(super) async fn restore(self) -> Option<Request<Rewound<B>>> {
        let body = match self.body {
            KeptBody::Empty(body) => body,
            KeptBody::Lent(lender) => lender.take_back().await?,
        };
        Some(Request::from_parts(self.head, body))
    }
}

/// The side that may take a body back. Once it is gone nothing more is kept.
struct Lender<B>(Arc<Desk<B>>);

impl<B> Lender<B> {
    async fn take_back(&self) -> Option<Rewound<B>> {
        loop {
            if let Some(loan) = self.try_take() {
                return loan?.rewind();
            }
            // It is being read.
            tokio::task::yield_now().await;
        }
    }

    fn try_take(&self) -> Option<Option<Loan<B>>> {
        match self.0.try_lock() {
            Ok(mut loan) => Some(loan.take()),
            // By a panic of the caller's code: who knows what was read.
            Err(TryLockError::Poisoned(_)) => Some(None),
            Err(TryLockError::WouldBlock) => None,
        }
    }
}

impl<B> Drop for Lender<B> {
    fn drop(&mut self) {
        // One that is being read just now keeps what it has until it ends, which is not much.
        let read = self
            .0
            .try_lock()
            .ok()
            .and_then(|mut loan| loan.as_mut()?.read.take());
        drop(read);
    }
}

/// A body, and what was read of it.
pub(super) struct Loan<B> {
    body: Rewound<B>,
    /// `None` if it is not all there.
    read: Option<Read>,
}

struct Read {
    data: Vec<Bytes>,
    trailers: Option<HeaderMap>,
    /// How much more is kept.
    left: usize,
}

impl<B> Loan<B> {
    fn new(body: Rewound<B>) -> Self {
        let read = Read {
            data: Vec::new(),
            trailers: None,
            left: LIMIT,
        };
        Self {
            body,
            read: Some(read),
        }
    }

    fn rewind(mut self) -> Option<Rewound<B>> {
        let read = self.read?;
        for data in read.data.into_iter().rev() {
            self.body.data.push_front(data);
        }
        if read.trailers.is_some() {
            self.body.trailers = read.trailers;
        }
        Some(self.body)
    }

    fn keep<D: Buf>(&mut self, frame: Frame<Piece<D>>) -> Frame<Piece<D>> {
        let Some(read) = &mut self.read else {
            return frame;
        };
        match frame.into_data() {
            Ok(data) => {
                let Some(left) = read.left.checked_sub(data.remaining().max(LEAST)) else {
                    self.read = None;
                    return Frame::data(data);
                };
                read.left = left;
                let data = data.into_bytes();
                read.data.push(data.clone());
                Frame::data(Piece::Kept(data))
            }
            Err(frame) => {
                read.trailers = frame.trailers_ref().cloned();
                frame
            }
        }
    }
}

impl<B: Body + Unpin> Body for Loan<B> {
    type Data = Piece<B::Data>;
    type Error = B::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, B::Error>>> {
        let this = self.get_mut();
        let frame = ready!(Pin::new(&mut this.body).poll_frame(cx));
        if let Some(Err(_)) = frame {
            // It does not fail a second time.
            this.read = None;
        }
        Poll::Ready(frame.map(|frame| frame.map(|frame| this.keep(frame))))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl<B: Body + Unpin> Body for Lent<B> {
    type Data = Piece<B::Data>;
    type Error = B::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, B::Error>>> {
        match self.get_mut() {
            Self::Nothing => Poll::Ready(None),
            Self::Body(desk) => match &mut *lock(desk) {
                Some(loan) => Pin::new(loan).poll_frame(cx),
                // Of a refused stream, which has an end already.
                None => Poll::Ready(None),
            },
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Nothing => true,
            Self::Body(desk) => {
                let loan = lock(desk);
                loan.as_ref().is_none_or(|loan| loan.is_end_stream())
            }
        }
    }

    fn size_hint(&self) -> SizeHint {
        let nothing = || SizeHint::with_exact(0);
        match self {
            Self::Nothing => nothing(),
            Self::Body(desk) => {
                let loan = lock(desk);
                loan.as_ref().map_or_else(nothing, Body::size_hint)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::task::Waker;

    use futures_util::{FutureExt, stream};
    use http_body_util::{BodyExt, Full, StreamBody};

    use super::*;

    fn request<B>(body: B) -> Request<Rewound<B>> {
        Request::new(Rewound::new(body))
    }

    fn next<B: Body + Unpin>(lent: &mut Request<Lent<B>>) -> Option<Bytes> {
        let frame = lent.body_mut().frame().now_or_never()??;
        let data = frame.ok()?.into_data().ok()?;
        Some(data.into_bytes())
    }

    #[test]
    fn what_was_read_comes_again_each_time() {
        let frames = ["one ", "two ", "three"].map(|text| Frame::data(text.as_bytes()));
        let frames = frames.map(Ok::<_, Infallible>);
        let mut request = request(StreamBody::new(stream::iter(frames)));
        for read in [0, 1, 3, 2] {
            let (mut lent, kept) = lend(request);
            for _ in 0..read {
                next(&mut lent).unwrap();
            }
            request = kept.restore().now_or_never().unwrap().unwrap();
            assert!(lent.body().is_end_stream(), "nobody else reads it");
            assert!(next(&mut lent).is_none());
        }
        let (lent, _kept) = lend(request);
        let all = lent.into_body().collect().now_or_never().unwrap().unwrap();
        assert_eq!(all.to_bytes(), "one two three");
    }

    #[test]
    fn small_pieces_are_few() {
        let frames = stream::repeat_with(|| Ok::<_, Infallible>(Frame::data(Bytes::new())));
        for (read, is_kept) in [(1024, true), (1025, false)] {
            let (mut lent, kept) = lend(request(StreamBody::new(frames.clone())));
            for _ in 0..read {
                next(&mut lent).unwrap();
            }
            let restored = kept.restore().now_or_never().unwrap();
            assert_eq!(restored.is_some(), is_kept);
        }
    }

    #[test]
    fn a_body_that_failed_does_not_come_again() {
        let frames = stream::iter([Ok(Frame::data(Bytes::from("one"))), Err("no more")]);
        let (mut lent, kept) = lend(request(StreamBody::new(frames)));
        next(&mut lent).unwrap();
        assert!(next(&mut lent).is_none());
        assert!(kept.restore().now_or_never().unwrap().is_none());
    }

    #[test]
    fn an_answered_request_holds_no_data() {
        let (mut lent, kept) = lend(request(Full::new(Bytes::from(vec![1, 2, 3]))));
        let data = next(&mut lent).unwrap();
        assert!(!data.is_unique());
        drop(kept);
        assert!(data.is_unique());
    }

    /// As a body does that ends the call it belongs to.
    #[test]
    fn a_body_that_is_taken_back_while_it_is_read_is_waited_for() {
        let ours = Arc::new(Mutex::new(None));
        let theirs = ours.clone();
        let body = stream::poll_fn(move |_| {
            let mut restoring = theirs.lock().unwrap();
            let restoring: &mut Option<Pin<Box<dyn Future<Output = _> + Send>>> = &mut restoring;
            let restoring = restoring.as_mut().unwrap().as_mut();
            let mut cx = Context::from_waker(Waker::noop());
            assert!(restoring.poll(&mut cx).is_pending());
            Poll::Ready(Some(Ok::<_, Infallible>(Frame::data(Bytes::from("one")))))
        });
        let (mut lent, kept) = lend(request(StreamBody::new(body)));
        *ours.lock().unwrap() = Some(Box::pin(async move { kept.restore().await.is_some() }));
        next(&mut lent).unwrap();
        let restoring = ours.lock().unwrap().take().unwrap();
        assert!(restoring.now_or_never().unwrap());
    }
}
