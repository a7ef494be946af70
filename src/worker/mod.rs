//! A worker that wires itself: the feature `worker`.
//!
//! A [`Worker`] is one instance of a role. It registers its endpoints, admits only its boundary, and calls other roles. It
//! reads its configuration from environment variables, so one binary runs unchanged on a laptop and on the platform.

mod environment;
mod error;
mod loopback;
mod variable;
#[expect(clippy::module_inception, reason = "the module's main item")]
mod worker;

pub use error::WorkerError;
pub use worker::{Drained, Worker};
