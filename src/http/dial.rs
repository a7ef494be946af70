//! Opens one connection, within the connect timeout.

use std::net::SocketAddr;
use std::sync::Weak;

use tokio::net::TcpStream;

use super::error::ConnectError;
use super::line::{Line, Transport};
use super::pool::{Limits, Pool};

/// Connects to `addr` and shakes hands; freed lines come back to `home`.
pub(super) async fn connect<L: Transport>(
    addr: SocketAddr,
    limits: Limits,
    home: Weak<Pool<L>>,
) -> Result<L, ConnectError> {
    let opening = async {
        let stream = TcpStream::connect(addr)
            .await
            .and_then(|stream| stream.set_nodelay(true).map(|()| stream))
            .map_err(|error| ConnectError::io(addr, error))?;
        L::open(stream, addr, limits, home).await
    };
    let limit = limits.connect_timeout;
    let line = tokio::time::timeout(limit, opening)
        .await
        .unwrap_or_else(|_| Err(ConnectError::timed_out(addr, limit)))?;
    tracing::debug!(%addr, "connected");
    Ok(line)
}

/// One dial for the claims that wait in a pool. They are also told when the runtime drops it.
pub(super) struct Dial<L: Line> {
    pool: Weak<Pool<L>>,
    addr: SocketAddr,
    ended: bool,
}

impl<L: Line> Dial<L> {
    pub(super) fn new(pool: Weak<Pool<L>>, addr: SocketAddr) -> Self {
        Self {
            pool,
            addr,
            ended: false,
        }
    }

    fn end(&mut self, result: Result<L, ConnectError>) {
        self.ended = true;
        let Some(pool) = self.pool.upgrade() else {
            return;
        };
        pool.dialled();
        match result {
            Ok(line) => pool.deliver(line, true),
            Err(error) => pool.fail(&error),
        }
    }
}

impl<L: Transport> Dial<L> {
    pub(super) async fn run(mut self, limits: Limits) {
        let result = connect(self.addr, limits, self.pool.clone()).await;
        self.end(result);
    }
}

impl<L: Line> Drop for Dial<L> {
    fn drop(&mut self) {
        if !self.ended {
            self.end(Err(ConnectError::no_runtime(self.addr)));
        }
    }
}
