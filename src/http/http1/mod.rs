//! HTTP/1.1: each request has a connection for itself.
//!
//! [`pool`] keeps the idle connections of an instance and dials more, [`checkout`] claims one for a request, [`connection`]
//! opens one, runs it and sends requests over it, and [`body`] watches the two bodies of an exchange.

pub(super) mod body;
pub(super) mod checkout;
mod connection;
pub(super) mod pool;
