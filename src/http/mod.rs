//! HTTP over a balanced target (feature `http`).
//!
//! [`Client`] is all most callers need. It is made of parts that also work alone, to layer middleware onto the connector's
//! product or to classify the responses of another client: [`Connector`] dials instances, [`Connection`] sends requests to
//! one of them, [`HttpClassifier`] judges an instance by each response, and [`ResendLayer`] sends a request once more that no
//! instance acted on.
//!
//! The connections of an instance are opened as requests need them and live as long as it is a member. HTTP/1.1 takes a
//! connection for each request in flight and keeps the idle ones for the next. HTTP/2 sends all requests over one, or a few.
//! With the
//! feature `tls` they are encrypted: [`Connector`] takes an `http::Tls`.
//!
//! # Limits
//!
//! A request may be lost that is written in the very moment its connection closes: nobody can say whether the instance acted
//! on it, so it fails, and [`was_sent`](CallError::was_sent) is true. A connection that was silent for a moment, about a
//! round trip, is looked up in the kernel before it takes a request, so that moment is short. Until the event loop has read
//! what an instance sent before it was killed, a few requests more may fail than it had.

mod address;
mod age;
pub(crate) mod classify;
mod client;
mod connection;
mod connector;
mod dial;
pub(crate) mod error;
pub(crate) mod extensions;
mod http1;
mod http2;
mod redial;
pub(crate) mod replay;
pub(crate) mod resend;
pub(crate) mod retry_after;
mod settings;
mod socket;
mod stream;
mod tcp;
#[cfg(feature = "tls")]
mod tls;
mod transport;

pub use address::Host;
pub use classify::{HttpClassifier, TrackedBody};
pub use client::{Client, ClientBuilder, ClientFuture};
pub use connection::{Connection, ConnectionFuture, IncomingBody};
pub use connector::Connector;
pub use error::{BodyError, CallError, ConnectError, ConnectErrorKind};
pub use extensions::{Answered, PinTo, Tried, answered_by};
pub use h2::ext::Protocol;
pub use replay::{Body, ReplayBody};
pub use resend::{Resend, ResendFuture, ResendLayer};
pub use tcp::TcpOptions;
#[cfg(feature = "tls")]
pub use tls::Tls;
