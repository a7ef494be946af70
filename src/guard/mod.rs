//! Who may come in, and where calls may go: the feature `guard`.
//!
//! A [`Guard`] stands before a server and admits who is registered in its boundary, or in one that was granted access, by
//! the address they call from. Everybody else is turned away before a byte is read.
//!
//! [`Networks`] are for the caller's side: an instance that discovery announces elsewhere is not dialled.
//!
//! **An address is no identity.** Whoever can send from a friend's address is taken for the friend: another program on its
//! machine, another tenant behind the same translated address. A guard keeps a port off the network at large; what must know
//! *who* calls needs a certificate besides.

mod connection;
mod event;
mod explanation;
mod forward;
mod gate;
#[expect(clippy::module_inception, reason = "the module's main item")]
mod guard;
mod journal;
mod listener;
mod networks;
mod peers;
mod proxy;
mod status;
mod watcher;

pub use connection::Connection;
pub use event::Event;
pub use explanation::Explanation;
pub use guard::Guard;
pub use listener::Listener;
pub use networks::{Confined, ConfinedFuture, Networks, NetworksError, OutsideNetworks};
pub use proxy::HeaderError;
pub use status::{BoundaryStatus, Status};
