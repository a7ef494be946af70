//! The console over real connections: what its page, its JSON and its events say, what it refuses, and how it treats hostile
//! text.

#![expect(clippy::unwrap_used, reason = "a test")]

mod controls;
mod events;
mod hostile;
mod mounting;
mod page;
mod support;
