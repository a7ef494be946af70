//! HTTP/1.1: one request at a time on each connection.

use std::future::poll_fn;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::{Arc, Mutex, Weak};
use std::task::Poll;
use std::time::Duration;

use http::{Request, Response};
use http_body::Body;
use hyper::body::Incoming;
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;

use super::address::{self, Fallback};
use super::age::{Age, Aging};
use super::error::ConnectError;
use super::line::{Fate, Line, Transport, Unanswered, log_end};
use super::pool::{Limits, Pool, lock};
use super::socket::{Probe, Socket};
use super::stream::Stream;
use crate::error::BoxError;

/// An idle line is looked at this many times in its idle timeout, so it is closed at most a quarter late without a timer per request.
const CHECKS: u8 = 4;

/// The sending half of one HTTP/1.1 connection.
pub(super) struct Lane<B> {
    sender: SendRequest<B>,
    wire: Arc<Wire<B>>,
    idle_checks: u8,
}

/// What a lane shares with the task of its connection.
struct Wire<B> {
    /// Where the sender lies from the head of a response to the end of its body: only then is hyper ready for the next
    /// request, which the connection's own task is the first to see.
    busy: Mutex<Option<SendRequest<B>>>,
    probe: Probe,
    age: Age,
}

impl<B> Lane<B> {
    fn new(sender: SendRequest<B>, wire: Arc<Wire<B>>) -> Self {
        Self {
            sender,
            wire,
            idle_checks: 0,
        }
    }
}

impl<B> Line for Lane<B> {
    const SHARED: bool = false;

    fn is_ready(&self) -> bool {
        self.sender.is_ready()
    }

    fn is_alive(&self) -> bool {
        self.sender.is_ready() && self.wire.probe.is_idle(self.age().is_used())
    }

    fn age(&self) -> &Age {
        &self.wire.age
    }

    fn share(&self) -> Option<Self> {
        None
    }
}

impl<B> Transport for Lane<B>
where
    B: Body + Send + 'static,
    B::Data: Send,
    B::Error: Into<BoxError>,
{
    type Body = B;

    const ALPN: &[&'static str] = &["http/1.1"];

    async fn open(
        stream: Stream,
        addr: SocketAddr,
        limits: Limits,
        home: Weak<Pool<Self>>,
    ) -> Result<Self, ConnectError> {
        let failed = |error| ConnectError::handshake(addr, error);
        let socket = Socket::new(stream);
        let aging = Aging::new(limits.max_age);
        let wire = Arc::new(Wire {
            busy: Mutex::new(None),
            probe: socket.probe(),
            age: aging.age(),
        });
        let (mut sender, connection) = http1::handshake(TokioIo::new(socket))
            .await
            .map_err(failed)?;
        let running = run(connection.with_upgrades(), wire.clone(), aging, home);
        tokio::spawn(async move { log_end(addr, running.await) });
        sender.ready().await.map_err(failed)?;
        Ok(Self::new(sender, wire))
    }

    fn prepare(mut request: Request<B>, fallback: &Fallback) -> Request<B> {
        address::for_http1(&mut request, fallback);
        request
    }

    async fn send(
        self,
        request: Request<B>,
        pool: &Pool<Self>,
    ) -> Result<Response<Incoming>, Unanswered<B>> {
        let Self {
            mut sender, wire, ..
        } = self;
        wire.age.note_use();
        let mut sending = pin!(sender.try_send_request(request));
        let mut sender = Some(sender);
        let sent = poll_fn(|cx| {
            let sent = sending.as_mut().poll(cx);
            let ended =
                |sender: &mut SendRequest<B>| matches!(sender.poll_ready(cx), Poll::Ready(Err(_)));
            if sent.is_pending() && sender.as_mut().is_some_and(ended) {
                sender = None;
                return sending.as_mut().poll(cx);
            }
            sent
        });
        match sent.await {
            Ok(response) => {
                if let Some(sender) = sender {
                    Self::new(sender, wire).free(pool);
                }
                Ok(response)
            }
            Err(mut error) => Err(Unanswered {
                fate: error
                    .take_message()
                    .map_or(Fate::Sent, |request| Fate::Unsent(Box::new(request))),
                error: error.into_error(),
            }),
        }
    }
}

impl<B> Lane<B>
where
    Self: Transport,
{
    /// Goes back to the pool, now or when its connection can take another request.
    fn free(self, pool: &Pool<Self>) {
        let Self { sender, wire, .. } = self;
        let mut busy = lock(&wire.busy);
        if sender.is_ready() {
            drop(busy);
            pool.put(Self::new(sender, wire));
        } else if !sender.is_closed() {
            *busy = Some(sender);
        }
    }
}

/// Runs a connection until it is closed: by the instance, by the loss of its sender, or for being idle or old too long.
async fn run<B, C>(
    connection: C,
    wire: Arc<Wire<B>>,
    mut aging: Aging,
    home: Weak<Pool<Lane<B>>>,
) -> hyper::Result<()>
where
    Lane<B>: Transport,
    C: Future<Output = hyper::Result<()>>,
{
    let Some(pool) = home.upgrade() else {
        return Ok(());
    };
    let period = check_period(pool.idle_timeout());
    drop(pool);
    let mut connection = pin!(connection);
    let mut check = pin!(tokio::time::sleep(period));
    poll_fn(|cx| {
        if let Poll::Ready(ended) = connection.as_mut().poll(cx) {
            return Poll::Ready(ended);
        }
        give_back(&wire, &home);
        while check.as_mut().poll(cx).is_ready() {
            check.set(tokio::time::sleep(period));
            close_if_idle(&wire, &home);
        }
        while aging.poll(cx).is_ready()
            && let Some(pool) = home.upgrade()
        {
            pool.renew();
        }
        Poll::Pending
    })
    .await
}

fn check_period(idle_timeout: Duration) -> Duration {
    // A period of zero would be due again at once, for ever.
    (idle_timeout / u32::from(CHECKS)).max(Duration::from_millis(1))
}

fn give_back<B>(wire: &Arc<Wire<B>>, home: &Weak<Pool<Lane<B>>>) {
    let freed = lock(&wire.busy).take_if(|sender| sender.is_ready());
    if let (Some(sender), Some(pool)) = (freed, home.upgrade()) {
        pool.put(Lane::new(sender, wire.clone()));
    }
}

fn close_if_idle<B>(wire: &Arc<Wire<B>>, home: &Weak<Pool<Lane<B>>>) {
    if let Some(pool) = home.upgrade() {
        pool.retain(|lane| {
            if Arc::ptr_eq(&lane.wire, wire) {
                lane.idle_checks += 1;
            }
            lane.idle_checks <= CHECKS
        });
    }
}
