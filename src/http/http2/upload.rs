//! Sends the body of a request.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker, ready};

use bytes::{Buf, Bytes};
use futures_util::task::AtomicWaker;
use h2::{Reason, SendStream};
use http_body::Body;
use tokio::runtime::Handle;

use crate::error::BoxError;
use crate::http::lock::lock;
use crate::runtime::panic::caught;

/// A body that is sent in the background. Dropping this resets the stream and drops the body, unless all of it was sent.
pub(super) struct Upload(Arc<Shared>);

/// Why a body was not sent to its end: it failed, or it panicked.
pub(super) type Failed = BoxError;

struct Shared {
    stop: AtomicU8,
    task: AtomicWaker,
    failed: Mutex<Option<Failed>>,
}

/// Why a body is not sent any further.
const RUNNING: u8 = 0;
/// The server sent all of its response, so nothing more is of use to it.
const ANSWERED: u8 = 1;
/// Nobody waits for the response any more.
const CANCELLED: u8 = 2;

impl Upload {
    /// Sends what can be sent at once, and the rest in a task. `None`: all of it is sent, or the stream takes no more.
    pub(super) fn start<B>(
        body: B,
        stream: SendStream<Bytes>,
        runtime: &Handle,
    ) -> Result<Option<Self>, Failed>
    where
        B: Body + Send + Unpin + 'static,
        B::Data: Send,
        B::Error: Into<BoxError>,
    {
        let mut sending = Sending { body, stream };
        let mut cx = Context::from_waker(Waker::noop());
        if let Poll::Ready(sent) = sending.poll(&mut cx) {
            return sent.map(|()| None);
        }
        let shared = Arc::new(Shared {
            stop: AtomicU8::new(RUNNING),
            task: AtomicWaker::new(),
            failed: Mutex::new(None),
        });
        runtime.spawn(send(sending, Arc::clone(&shared)));
        Ok(Some(Self(shared)))
    }

    /// Ends it because the response is complete.
    pub(super) fn answered(self) {
        self.stop(ANSWERED);
    }

    /// Why the body failed, if it did.
    pub(super) fn take_failed(&self) -> Option<Failed> {
        lock(&self.0.failed).take()
    }

    fn stop(&self, why: u8) {
        let stop = &self.0.stop;
        let first = stop.compare_exchange(RUNNING, why, Ordering::AcqRel, Ordering::Relaxed);
        if first.is_ok() {
            self.0.task.wake();
        }
    }
}

impl Drop for Upload {
    fn drop(&mut self) {
        self.stop(CANCELLED);
    }
}

async fn send<B>(mut sending: Sending<B>, shared: Arc<Shared>)
where
    B: Body + Unpin,
    B::Error: Into<BoxError>,
{
    poll_fn(|cx| {
        shared.task.register(cx.waker());
        let reason = match shared.stop.load(Ordering::Acquire) {
            RUNNING => match ready!(sending.poll(cx)) {
                Ok(()) => return Poll::Ready(()),
                Err(failed) => {
                    *lock(&shared.failed) = Some(failed);
                    Reason::INTERNAL_ERROR
                }
            },
            ANSWERED => Reason::NO_ERROR,
            _ => Reason::CANCEL,
        };
        sending.stream.send_reset(reason);
        Poll::Ready(())
    })
    .await;
}

struct Sending<B> {
    body: B,
    stream: SendStream<Bytes>,
}

impl<B> Sending<B>
where
    B: Body + Unpin,
    B::Error: Into<BoxError>,
{
    /// Ready when all is sent, or the stream takes no more: the response tells why.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Failed>> {
        let Self { body, stream } = self;
        loop {
            if stream.poll_reset(cx).is_ready() {
                return Poll::Ready(Ok(()));
            }
            if stream.capacity() == 0 {
                // One byte asks whether the peer takes any: how much comes next is not known before the body is asked.
                stream.reserve_capacity(1);
                match ready!(stream.poll_capacity(cx)) {
                    Some(Ok(0)) => continue,
                    Some(Ok(_)) => {}
                    Some(Err(_)) | None => return Poll::Ready(Ok(())),
                }
            }
            let frame = caught(|| Pin::new(&mut *body).poll_frame(cx));
            let frame = match frame {
                Err(panicked) => return Poll::Ready(Err(panicked.into())),
                Ok(frame) => match ready!(frame) {
                    Some(Ok(frame)) => frame,
                    Some(Err(error)) => return Poll::Ready(Err(error.into())),
                    None => {
                        let _ = stream.send_data(Bytes::new(), true);
                        return Poll::Ready(Ok(()));
                    }
                },
            };
            let sent = match frame.into_data() {
                Ok(mut data) => {
                    let ends = body.is_end_stream();
                    let data = data.copy_to_bytes(data.remaining());
                    stream.send_data(data, ends).map(|()| ends)
                }
                Err(frame) => match frame.into_trailers() {
                    Ok(trailers) => {
                        stream.reserve_capacity(0);
                        stream.send_trailers(trailers).map(|()| true)
                    }
                    // A kind of frame that HTTP/2 has not.
                    Err(_) => Ok(false),
                },
            };
            match sent {
                Ok(false) => {}
                // The stream was reset meanwhile.
                Ok(true) | Err(_) => return Poll::Ready(Ok(())),
            }
        }
    }
}
