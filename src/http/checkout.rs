//! One request's hold on a pool.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use super::error::ConnectError;
use super::line::{Line, Transport};
use super::pool::{Claim, Grant, Pool};

/// A claim to a line, once there is one. Dropped while it holds an unused line, it gives the line back.
pub(super) struct Checkout<L: Line> {
    pool: Arc<Pool<L>>,
    claim: Option<Claim<L>>,
}

impl<L: Line> Checkout<L> {
    pub(super) fn new(pool: Arc<Pool<L>>) -> Self {
        Self { pool, claim: None }
    }

    pub(super) fn pool(&self) -> &Arc<Pool<L>> {
        &self.pool
    }

    /// Moves the claim into a checkout of its own.
    pub(super) fn split(&mut self) -> Self {
        Self {
            pool: self.pool.clone(),
            claim: self.claim.take(),
        }
    }
}

impl<L: Transport> Checkout<L> {
    /// Ready when an open line is held.
    pub(super) fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), ConnectError>> {
        loop {
            match &mut self.claim {
                Some(Claim::Held(grant)) if grant.line.is_ready() => return Poll::Ready(Ok(())),
                Some(Claim::Held(_)) | None => self.claim = Some(self.pool.claim()),
                Some(Claim::Failed(error)) => {
                    let error = error.clone();
                    self.claim = None;
                    return Poll::Ready(Err(error));
                }
                Some(Claim::Waiting(claimed)) => {
                    let claimed = ready!(Pin::new(claimed).poll(cx));
                    self.claim = None;
                    let Ok(claimed) = claimed else { continue };
                    let grant = claimed?;
                    if grant.is_unspent() && !grant.line.is_ready() {
                        // Dialling again at once would never end with an instance that accepts and closes.
                        return Poll::Ready(Err(ConnectError::closed(self.pool.addr())));
                    }
                    self.claim = Some(Claim::Held(grant));
                }
            }
        }
    }

    /// Waits for a line and takes it.
    pub(super) async fn take(&mut self) -> Result<Grant<L>, ConnectError> {
        loop {
            poll_fn(|cx| self.poll_ready(cx)).await?;
            if let Some(Claim::Held(grant)) = self.claim.take() {
                return Ok(grant);
            }
        }
    }
}

impl<L: Line> Drop for Checkout<L> {
    fn drop(&mut self) {
        match self.claim.take() {
            None => {}
            Some(Claim::Failed(error)) => self.pool.leave(error),
            Some(Claim::Held(grant)) => self.pool.put(grant.line),
            Some(Claim::Waiting(mut claimed)) => {
                claimed.close();
                match claimed.try_recv() {
                    Ok(Ok(grant)) => self.pool.put(grant.line),
                    Ok(Err(error)) => self.pool.leave(error),
                    Err(_) => self.pool.waits_no_more(),
                }
            }
        }
    }
}

impl<L: Line> Clone for Checkout<L> {
    fn clone(&self) -> Self {
        Self::new(self.pool.clone())
    }
}
