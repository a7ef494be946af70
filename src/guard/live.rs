//! The guard's side of an open connection.

use std::io;
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};

use futures_util::task::AtomicWaker;

use super::peer::Peer;

/// Why a connection was admitted.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Origin {
    /// By its own address or uid.
    Peer,
    /// It is a trusted proxy's own.
    Proxy,
}

/// The guard's side of an open connection.
pub(super) struct Live {
    peer: Peer,
    origin: Origin,
    number: u64,
    is_cut: AtomicBool,
    pub(super) reader: AtomicWaker,
    pub(super) writer: AtomicWaker,
    /// Whoever waits for nothing else of it, such as a relay whose other side takes no more.
    pub(super) relay: AtomicWaker,
}

impl Live {
    pub(super) fn new(peer: Peer, origin: Origin, number: u64) -> Self {
        Self {
            peer,
            origin,
            number,
            is_cut: AtomicBool::new(false),
            reader: AtomicWaker::new(),
            writer: AtomicWaker::new(),
            relay: AtomicWaker::new(),
        }
    }

    pub(super) fn number(&self) -> u64 {
        self.number
    }

    pub(super) fn peer(&self) -> Peer {
        self.peer
    }

    /// The address that it was admitted by. `None`: it was admitted for another reason, and stays so.
    pub(super) fn admitted_ip(&self) -> Option<IpAddr> {
        match self.origin {
            Origin::Peer => self.peer.ip().map(|ip| ip.to_canonical()),
            Origin::Proxy => None,
        }
    }

    /// Cuts it off. Returns whether it was not yet.
    pub(super) fn cut(&self) -> bool {
        let is_news = !self.is_cut.swap(true, SeqCst);
        self.reader.wake();
        self.writer.wake();
        self.relay.wake();
        is_news
    }

    /// Fails once it is cut off.
    pub(super) fn check(&self) -> io::Result<()> {
        if self.is_cut.load(SeqCst) {
            return Err(io::Error::new(
                io::ErrorKind::ConnectionAborted,
                "the peer left the boundary",
            ));
        }
        Ok(())
    }
}
