//! tower's balancer by latency, shared by a `Buffer`.
//!
//! tower drops a member whose service fails to get ready, and a lost connection does: without help nobody that failed
//! once would be seen again. [`Redialled`] is the help, the kindest we know: a member is unready until it is connected.

use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use futures::future::try_join_all;
use http_body_util::Empty;
use hyper::Request;
use rolecall::BoxError;
use rolecall::http::Connection;
use tokio::time::{Sleep, sleep};
use tower::Service;
use tower::balance::p2c::Balance;
use tower::buffer::Buffer;
use tower::discover::ServiceList;
use tower::load::{CompleteOnResponse, PeakEwmaDiscover};

use super::{Ask, ask_by, connection};

/// linkerd's defaults for the same metric.
const DEFAULT_RTT: Duration = Duration::from_millis(30);
const DECAY: Duration = Duration::from_secs(10);

const REDIAL: Duration = Duration::from_millis(100);
const BUFFER: usize = 1024;

pub(super) async fn connect(servers: &[SocketAddr]) -> Result<Ask, BoxError> {
    let connections = try_join_all(servers.iter().map(|addr| connection(*addr))).await?;
    let members: Vec<_> = connections.into_iter().map(Redialled::new).collect();
    let by_latency = PeakEwmaDiscover::new(
        ServiceList::new::<Request<Empty<Bytes>>>(members),
        DEFAULT_RTT,
        DECAY,
        CompleteOnResponse::default(),
    );
    Ok(ask_by(Buffer::new(Balance::new(by_latency), BUFFER)))
}

/// A connection that tries again when it cannot be opened.
struct Redialled {
    connection: Connection<Empty<Bytes>>,
    again: Option<Pin<Box<Sleep>>>,
}

impl Redialled {
    fn new(connection: Connection<Empty<Bytes>>) -> Self {
        Self {
            connection,
            again: None,
        }
    }
}

impl Service<Request<Empty<Bytes>>> for Redialled {
    type Response = <Connection<Empty<Bytes>> as Service<Request<Empty<Bytes>>>>::Response;
    type Error = <Connection<Empty<Bytes>> as Service<Request<Empty<Bytes>>>>::Error;
    type Future = <Connection<Empty<Bytes>> as Service<Request<Empty<Bytes>>>>::Future;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        loop {
            if let Some(again) = &mut self.again {
                ready!(again.as_mut().poll(cx));
                self.again = None;
            }
            if ready!(self.connection.poll_ready(cx)).is_ok() {
                return Poll::Ready(Ok(()));
            }
            self.again = Some(Box::pin(sleep(REDIAL)));
        }
    }

    fn call(&mut self, request: Request<Empty<Bytes>>) -> Self::Future {
        self.connection.call(request)
    }
}
