//! A body that was read in part, and comes whole once more: first what was read of it, then the rest.

use std::collections::VecDeque;
use std::io::IoSlice;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use http::HeaderMap;
use http_body::{Body, Frame, SizeHint};

/// Cheap to make of a body that was not read.
pub(crate) struct Rewound<B> {
    /// What was read.
    pub(crate) data: VecDeque<Bytes>,
    /// Those that were read: after them there is no rest.
    pub(crate) trailers: Option<HeaderMap>,
    /// `None` after its end.
    pub(crate) rest: Option<B>,
}

impl<B> Rewound<B> {
    pub(crate) fn new(body: B) -> Self {
        Self {
            data: VecDeque::new(),
            trailers: None,
            rest: Some(body),
        }
    }
}

impl<B: Body + Unpin> Body for Rewound<B> {
    type Data = Piece<B::Data>;
    type Error = B::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, B::Error>>> {
        let this = self.get_mut();
        if let Some(data) = this.data.pop_front() {
            return Poll::Ready(Some(Ok(Frame::data(Piece::Kept(data)))));
        }
        let Some(rest) = &mut this.rest else {
            let trailers = this.trailers.take();
            return Poll::Ready(trailers.map(|trailers| Ok(Frame::trailers(trailers))));
        };
        let frame = ready!(Pin::new(rest).poll_frame(cx));
        if !matches!(&frame, Some(Ok(frame)) if frame.is_data()) {
            this.rest = None;
        }
        Poll::Ready(frame.map(|frame| frame.map(|frame| frame.map_data(Piece::Own))))
    }

    fn is_end_stream(&self) -> bool {
        let read = self.data.is_empty() && self.trailers.is_none();
        read && self.rest.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        let read = self.data.iter().map(|data| data.len() as u64).sum::<u64>();
        let rest = self
            .rest
            .as_ref()
            .map_or_else(|| SizeHint::with_exact(0), Body::size_hint);
        let mut hint = SizeHint::new();
        hint.set_lower(rest.lower().saturating_add(read));
        if let Some(upper) = rest.upper().and_then(|upper| upper.checked_add(read)) {
            hint.set_upper(upper);
        }
        hint
    }
}

/// Data of a body: what is kept of it beyond its sending is cheap to clone.
pub(crate) enum Piece<D> {
    Kept(Bytes),
    Own(D),
}

impl<D: Buf> Piece<D> {
    /// A copy only where `D` has no other way.
    pub(crate) fn into_bytes(self) -> Bytes {
        match self {
            Self::Kept(data) => data,
            Self::Own(mut data) => data.copy_to_bytes(data.remaining()),
        }
    }
}

impl<D: Buf> Buf for Piece<D> {
    fn remaining(&self) -> usize {
        match self {
            Self::Kept(data) => data.remaining(),
            Self::Own(data) => data.remaining(),
        }
    }

    fn chunk(&self) -> &[u8] {
        match self {
            Self::Kept(data) => data.chunk(),
            Self::Own(data) => data.chunk(),
        }
    }

    fn chunks_vectored<'a>(&'a self, slices: &mut [IoSlice<'a>]) -> usize {
        match self {
            Self::Kept(data) => data.chunks_vectored(slices),
            Self::Own(data) => data.chunks_vectored(slices),
        }
    }

    fn advance(&mut self, count: usize) {
        match self {
            Self::Kept(data) => data.advance(count),
            Self::Own(data) => data.advance(count),
        }
    }
}
