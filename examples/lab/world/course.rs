//! What befalls servers, what discovery says of it, and what is looked at meanwhile.

use std::rc::Rc;

use super::World;
use super::schedule::Event;
use crate::contestants::{Balancer, Listed, Outcome};
use crate::moment::{Moment, SECOND};
use crate::scenario::Answer;
use crate::server::Condition;
use crate::timeline::Change;

impl<B: Balancer> World<B> {
    /// Lets everything begin or end that is due.
    pub(super) fn change(&mut self) {
        while let Some(&(at, change)) = self.changes.front()
            && at <= self.now
        {
            self.changes.pop_front();
            match change {
                Change::Begin(server, condition) => {
                    for lost in self.servers[server].begin(condition, self.now) {
                        self.answer(lost, Outcome::Failure);
                    }
                    self.expect_completion(server);
                }
                Change::End(server, condition) => {
                    self.servers[server].end(condition, self.now);
                    self.expect_completion(server);
                }
                Change::Silence(answer) => self.silence = Some(answer),
                Change::Speech => self.silence = None,
            }
        }
    }

    /// What a discovery in order says now.
    pub(super) fn announced(&self) -> Rc<[Listed]> {
        let servers = self.servers.iter().enumerate();
        let announced = servers.filter(|(_, server)| !server.is(Condition::Unannounced));
        let listed = announced.map(|(number, server)| Listed {
            server: number,
            weight: server.weight,
            draining: server.is(Condition::Draining),
            zone: server.zone.clone(),
        });
        listed.collect()
    }

    /// Discovery answers all clients, if it is able to.
    pub(super) fn publish(&mut self) {
        self.listed = match self.silence {
            Some(Answer::Nothing) => return,
            Some(Answer::Empty) => Rc::new([]),
            None => self.announced(),
        };
        for client in 0..self.clients.len() {
            let at = self.now + self.clients[client].hears_after;
            self.schedule(at, Event::News(client, Rc::clone(&self.listed)));
        }
    }

    /// Looks at what is no request.
    pub(super) fn sample(&mut self, at: Moment) {
        if at.is_multiple_of(SECOND) {
            let mut weights = vec![0; self.servers.len()];
            for listed in self.listed.iter().filter(|listed| !listed.draining) {
                weights[listed.server] = listed.weight;
            }
            self.measures.weights(weights);
        }
        if self.measures.wants_states() {
            self.measures
                .states(at, self.clients[0].balancer.states(at));
        }
    }
}
