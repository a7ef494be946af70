//! Sends the body of a request.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker, ready};

use bytes::{Buf, Bytes};
use futures_util::task::AtomicWaker;
use h2::{Reason, SendStream};
use http_body::{Body, Frame};
use tokio::runtime::Handle;

use crate::error::BoxError;
use crate::runtime::lock::lock;
use crate::runtime::panic::caught;

/// A body that is sent. Dropping this resets the stream and drops the body, unless all of it has left.
///
/// h2 resets a stream that is merely dropped after all that it has buffered for it, which is never if the server does not read.
/// So the stream is held until the response is complete, and reset here.
pub(super) struct Upload(Option<State>);

enum State {
    /// All of the body is in the hands of h2.
    Sent(SendStream<Bytes>),
    Sending(Arc<Shared>),
}

/// Why a body was not sent to its end: it failed, or it panicked.
pub(super) type Failed = BoxError;

struct Shared {
    stop: AtomicU8,
    task: AtomicWaker,
    failed: Mutex<Option<Failed>>,
    /// The stream, when all of the body is in the hands of h2.
    sent: Mutex<Option<SendStream<Bytes>>>,
}

/// Why a body is not sent any further.
const RUNNING: u8 = 0;
/// The server sent all of its response, so nothing more is of use to it.
const ANSWERED: u8 = 1;
/// Nobody waits for the response any more.
const CANCELLED: u8 = 2;

impl Upload {
    /// Sends what can be sent at once, and the rest in a task.
    pub(super) fn start<B>(
        body: B,
        stream: SendStream<Bytes>,
        runtime: &Handle,
    ) -> Result<Self, Failed>
    where
        B: Body + Send + Unpin + 'static,
        B::Data: Send,
        B::Error: Into<BoxError>,
    {
        let mut sending = Sending {
            body,
            stream,
            free: FREE,
            next: None,
        };
        let mut cx = Context::from_waker(Waker::noop());
        if let Poll::Ready(sent) = sending.poll(&mut cx) {
            sent?;
            return Ok(Self(Some(State::Sent(sending.stream))));
        }
        let shared = Arc::new(Shared {
            stop: AtomicU8::new(RUNNING),
            task: AtomicWaker::new(),
            failed: Mutex::new(None),
            sent: Mutex::new(None),
        });
        runtime.spawn(send(sending, Arc::clone(&shared)));
        Ok(Self(Some(State::Sending(shared))))
    }

    /// Ends it because the response is complete.
    pub(super) fn answered(mut self) {
        self.stop(ANSWERED);
    }

    /// Why the body failed, if it did.
    pub(super) fn take_failed(&self) -> Option<Failed> {
        match &self.0 {
            Some(State::Sending(shared)) => lock(&shared.failed).take(),
            Some(State::Sent(_)) | None => None,
        }
    }

    fn stop(&mut self, why: u8) {
        match self.0.take() {
            // It does nothing if all has left.
            Some(State::Sent(mut stream)) => stream.send_reset(reason(why)),
            Some(State::Sending(shared)) => {
                shared.stop.store(why, Ordering::Release);
                shared.task.wake();
                shared.reset_sent();
            }
            None => {}
        }
    }
}

impl Drop for Upload {
    fn drop(&mut self) {
        self.stop(CANCELLED);
    }
}

impl Shared {
    /// Resets a stream whose body was sent, if it is to be stopped.
    fn reset_sent(&self) {
        let why = self.stop.load(Ordering::Acquire);
        if why != RUNNING {
            let sent = lock(&self.sent).take();
            if let Some(mut stream) = sent {
                stream.send_reset(reason(why));
            }
        }
    }
}

fn reason(why: u8) -> Reason {
    match why {
        ANSWERED => Reason::NO_ERROR,
        _ => Reason::CANCEL,
    }
}

