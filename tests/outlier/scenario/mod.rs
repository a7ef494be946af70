//! The notation: a fleet, what happens to it, and what must be so, a line each.
//!
//! ```text
//! fleet(3).fail("a", 5).is("a", Ejected).pass(10 * SECOND).is("a", Probation).succeed("a", 1).is("a", Usable);
//! ```
//!
//! Members are `a`, `b`, `c`, … and connected; a fleet is *warm*: each member answered a hundred requests in 10 ms. Time stands
//! still but for [`pass`](Scenario::pass), and for the time that requests take; deadlines are met on time while it passes.
//! Whatever must be so and is not fails with the table of the fleet's status.

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
/// What a request takes where a scenario does not say.
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

/// A warm fleet of so many.
pub(crate) fn fleet(members: usize) -> Scenario {
    fleet_with(members, BalanceConfig::builder())
}

/// The same by these rules.
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

/// A fleet that was asked nothing yet.
pub(crate) fn cold_fleet_with(members: usize, config: ConfigBuilder) -> Scenario {
    seeded_fleet(members, config, 7)
}

pub(crate) fn seeded_fleet(members: usize, config: ConfigBuilder, seed: u64) -> Scenario {
    // Far from the beginning of the clock, so that time has room to go back.
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
        let instance = Instance::new(id.as_str(), ([127, 0, 0, 1], 80).into());
        scenario.set.insert(id, instance);
    }
    scenario.announce();
    scenario
}

/// A fleet of five of which `a` was ejected and is on probation.
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

/// `a` to `z`, then `z26` and so on: in the order of the numbers up to 100.
pub(crate) fn name(member: usize) -> String {
    match u8::try_from(member) {
        Ok(letter @ 0..26) => char::from(b'a' + letter).to_string(),
        _ => format!("z{member}"),
    }
}

/// What happens.
impl Scenario {
    /// Lets time pass, and the fleet do on time what is due.
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

    /// Lets the ejection of one be over, and a nanosecond pass.
    #[track_caller]
    pub(crate) fn outlast(&mut self, id: &str) -> &mut Self {
        let remaining = self.remaining(id);
        self.pass(remaining)
    }

    /// The process stands still: time passes, and nothing is done.
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

    /// A pick of this one, whatever the load: its trial, if it is on probation, else one that avoids all others.
    #[track_caller]
    pub(crate) fn pick(&mut self, id: &str) -> Pick<()> {
        let pick = self.try_pick(id);
        pick.unwrap_or_else(|other| panic!("{other} was picked, not {id}\n{}", self.table()))
    }

    /// A pick of whoever is next.
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
        // A pick from more than 16 may not see the only one that it is not to avoid.
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

    /// The next pick of this one within a few, while others that wait for a trial have theirs.
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

    /// So many requests, one after another, that are answered well.
    #[track_caller]
    pub(crate) fn succeed(&mut self, id: &str, requests: usize) -> &mut Self {
        self.each(id, requests, USUAL, |pick, now| pick.success(now))
    }

    /// The same answered badly.
    #[track_caller]
    pub(crate) fn fail(&mut self, id: &str, requests: usize) -> &mut Self {
        self.each(id, requests, USUAL, |pick, now| pick.failure(now))
    }

    /// The same whose callers give up after so long.
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

    /// A request begins.
    #[track_caller]
    pub(crate) fn begin(&mut self, id: &str) -> &mut Self {
        let pick = self.pick(id);
        self.held.entry(id.to_owned()).or_default().push(pick);
        self
    }

    /// The oldest of those that began ends.
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

    /// The answer to the oldest one begins.
    #[track_caller]
    pub(crate) fn answer(&mut self, id: &str) -> &mut Self {
        self.held.get_mut(id).unwrap()[0].answered(self.now);
        self
    }

    /// Fills the bucket of trials: usable members answer well, so often that three trials may do harm.
    #[track_caller]
    pub(crate) fn earn_trials(&mut self) -> &mut Self {
        // A pick that is to avoid anybody at all is no trial.
        let avoided = [InstanceId::from("nobody")];
        for _ in 0..30 {
            let picks: Vec<_> = (0..20)
                .map(|_| self.fleet.pick(self.now, &mut self.rng, &avoided).unwrap())
                .collect();
            self.pass(USUAL);
            picks
                .into_iter()
                .for_each(|pick| _ = pick.success(self.now));
        }
        // The next beat.
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
