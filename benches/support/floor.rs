//! The floor: what every balancer does that counts requests in flight and measures latency, and nothing else.

#![expect(clippy::disallowed_methods, reason = "a bench reads the clock")]

use std::future::Future;
use std::hint::black_box;
use std::pin::Pin;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};
use std::task::{Context, Poll};
use std::time::Instant;

use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};
use tower::Service;

use super::service::Request;

/// Two draws by a generator of the clone's own, the member with fewer requests in flight, one increment and one decrement of
/// its counter, two clock reads. Members live for the rest of the program, so that no reference is counted.
#[derive(Debug)]
pub(crate) struct TwoDraws<S: 'static> {
    members: &'static [Counted<S>],
    rng: SmallRng,
}

/// A member with a cache line of its own.
#[derive(Debug)]
#[repr(align(64))]
struct Counted<S> {
    in_flight: AtomicU32,
    service: S,
}

impl<S: From<u16>> TwoDraws<S> {
    pub(crate) fn new(instances: u16) -> Self {
        let counted = |instance| Counted {
            in_flight: AtomicU32::new(0),
            service: S::from(instance),
        };
        let members: Vec<_> = (0..instances).map(counted).collect();
        Self {
            members: members.leak(),
            rng: SmallRng::seed_from_u64(1),
        }
    }
}

impl<S> Clone for TwoDraws<S> {
    fn clone(&self) -> Self {
        // Clones that draw the same members would meet at each of them.
        static CLONES: AtomicU64 = AtomicU64::new(2);
        Self {
            members: self.members,
            rng: SmallRng::seed_from_u64(CLONES.fetch_add(1, Relaxed)),
        }
    }
}

impl<S: Service<Request, Future: Unpin> + Clone> Service<Request> for TwoDraws<S> {
    type Response = S::Response;
    type Error = S::Error;
    type Future = InFlight<S::Future>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request) -> Self::Future {
        let began = Instant::now();
        let mut draw = || &self.members[self.rng.random_range(0..self.members.len())];
        let (first, second) = (draw(), draw());
        let in_flight = |member: &Counted<S>| member.in_flight.load(Relaxed);
        let picked = if in_flight(second) < in_flight(first) {
            second
        } else {
            first
        };
        picked.in_flight.fetch_add(1, Relaxed);
        InFlight {
            answer: picked.service.clone().call(request),
            counter: &picked.in_flight,
            began,
        }
    }
}

/// The answer of a [`TwoDraws`].
#[derive(Debug)]
pub(crate) struct InFlight<F> {
    answer: F,
    counter: &'static AtomicU32,
    began: Instant,
}

impl<F: Future + Unpin> Future for InFlight<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let answer = Pin::new(&mut self.answer).poll(cx);
        if answer.is_ready() {
            black_box(self.began.elapsed());
            self.counter.fetch_sub(1, Relaxed);
        }
        answer
    }
}
