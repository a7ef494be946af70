//! A request body that can be sent again from its start.
//!
//! All handles of a body share one record of what was read. One of them, the *reader*, reads the caller's body and adds to the
//! record; the others are *spares*. A spare that becomes the reader gets the record first, then the rest of the body.
//!
//! The caller's body is taken out of its lock while it is polled, asked or dropped.

use std::any::Any;
use std::fmt;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll, Waker};

use bytes::{Buf, Bytes};
use http::HeaderMap;
use http_body::{Frame, SizeHint};

use crate::error::BoxError;
use crate::runtime::lock::lock;
use crate::runtime::panic::caught;

/// The most bytes of a body that are kept.
pub(super) const LIMIT: usize = 64 * 1024;

/// A request body of any type: what [`Client`](super::Client) takes unless told otherwise.
///
/// ```
/// use rolecall::http::Body;
///
/// let empty = Body::empty();
/// let text = Body::from("hello");
/// let any = Body::new(http_body_util::Full::new(bytes::Bytes::from_static(b"hello")));
/// # drop((empty, text, any));
/// ```
pub type Body = ReplayBody;

/// A request body of any type that can be sent again, as long as little of it was read.
///
/// It copies what is read, up to 64 KiB, while somebody may still send the body again. A body is
/// [replayable](Self::is_replayable) until more than that was read, or until it failed. Then it is sent once, as it comes. A
/// body that announces more than the limit is not copied at all.
///
/// # Cost
///
/// An empty body costs nothing. Any other costs an allocation, and one more for what is kept.
///
/// # Errors
///
/// The errors of the caller's body, boxed; its panic; and an error if the same body is sent again meanwhile.
pub struct ReplayBody(Option<Handle>);

struct Handle {
    shared: Arc<Shared<dyn Source>>,
    role: Role,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Role {
    /// Not read yet. It becomes the reader when it is polled, unless the reader has a higher number: a body that was given up
    /// before it was polled must not take itself back.
    Spare(u64),
    /// The reader, unless another one took its place.
    Reader(u64),
}

/// What all handles of one body share.
struct Shared<B: ?Sized> {
    state: Mutex<State>,
    body: B,
}

#[derive(Debug)]
struct State {
    spares: usize,
    /// The number of the present reader, and the highest number of a handle.
    reader: u64,
    handles: u64,
    /// What was read of the body: `None` once it is not all there.
    record: Option<Record>,
    limit: usize,
    /// Whether anything was read.
    is_begun: bool,
    end: End,
    /// Why the body failed, for the reader, if that was not the one that found out.
    failure: Option<BoxError>,
    /// What the body said last of its rest.
    rest: SizeHint,
    /// Whether a reader polls the body at this moment.
    is_polled: bool,
    /// The present reader, which waits until a former one has polled the body.
    waker: Option<Waker>,
}

#[derive(Debug, Default)]
struct Record {
    data: Vec<u8>,
    trailers: Option<HeaderMap>,
    /// How much of the data the present reader has had, and whether it has had the trailers.
    position: usize,
    has_had_trailers: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    Open,
    Ended,
    Failed,
}

/// The caller's body, whatever its type.
trait Source: Send + Sync {
    fn poll(&self, cx: &mut Context<'_>) -> Poll<Piece>;
}

/// What one poll of a body gave, and what the body says of its rest.
struct Piece {
    frame: Option<Result<Frame<Bytes>, BoxError>>,
    is_end: bool,
    rest: SizeHint,
}

impl Piece {
    fn length(&self) -> usize {
        let frame = self.frame.as_ref().and_then(|frame| frame.as_ref().ok());
        let data = frame.and_then(|frame| frame.data_ref());
        data.map_or(0, Bytes::len)
    }
}

impl<B> Source for Mutex<Option<B>>
where
    B: http_body::Body<Error: Into<BoxError>> + Send + Unpin,
{
    fn poll(&self, cx: &mut Context<'_>) -> Poll<Piece> {
        let end = |frame| Piece {
            frame,
            is_end: true,
            rest: SizeHint::with_exact(0),
        };
        let Some(mut body) = lock(self).take() else {
            return Poll::Ready(end(None));
        };
        let polled = caught(|| match Pin::new(&mut body).poll_frame(cx) {
            Poll::Pending => Poll::Pending,
            Poll::Ready(Some(Ok(frame))) => Poll::Ready(Piece {
                frame: Some(Ok(
                    frame.map_data(|mut data| data.copy_to_bytes(data.remaining()))
                )),
                is_end: body.is_end_stream(),
                rest: body.size_hint(),
            }),
            Poll::Ready(Some(Err(error))) => Poll::Ready(end(Some(Err(error.into())))),
            Poll::Ready(None) => Poll::Ready(end(None)),
        });
        let polled = polled.unwrap_or_else(|panic| Poll::Ready(end(Some(Err(panic.into())))));
        if matches!(&polled, Poll::Ready(piece) if piece.is_end) {
            drop(caught(|| drop(body)));
        } else {
            *lock(self) = Some(body);
        }
        polled
    }
}

impl ReplayBody {
    /// Makes a body that keeps up to 64 KiB. A `ReplayBody` stays the same one.
    pub fn new<B>(body: B) -> Self
    where
        B: http_body::Body<Error: Into<BoxError>> + Send + Unpin + 'static,
    {
        Self::with_limit(body, LIMIT)
    }

