//! One instance as the roster knows it: its connection, and the dial that is to give it another.
//!
//! ```text
//!            apply                connected
//!   (new) ─────────▶ Dialling ───────────────▶ Idle      Up: the connection that picks use
//!                     ▲    │ dial_failed         │ lost
//!        on_deadline  │    ▼                     │
//!                    Waiting ◀───────────────────┘
//! ```
//!
//! Link and connection move apart on purpose: with a changed address a seat is `Dialling` while the old connection is
//! still `Up`, make before break.

use std::sync::{Arc, Weak};
use std::time::Duration;

use super::member::{Member, Stats};
use super::outlier::{Health, OutlierConfig, State};
use super::shared::Shared;
use super::snapshot::Position;
use super::window::Tally;
use crate::event::DialError;
use crate::status::{MemberState, MemberStatus};
use crate::{Availability, Instance};

pub(super) struct Seat<S> {
    pub(super) instance: Instance,
    pub(super) connection: Connection<S>,
    pub(super) link: Link,
    /// Where it stands in the list, if it does.
    pub(super) position: Option<Position>,
    /// Dials in a row that gave no lasting connection.
    pub(super) attempts: u32,
    /// Since when the connection has been up, or down.
    pub(super) since: u64,
    pub(super) error: Option<Arc<DialError>>,
    /// Of one that was an outlier.
    pub(super) health: Option<Box<Health>>,
}

/// Which picks a member is for, the best kind first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Standing {
    /// For any.
    Available,
    /// For those that find nobody available.
    Busy,
    /// For those in panic mode.
    Out,
}

pub(super) enum Connection<S> {
    /// Never was one.
    None,
    Up(Arc<Member<S>>),
    /// Lost; the record is for its successor.
    Lost(Box<Stats>),
    /// Given up because the instance drains; what is in flight holds it, and the record is for its successor.
    Leaving(Box<(Weak<Member<S>>, Stats)>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Link {
    Idle,
    Dialling { generation: u64 },
    Waiting { until: u64 },
}

impl<S> Seat<S> {
    pub(super) fn new(instance: Instance, now: u64) -> Self {
        Self {
            instance,
            connection: Connection::None,
            link: Link::Idle,
            position: None,
            attempts: 0,
            since: now,
            error: None,
            health: None,
        }
    }

    pub(super) fn health(&self) -> Option<&Health> {
        self.health.as_deref()
    }

    pub(super) fn health_mut(&mut self) -> &mut Health {
        self.health.get_or_insert_with(|| Box::new(Health::new()))
    }

    /// Whether it is ejected or probing.
    pub(super) fn is_out(&self) -> bool {
        self.health().is_some_and(Health::is_out)
    }

    /// What is known of it, whether it is connected or not.
    pub(super) fn stats(&self) -> Option<&Stats> {
        match &self.connection {
            Connection::None => None,
            Connection::Up(member) => Some(&member.stats),
            Connection::Lost(stats) => Some(stats),
            Connection::Leaving(leaving) => Some(&leaving.1),
        }
    }

    /// A connection that is gone leaves nothing to the next one: that is to another address.
    pub(super) fn forget_record(&mut self) {
        match &mut self.connection {
            Connection::None | Connection::Up(_) => return,
            Connection::Lost(stats) => **stats = Stats::default(),
            Connection::Leaving(leaving) => leaving.1 = Stats::default(),
        }
        if let Some(health) = self.health.as_deref_mut() {
            health.begin_record();
        }
    }

    /// Which picks it is for, if it is eligible.
    pub(super) fn standing(&self) -> Option<Standing> {
        self.eligible()?;
        Some(match (self.is_out(), self.is_busy()) {
            (true, _) => Standing::Out,
            (false, true) => Standing::Busy,
            (false, false) => Standing::Available,
        })
    }

    pub(super) fn member(&self) -> Option<&Arc<Member<S>>> {
        match &self.connection {
            Connection::Up(member) => Some(member),
            _ => None,
        }
    }

    pub(super) fn is_draining(&self) -> bool {
        self.instance.availability() == Availability::Draining
    }

    /// The member, if it may be picked as far as its instance is concerned.
    pub(super) fn eligible(&self) -> Option<&Arc<Member<S>>> {
        let wanted = self.instance.weight().get() > 0 && !self.is_draining();
        self.member().filter(|_| wanted)
    }

    fn is_busy(&self) -> bool {
        self.instance.availability() == Availability::Busy
    }

    /// Whether a dial is under way or due.
    pub(super) fn is_dialled(&self) -> bool {
        self.link != Link::Idle
    }

    fn state(&self) -> MemberState {
        match (&self.connection, self.link) {
            _ if self.is_draining() => MemberState::Draining,
            (Connection::Up(_), _) if self.is_out() => match self.health().map(Health::state) {
                Some(State::Probing) => MemberState::Probing,
                _ => MemberState::Ejected,
            },
            (Connection::Up(_), _) if self.position.is_some() => MemberState::Usable,
            (Connection::Up(_), _) if self.instance.weight().get() == 0 => MemberState::Weightless,
            (Connection::Up(_), _) => MemberState::Busy,
            (_, Link::Dialling { .. }) => MemberState::Connecting,
            _ => MemberState::Disconnected,
        }
    }

    /// What a census counts it as.
    pub(super) fn reason(&self) -> &str {
        match (self.state(), &self.error, &self.connection) {
            (MemberState::Draining, ..) => "draining",
            (MemberState::Weightless, ..) => "weight 0",
            (MemberState::Busy, ..) => "busy",
            (MemberState::Ejected, ..) => "ejected",
            (MemberState::Probing, ..) => "probing",
            (_, Some(error), _) => error.label(),
            (_, None, Connection::Lost(_)) => "lost",
            _ => "connecting",
        }
    }

    /// How things stand. Members that are only `borrowed` for that are to be dropped by the caller, outside the lock: it
    /// may hold the last share of one by then.
    pub(super) fn status(
        &self,
        shared: &Shared,
        outlier: &OutlierConfig,
        now: u64,
        borrowed: &mut Vec<Arc<Member<S>>>,
    ) -> MemberStatus {
        let stats = match &self.connection {
            Connection::None => None,
            Connection::Up(member) => Some(&member.stats),
            Connection::Lost(stats) => Some(&**stats),
            Connection::Leaving(leaving) => {
                let (member, record) = &**leaving;
                let from = borrowed.len();
                borrowed.extend(member.upgrade());
                let member = borrowed.get(from).map(|member| &member.stats);
                Some(member.unwrap_or(record))
            }
        };
        let latency = stats
            .filter(|stats| shared.measures_latency() && stats.latency().is_known())
            .map(|stats| stats.latency().read(now, shared.pool.mean()));
        let recent = stats
            .filter(|_| shared.is_timed())
            .map_or_else(Tally::default, |stats| stats.recent(now));
        MemberStatus {
            instance: self.instance.clone(),
            state: self.state(),
            since: Duration::from_nanos(now.saturating_sub(self.since)),
            in_flight: stats.map_or(0, Stats::in_flight),
            picks: stats.map_or(0, Stats::picks),
            failures: stats.map_or(0, Stats::failures),
            failures_in_row: stats.map_or(0, Stats::failures_in_row),
            recent_requests: recent.outcomes.round() as u32,
            recent_failures: recent.failures.round() as u32,
            latency: latency.map(|nanos| Duration::from_nanos(nanos as u64)),
            error: self.error.as_ref().map(ToString::to_string),
            ejection: self
                .health()
                .and_then(|health| health.status(stats.map_or(0, Stats::successes), outlier, now)),
        }
    }
}
