//! Bodies that can be sent a second time though they cannot be cloned.

use std::task::{Context, Poll};

use http::Request;
use http_body::Body;
use tower_layer::Layer;
use tower_service::Service;

use crate::error::BoxError;
use crate::http::ReplayBody;

/// Makes a [`ReplayBody`] of each request body, above the layer of [`Retry`](super::Retry): for bodies that cannot be cloned, such
/// as those of tonic's clients, boxed ones and streams.
///
/// A body can be replayed until more than the limit was read from it. A [`Resend`](crate::http::Resend) layer below shares
/// the copy.
///
/// If a gRPC call is marked [`Idempotent`](super::Idempotent) and its request messages are complete, the response is held back
/// until its first message.
///
/// # Defaults
///
/// - [`limit`](Self::limit): 64 KiB
#[derive(Debug, Clone, Copy)]
pub struct ReplayLayer {
    limit: usize,
}

impl ReplayLayer {
    /// A layer with the default above.
    #[must_use]
    pub fn new() -> Self {
        Self { limit: 64 * 1024 }
    }

    /// Sets the limit in bytes. Zero replays only empty bodies.
    #[must_use]
    pub fn limit(mut self, bytes: usize) -> Self {
        self.limit = bytes;
        self
    }
}

impl Default for ReplayLayer {
    fn default() -> Self {
        Self::new()
    }
}

impl<S> Layer<S> for ReplayLayer {
    type Service = Replay<S>;

    fn layer(&self, inner: S) -> Replay<S> {
        let limit = self.limit;
        Replay { inner, limit }
    }
}

/// What [`ReplayLayer`] makes.
#[derive(Debug, Clone)]
pub struct Replay<S> {
    inner: S,
    limit: usize,
}

impl<S, B> Service<Request<B>> for Replay<S>
where
    S: Service<Request<ReplayBody>>,
    B: Body<Error: Into<BoxError>> + Send + Unpin + 'static,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let limit = self.limit;
        let request = request.map(|body| ReplayBody::with_limit(body, limit));
        #[cfg(feature = "grpc")]
        let request = super::grpc::hold_head(request);
        self.inner.call(request)
    }
}