    pub(crate) fn with_limit<B>(body: B, limit: usize) -> Self
    where
        B: http_body::Body<Error: Into<BoxError>> + Send + Unpin + 'static,
    {
        let mut body = Some(body);
        if let Some(same) = (&mut body as &mut dyn Any).downcast_mut::<Option<Self>>() {
            return same.take().unwrap_or_else(Self::empty);
        }
        let Some(body) = body.filter(|body| !body.is_end_stream()) else {
            return Self::empty();
        };
        let rest = body.size_hint();
        let is_short = rest.lower() <= limit as u64;
        let state = State {
            spares: 1,
            reader: 0,
            handles: 1,
            record: is_short.then(Record::default),
            limit,
            is_begun: false,
            end: End::Open,
            failure: None,
            rest,
            is_polled: false,
            waker: None,
        };
        let shared = Shared {
            state: Mutex::new(state),
            body: Mutex::new(Some(body)),
        };
        Self(Some(Handle {
            shared: Arc::new(shared),
            role: Role::Spare(1),
        }))
    }

    /// A body without data.
    #[must_use]
    pub fn empty() -> Self {
        Self(None)
    }

    /// Whether the body can be sent from its start.
    #[must_use]
    pub fn is_replayable(&self) -> bool {
        let handle = self.0.as_ref();
        handle.is_none_or(|handle| handle.state().is_replayable())
    }

    /// Another handle of the same body, which sends it from its start. `None` if that is not possible any more.
    #[must_use]
    pub fn replay(&self) -> Option<Self> {
        let Some(handle) = &self.0 else {
            return Some(Self::empty());
        };
        let mut state = handle.state();
        if !state.is_replayable() {
            return None;
        }
        state.spares += 1;
        let role = Role::Spare(state.next_number());
        drop(state);
        let shared = Arc::clone(&handle.shared);
        Some(Self(Some(Handle { shared, role })))
    }

    /// Takes the body away from the handle that reads it, and starts it anew. Returns whether that is possible; if so it stays
    /// possible.
    pub(crate) fn take_over(&mut self) -> bool {
        let Some(handle) = &mut self.0 else {
            return true;
        };
        let mut state = lock(&handle.shared.state);
        if !state.is_replayable() {
            return false;
        }
        let number = state.next_number();
        handle.role = state.begin(handle.role, number);
        true
    }

