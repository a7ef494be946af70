//! The tower side: a [`Layer`](tower_layer::Layer) that turns a connector into one balanced service.
//!
//! A `Balance` reads one published snapshot of its [`fleet`](crate::fleet), picks, and calls. A driver, one task per
//! balancer, follows discovery and starts dials, each in a task of its own. Requests never pass
//! through the driver.
//!
//! | File | Contents | Imports |
//! |---|---|---|
//! | `shared` | target, classifier, signals, events: what outlives the last clone | |
//! | `control` | `Control`, and the trait behind it | |
//! | `inner` | the state that all clones share; a connection, and its link back to that state | `shared`, `control` |
//! | `attempt` | a pick, and its guard for classifiers | `inner` |
//! | `classify` | `Classify` and the default rules | `attempt` |
//! | `samples` | what a request adds to histograms (feature `metrics`) | |
//! | `patience` | how long a call waits | `inner` |
//! | `waiting` | a call that no instance has yet | `attempt`, `patience` |
//! | `future` | the response: waits, is sent, is classified | `waiting`, `classify` |
//! | `balance` | the service | `future`, `control` |
//! | `watch`, `dialler`, `log` | discovery's stream, dials, log lines | |
//! | `check` | what checks an instance | |
//! | `driver` | the task that feeds the fleet | `inner`, `watch`, `check`, `dialler`, `log` |
//! | `race`, `socket` | a connection over TCP or a Unix socket, for connectors | |
//! | `layer` | builds all of it | `balance`, `driver` |

mod attempt;
#[expect(
    clippy::module_inception,
    reason = "the module's one concept has its name"
)]
mod balance;
pub(crate) mod check;
pub(crate) mod classify;
pub mod connect;
pub(crate) mod control;
mod dialler;
mod driver;
mod faults;
mod future;
mod inner;
mod layer;
mod log;
mod patience;
#[cfg(feature = "net")]
pub(crate) mod race;
#[cfg(feature = "metrics")]
pub(crate) mod samples;
mod shared;
#[cfg(feature = "net")]
pub(crate) mod socket;
mod span;
mod waiting;
pub(crate) mod watch;

pub use attempt::Attempt;
pub use balance::Balance;
pub use check::{Check, NoCheck};
pub use classify::{Classify, ClassifyFn, ClassifyResult, Failed, Outcome};
pub use control::Control;
pub use driver::Driver;
pub use future::ResponseFuture;
pub use layer::BalanceLayer;
