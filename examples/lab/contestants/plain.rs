//! What people write by hand: random, round robin, and the power of two choices by requests in flight.
//!
//! All follow weights where servers have different ones.

use rand::RngExt;
use rand::rngs::SmallRng;

use super::{Balancer, Listed, Outcome, Picked};
use crate::chance::{Stream, stream};
use crate::moment::Moment;
use crate::server::Server;

#[derive(Clone, Copy)]
pub(crate) enum Rule {
    Random,
    /// Smooth weighted, as nginx has it: with equal weights one after the other.
    RoundRobin,
    LeastInFlight,
}

pub(crate) struct Plain {
    rule: Rule,
    rng: SmallRng,
    members: Vec<Member>,
    total_weight: u64,
    /// By server, also of those that are not listed any more.
    in_flight: Vec<u32>,
}

struct Member {
    server: usize,
    weight: u16,
    turn: i64,
}

impl Plain {
    pub(crate) fn new(rule: Rule, seed: u64, client: usize) -> Self {
        Self {
            rule,
            rng: stream(seed, Stream::Client(client)),
            members: Vec::new(),
            total_weight: 0,
            in_flight: Vec::new(),
        }
    }

    /// The place of the member that the rule chooses.
    fn next(&mut self) -> usize {
        match self.rule {
            Rule::Random => self.draw(),
            Rule::RoundRobin => self.next_turn(),
            Rule::LeastInFlight => self.less_loaded(),
        }
    }

    /// A member's place, drawn by weight.
    fn draw(&mut self) -> usize {
        let mut ticket = self.rng.random_range(0..self.total_weight);
        let holds = |member: &Member| {
            let weight = u64::from(member.weight);
            let held = ticket < weight;
            ticket = ticket.saturating_sub(weight);
            held
        };
        self.members.iter().position(holds).unwrap_or(0)
    }

    fn next_turn(&mut self) -> usize {
        let mut first = 0;
        for place in 0..self.members.len() {
            self.members[place].turn += i64::from(self.members[place].weight);
            if self.members[place].turn > self.members[first].turn {
                first = place;
            }
        }
        self.members[first].turn -= self.total_weight as i64;
        first
    }

    fn less_loaded(&mut self) -> usize {
        let first = self.draw();
        if self.members.len() == 1 {
            return first;
        }
        let mut second = self.draw();
        while second == first {
            second = self.draw();
        }
        let load = |place: usize| {
            let Member { server, weight, .. } = self.members[place];
            f64::from(self.in_flight[server] + 1) / f64::from(weight)
        };
        if load(second) < load(first) {
            second
        } else {
            first
        }
    }
}

impl Balancer for Plain {
    type Attempt = usize;

    fn announce(&mut self, set: &[Listed], _: Moment) {
        let usable = set
            .iter()
            .filter(|listed| !listed.draining && listed.weight > 0);
        self.members = usable
            .map(|&Listed { server, weight, .. }| Member {
                server,
                weight,
                turn: 0,
            })
            .collect();
        self.total_weight = self
            .members
            .iter()
            .map(|member| u64::from(member.weight))
            .sum();
        // Clients that begin at the same place would march in step.
        for member in &mut self.members {
            member.turn = self.rng.random_range(0..=self.total_weight as i64);
        }
        let servers = self.members.iter().map(|member| member.server + 1).max();
        let servers = servers.unwrap_or(0).max(self.in_flight.len());
        self.in_flight.resize(servers, 0);
    }

    fn pick(&mut self, _: &[Server], tried: &[usize], _: Moment) -> Picked<usize> {
        if self.members.is_empty() {
            return Picked::Refused;
        }
        let is_tried = |member: &Member| tried.contains(&member.server);
        let all_tried = self.members.iter().all(is_tried);
        let mut place = self.next();
        // By chance: the rule itself may insist on one that was tried, as the least loaded of two.
        while !all_tried && is_tried(&self.members[place]) {
            place = self.draw();
        }
        let server = self.members[place].server;
        self.in_flight[server] += 1;
        Picked::Sent(server, server)
    }

    fn finish(&mut self, server: usize, _: Outcome, _: Moment) {
        self.in_flight[server] -= 1;
    }
}
