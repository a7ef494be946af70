//! What arrives: the same requests for every contestant, to the nanosecond.

use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};

use crate::chance::{Stream, exponential, stream};
use crate::moment::{Moment, from_seconds, nanos};
use crate::scenario::{Scenario, Shape};

/// A request as its caller makes it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Arrival {
    pub(crate) at: Moment,
    pub(crate) client: usize,
    /// Seconds of service at a server that is not slow.
    pub(crate) work: f64,
    /// Time on the network, there and back.
    pub(crate) there: Moment,
    pub(crate) back: Moment,
    /// Uniform below one: fails where more than this share fails.
    pub(crate) luck: f64,
}

impl Arrival {
    /// The same request, for another attempt: only its luck is another.
    pub(crate) fn again(self) -> Self {
        let luck = SmallRng::seed_from_u64(self.luck.to_bits()).random();
        Self { luck, ..self }
    }
}

/// Poisson arrivals, split evenly over the clients.
pub(crate) struct Workload {
    rng: SmallRng,
    at: f64,
    until: f64,
    rate: f64,
    clients: usize,
    mean: f64,
    shape: Shape,
    delay: Moment,
    jitter: f64,
}

impl Workload {
    pub(crate) fn new(scenario: &Scenario, seed: u64) -> Self {
        Self {
            rng: stream(seed, Stream::Workload),
            at: 0.0,
            until: scenario.duration.as_secs_f64(),
            rate: scenario.rate(),
            clients: scenario.clients.count,
            mean: scenario.service.mean.as_secs_f64(),
            shape: scenario.service.shape,
            delay: nanos(scenario.network.delay),
            jitter: scenario.network.jitter.as_secs_f64(),
        }
    }
}

impl Iterator for Workload {
    type Item = Arrival;

    fn next(&mut self) -> Option<Arrival> {
        let rng = &mut self.rng;
        self.at += exponential(rng) / self.rate;
        let client = rng.random_range(0..self.clients);
        let work = self.mean * self.shape.sample(rng);
        let mut on_the_way = || self.delay + from_seconds(self.jitter * exponential(rng));
        let (there, back) = (on_the_way(), on_the_way());
        let luck = rng.random();
        (self.at < self.until).then(|| Arrival {
            at: from_seconds(self.at),
            client,
            work,
            there,
            back,
            luck,
        })
    }
}