    /// Reads ahead what is at hand, without waiting and not much beyond the limit. Returns whether that is all of the body.
    #[cfg(all(feature = "grpc", feature = "retry"))]
    pub(crate) fn read_ahead(&self) -> bool {
        self.0.as_ref().is_none_or(Handle::read_ahead)
    }
}

impl Handle {
    /// Adds to the record what can be read without waiting, for whoever reads the body.
    #[cfg(all(feature = "grpc", feature = "retry"))]
    fn read_ahead(&self) -> bool {
        let mut left = self.state().limit;
        loop {
            let mut state = self.state();
            if state.end == End::Ended {
                return state.is_replayable();
            }
            let is_short = state.rest.lower() <= left as u64;
            if state.end == End::Failed || state.is_polled || state.record.is_none() || !is_short {
                return false;
            }
            state.is_polled = true;
            drop(state);
            // The reader polls what is pending again, with a waker that wakes.
            let polled = self
                .shared
                .body
                .poll(&mut Context::from_waker(Waker::noop()));
            let length = match &polled {
                Poll::Ready(piece) => Some(piece.length().max(1)),
                Poll::Pending => None,
            };
            drop(self.note(polled));
            // An endless row of empty frames ends too.
            match length.and_then(|length| left.checked_sub(length)) {
                Some(less) => left = less,
                None => return self.state().end == End::Ended,
            }
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.shared.state)
    }

    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let mut waker = None;
        loop {
            let mut state = lock(&self.shared.state);
            if let Role::Spare(number) = self.role
                && number > state.reader
            {
                if !state.may_begin() {
                    return Poll::Ready(Some(Err(ReplayError::NotKept.into())));
                }
                self.role = state.begin(self.role, number);
            }
            if !state.is_reader(self.role) {
                return Poll::Ready(Some(Err(ReplayError::SentAgain.into())));
            }
            if let Some(frame) = state.next_recorded() {
                return Poll::Ready(Some(Ok(frame)));
            }
            match state.end {
                End::Open => {}
                End::Ended => return Poll::Ready(None),
                End::Failed => {
                    let failure = state.failure.take();
                    let failure = failure.unwrap_or_else(|| ReplayError::Failed.into());
                    return Poll::Ready(Some(Err(failure)));
                }
            }
            if !state.is_polled {
                state.is_polled = true;
                break;
            }
            // A former reader is in the caller's code, and wakes this one afterwards.
            match waker.take() {
                Some(waker) => {
                    let replaced = state.waker.replace(waker);
                    drop(state);
                    drop(replaced);
                    return Poll::Pending;
                }
                None => {
                    drop(state);
                    waker = Some(cx.waker().clone());
                }
            }
        }
        let polled = self.shared.body.poll(cx);
        self.note(polled)
    }

    /// Ends a poll of the body: adds what it gave to the record, and returns what the reader gets.
    fn note(&self, mut polled: Poll<Piece>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let mut state = lock(&self.shared.state);
        state.is_polled = false;
        let waker = state.waker.take();
        let is_reader = state.is_reader(self.role);
        let mut dropped = None;
        if let Poll::Ready(piece) = &mut polled {
            dropped = state.note(piece, is_reader);
        }
        drop(state);
        drop(dropped);
        if let Some(waker) = waker {
            waker.wake();
        }
        match polled {
            Poll::Ready(_) | Poll::Pending if !is_reader => {
                Poll::Ready(Some(Err(ReplayError::SentAgain.into())))
            }
            Poll::Pending => Poll::Pending,
            Poll::Ready(piece) => Poll::Ready(piece.frame),
        }
    }
}

impl State {
    fn is_replayable(&self) -> bool {
        let is_kept = |record: &Record| record.data.len() <= self.limit;
        !self.is_begun || (self.record.as_ref().is_some_and(is_kept) && self.end != End::Failed)
    }

    /// Whether a spare may become the reader by a poll: also the first one, if more was read ahead than is kept for others.
    fn may_begin(&self) -> bool {
        self.is_replayable() || (self.reader == 0 && self.record.is_some())
    }

    fn is_reader(&self, role: Role) -> bool {
        role == Role::Reader(self.reader)
    }

    /// Makes a handle the reader, from the start of the body.
    fn begin(&mut self, role: Role, number: u64) -> Role {
        if matches!(role, Role::Spare(_)) {
            self.spares -= 1;
        }
        self.reader = number;
        if let Some(record) = &mut self.record {
            record.position = 0;
            record.has_had_trailers = false;
        }
        Role::Reader(number)
    }

    fn next_number(&mut self) -> u64 {
        self.handles += 1;
        self.handles
    }

    /// The next frame that was read before.
    fn next_recorded(&mut self) -> Option<Frame<Bytes>> {
        let record = self.record.as_mut()?;
        let data = record.data.get(record.position..)?;
        if !data.is_empty() {
            let data = Bytes::copy_from_slice(data);
            record.position = record.data.len();
            return Some(Frame::data(data));
        }
        if record.has_had_trailers {
            return None;
        }
        let trailers = record.trailers.clone()?;
        record.has_had_trailers = true;
        Some(Frame::trailers(trailers))
    }

