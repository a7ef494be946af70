//! What nobody can have: the queues of all servers and what is wrong with them, seen by every client at once.

use rand::RngExt;
use rand::rngs::SmallRng;

use super::{Balancer, Listed, Outcome, Picked};
use crate::chance::{Stream, stream};
use crate::moment::Moment;
use crate::scenario::Scenario;
use crate::server::Server;

/// Joins the server with the least expected wait; of equals a random one.
pub(crate) struct Oracle {
    rng: SmallRng,
    members: Vec<usize>,
    mean: f64,
    /// What a failure counts as, in seconds.
    failure: f64,
}

impl Oracle {
    pub(crate) fn new(scenario: &Scenario, seed: u64, client: usize) -> Self {
        Self {
            rng: stream(seed, Stream::Client(client)),
            members: Vec::new(),
            mean: scenario.service.mean.as_secs_f64(),
            failure: scenario.timeout.as_secs_f64(),
        }
    }
}

impl Balancer for Oracle {
    type Attempt = ();

    fn announce(&mut self, set: &[Listed], _: Moment) {
        let usable = set.iter().filter(|listed| !listed.draining);
        self.members = usable.map(|listed| listed.server).collect();
    }

    fn pick(&mut self, servers: &[Server], tried: &[usize], _: Moment) -> Picked<()> {
        if self.members.is_empty() {
            return Picked::Refused;
        }
        let start = self.rng.random_range(0..self.members.len());
        let (before, after) = self.members.split_at(start);
        let mut best = (f64::INFINITY, after[0]);
        for &server in after.iter().chain(before) {
            let wait = servers[server].expected_wait(self.mean, self.failure);
            if wait < best.0 && !tried.contains(&server) {
                best = (wait, server);
            }
        }
        Picked::Sent(best.1, ())
    }

    fn finish(&mut self, (): (), _: Outcome, _: Moment) {}
}
