//! What is written by hand first: each server in turn.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use futures::future::try_join_all;
use rolecall::BoxError;

use super::{Ask, connection, exchange};

pub(super) async fn connect(servers: &[SocketAddr]) -> Result<Ask, BoxError> {
    let servers = try_join_all(servers.iter().map(|addr| connection(*addr))).await?;
    let turn = AtomicUsize::new(0);
    Ok(Arc::new(move || {
        let turn = turn.fetch_add(1, Relaxed) % servers.len();
        Box::pin(exchange(servers[turn].clone()))
    }))
}
