//! Pings on a connection on which nothing comes.

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use h2::{Ping, PingPong};
use tokio::time::{Sleep, sleep};

use crate::http::settings;
use crate::runtime::clock;

/// Pings after every interval of silence, while streams are open or always.
pub(super) struct KeepAlive {
    interval: Duration,
    timeout: Duration,
    while_idle: bool,
    pings: PingPong,
    is_ping_sent: bool,
    timer: Pin<Box<Sleep>>,
}

impl KeepAlive {
    pub(super) fn new(settings: settings::KeepAlive, pings: PingPong) -> Option<Self> {
        let interval = settings.interval?;
        Some(Self {
            interval,
            timeout: settings.timeout,
            while_idle: settings.while_idle,
            pings,
            is_ping_sent: false,
            timer: Box::pin(sleep(interval)),
        })
    }

    /// Ready when a ping was not answered in time.
    pub(super) fn poll(
        &mut self,
        cx: &mut Context<'_>,
        last_read: Instant,
        is_idle: bool,
    ) -> Poll<()> {
        loop {
            if self.is_ping_sent {
                match self.pings.poll_pong(cx) {
                    Poll::Ready(Ok(_)) => {
                        self.is_ping_sent = false;
                        self.timer.set(sleep(self.interval));
                        continue;
                    }
                    // The connection ends anyway.
                    Poll::Ready(Err(_)) => return Poll::Pending,
                    Poll::Pending => return self.timer.as_mut().poll(cx),
                }
            }
            ready!(self.timer.as_mut().poll(cx));
            let silence = clock::now().saturating_duration_since(last_read);
            let left = self.interval.saturating_sub(silence);
            if !left.is_zero() {
                self.timer.set(sleep(left));
            } else if is_idle && !self.while_idle {
                self.timer.set(sleep(self.interval));
            } else if self.pings.send_ping(Ping::opaque()).is_ok() {
                self.is_ping_sent = true;
                self.timer.set(sleep(self.timeout));
            } else {
                // The connection ends anyway.
                return Poll::Pending;
            }
        }
    }
}
