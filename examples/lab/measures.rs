//! What one run shows: latencies, failures, shares over time, states.

use std::ops::Range;

use crate::contestants::{Outcome, Standing, States, Tally};
use crate::moment::{Moment, SECOND, nanos};
use crate::scenario::{Effect, Scenario};
use crate::timeline::afflictions;

pub(crate) struct Measures {
    measure_from: Moment,
    /// In the order in which they ended.
    pub(crate) requests: Vec<Request>,
    /// What balancers ejected, and what returned, in order of time.
    pub(crate) standings: Vec<Change>,
    /// For each server.
    gaps: Vec<Gap>,
    pub(crate) tally: Option<Tally>,
    /// Requests sent since measuring began, and those of them that crossed to another zone.
    pub(crate) attempts: usize,
    pub(crate) crossed: usize,
    /// For each second and server: requests sent to it.
    pub(crate) sent: Vec<Vec<u32>>,
    /// For each second and server: its weight, zero where discovery did not offer it.
    weights: Vec<Vec<u16>>,
    /// What the first client thought of its members, with the time.
    pub(crate) states: Option<Vec<(Moment, States)>>,
    servers: usize,
    end: Moment,
}

/// A request that is over for its caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Request {
    pub(crate) at: Moment,
    /// `None` if it failed.
    pub(crate) micros: Option<u32>,
}

/// A client ejected a server, or a server returned to it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Change {
    pub(crate) at: Moment,
    pub(crate) client: usize,
    pub(crate) server: usize,
    pub(crate) standing: Standing,
}

/// Time in which a server got no request.
#[derive(Clone, Copy)]
struct Gap {
    since: Moment,
    longest: Moment,
}

impl Measures {
    pub(crate) fn new(scenario: &Scenario) -> Self {
        let servers = scenario.servers().count();
        let measure_from = nanos(scenario.measure_from);
        let gap = Gap {
            since: measure_from,
            longest: 0,
        };
        Self {
            measure_from,
            requests: Vec::new(),
            standings: Vec::new(),
            gaps: vec![gap; servers],
            tally: None,
            attempts: 0,
            crossed: 0,
            sent: Vec::new(),
            weights: Vec::new(),
            states: (scenario.states && !scenario.faults.is_empty()).then(Vec::new),
            servers,
            end: nanos(scenario.duration),
        }
    }

    /// Counts a request that stays in its client's zone, or crosses.
    pub(crate) fn crosses(&mut self, crosses: bool, now: Moment) {
        if now >= self.measure_from {
            self.attempts += 1;
            self.crossed += usize::from(crosses);
        }
    }

    pub(crate) fn sent(&mut self, server: usize, now: Moment) {
        let second = (now / SECOND) as usize;
        while self.sent.len() <= second {
            self.sent.push(vec![0; self.servers]);
        }
        self.sent[second][server] += 1;
        self.gaps[server].end(now);
    }

    pub(crate) fn standing(
        &mut self,
        client: usize,
        server: usize,
        standing: Standing,
        at: Moment,
    ) {
        self.standings.push(Change {
            at,
            client,
            server,
            standing,
        });
    }

    /// A request that arrived at `at` is over for its caller.
    pub(crate) fn ended(&mut self, at: Moment, took: Moment, outcome: Outcome) {
        if at < self.measure_from {
            return;
        }
        let micros = (outcome == Outcome::Success).then_some((took / 1000) as u32);
        self.requests.push(Request { at, micros });
    }

    /// How often some client ejected some server.
    pub(crate) fn ejections(&self) -> usize {
        let ejected = |change: &&Change| change.standing == Standing::Ejected;
        self.standings.iter().filter(ejected).count()
    }

    /// The longest time from the beginning of what is measured to the end in which some server got no request.
    pub(crate) fn longest_gap(&self) -> Moment {
        let closed = self.gaps.iter().map(|gap| {
            let last = self.end.saturating_sub(gap.since);
            gap.longest.max(last)
        });
        closed.max().unwrap_or(0)
    }

    pub(crate) fn weights(&mut self, weights: Vec<u16>) {
        self.weights.push(weights);
    }

    pub(crate) fn wants_states(&self) -> bool {
        self.states.is_some()
    }

    pub(crate) fn states(&mut self, at: Moment, states: States) {
        if let Some(samples) = &mut self.states {
            samples.push((at, states));
        }
    }

