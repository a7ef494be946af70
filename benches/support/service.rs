//! The service behind every balancer: so cheap that what is left to measure is the balancer.

use std::convert::Infallible;
use std::future;
use std::task::{Context, Poll};

use tower::Service;

/// What every contestant is asked.
#[derive(Debug)]
pub(crate) struct Request;

/// Always ready, and its answer too: the number of the instance.
#[derive(Clone, Debug)]
pub(crate) struct Ready(u16);

impl Service<Request> for Ready {
    type Response = u16;
    type Error = Infallible;
    type Future = future::Ready<Result<u16, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Request) -> Self::Future {
        future::ready(Ok(self.0))
    }
}

impl From<u16> for Ready {
    fn from(instance: u16) -> Self {
        Self(instance)
    }
}
