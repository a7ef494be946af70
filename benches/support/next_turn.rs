//! An inner service that makes its callers wait for each other.

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use tower::Service;

use super::service::Request;

/// Always ready; answers on the caller's next turn, so that every task has a call under way.
#[derive(Clone, Debug)]
pub(crate) struct NextTurn(u16);

impl Service<Request> for NextTurn {
    type Response = u16;
    type Error = Infallible;
    type Future = Turn;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Request) -> Turn {
        Turn {
            instance: self.0,
            waited: false,
        }
    }
}

impl From<u16> for NextTurn {
    fn from(instance: u16) -> Self {
        Self(instance)
    }
}

/// The answer of a [`NextTurn`].
#[derive(Debug)]
pub(crate) struct Turn {
    instance: u16,
    waited: bool,
}

impl Future for Turn {
    type Output = Result<u16, Infallible>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        if self.waited {
            return Poll::Ready(Ok(self.instance));
        }
        self.waited = true;
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}
