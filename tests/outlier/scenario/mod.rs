//! The notation of the tests: a fleet, what happens to it, and what is expected, a line each.
//!
//! ```text
//! fleet(3).fail("a", 5).is("a", Ejected).pass(10 * SECOND).is("a", Probation).succeed("a", 1).is("a", Usable);
//! ```
//!
//! Members are `a`, `b`, `c`, … and connected. A fleet is *warm*: each member has answered a hundred requests in 10 ms. Time
//! passes only in [`pass`](Scenario::pass) and while requests take their time; deadlines are met on time meanwhile. An
//! expectation that is not met fails with the table of the fleet's status.

mod expect;
mod instances;
mod reason;
mod traffic;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use rand::SeedableRng;
use rand::rngs::SmallRng;
use rolecall::fleet::{Dial, Fleet, Pick};
use rolecall::{
    BalanceConfig, ConfigBuilder, Event, Instance, InstanceId, MemberState, OutlierBuilder,
    OutlierConfig,
};

pub(crate) use reason::Reason;
pub(crate) use traffic::Does;

pub(crate) const MS: Duration = Duration::from_millis(1);
pub(crate) const SECOND: Duration = Duration::from_secs(1);
/// How long a request takes, unless a scenario says otherwise.
pub(crate) const USUAL: Duration = Duration::from_millis(10);

pub(crate) struct Scenario {
    pub(crate) fleet: Fleet<()>,
    pub(crate) rng: SmallRng,
    pub(crate) start: Instant,
    now: Instant,
    set: BTreeMap<String, Instance>,
    held: BTreeMap<String, Vec<Pick<()>>>,
    dials: Vec<Dial>,
    /// Whether dials succeed at once.
    connects: bool,
    events: Vec<Event>,
}

/// A warm fleet of this many members.
pub(crate) fn fleet(members: usize) -> Scenario {
    fleet_with(members, BalanceConfig::builder())
}

/// The same with this configuration.
pub(crate) fn fleet_with(members: usize, config: ConfigBuilder) -> Scenario {
    let mut scenario = cold_fleet_with(members, config);
    let each: Vec<String> = (0..members).map(name).flat_map(|id| vec![id; 10]).collect();
    for _ in 0..10 {
        each.iter().for_each(|id| _ = scenario.begin(id));
        scenario.pass(USUAL);
        each.iter()
            .for_each(|id| _ = scenario.end(id, |pick, now| pick.success(now)));
    }
    scenario
}

/// A fleet that has had no requests.
pub(crate) fn cold_fleet_with(members: usize, config: ConfigBuilder) -> Scenario {
    seeded_fleet(members, config, 7)
}

pub(crate) fn seeded_fleet(members: usize, config: ConfigBuilder, seed: u64) -> Scenario {
    // Far from the beginning of the clock, so that it has room to go back.
    #[expect(
        clippy::disallowed_methods,
        reason = "an Instant has to come from somewhere"
    )]
    let start = Instant::now() + 100_000 * SECOND;
    let mut scenario = Scenario {
        fleet: Fleet::new(config.build().unwrap(), seed, start),
        rng: SmallRng::seed_from_u64(seed ^ 0xabcd),
        start,
        now: start,
        set: BTreeMap::new(),
        held: BTreeMap::new(),
        dials: Vec::new(),
        connects: true,
        events: Vec::new(),
    };
    for member in 0..members {
        let id = name(member);
        let instance = Instance::new(id.as_str(), ([127, 0, 0, 1], 80));
        scenario.set.insert(id, instance);
    }
    scenario.announce();
    scenario
}

/// A fleet of five in which `a` was ejected and is on probation.
pub(crate) fn on_probation() -> Scenario {
    let mut scenario = fleet(5);
    scenario
        .fail("a", 5)
        .outlast("a")
        .is("a", MemberState::Probation);
    scenario
}

/// A configuration with these rules of ejection.
pub(crate) fn rules(change: impl FnOnce(OutlierBuilder) -> OutlierBuilder) -> ConfigBuilder {
    let outlier = change(OutlierConfig::builder()).build().unwrap();
    BalanceConfig::builder().outlier(outlier)
}

/// `a` to `z`, then `z26` and so on. Up to 100, names sort like their numbers.
pub(crate) fn name(member: usize) -> String {
    match u8::try_from(member) {
        Ok(letter @ 0..26) => char::from(b'a' + letter).to_string(),
        _ => format!("z{member}"),
    }
}

/// Events.
impl Scenario {
    /// Lets time pass, and meets the fleet's deadlines on time.
    pub(crate) fn pass(&mut self, time: Duration) -> &mut Self {
        let until = self.now + time;
        while let Some(due) = self.fleet.next_deadline().filter(|due| *due <= until) {
            self.now = self.now.max(due);
            self.meet_deadline();
            let next = self.fleet.next_deadline();
            assert!(
                next.is_none_or(|next| next > self.now),
                "what was due is still due\n{}",
                self.table()
            );
        }
        self.now = until;
        self
    }

    /// Lets time pass until the ejection of a member is over.
    #[track_caller]
    pub(crate) fn outlast(&mut self, id: &str) -> &mut Self {
        let remaining = self.remaining(id);
        self.pass(remaining)
    }

    /// Stalls the process: time passes, and no deadline is met.
    pub(crate) fn stall(&mut self, time: Duration) -> &mut Self {
        self.now += time;
        self
    }

    pub(crate) fn go_back(&mut self, time: Duration) -> &mut Self {
        self.now -= time;
        self
    }

