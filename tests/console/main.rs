//! The console over real connections: what its page, its JSON and its events say, what it refuses, and how it treats hostile
//! text.

#![expect(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    reason = "tests on sockets, which have real time"
)]

mod controls;
mod events;
mod hostile;
mod mounting;
mod page;
mod support;
