//! One request's claim to a connection of a pool.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use futures_util::future::BoxFuture;
use http::{Request, Response};
use http_body::Body;

use super::connection::{Answered, Received};
use super::pool::{Acquired, Claim, Pool};
use crate::error::BoxError;
use crate::http::address;
use crate::http::error::{CallError, ConnectError};

/// A claim to a connection, for one request. Dropped with a connection that it did not use it gives that back.
pub(in crate::http) struct Checkout<B> {
    pool: Arc<Pool<B>>,
    claim: Option<Claim<B>>,
}

impl<B> Checkout<B> {
    pub(in crate::http) fn new(pool: Arc<Pool<B>>) -> Self {
        Self { pool, claim: None }
    }

    pub(in crate::http) fn pool(&self) -> &Arc<Pool<B>> {
        &self.pool
    }
}

impl<B> Checkout<B>
where
    B: Body + Send + Unpin + 'static,
    B::Data: Send,
    B::Error: Into<BoxError>,
{
    /// Ready when an open connection is claimed.
    pub(in crate::http) fn poll_ready(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), ConnectError>> {
        loop {
            match &mut self.claim {
                Some(Claim::Acquired(acquired)) if acquired.connection.is_ready() => {
                    return Poll::Ready(Ok(()));
                }
                Some(Claim::Acquired(_)) | None => self.claim = Some(self.pool.claim()),
                Some(Claim::Failed(error)) => {
                    let error = error.clone();
                    self.claim = None;
                    return Poll::Ready(Err(error));
                }
                Some(Claim::Waiting(dialled)) => {
                    let dialled = ready!(Pin::new(dialled).poll(cx));
                    self.claim = None;
                    let Ok(dialled) = dialled else { continue };
                    let acquired = dialled?;
                    if acquired.is_first_use() && !acquired.connection.is_ready() {
                        // Dialling again at once would never end with an instance that accepts and closes.
                        return Poll::Ready(Err(ConnectError::closed(self.pool.addr())));
                    }
                    self.claim = Some(Claim::Acquired(acquired));
                }
            }
        }
    }

    async fn take(&mut self) -> Result<Acquired<B>, ConnectError> {
        loop {
            poll_fn(|cx| self.poll_ready(cx)).await?;
            if let Some(Claim::Acquired(acquired)) = self.claim.take() {
                return Ok(acquired);
            }
        }
    }

    /// Sends a request over the claimed connection, or over another one if that ended while it was idle. If one is claimed, the
    /// request is on its way before the future is polled.
    pub(in crate::http) fn send(
        &mut self,
        mut request: Request<B>,
    ) -> BoxFuture<'static, Result<Response<Received>, CallError>> {
        address::for_http1(&mut request, self.pool.fallback());
        let pool = Arc::clone(&self.pool);
        match self.claim.take() {
            Some(Claim::Acquired(acquired)) if acquired.connection.is_ready() => {
                send_over(acquired, request, pool)
            }
            claim => Box::pin(Self { pool, claim }.claim_and_send(request)),
        }
    }

    async fn claim_and_send(
        mut self,
        request: Request<B>,
    ) -> Result<Response<Received>, CallError> {
        let acquired = self.take().await.map_err(CallError::connect)?;
        send_over(acquired, request, Arc::clone(&self.pool)).await
    }
}

/// Boxed, so that it fits into the future of a call again if it is sent again.
fn send_over<B>(
    acquired: Acquired<B>,
    request: Request<B>,
    pool: Arc<Pool<B>>,
) -> BoxFuture<'static, Result<Response<Received>, CallError>>
where
    B: Body + Send + Unpin + 'static,
    B::Data: Send,
    B::Error: Into<BoxError>,
{
    let is_fresh = acquired.is_fresh;
    let sending = acquired.connection.send(request);
    Box::pin(async move {
        let unanswered = match sending.await {
            Ok(Answered { response, freed }) => {
                if let Some(freed) = freed {
                    pool.put(freed);
                }
                return Ok(response);
            }
            Err(unanswered) => unanswered,
        };
        let addr = pool.addr();
        let error = unanswered.error;
        Err(match unanswered.unsent {
            // Each of these has left the pool, so this ends.
            Some(unsent) if !is_fresh => {
                let next = Checkout::new(pool).claim_and_send(unsent);
                return Box::pin(next).await;
            }
            Some(_) => CallError::unsent(addr, error.into()),
            None if error.is_parse_too_large() => CallError::too_large(addr, error.into()),
            None if unanswered.is_request_body => CallError::request(addr, error.into()),
            None => CallError::sent(addr, error.into()),
        })
    })
}

impl<B> Drop for Checkout<B> {
    fn drop(&mut self) {
        match self.claim.take() {
            None => {}
            Some(Claim::Failed(error)) => self.pool.leave(error),
            Some(Claim::Acquired(acquired)) => self.pool.put(acquired.connection),
            Some(Claim::Waiting(mut dialled)) => {
                dialled.close();
                match dialled.try_recv() {
                    Ok(Ok(acquired)) => self.pool.put(acquired.connection),
                    Ok(Err(error)) => self.pool.leave(error),
                    Err(_) => self.pool.give_up(),
                }
            }
        }
    }
}
