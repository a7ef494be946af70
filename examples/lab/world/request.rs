//! Attempts under way, from arrival until neither their caller nor a server has anything to do with them. A retry is an
//! attempt of its own: a server may still work on the one before it.

use std::collections::VecDeque;

use crate::workload::Arrival;

pub(crate) struct Request<A> {
    pub(crate) arrival: Arrival,
    /// Where earlier attempts were sent.
    pub(crate) tried: Vec<usize>,
    /// Where it was sent.
    pub(crate) server: usize,
    attempt: Option<A>,
    settled: bool,
    at_server: bool,
}

impl<A> Request<A> {
    pub(crate) fn new(arrival: Arrival, tried: Vec<usize>) -> Self {
        Self {
            arrival,
            tried,
            server: 0,
            attempt: None,
            settled: false,
            at_server: false,
        }
    }

    pub(crate) fn sent(&mut self, server: usize, attempt: A) {
        self.server = server;
        self.attempt = Some(attempt);
        self.at_server = true;
    }

    pub(crate) fn left_server(&mut self) {
        self.at_server = false;
    }

    pub(crate) fn is_settled(&self) -> bool {
        self.settled
    }

    /// Ends it for its caller; what is returned is the balancer's.
    pub(crate) fn settle(&mut self) -> Option<A> {
        self.settled = true;
        self.attempt.take()
    }
}

/// Requests by number; the oldest are forgotten first.
pub(crate) struct Requests<A> {
    forgotten: u64,
    known: VecDeque<Request<A>>,
}

impl<A> Requests<A> {
    pub(crate) fn new() -> Self {
        Self {
            forgotten: 0,
            known: VecDeque::new(),
        }
    }

    pub(crate) fn push(&mut self, request: Request<A>) -> u64 {
        self.known.push_back(request);
        self.forgotten + self.known.len() as u64 - 1
    }

    /// A request that is not forgotten.
    pub(crate) fn get(&mut self, id: u64) -> Option<&mut Request<A>> {
        let place = id.checked_sub(self.forgotten)?;
        self.known.get_mut(place as usize)
    }

    /// Forgets the oldest ones that are over.
    pub(crate) fn forget(&mut self) {
        while let Some(oldest) = self.known.front()
            && oldest.settled
            && !oldest.at_server
        {
            self.known.pop_front();
            self.forgotten += 1;
        }
    }
}
