//! Callers: the same few lines round every contestant.

use std::fmt::Debug;
use std::hint::black_box;
use std::pin::pin;
use std::task::{Context, Poll, Waker};

use tower::Service;

use super::service::Request;

/// Makes `calls` calls one after the other on this thread, without a scheduler.
///
/// Every poll must be ready.
pub(crate) fn call_in_place<S>(service: &mut S, calls: u64)
where
    S: Service<Request, Response = u16, Error: Debug>,
{
    let mut cx = Context::from_waker(Waker::noop());
    for _ in 0..calls {
        assert!(
            service.poll_ready(&mut cx).is_ready(),
            "a balancer of ready services is ready"
        );
        let mut answer = pin!(service.call(Request));
        let Poll::Ready(answer) = answer.as_mut().poll(&mut cx) else {
            unreachable!("ready services answer at once")
        };
        black_box(answer.expect("ready services do not fail"));
    }
}
