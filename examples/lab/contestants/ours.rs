//! rolecall: the shipped [`Fleet`], driven as its driver drives it.

use std::collections::VecDeque;
use std::io;
use std::mem;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use rand::rngs::SmallRng;
use rolecall::fleet::{Dial, Fleet, Pick, PickError, Rng, Ticket};
use rolecall::{
    Availability, BalanceConfig, ConfigBuilder, Event, Instance, InstanceId, InstanceSet, Weight,
    Zone,
};

use super::{Balancer, Connection, Errands, Listed, Outcome, Picked, Standing, States, Tally};
use crate::chance::{Stream, stream};
use crate::measures::Measures;
use crate::moment::{Moment, nanos};
use crate::scenario::Scenario;
use crate::server::Server;
use crate::world::{World, WorldError};

/// Nothing listens there: a server is told by its port.
const FIRST_PORT: u16 = 1024;

/// Runs fleets of this configuration through a scenario.
pub(crate) fn run(
    scenario: &Scenario,
    seed: u64,
    configure: impl Fn(ConfigBuilder) -> ConfigBuilder,
) -> Result<Measures, WorldError> {
    let config = configure(BalanceConfig::builder()).build()?;
    run_with(scenario, seed, |_| Ok((config.clone(), None)))
}

/// Runs a fleet of its own configuration for each client. With a zone, it sees only the servers of that zone.
fn run_with<'s>(
    scenario: &'s Scenario,
    seed: u64,
    of: impl Fn(usize) -> Result<(BalanceConfig, Option<&'s str>), WorldError>,
) -> Result<Measures, WorldError> {
    let clients = (0..scenario.clients.count).map(of);
    let clients: Vec<_> = clients.collect::<Result<_, _>>()?;
    #[expect(
        clippy::disallowed_methods,
        reason = "an Instant has to come from somewhere; only differences to it count"
    )]
    let start = Instant::now();
    // Time on the network after which a client knows that a connection is lost.
    let notice = nanos(scenario.network.delay);
    World::new(scenario, seed, |client| {
        let (config, only) = &clients[client];
        Ours {
            only: only.map(str::to_owned),
            ..Ours::new(config.clone(), start, notice, seed, client)
        }
    })
    .run()
}

/// The same with clients that know their zones.
pub(crate) fn run_in_zones(
    scenario: &Scenario,
    seed: u64,
    configure: impl Fn(ConfigBuilder) -> ConfigBuilder,
) -> Result<Measures, WorldError> {
    let config = configure(BalanceConfig::builder()).build()?;
    run_with(scenario, seed, |client| {
        let zone = scenario.clients.zone(client).map(Zone::new).transpose()?;
        Ok((config.to_builder().zone(zone).build()?, None))
    })
}

/// Clients see only the servers of their zones.
pub(crate) fn run_in_hard_zones(scenario: &Scenario, seed: u64) -> Result<Measures, WorldError> {
    run_with(scenario, seed, |client| {
        Ok((BalanceConfig::default(), scenario.clients.zone(client)))
    })
}

struct Ours {
    /// The only zone whose servers it sees.
    only: Option<String>,
    fleet: Fleet<Connection>,
    start: Instant,
    notice: Moment,
    unavailable_after: Moment,
    rng: Counting,
    picks: u64,
    /// With equal weights one draw of 64 bits gives two members.
    even: bool,
    dials: VecDeque<Dial>,
    deadline_moved: bool,
    /// When requests that wait now have waited long enough.
    patience: Option<Moment>,
}

/// A generator that counts.
struct Counting {
    rng: SmallRng,
    words: u64,
}

impl Rng for Counting {
    fn next_u64(&mut self) -> u64 {
        self.words += 1;
        rand::Rng::next_u64(&mut self.rng)
    }
}

impl Ours {
    fn new(
        config: BalanceConfig,
        start: Instant,
        notice: Moment,
        seed: u64,
        client: usize,
    ) -> Self {
        let mut rng = stream(seed, Stream::Client(client));
        let unavailable_after = nanos(config.unavailable_after());
        Self {
            only: None,
            fleet: Fleet::new(config, rand::Rng::next_u64(&mut rng), start),
            start,
            notice,
            unavailable_after,
            rng: Counting { rng, words: 0 },
            picks: 0,
            even: true,
            dials: VecDeque::new(),
            deadline_moved: false,
            patience: None,
        }
    }

    fn instant(&self, now: Moment) -> Instant {
        self.start + Duration::from_nanos(now)
    }

    /// With nobody usable requests wait, for a while after somebody was.
    fn wait_or_fail(&mut self, now: Moment) -> Picked<Pick<Connection>> {
        let since = self
            .fleet
            .unusable_since()
            .map_or(now, |since| self.moment(since));
        let until = since + self.unavailable_after;
        if now >= until {
            return Picked::Refused;
        }
        self.patience = Some(until);
        Picked::Wait
    }

    fn moment(&self, instant: Instant) -> Moment {
        nanos(instant.saturating_duration_since(self.start))
    }
}

impl Balancer for Ours {
    type Attempt = Pick<Connection>;

    fn announce(&mut self, set: &[Listed], now: Moment) {
        self.even = set.windows(2).all(|two| two[0].weight == two[1].weight);
        let sees = |listed: &&Listed| {
            self.only.is_none() || listed.zone.as_deref() == self.only.as_deref()
        };
        let set: InstanceSet = set.iter().filter(sees).map(instance).collect();
        self.dials.extend(self.fleet.apply(set, self.instant(now)));
        self.deadline_moved = true;
    }

