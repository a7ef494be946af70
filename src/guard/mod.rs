//! Which callers a server admits, and where calls may go: the feature `guard`.
//!
//! A [`Guard`] stands before a server and admits the instances registered in its boundary, or in one that was granted
//! access, by the address they call from. Other connections are closed before a byte is read.
//!
//! [`Networks`] are for the caller's side: an instance that discovery announces elsewhere is not dialled.
//!
//! **An address is no identity.** Whoever can send from an admitted address is admitted: another program on its
//! machine, another tenant behind the same translated address. A guard keeps a port off the network at large; what must know
//! *who* calls needs a certificate besides. [`guide::boundary`](crate::guide::boundary) says what is protected and what is not.

#[cfg(feature = "axum")]
mod axum;
mod connection;
mod error;
mod event;
mod explanation;
mod forward;
mod gate;
#[expect(clippy::module_inception, reason = "the module's main item")]
mod guard;
mod journal;
mod listener;
mod live;
mod networks;
mod peer;
mod peers;
mod proxy;
#[cfg(unix)]
mod socket_file;
mod status;
#[cfg(feature = "tonic")]
mod tonic;
mod watched;
mod watcher;

pub use connection::GuardedConnection;
pub use error::{GuardError, GuardErrorKind};
pub use event::GuardEvent;
pub use explanation::GuardExplanation;
pub use forward::Forwarder;
pub use guard::{Guard, GuardBuilder};
pub use listener::Listener;
pub use networks::{Confined, ConfinedFuture, Networks, NetworksError, OutsideNetworks};
pub use peer::Peer;
pub use proxy::HeaderError;
pub use status::{BoundaryStatus, GuardStatus};
