use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use super::proxy::HeaderError;
use crate::error::discovery::DiscoveryError;
use crate::model::name::Boundary;

/// Something that happened at a guard: for people, logs and metrics.
///
/// Read with [`Guard::events`](super::Guard::events); every one is also logged by `tracing` under the target `rolecall`.
/// `Display` is one line for people. What others can cause at will, denied connections, peers that leave, discovery that fails, is told
/// at a bounded rate: of each sort at most ten in ten seconds, and how many were omitted. So are changes of peers in the log; a
/// reader gets each. [`GuardStatus`](super::GuardStatus) counts connections in full.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum GuardEvent {
    /// Discovery announced other peers of a boundary.
    #[non_exhaustive]
    PeersChanged {
        /// Which boundary.
        boundary: Boundary,
        /// How many addresses are new.
        added: usize,
        /// How many are gone.
        removed: usize,
        /// How many there are now.
        known: usize,
    },
    /// A boundary is admitted from now on.
    #[non_exhaustive]
    BoundaryAllowed {
        /// Which one.
        boundary: Boundary,
    },
    /// A boundary is admitted no longer.
    #[non_exhaustive]
    BoundaryRevoked {
        /// Which one.
        boundary: Boundary,
    },
    /// A connection was denied and closed.
    #[non_exhaustive]
    Refused {
        /// Where it came from.
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
        /// What was wrong.
        error: HeaderError,
    },
    /// Refusals that were not told one by one: their addresses were told of shortly before, or there were too many.
    #[non_exhaustive]
    RefusalsOmitted {
        /// How many.
        count: u64,
    },
    /// Connections of a peer that left were closed. Told at a bounded rate.
    #[non_exhaustive]
    CutOff {
        /// The peer's address.
        ip: IpAddr,
        /// How many.
        connections: usize,
    },
    /// Connections that were cut off and not told of address by address.
    #[non_exhaustive]
    CutOffsOmitted {
        /// How many.
        connections: u64,
    },
    /// The system did not hand out a connection, because of its limits for one. Accepting goes on after a wait.
    #[non_exhaustive]
    AcceptFailed {
        /// The system's error.
        error: Arc<std::io::Error>,
        /// When it is tried again.
        retry_in: Duration,
    },
    /// A connection was admitted, and the server behind a forwarder could not be reached. Told at a bounded rate.
    #[non_exhaustive]
    ForwardFailed {
        /// The server's address.
        addr: SocketAddr,
        /// The system's error.
        error: Arc<std::io::Error>,
    },
    /// Admitted connections that could not be passed on and were not told of one by one.
    #[non_exhaustive]
    ForwardFailuresOmitted {
        /// How many.
        count: u64,
    },
    /// Discovery reported an error. Who was admitted stays admitted. Told at a bounded rate.
    #[non_exhaustive]
    DiscoveryFailed {
        /// The boundary it was asked for.
        boundary: Boundary,
        /// The error.
        error: DiscoveryError,
    },
    /// Errors of discovery that were not told one by one.
    #[non_exhaustive]
    DiscoveryErrorsOmitted {
        /// How many.
        count: u64,
    },
    /// Discovery has no more news of a boundary. Who was admitted stays admitted.
    #[non_exhaustive]
    DiscoveryEnded {
        /// The boundary.
        boundary: Boundary,
    },
    /// Events that were dropped here because nobody read them in time.
    #[non_exhaustive]
    Missed {
        /// How many.
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