    pub(crate) fn tally(&mut self, client: Option<Tally>) {
        if let Some(client) = client {
            let tally = self.tally.get_or_insert_default();
            tally.picks += client.picks;
            tally.draws += client.draws;
        }
    }

    /// A server's share of a second's requests over what is fair by weight; `None` while discovery does not offer it.
    pub(crate) fn share(&self, second: usize, server: usize) -> Option<f64> {
        let fair = self.fair(second, server)?;
        Some(f64::from(self.sent.get(second)?[server]) / fair)
    }

    fn fair(&self, second: usize, server: usize) -> Option<f64> {
        let (weights, sent) = (self.weights.get(second)?, self.sent.get(second)?);
        let total: f64 = weights.iter().map(|&weight| f64::from(weight)).sum();
        let all: f64 = sent.iter().map(|&sent| f64::from(sent)).sum();
        let fair = all * f64::from(weights[server]) / total.max(1.0);
        (fair > 0.0).then_some(fair)
    }

    /// Each server's share over all measured seconds.
    pub(crate) fn shares(&self) -> Vec<f64> {
        let from = self.measure_from.div_ceil(SECOND) as usize;
        self.shares_in(from..self.sent.len())
    }

    /// Each server's share over these seconds, of those that discovery offered in them.
    pub(crate) fn shares_in(&self, seconds: Range<usize>) -> Vec<f64> {
        let share = |server| {
            let counted = seconds.clone().filter_map(|second| {
                let fair = self.fair(second, server)?;
                Some((f64::from(self.sent[second][server]), fair))
            });
            let (sent, fair) = counted.fold((0.0, 0.0), |sum, one| (sum.0 + one.0, sum.1 + one.1));
            (fair > 0.0).then(|| sent / fair)
        };
        (0..self.servers).filter_map(share).collect()
    }

    /// Seconds from the end of a fault, or from when discovery could tell of it, until its server had 0.7 of its share for
    /// three seconds: the longest of all servers. `None` where no fault ends. One that never came to that took until the
    /// end.
    pub(crate) fn healed_after(&self, scenario: &Scenario) -> Option<f64> {
        const WINDOW: usize = 3;
        let lasting = |effect| !matches!(effect, Effect::Antagonist(_) | Effect::Draining);
        let last = (scenario.duration.as_secs() as usize).min(self.sent.len());
        let told = |well: Moment| {
            let outages = &scenario.discovery.outages;
            let silent = outages
                .iter()
                .find(|o| (nanos(o.from)..nanos(o.until)).contains(&well));
            silent.map_or(well, |outage| nanos(outage.until))
        };
        let healed = afflictions(scenario)
            .into_iter()
            .filter(|affliction| lasting(affliction.effect))
            .map(|affliction| {
                let unknown = affliction.effect == Effect::Unannounced;
                let well = if unknown {
                    told(affliction.until)
                } else {
                    affliction.until
                };
                (affliction.server, well.div_ceil(SECOND) as usize)
            })
            .filter(|&(_, second)| second + WINDOW < last);
        let waited = healed.map(|(server, second)| {
            let well = |&begin: &usize| {
                let shares =
                    (begin..begin + WINDOW).filter_map(|second| self.share(second, server));
                shares.sum::<f64>() >= 0.7 * WINDOW as f64
            };
            let recovered = (second..=last - WINDOW).find(well).unwrap_or(last);
            (recovered - second) as f64
        });
        waited.reduce(f64::max)
    }
}

impl Gap {
    fn end(&mut self, now: Moment) {
        self.longest = self.longest.max(now.saturating_sub(self.since));
        self.since = self.since.max(now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_gap_is_of_one_server_and_reaches_to_the_end() {
        let scenario = Scenario::find("shared_pause").unwrap();
        let (begin, end) = (nanos(scenario.measure_from), nanos(scenario.duration));
        let mut measures = Measures::new(&scenario);
        assert_eq!(measures.longest_gap(), end - begin);
        for second in 0..45 {
            for server in 0..4 {
                // The first has no request for 8 s, the second none in the last 5 s.
                let is_idle = match server {
                    0 => (20..27).contains(&second),
                    1 => second > 40,
                    _ => false,
                };
                if !is_idle {
                    measures.sent(server, second * SECOND);
                }
            }
        }
        assert_eq!(measures.longest_gap(), 8 * SECOND);
    }
}
