//! HTTP/1.1: each request has a connection for itself.
//!
//! [`pool`] keeps the idle connections of an instance and dials more, [`checkout`] claims one for a request, and [`connection`]
//! opens one, runs it, sends requests over it and watches the two bodies of an exchange.

pub(super) mod checkout;
pub(super) mod connection;
pub(super) mod pool;