    /// Adds what was read. Returns the record if it is of no use any more. `is_reader`: whether it was read by the present
    /// reader; what a former one read comes from the record.
    fn note(&mut self, piece: &mut Piece, is_reader: bool) -> Option<Record> {
        self.is_begun = true;
        self.rest = std::mem::take(&mut piece.rest);
        if piece.is_end {
            self.end = match piece.frame {
                Some(Err(_)) => End::Failed,
                _ => End::Ended,
            };
        }
        if !is_reader && matches!(piece.frame, Some(Err(_))) {
            self.failure = piece.frame.take().and_then(Result::err);
        }
        let Some(Ok(frame)) = &piece.frame else {
            return None;
        };
        let record = self.record.as_mut()?;
        let is_kept = self.spares > 0 && record.data.len() + piece.length() <= self.limit;
        // The present reader relies on what a former one reads.
        if !is_kept && is_reader {
            return self.record.take();
        }
        match frame.data_ref() {
            Some(data) => record.data.extend_from_slice(data),
            None => record.trailers = frame.trailers_ref().cloned(),
        }
        if is_reader {
            record.position = record.data.len();
            record.has_had_trailers = record.trailers.is_some();
        }
        None
    }

    /// What of the record the reader has not had yet.
    fn left_of_record(&self) -> (usize, bool) {
        self.record.as_ref().map_or((0, false), |record| {
            let trailers = record.trailers.is_some() && !record.has_had_trailers;
            (record.data.len() - record.position, trailers)
        })
    }
}

impl Drop for Handle {
    /// Frees the record once nobody can need it.
    fn drop(&mut self) {
        let mut state = self.state();
        if matches!(self.role, Role::Spare(_)) {
            state.spares -= 1;
        }
        let is_needed = state.spares > 0 || state.left_of_record() != (0, false);
        let record = (state.is_begun && !is_needed).then(|| state.record.take());
        drop(state);
        drop(record);
    }
}

impl http_body::Body for ReplayBody {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        match &mut self.get_mut().0 {
            Some(handle) => handle.poll_frame(cx),
            None => Poll::Ready(None),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.0.as_ref().is_none_or(|handle| {
            let state = handle.state();
            state.is_reader(handle.role)
                && state.end == End::Ended
                && state.left_of_record() == (0, false)
        })
    }

    fn size_hint(&self) -> SizeHint {
        let Some(handle) = &self.0 else {
            return SizeHint::with_exact(0);
        };
        let state = handle.state();
        let recorded = match handle.role {
            Role::Spare(_) => state.record.as_ref().map_or(0, |record| record.data.len()),
            Role::Reader(_) => state.left_of_record().0,
        };
        let recorded = recorded as u64;
        let mut hint = SizeHint::new();
        if state.end == End::Failed {
            return hint;
        }
        if let Some(upper) = state
            .rest
            .upper()
            .and_then(|rest| rest.checked_add(recorded))
        {
            hint.set_upper(upper);
        }
        hint.set_lower(state.rest.lower().saturating_add(recorded));
        hint
    }
}

/// Data that is there as a whole.
struct Whole(Bytes);

impl http_body::Body for Whole {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let data = std::mem::take(&mut self.0);
        Poll::Ready((!data.is_empty()).then(|| Ok(Frame::data(data))))
    }

    fn is_end_stream(&self) -> bool {
        self.0.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.0.len() as u64)
    }
}

impl From<Bytes> for ReplayBody {
    fn from(data: Bytes) -> Self {
        Self::new(Whole(data))
    }
}

impl From<Vec<u8>> for ReplayBody {
    fn from(data: Vec<u8>) -> Self {
        Bytes::from(data).into()
    }
}

impl From<String> for ReplayBody {
    fn from(text: String) -> Self {
        Bytes::from(text).into()
    }
}

impl From<&'static str> for ReplayBody {
    fn from(text: &'static str) -> Self {
        Bytes::from_static(text.as_bytes()).into()
    }
}

impl From<&'static [u8]> for ReplayBody {
    fn from(data: &'static [u8]) -> Self {
        Bytes::from_static(data).into()
    }
}

impl Default for ReplayBody {
    /// An empty body.
    fn default() -> Self {
        Self::empty()
    }
}

impl fmt::Debug for ReplayBody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReplayBody")
            .field("is_replayable", &self.is_replayable())
            .finish_non_exhaustive()
    }
}

/// Why a handle cannot read the body.
#[derive(Debug, Clone, Copy)]
enum ReplayError {
    SentAgain,
    NotKept,
    Failed,
}

impl fmt::Display for ReplayError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::SentAgain => "the request body is sent again by a later attempt",
            Self::NotKept => "the request body was read before, and is not kept",
            Self::Failed => "the request body failed before",
        })
    }
}

impl std::error::Error for ReplayError {}

#[cfg(test)]
mod tests;
