//! The baselines: what picking costs when nothing is known of the instances.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};

use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};
use tower::Service;

use super::service::Request;

/// A member drawn evenly, by a generator of the clone's own.
#[derive(Clone, Debug)]
pub(crate) struct RandomPick<S> {
    members: Vec<S>,
    rng: SmallRng,
}

impl<S: From<u16>> RandomPick<S> {
    pub(crate) fn new(instances: u16) -> Self {
        Self {
            members: (0..instances).map(S::from).collect(),
            rng: SmallRng::seed_from_u64(1),
        }
    }
}

impl<S: Service<Request>> Service<Request> for RandomPick<S> {
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request) -> S::Future {
        let drawn = self.rng.random_range(0..self.members.len());
        self.members[drawn].call(request)
    }
}

/// Each member in turn, by one counter that all clones share.
#[derive(Clone, Debug)]
pub(crate) struct RoundRobin<S> {
    members: Vec<S>,
    turn: Arc<AtomicUsize>,
}

impl<S: From<u16>> RoundRobin<S> {
    pub(crate) fn new(instances: u16) -> Self {
        Self {
            members: (0..instances).map(S::from).collect(),
            turn: Arc::default(),
        }
    }
}

impl<S: Service<Request>> Service<Request> for RoundRobin<S> {
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request) -> S::Future {
        let turn = self.turn.fetch_add(1, Ordering::Relaxed) % self.members.len();
        self.members[turn].call(request)
    }
}