    fn pick(
        &mut self,
        servers: &[Server],
        tried: &[usize],
        now: Moment,
    ) -> Picked<Pick<Connection>> {
        let instant = self.instant(now);
        let avoid: Vec<InstanceId> = tried.iter().map(|&server| id(server).into()).collect();
        loop {
            let pick = match self.fleet.pick(instant, &mut self.rng, &avoid) {
                Ok(pick) => pick,
                Err(PickError::Saturated) => return Picked::Refused,
                Err(_) => return self.wait_or_fail(now),
            };
            // A lost connection says so before anything is sent over it, once the news has come that far.
            let &Connection {
                server,
                incarnation,
            } = pick.service();
            let lost = servers[server].incarnation != incarnation;
            if !lost || now < servers[server].lost_at + self.notice {
                self.picks += 1;
                self.deadline_moved |= pick.moves_deadline();
                return Picked::Sent(server, pick);
            }
            self.deadline_moved |= pick.unsent(instant);
        }
    }

    fn finish(&mut self, pick: Pick<Connection>, outcome: Outcome, now: Moment) {
        let now = self.instant(now);
        self.deadline_moved |= match outcome {
            Outcome::Success => pick.success(now),
            Outcome::Failure => pick.failure(now),
            Outcome::Overloaded => pick.overloaded(None, now),
            Outcome::Cancelled => pick.cancelled(now),
        };
    }

    fn errands(&mut self) -> Errands {
        let deadline = mem::take(&mut self.deadline_moved)
            .then(|| self.fleet.next_deadline())
            .flatten()
            .map(|at| self.moment(at));
        let wake = [deadline, self.patience.take()].into_iter().flatten().min();
        Errands {
            dials: self.dials.drain(..).collect(),
            wake,
            standings: self
                .fleet
                .take_events()
                .iter()
                .filter_map(standing)
                .collect(),
        }
    }

    fn wake(&mut self, now: Moment) {
        self.dials.extend(self.fleet.on_deadline(self.instant(now)));
        self.deadline_moved = true;
    }

    fn dialled(&mut self, ticket: Ticket, connection: Option<Connection>, now: Moment) {
        let now = self.instant(now);
        match connection {
            Some(connection) => self.fleet.connected([(ticket, connection)], now),
            None => self.fleet.dial_failed(
                ticket,
                io::Error::from(io::ErrorKind::ConnectionRefused),
                now,
            ),
        }
        self.deadline_moved = true;
    }

    fn states(&self, now: Moment) -> States {
        let members = self.fleet.status(self.instant(now)).members;
        let state = |member: &rolecall::MemberStatus| {
            (server_of(&member.instance), member.state.to_string())
        };
        members.iter().map(state).collect()
    }

    fn tally(&self) -> Option<Tally> {
        let draws = self.rng.words + if self.even { self.picks } else { 0 };
        Some(Tally {
            picks: self.picks,
            draws,
        })
    }
}

fn instance(listed: &Listed) -> Instance {
    let port = FIRST_PORT + listed.server as u16;
    let addr = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let availability = if listed.draining {
        Availability::Draining
    } else {
        Availability::Available
    };
    let instance = Instance::new(id(listed.server), addr);
    let zone = listed.zone.as_deref().and_then(|zone| Zone::new(zone).ok());
    let instance = match zone {
        Some(zone) => instance.with_zone(zone),
        None => instance,
    };
    instance
        .with_weight(Weight::new(listed.weight))
        .with_availability(availability)
}

fn id(server: usize) -> String {
    format!("server-{server}")
}

/// What an event says of a server's standing.
fn standing(event: &Event) -> Option<(usize, Standing)> {
    let (id, standing) = match event {
        Event::Ejected { id, .. } => (id, Standing::Ejected),
        Event::Returned { id, .. } => (id, Standing::Returned),
        _ => return None,
    };
    let server = id.as_str().strip_prefix("server-")?.parse().ok()?;
    Some((server, standing))
}

/// The server behind an instance, or behind the dial of one.
pub(crate) fn server_of(instance: &Instance) -> usize {
    usize::from(instance.address().port().expect("a TCP address") - FIRST_PORT)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[expect(
        clippy::disallowed_methods,
        reason = "an Instant has to come from somewhere; only differences to it count"
    )]
    fn a_server_that_was_tried_is_avoided() {
        let scenario = Scenario::find("failer_3").unwrap();
        let groups = scenario.servers();
        let servers: Vec<_> = groups.map(|(_, group)| Server::new(group)).collect();
        let listed = |server| Listed {
            server,
            weight: 1,
            draining: false,
            zone: None,
        };
        let set: Vec<_> = (0..servers.len()).map(listed).collect();
        let mut ours = Ours::new(BalanceConfig::default(), Instant::now(), 0, 1, 0);
        ours.announce(&set, 0);
        for dial in ours.errands().dials {
            let connection = Connection {
                server: server_of(&dial.instance),
                incarnation: 0,
            };
            ours.dialled(dial.ticket, Some(connection), 0);
        }
        for _ in 0..100 {
            let Picked::Sent(server, pick) = ours.pick(&servers, &[0, 2], 0) else {
                panic!("all are connected");
            };
            assert_eq!(server, 1);
            ours.finish(pick, Outcome::Success, 1_000_000);
        }
    }
}
