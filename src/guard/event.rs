use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use super::proxy::HeaderError;
use crate::error::discovery::DiscoveryError;
use crate::model::name::Boundary;

/// Something that happened at a guard.
///
/// Read with [`Guard::events`](super::Guard::events). Each event is also logged by `tracing` under the target `rolecall`, and
/// `Display` writes it in one line.
///
/// The rate of events that strangers, leaving peers or failing discovery cause is bounded: at most ten of a kind in ten
/// seconds, then one event with the number omitted. [`GuardStatus`](super::GuardStatus) counts all connections. Changes of
/// peers are bounded only in the log.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum GuardEvent {
    /// Discovery announced other peers of a boundary.
    #[non_exhaustive]
    PeersChanged {
        /// The boundary.
        boundary: Boundary,
        /// The number of new addresses.
        added: usize,
        /// The number of addresses that left.
        removed: usize,
        /// The number of addresses now.
        known: usize,
    },
    /// A boundary is admitted from now on.
    #[non_exhaustive]
    BoundaryAllowed {
        /// The boundary.
        boundary: Boundary,
    },
    /// A boundary is not admitted any more.
    #[non_exhaustive]
    BoundaryRevoked {
        /// The boundary.
        boundary: Boundary,
    },
    /// A connection was denied and closed.
    #[non_exhaustive]
    Refused {
        /// The address of the other end.
        ip: IpAddr,
    },
    /// A connection over a Unix socket was denied and closed.
    #[non_exhaustive]
    UidRefused {
        /// The user id of the process at the other end.
        uid: u32,
    },
    /// A connection from a trusted proxy had no valid PROXY header, and was closed.
    #[non_exhaustive]
    HeaderRefused {
        /// The proxy's address.
        ip: IpAddr,
        /// What is wrong with it.
        error: HeaderError,
    },
    /// Denied connections without an event of their own, because the address had one shortly before or there were too many.
    #[non_exhaustive]
    RefusalsOmitted {
        /// Their number.
        count: u64,
    },
    /// Connections of a peer that left were closed. The rate of this event is bounded.
    #[non_exhaustive]
    CutOff {
        /// The peer's address.
        ip: IpAddr,
        /// Their number.
        connections: usize,
    },
    /// Closed connections of peers without an event of their own.
    #[non_exhaustive]
    CutOffsOmitted {
        /// Their number.
        connections: u64,
    },
    /// Accepting a connection failed, mostly because of a limit of the system. The listener tries again after a pause.
    #[non_exhaustive]
    AcceptFailed {
        /// The system's error.
        error: Arc<std::io::Error>,
        /// The pause before the next attempt.
        retry_in: Duration,
    },
    /// A connection was admitted, but the server behind the forwarder could not be reached. The rate of this event is bounded.
    #[non_exhaustive]
    ForwardFailed {
        /// The server's address.
        addr: SocketAddr,
        /// The system's error.
        error: Arc<std::io::Error>,
    },
    /// Admitted connections that could not be forwarded, without an event of their own.
    #[non_exhaustive]
    ForwardFailuresOmitted {
        /// Their number.
        count: u64,
    },
    /// Discovery reported an error. Admitted peers stay admitted. The rate of this event is bounded.
    #[non_exhaustive]
    DiscoveryFailed {
        /// The boundary.
        boundary: Boundary,
        /// The error.
        error: DiscoveryError,
    },
    /// Errors of discovery without an event of their own.
    #[non_exhaustive]
    DiscoveryErrorsOmitted {
        /// Their number.
        count: u64,
    },
    /// The stream of discovery ended for a boundary. Admitted peers stay admitted.
    #[non_exhaustive]
    DiscoveryEnded {
        /// The boundary.
        boundary: Boundary,
    },
    /// Events that this reader missed because it was too slow.
    #[non_exhaustive]
    Missed {
        /// Their number.
        count: u64,
    },
}

impl fmt::Display for GuardEvent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::PeersChanged {
                boundary,
                added,
                removed,
                known,
            } => write!(
                f,
                "peers of {boundary} changed: {added} addresses added, {removed} removed, {known} known"
            ),
            Self::BoundaryAllowed { boundary } => write!(f, "boundary {boundary} is admitted"),
            Self::BoundaryRevoked { boundary } => {
                write!(f, "boundary {boundary} is admitted no longer")
            }
            Self::Refused { ip } => write!(f, "connection from {ip} denied"),
            Self::UidRefused { uid } => write!(f, "connection from uid {uid} denied"),
            Self::HeaderRefused { ip, error } => write!(f, "proxy {ip} refused: {error}"),
            Self::RefusalsOmitted { count } => write!(f, "{count} more refusals"),
            Self::CutOff { ip, connections } => {
                write!(f, "{connections} connections of {ip} closed: it left")
            }
            Self::CutOffsOmitted { connections } => {
                write!(
                    f,
                    "{connections} more connections closed of peers that left"
                )
            }
            Self::AcceptFailed { error, retry_in } => {
                write!(f, "accepting failed: {error}; again in {retry_in:?}")
            }
            Self::ForwardFailed { addr, error } => {
                write!(f, "forwarding to {addr} failed: {error}")
            }
            Self::ForwardFailuresOmitted { count } => {
                write!(f, "forwarding failed {count} more times")
            }
            Self::DiscoveryFailed { boundary, error } => {
                let error = error.with_causes();
                write!(f, "discovery of {boundary}'s peers failed: {error}")
            }
            Self::DiscoveryErrorsOmitted { count } => write!(f, "{count} more errors of discovery"),
            Self::DiscoveryEnded { boundary } => {
                write!(f, "discovery of {boundary}'s peers ended")
            }
            Self::Missed { count } => write!(f, "{count} events missed"),
        }
    }
}
