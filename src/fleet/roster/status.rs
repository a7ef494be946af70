//! The status of the members, and why none is usable.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use super::Roster;
use super::listing::Rank;
use super::seat::{Connection, Seat};
use crate::error::census::Census;
use crate::fleet::config::outlier::OutlierConfig;
use crate::fleet::config::subset::Subset;
use crate::fleet::measures::failures::Tally;
use crate::fleet::members::snapshot::SlowStart;
use crate::fleet::rules::cap::cap;
use crate::fleet::rules::doubt::Doubt;
use crate::fleet::rules::slow_start::{Since, share};
use crate::fleet::shared::Shared;
use crate::model::hints::PinFault;
use crate::model::instance::InstanceId;
use crate::status::{EjectionMode, MemberState, MemberStatus, RankStatus, Status, SubsetStatus};

/// Why there is no member to pick.
pub(crate) enum Unusable {
    /// There was no set yet.
    Unresolved,
    /// The set is empty.
    Empty,
    NoneUsable(Arc<Census>),
}

impl<T> Roster<T> {
    pub(crate) fn why_unusable(&mut self) -> Unusable {
        match (self.received, self.seats.is_empty()) {
            (None, _) => Unusable::Unresolved,
            (Some(_), true) => Unusable::Empty,
            (Some(_), false) => {
                let seats = &self.seats;
                let census = self.census.get_or_insert_with(|| {
                    let mut census = Census::default();
                    for seat in seats {
                        census.count(seat.reason());
                    }
                    Arc::new(census)
                });
                Unusable::NoneUsable(Arc::clone(census))
            }
        }
    }

    /// Why an instance has no connection to pick.
    pub(crate) fn pin_fault(&self, id: &InstanceId) -> PinFault {
        match self.find(id).map(|index| &self.seats[index]) {
            None => PinFault::Unknown,
            Some(seat) if seat.is_draining() => PinFault::Draining,
            Some(_) => PinFault::Disconnected,
        }
    }

    pub(crate) fn status(&self, now: u64) -> Status {
        let past = |moment: u64| Duration::from_nanos(now.saturating_sub(moment));
        let left = |until: u64| Duration::from_nanos(until.saturating_sub(now));
        let mean = self.shared.pool.mean();
        let outlier = self.config.outlier().cloned().unwrap_or_default();
        let newest = self.doubt.as_ref().map(Doubt::set);
        let slow_start = self.slow_start();
        let members = self.seats.iter().map(|seat| MemberStatus {
            is_missing: newest.is_some_and(|set| set.get(seat.instance.id().as_str()).is_none()),
            ..seat.status(&self.shared, &outlier, slow_start, now)
        });
        Status {
            target: None,
            set_age: self.received.map(|set| past(set.at) + set.age),
            is_provisional: self.is_provisional,
            discovery_error: None,
            doubted_for: self.doubt.as_ref().map(|doubt| left(doubt.until())),
            subset: match self.config.subset() {
                Subset::All => None,
                Subset::Fixed { .. } => Some(SubsetStatus {
                    size: self.seats.len(),
                    of: self.announced,
                }),
            },
            usable: self.listing.in_use(),
            panic_mode: self.listing.is_panic_mode(),
            ejection_mode: match &*self.shared.outlier.load() {
                Some(config) if config.is_shadow() => EjectionMode::Shadow,
                Some(_) => EjectionMode::On,
                None => EjectionMode::Off,
            },
            ejections: self.standings.counters(),
            stalls: self.shared.stalls.stalls(),
            mean_latency: (mean > 0.0).then(|| Duration::from_nanos(mean as u64)),
            ejection_cap: match self.config.outlier() {
                Some(config) => cap(self.listing.eligible(), config.max_ejection_percentage()),
                None => 0,
            },
            next_trial_in: if self.trials_are_free() {
                0
            } else {
                self.shared.tokens.picks_to_next()
            },
            max_in_flight: self.config.max_in_flight().map(NonZeroU32::get),
            attempt_timeout: None,
            zone: self.config.zone().cloned(),
            zone_price: self.config.zone_price(),
            ranks: self.listing.ranks().iter().map(Rank::status).collect(),
            members: members.collect(),
        }
    }
}

impl<T> Rank<T> {
    fn status(&self) -> RankStatus {
        RankStatus {
            rank: self.rank,
            announced_weight: self.capacity.announced,
            pickable_weight: self.capacity.pickable,
            share: self.share.part,
        }
    }
}

impl<T> Seat<T> {
    fn state(&self) -> MemberState {
        let is_up = self.member().is_some();
        if self.is_draining() {
            MemberState::Draining
        } else if is_up && self.standing.is_on_probation() {
            MemberState::Probation
        } else if is_up && self.standing.is_ejected() {
            MemberState::Ejected
        } else if is_up && self.place.is_some() {
            MemberState::Usable
        } else if is_up && self.instance.weight().get() == 0 {
            MemberState::Weightless
        } else if is_up {
            MemberState::Busy
        } else if self.dial.is_dialling() {
            MemberState::Connecting
        } else {
            MemberState::Disconnected
        }
    }

    /// The label under which a census counts it.
    fn reason(&self) -> &str {
        match (self.state(), &self.error, &self.connection) {
            (MemberState::Draining, ..) => "draining",
            (MemberState::Weightless, ..) => "weight 0",
            (MemberState::Busy, ..) => "busy",
            (MemberState::Usable, ..) => "backup",
            (MemberState::Ejected, ..) => "ejected",
            (MemberState::Probation, ..) => "on probation",
            (_, Some(error), _) => error.label(),
            (_, None, Connection::Lost) => "lost",
            _ => "connecting",
        }
    }

    fn status(
        &self,
        shared: &Shared,
        outlier: &OutlierConfig,
        slow_start: SlowStart,
        now: u64,
    ) -> MemberStatus {
        let stats = &self.stats;
        let is_known = shared.measures_latency() && stats.latency().is_known();
        let latency = is_known.then(|| stats.latency().read(now, shared.pool.mean()));
        let window = if shared.is_timed() {
            stats.window(now)
        } else {
            Tally::default()
        };
        MemberStatus {
            instance: self.instance.clone(),
            state: self.state(),
            since: Duration::from_nanos(now.saturating_sub(self.since)),
            in_flight: stats.in_flight(),
            picks: stats.picks(),
            failures: stats.failures(),
            failures_in_row: stats.failures_in_row(),
            last_failure: stats.label().get(),
            recent_requests: window.outcomes.round() as u32,
            recent_failures: window.failures.round() as u32,
            latency: latency.map(|nanos| Duration::from_nanos(nanos as u64)),
            error: self.error.as_ref().map(ToString::to_string),
            redial_in: (self.dial.waits_until())
                .map(|until| Duration::from_nanos(until.saturating_sub(now))),
            is_suspect: self.standing.is_suspect(),
            slow_start: stats.slow_since().and_then(|since| match since {
                Since::Returned(since) => Some(share(since, slow_start.returning?, now)),
                Since::Connected(since) => Some(share(since, slow_start.new?, now)),
            }),
            is_new: self.standing.is_new(),
            check: self.check.status(now),
            overloaded_for: stats.overload().remaining(now).map(Duration::from_nanos),
            is_missing: false,
            ejection: self.standing.status(stats.successes(), outlier, now),
        }
    }
}