async fn send<B>(mut sending: Sending<B>, shared: Arc<Shared>)
where
    B: Body + Unpin,
    B::Error: Into<BoxError>,
{
    let reset = poll_fn(|cx| {
        shared.task.register(cx.waker());
        let why = shared.stop.load(Ordering::Acquire);
        if why != RUNNING {
            return Poll::Ready(Some(reason(why)));
        }
        Poll::Ready(match ready!(sending.poll(cx)) {
            Ok(()) => None,
            Err(failed) => {
                *lock(&shared.failed) = Some(failed);
                Some(Reason::INTERNAL_ERROR)
            }
        })
    });
    match reset.await {
        Some(reason) => sending.stream.send_reset(reason),
        None => {
            *lock(&shared.sent) = Some(sending.stream);
            // It may be stopped by now.
            shared.reset_sent();
        }
    }
}

/// How much of a body is handed to h2 before it has room for it, in bytes. h2 has none for a stream that its connection's task
/// has not opened yet, so that the shortest body would need a task of its own.
const FREE: usize = 16 << 10;

struct Sending<B> {
    body: B,
    stream: SendStream<Bytes>,
    /// What is left of [`FREE`].
    free: usize,
    /// Data of those first bytes that was read and is not sent yet: it ends the stream if nothing follows.
    next: Option<Bytes>,
}

impl<B> Sending<B>
where
    B: Body + Unpin,
    B::Error: Into<BoxError>,
{
    /// Ready when all is sent, or the stream takes no more: the response tells why.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Failed>> {
        loop {
            if self.stream.poll_reset(cx).is_ready() {
                return Poll::Ready(Ok(()));
            }
            if !ready!(self.poll_room(cx)) {
                return Poll::Ready(Ok(()));
            }
            let body = Pin::new(&mut self.body);
            let sent = match caught(|| body.poll_frame(cx)) {
                Err(panicked) => return Poll::Ready(Err(panicked.into())),
                Ok(Poll::Ready(Some(Err(error)))) => return Poll::Ready(Err(error.into())),
                Ok(Poll::Pending) => match self.send_next() {
                    Ok(()) => return Poll::Pending,
                    Err(reset) => Err(reset),
                },
                Ok(Poll::Ready(Some(Ok(frame)))) => {
                    self.send_next().and_then(|()| self.send(frame))
                }
                Ok(Poll::Ready(None)) => {
                    let last = self.next.take().unwrap_or_default();
                    self.stream.send_data(last, true).map(|()| true)
                }
            };
            match sent {
                Ok(false) => {}
                // The stream was reset meanwhile.
                Ok(true) | Err(_) => return Poll::Ready(Ok(())),
            }
        }
    }

    fn send_next(&mut self) -> Result<(), h2::Error> {
        let next = self.next.take();
        next.map_or(Ok(()), |data| self.stream.send_data(data, false))
    }

    /// Sends a frame, or keeps it as the next one. Returns whether it is the last.
    fn send(&mut self, frame: Frame<B::Data>) -> Result<bool, h2::Error> {
        match frame.into_data() {
            Ok(mut data) => {
                let data = data.copy_to_bytes(data.remaining());
                let ends = self.body.is_end_stream();
                self.free = self.free.saturating_sub(data.len());
                if !ends && self.free > 0 {
                    self.next = Some(data);
                    return Ok(false);
                }
                self.stream.send_data(data, ends).map(|()| ends)
            }
            Err(frame) => match frame.into_trailers() {
                Ok(trailers) => {
                    self.stream.reserve_capacity(0);
                    self.stream.send_trailers(trailers).map(|()| true)
                }
                // A kind of frame that HTTP/2 has not.
                Err(_) => Ok(false),
            },
        }
    }

    /// Ready when the stream has room for more, or takes no more: then it says no.
    fn poll_room(&mut self, cx: &mut Context<'_>) -> Poll<bool> {
        let stream = &mut self.stream;
        while self.free == 0 && stream.capacity() == 0 {
            // One byte asks whether the peer takes any: how much comes next is not known before the body is asked.
            stream.reserve_capacity(1);
            if !matches!(ready!(stream.poll_capacity(cx)), Some(Ok(_))) {
                return Poll::Ready(false);
            }
        }
        Poll::Ready(true)
    }
}
