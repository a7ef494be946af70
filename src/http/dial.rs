//! Opens one connection, within the connect timeout.

use std::sync::Arc;
#[cfg(feature = "tls")]
use std::sync::Mutex;
use std::time::Duration;

use http::uri::Scheme;
use tokio::time::{Instant, timeout_at};

use super::error::{ConnectError, Step};
use super::stream::{Raw, Stream};
#[cfg(feature = "tls")]
use super::tls::Expected;
use super::transport::Transport;
use crate::balance::race::race;
use crate::balance::socket::SocketError;
use crate::model::address::Address;
use crate::model::instance::Instance;
use crate::runtime::clock;
#[cfg(feature = "tls")]
use crate::runtime::lock::lock;

/// Where a pool connects.
#[derive(Clone)]
pub(super) struct Peer {
    addr: Address,
    /// The address and its alternates, in the order in which they are tried.
    addresses: Arc<[Address]>,
    transport: Transport,
    #[cfg(feature = "tls")]
    tls: Option<Expected>,
    /// What [`negotiate`](Self::negotiate) opened.
    #[cfg(feature = "tls")]
    opened: Arc<Mutex<Option<Stream>>>,
}

impl Peer {
    pub(super) fn new(instance: &Instance, transport: Transport) -> Self {
        Self {
            addr: instance.address().clone(),
            addresses: instance.addresses().cloned().collect(),
            transport,
            #[cfg(feature = "tls")]
            tls: None,
            #[cfg(feature = "tls")]
            opened: Arc::default(),
        }
    }

    #[cfg(feature = "tls")]
    pub(super) fn tls(mut self, expected: Expected) -> Self {
        self.tls = Some(expected);
        self
    }

    pub(super) fn addr(&self) -> Address {
        self.addr.clone()
    }

    /// The scheme of requests that have none.
    pub(super) fn scheme(&self) -> Scheme {
        #[cfg(feature = "tls")]
        if self.tls.is_some() {
            return Scheme::HTTPS;
        }
        Scheme::HTTP
    }

    /// Whether the server chooses HTTP/2, which it can only over TLS. What is opened to ask is for the first dial.
    #[cfg_attr(not(feature = "tls"), expect(unused_variables, reason = "for TLS"))]
    pub(super) async fn negotiate(&self, limit: Duration) -> Result<bool, ConnectError> {
        #[cfg(feature = "tls")]
        if self.tls.is_some() {
            let stream = self
                .reach(deadline(limit), limit, &["h2", "http/1.1"])
                .await?;
            let is_http2 = stream.has_agreed_on("h2");
            *lock(&self.opened) = Some(stream);
            return Ok(is_http2);
        }
        Ok(false)
    }

    async fn raw(&self) -> Result<Raw, ConnectError> {
        let failures = match race(self.addresses.iter(), |address| {
            self.transport.dial(address)
        })
        .await
        {
            Ok(raw) => return Ok(raw),
            Err(failures) => failures,
        };
        let from = self.transport.local_address_for(&self.addr);
        let error = SocketError::new(failures);
        Err(ConnectError::socket(self.addr(), from, error))
    }

    async fn reach(
        &self,
        by: Instant,
        limit: Duration,
        #[cfg_attr(not(feature = "tls"), expect(unused_variables, reason = "for TLS"))]
        protocols: &[&'static str],
    ) -> Result<Stream, ConnectError> {
        let stream = timeout_at(by, self.raw())
            .await
            .map_err(|_| ConnectError::timed_out(self.addr(), Step::Connect, limit))??;
        #[cfg(feature = "tls")]
        if let Some(expected) = &self.tls {
            let handshake = expected.handshake(stream, &self.addr, protocols);
            let stream = timeout_at(by, handshake)
                .await
                .map_err(|_| ConnectError::timed_out(self.addr(), Step::Tls, limit))??;
            return Ok(Stream::from(stream));
        }
        Ok(Stream::Plain(stream))
    }

    fn take_opened(&self) -> Option<Stream> {
        #[cfg(feature = "tls")]
        return lock(&self.opened).take();
        #[cfg(not(feature = "tls"))]
        None
    }
}

/// When a dial that may last so long has to be over. Beyond what the clock can count, a limit is none.
fn deadline(limit: Duration) -> Instant {
    let now = Instant::from_std(clock::now());
    now.checked_add(limit).unwrap_or_else(|| now + LONGEST)
}

/// Connects to `peer`, offers `protocols` if that is over TLS (RFC 7301), and makes a connection of that by `open`.
pub(super) async fn connect<T>(
    peer: &Peer,
    limit: Duration,
    protocols: &[&'static str],
    open: impl AsyncFnOnce(Stream) -> Result<T, ConnectError>,
) -> Result<T, ConnectError> {
    let addr = peer.addr();
    let by = deadline(limit);
    let stream = match peer.take_opened() {
        Some(stream) => stream,
        None => peer.reach(by, limit, protocols).await?,
    };
    let connection = timeout_at(by, open(stream))
        .await
        .unwrap_or_else(|_| Err(ConnectError::timed_out(addr.clone(), Step::Http, limit)))?;
    tracing::debug!(%addr, "connected");
    Ok(connection)
}

/// A year: what a longer connect timeout is cut to.
const LONGEST: Duration = Duration::from_secs(365 * 24 * 60 * 60);
