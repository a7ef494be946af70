//! A request's way: arrival, pick, server, answer, or the end of its caller's patience.

use std::mem;

use super::World;
use super::request::Request;
use super::schedule::Event;
use crate::contestants::{Balancer, Outcome, Picked};
use crate::server::Reception;
use crate::workload::Arrival;

impl<B: Balancer> World<B> {
    pub(super) fn arrive(&mut self) {
        let Some(arrival) = self.workload.next() else {
            return;
        };
        self.attempt(arrival, Vec::new());
    }

    fn attempt(&mut self, arrival: Arrival, tried: Vec<usize>) {
        let request = self.requests.push(Request::new(arrival, tried));
        self.timeouts.push_back((self.now + self.timeout, request));
        self.send(request);
    }

    pub(super) fn send(&mut self, id: u64) {
        let Some(request) = self.requests.get(id) else {
            return;
        };
        let Arrival { client, there, .. } = request.arrival;
        let balancer = &mut self.clients[client].balancer;
        match balancer.pick(&self.servers, &request.tried, self.now) {
            Picked::Sent(server, attempt) => {
                request.sent(server, attempt);
                self.servers[server].coming += 1;
                self.measures.sent(server, self.now);
                let (own, zone) = (&self.clients[client].zone, &self.servers[server].zone);
                self.measures.crosses(own != zone, self.now);
                self.schedule(self.now + there, Event::Reach(id));
            }
            Picked::Wait => self.clients[client].parked.push(id),
            Picked::Refused => self.settle(id, Outcome::Failure),
        }
        self.attend(client);
    }

    pub(super) fn reach(&mut self, id: u64) {
        let Some(request) = self.requests.get(id) else {
            return;
        };
        let (server, Arrival { work, luck, .. }) = (request.server, request.arrival);
        self.servers[server].coming -= 1;
        match self.servers[server].receive(id, work, luck, self.now) {
            Reception::Taken => self.expect_completion(server),
            Reception::Shed => self.answer(id, Outcome::Overloaded),
            Reception::Failed => self.answer(id, Outcome::Failure),
        }
    }

    pub(super) fn complete(&mut self, server: usize) {
        if self.completions[server] != Some(self.now) {
            return;
        }
        self.completions[server] = None;
        while let Some(id) = self.servers[server].complete(self.now) {
            let luck = self
                .requests
                .get(id)
                .map_or(0.0, |request| request.arrival.luck);
            let failed = self.servers[server].fails(luck, false);
            self.answer(
                id,
                if failed {
                    Outcome::Failure
                } else {
                    Outcome::Success
                },
            );
        }
        self.expect_completion(server);
    }

    pub(super) fn expect_completion(&mut self, server: usize) {
        let next = self.servers[server].next_completion();
        if self.completions[server] != next {
            self.completions[server] = next;
            if let Some(at) = next {
                self.schedule(at, Event::Completion(server));
            }
        }
    }

    /// The server has done with a request; its answer is on the way.
    pub(super) fn answer(&mut self, id: u64, outcome: Outcome) {
        let Some(request) = self.requests.get(id) else {
            return;
        };
        request.left_server();
        let back = request.arrival.back;
        self.schedule(self.now + back, Event::Answer(id, outcome));
    }

    pub(super) fn give_up(&mut self) {
        if let Some((_, id)) = self.timeouts.pop_front() {
            self.settle(id, Outcome::Cancelled);
        }
    }

    /// An attempt ends for its caller, and with it the request unless it is tried again. What comes later of it is
    /// ignored.
    pub(super) fn settle(&mut self, id: u64, outcome: Outcome) {
        if let Some(request) = self.requests.get(id)
            && !request.is_settled()
        {
            let arrival = request.arrival;
            let mut tried = mem::take(&mut request.tried);
            let mut is_retried = false;
            if let Some(attempt) = request.settle() {
                is_retried = outcome != Outcome::Success && tried.len() < self.retries;
                tried.push(request.server);
                self.clients[arrival.client]
                    .balancer
                    .finish(attempt, outcome, self.now);
            }
            self.attend(arrival.client);
            if is_retried {
                self.attempt(arrival.again(), tried);
            } else {
                let took = self.now - arrival.at;
                self.measures.ended(arrival.at, took, outcome);
            }
        }
        self.requests.forget();
    }
}
