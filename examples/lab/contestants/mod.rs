//! The balancers that are compared. Each client has one of its own, and tells it of its own requests alone.

mod oracle;
mod ours;
mod plain;
mod tower;

use std::rc::Rc;

use rolecall::fleet::{Dial, Ticket};

pub(crate) use self::ours::server_of;
use crate::measures::Measures;

use crate::moment::Moment;
use crate::scenario::Scenario;
use crate::server::Server;
use crate::world::{World, WorldError};

/// An instance as discovery lists it; it is told by the number of its server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Listed {
    pub(crate) server: usize,
    pub(crate) weight: u16,
    pub(crate) draining: bool,
    pub(crate) zone: Option<Rc<str>>,
}

/// What a balancer answers when it is asked for a server.
pub(crate) enum Picked<A> {
    /// Sent to this server; the attempt is given back with its outcome.
    Sent(usize, A),
    /// Ask again when something has changed.
    Wait,
    Refused,
}

/// How a request ended for its caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    Success,
    Failure,
    Overloaded,
    /// The caller gave up.
    Cancelled,
}

/// What a balancer wants to be done, after a call.
#[derive(Default)]
pub(crate) struct Errands {
    pub(crate) dials: Vec<Dial>,
    /// When it wants waking.
    pub(crate) wake: Option<Moment>,
    /// Servers that it stopped or resumed using, since the last call.
    pub(crate) standings: Vec<(usize, Standing)>,
}

/// Whether a balancer uses a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Standing {
    Ejected,
    Returned,
}

/// How often a balancer looked at a member.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Tally {
    pub(crate) picks: u64,
    pub(crate) draws: u64,
}

/// Members by server, and their states.
pub(crate) type States = Vec<(usize, String)>;

/// A connection to one incarnation of a server.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Connection {
    pub(crate) server: usize,
    pub(crate) incarnation: u32,
}

/// A client's balancer, as the simulated world drives it.
pub(crate) trait Balancer {
    type Attempt;

    /// Discovery lists these from now on.
    fn announce(&mut self, set: &[Listed], now: Moment);

    /// Chooses a server for a request, one outside of `tried` if it can. Only the oracle may look at the servers; ours may
    /// see which connections it lost.
    fn pick(&mut self, servers: &[Server], tried: &[usize], now: Moment) -> Picked<Self::Attempt>;

    fn finish(&mut self, attempt: Self::Attempt, outcome: Outcome, now: Moment);

    fn errands(&mut self) -> Errands {
        Errands::default()
    }

    fn wake(&mut self, _now: Moment) {}

    fn dialled(&mut self, _ticket: Ticket, _connection: Option<Connection>, _now: Moment) {}

    /// How it sees its members.
    fn states(&self, _now: Moment) -> States {
        Vec::new()
    }

    fn tally(&self) -> Option<Tally> {
        None
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Contestant {
    Random,
    RoundRobin,
    LeastInFlight,
    TowerPendingRequests,
    TowerPeakEwma,
    OursTwoChoices,
    OursWithoutEjection,
    Ours,
    /// Clients know their zones, and have this price in tenths.
    OursInZones(u16),
    /// Clients see only the servers of their zones. No program can choose that.
    OursHardZones,
    Oracle,
}

impl Contestant {
    pub(crate) const ALL: &[Self] = &[
        Self::Random,
        Self::RoundRobin,
        Self::LeastInFlight,
        Self::TowerPendingRequests,
        Self::TowerPeakEwma,
        Self::OursTwoChoices,
        Self::OursWithoutEjection,
        Self::Ours,
        Self::Oracle,
    ];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Random => "random",
            Self::RoundRobin => "round robin",
            Self::LeastInFlight => "P2C least in flight",
            Self::TowerPendingRequests => "tower PendingRequests",
            Self::TowerPeakEwma => "tower PeakEwma",
            Self::OursTwoChoices => "rolecall, 2 choices",
            Self::OursWithoutEjection => "rolecall, no ejection",
            Self::Ours => "rolecall",
            Self::OursInZones(_) => "rolecall, zones",
            Self::OursHardZones => "rolecall, own zone only",
            Self::Oracle => "oracle (sees all queues)",
        }
    }

    /// Runs it through a scenario.
    pub(crate) fn run(self, scenario: &Scenario, seed: u64) -> Result<Measures, WorldError> {
        use plain::{Plain, Rule};
        let plain = |rule| {
            let balancer = |client| Plain::new(rule, seed, client);
            World::new(scenario, seed, balancer).run()
        };
        match self {
            Self::Random => plain(Rule::Random),
            Self::RoundRobin => plain(Rule::RoundRobin),
            Self::LeastInFlight => plain(Rule::LeastInFlight),
            Self::TowerPendingRequests => tower::run_pending_requests(scenario, seed),
            Self::TowerPeakEwma => tower::run_peak_ewma(scenario, seed),
            Self::OursTwoChoices => ours::run(scenario, seed, |config| config.max_choices(2)),
            Self::OursWithoutEjection => ours::run(scenario, seed, |config| config.outlier(None)),
            Self::Ours => ours::run(scenario, seed, |config| config),
            Self::OursInZones(tenths) => {
                let price = f64::from(tenths) / 10.0;
                ours::run_in_zones(scenario, seed, |config| config.zone_price(price))
            }
            Self::OursHardZones => ours::run_in_hard_zones(scenario, seed),
            Self::Oracle => {
                let balancer = |client| oracle::Oracle::new(scenario, seed, client);
                World::new(scenario, seed, balancer).run()
            }
        }
    }
}
