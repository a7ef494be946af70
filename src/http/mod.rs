//! HTTP over a balanced target (feature `http`).
//!
//! [`Connector`] dials instances, [`Connection`] sends requests to one of them, and [`ClassifyStatus`] tells the balancer
//! what came of each. They work alone too: layer middleware onto the connector's product, or classify the responses of
//! another client.
//!
//! The connections of an instance are opened as requests need them and live as long as it is a member. HTTP/1.1 takes a
//! connection for each request in flight and keeps the idle ones for the next. HTTP/2 sends all requests over one.

mod address;
mod body;
mod checkout;
mod classify;
mod client;
mod connection;
mod connector;
mod dial;
mod error;
mod http1;
mod http2;
mod line;
mod pool;
mod socket;

pub use body::TrackedBody;
pub use classify::{ClassifyStatus, answered_by};
pub use client::client;
pub use connection::Connection;
pub use connector::Connector;
pub use error::{CallError, ConnectError};
