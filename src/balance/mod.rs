//! The tower side: a [`Layer`](tower_layer::Layer) that turns a connector into one balanced service.
//!
//! A `Balance` reads one published snapshot of its [`fleet`](crate::fleet), picks, and calls; a driver, one task for
//! each balancer, follows discovery and starts dials, each a task of its own. Requests never pass through it.

mod attempt;
#[expect(
    clippy::module_inception,
    reason = "the module's one concept has its name"
)]
mod balance;
pub(crate) mod classify;
pub mod connect;
mod control;
mod dialler;
mod driver;
mod future;
mod inner;
mod layer;
mod log;
mod shared;
mod waiting;
pub(crate) mod watch;

pub use attempt::Attempt;
pub use balance::Balance;
pub use classify::{Classify, ClassifyFn, ClassifyResult, Failed, Outcome};
pub use control::Control;
pub use driver::Driver;
pub use future::ResponseFuture;
pub use layer::BalanceLayer;
