//! HTTP/2: requests share connections.
//!
//! [`pool`] keeps one to four connections of an instance, [`connection`] opens one of them and runs it, [`call`] sends one
//! request over it, and [`upload`] its body.
//!
//! It is made of h2 and not of hyper's client, which sends a request body in a task that does not learn that nobody waits for
//! the response any more: such a body, and its stream, would stay until the body ends.

pub(super) mod call;
pub(super) mod connection;
mod keep_alive;
pub(super) mod pool;
mod upload;
