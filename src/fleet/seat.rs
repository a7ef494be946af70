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

use std::sync::Arc;
use std::time::Duration;

use super::member::{Member, Stats};
use super::outlier::{Health, OutlierConfig, Standing};
use super::shared::Shared;
use super::snapshot::Position;
use super::window::Tally;
use crate::event::DialError;
use crate::model::instance::{Availability, Instance};
use crate::status::{MemberState, MemberStatus};

pub(super) struct Seat<S> {
    pub(super) instance: Instance,
    pub(super) connection: Connection<S>,
    pub(super) link: Link,
    /// Where it stands in the list, if it does.
    pub(super) position: Option<Position>,
    /// Dials in a row that gave no lasting connection.
    pub(super) attempts: u16,
    /// Since when the connection has been up, or down.
    pub(super) since: u64,
    pub(super) error: Option<Arc<DialError>>,
    /// What is known of it, over all its connections.
    pub(super) stats: Arc<Stats>,
    /// Of one that was an outlier.
    pub(super) health: Option<Box<Health>>,
    /// What the roster has counted it as.
    pub(super) counted: Counts,
}

/// Whether a seat counts for the ejection cap, and whether its member is out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Counts {
    pub(super) eligible: bool,
    pub(super) out: bool,
}

/// Which picks a member is for, the best kind first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Tier {
    /// For any.
    Available,
    /// For those that find nobody available.
    Busy,
    /// For those in panic mode.
    Out,
}

pub(super) enum Connection<S> {
    /// Never was one, or it was given up.
    None,
    Up(Arc<Member<S>>),
    Lost,
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
            stats: Arc::default(),
            health: None,
            counted: Counts::default(),
        }
    }

    pub(super) fn health(&self) -> Option<&Health> {
        self.health.as_deref()
    }

    pub(super) fn health_mut(&mut self) -> &mut Health {
        self.health.get_or_insert_with(|| Box::new(Health::new()))
    }

    pub(super) fn health_standing(&self) -> Standing {
        self.health().map_or(Standing::InPlay, Health::standing)
    }

    pub(super) fn counts(&self) -> Counts {
        let eligible = self.eligible().is_some();
        Counts {
            eligible,
            out: eligible && self.is_out(),
        }
    }

    /// Whether it is ejected or on probation.
    pub(super) fn is_out(&self) -> bool {
        self.health().is_some_and(Health::is_out)
    }

    /// Which picks it is for, if it is eligible.
    pub(super) fn tier(&self) -> Option<Tier> {
        self.eligible()?;
        Some(match (self.is_out(), self.is_busy()) {
            (true, _) => Tier::Out,
            (false, true) => Tier::Busy,
            (false, false) => Tier::Available,
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
            (Connection::Up(_), _) if self.is_out() => match self.health_standing() {
                Standing::Probation { .. } => MemberState::Probation,
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
            (MemberState::Probation, ..) => "on probation",
            (_, Some(error), _) => error.label(),
            (_, None, Connection::Lost) => "lost",
            _ => "connecting",
        }
    }

    pub(super) fn status(
        &self,
        shared: &Shared,
        outlier: &OutlierConfig,
        now: u64,
    ) -> MemberStatus {
        let stats = &self.stats;
        let is_known = shared.measures_latency() && stats.latency().is_known();
        let latency = is_known.then(|| stats.latency().read(now, shared.pool.mean()));
        let recent = if shared.is_timed() {
            stats.recent(now)
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
            last_failure: shared.labels.text(stats.last_failure()),
            recent_requests: recent.outcomes.round() as u32,
            recent_failures: recent.failures.round() as u32,
            latency: latency.map(|nanos| Duration::from_nanos(nanos as u64)),
            error: self.error.as_ref().map(ToString::to_string),
            ejection: self
                .health()
                .and_then(|health| health.status(stats.successes(), outlier, now)),
        }
    }
}
