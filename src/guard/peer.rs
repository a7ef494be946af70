//! Where a connection comes from.

use std::fmt;
use std::net::{IpAddr, SocketAddr};

/// Where an admitted connection comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Peer {
    /// From this address: the client's, if a trusted proxy passed it on.
    Tcp(SocketAddr),
    /// Over a Unix socket, from a process of this user id.
    Uid(u32),
}

impl Peer {
    /// The IP address and port of a TCP connection.
    #[must_use]
    pub fn addr(&self) -> Option<SocketAddr> {
        match self {
            Self::Tcp(addr) => Some(*addr),
            Self::Uid(_) => None,
        }
    }

    /// The IP address of a TCP connection.
    #[must_use]
    pub fn ip(&self) -> Option<IpAddr> {
        self.addr().map(|addr| addr.ip())
    }

    /// The user id of the process at the other end of a Unix socket, as it was when the process connected.
    #[must_use]
    pub fn uid(&self) -> Option<u32> {
        match self {
            Self::Tcp(_) => None,
            Self::Uid(uid) => Some(*uid),
        }
    }
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(addr) => addr.fmt(f),
            Self::Uid(uid) => write!(f, "uid {uid}"),
        }
    }
}