    pub(crate) fn meet_deadline(&mut self) -> &mut Self {
        let dials = self.fleet.on_deadline(self.now);
        self.dial(dials);
        self
    }

    /// Picks this member, whatever the load: by its trial, if it is on probation, otherwise by a pick that avoids all
    /// others.
    #[track_caller]
    pub(crate) fn pick(&mut self, id: &str) -> Pick<()> {
        let pick = self.try_pick(id);
        pick.unwrap_or_else(|other| panic!("{other} was picked, not {id}\n{}", self.table()))
    }

    /// Picks any member.
    #[track_caller]
    pub(crate) fn next(&mut self) -> Pick<()> {
        let pick = self.fleet.pick(self.now, &mut self.rng, &[]);
        pick.unwrap_or_else(|why| panic!("{why}\n{}", self.table()))
    }

    #[track_caller]
    pub(crate) fn try_pick(&mut self, id: &str) -> Result<Pick<()>, String> {
        let members = self.status().members;
        let member = members.iter().find(|m| *m.instance.id() == *id);
        if member.is_some_and(|member| member.state == MemberState::Probation)
            && let Some(trial) = self.try_trial(id)
        {
            return Ok(trial);
        }
        let others: Vec<InstanceId> = self
            .set
            .keys()
            .filter(|other| *other != id)
            .map(|other| InstanceId::from(other.as_str()))
            .collect();
        // A pick from more than 16 members may miss the only one that is not avoided.
        let tries = if others.len() < 16 { 1 } else { 200 };
        let mut other = String::new();
        for _ in 0..tries {
            match self.fleet.pick(self.now, &mut self.rng, &others) {
                Ok(pick) if *pick.instance().id() == *id => return Ok(pick),
                Ok(pick) => other = pick.instance().id().to_string(),
                Err(why) => other = why.to_string(),
            }
        }
        Err(other)
    }

    /// The trial of this member within a few picks, while others that wait for a trial have theirs.
    fn try_trial(&mut self, id: &str) -> Option<Pick<()>> {
        let mut others = Vec::new();
        for _ in 0..20 {
            let pick = self.fleet.pick(self.now, &mut self.rng, &[]).ok()?;
            if *pick.instance().id() == *id {
                return Some(pick);
            }
            others.push(pick);
        }
        None
    }

    /// Sends this many requests, one after another, that succeed.
    #[track_caller]
    pub(crate) fn succeed(&mut self, id: &str, requests: usize) -> &mut Self {
        self.each(id, requests, USUAL, |pick, now| pick.success(now))
    }

    /// The same, but they fail.
    #[track_caller]
    pub(crate) fn fail(&mut self, id: &str, requests: usize) -> &mut Self {
        self.each(id, requests, USUAL, |pick, now| pick.failure(now))
    }

    /// The same, but their callers give up after this time.
    #[track_caller]
    pub(crate) fn cancel(&mut self, id: &str, requests: usize, after: Duration) -> &mut Self {
        self.each(id, requests, after, |pick, now| pick.cancelled(now))
    }

    #[track_caller]
    pub(crate) fn each(
        &mut self,
        id: &str,
        requests: usize,
        takes: Duration,
        end: impl Fn(Pick<()>, Instant) -> bool,
    ) -> &mut Self {
        for _ in 0..requests {
            let pick = self.pick(id);
            self.pass(takes);
            end(pick, self.now);
        }
        self
    }

    /// Begins a request.
    #[track_caller]
    pub(crate) fn begin(&mut self, id: &str) -> &mut Self {
        let pick = self.pick(id);
        self.held.entry(id.to_owned()).or_default().push(pick);
        self
    }

    /// Ends the oldest request that has begun.
    #[track_caller]
    pub(crate) fn end(
        &mut self,
        id: &str,
        end: impl FnOnce(Pick<()>, Instant) -> bool,
    ) -> &mut Self {
        let pick = self.held.get_mut(id).unwrap().remove(0);
        end(pick, self.now);
        self
    }

    /// Begins the answer to the oldest request.
    #[track_caller]
    pub(crate) fn answer(&mut self, id: &str) -> &mut Self {
        self.held.get_mut(id).unwrap()[0].answered(self.now);
        self
    }

    /// Fills the bucket for trials: usable members succeed so often that three trials may do harm.
    #[track_caller]
    pub(crate) fn earn_trials(&mut self) -> &mut Self {
        // A pick that avoids any instance is no trial.
        let avoided = [InstanceId::from("unknown")];
        for _ in 0..30 {
            let picks: Vec<_> = (0..20)
                .map(|_| self.fleet.pick(self.now, &mut self.rng, &avoided).unwrap())
                .collect();
            self.pass(USUAL);
            picks
                .into_iter()
                .for_each(|pick| _ = pick.success(self.now));
        }
        // The next tick.
        self.pass(100 * MS)
    }

    #[track_caller]
    pub(crate) fn eject(&mut self, id: &str, time: Duration) -> &mut Self {
        let known = self.fleet.eject(&id.into(), time, self.now);
        assert!(known, "{id} is not known\n{}", self.table());
        self
    }

    #[track_caller]
    pub(crate) fn restore(&mut self, id: &str) -> &mut Self {
        let was_out = self.fleet.restore(&id.into(), self.now);
        assert!(was_out, "{id} was not out\n{}", self.table());
        self
    }

    pub(crate) fn reconfigure(&mut self, config: ConfigBuilder) -> &mut Self {
        self.fleet.reconfigure(config.build().unwrap(), self.now);
        self
    }
}
