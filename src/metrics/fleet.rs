//! Gauges and counters from a balancer's status and events.

use metrics::{Counter, Gauge, Label, counter, gauge};

use super::zones::Zones;
use crate::event::Event;
use crate::event::reason::{EjectionReason, Withheld};
use crate::status::{MemberState, MemberStatus, Status};

pub(super) const WAITING: &str = "rolecall_waiting";
pub(super) const IN_FLIGHT: &str = "rolecall_in_flight";
pub(super) const MEMBERS: &str = "rolecall_members";
pub(super) const SHARE_LEAST: &str = "rolecall_share_least";
pub(super) const SHARE_MOST: &str = "rolecall_share_most";
pub(super) const PANIC_MODE: &str = "rolecall_panic_mode";
pub(super) const OUTLIERS: &str = "rolecall_outliers_total";
pub(super) const EJECTIONS: &str = "rolecall_ejections_total";
pub(super) const WITHHELD: &str = "rolecall_ejections_withheld_total";
pub(super) const TRIALS: &str = "rolecall_trials_total";
pub(super) const DIALS: &str = "rolecall_dials_total";
pub(super) const LOST: &str = "rolecall_connections_lost_total";
pub(super) const SET_AGE: &str = "rolecall_set_age_seconds";
pub(super) const DOUBTED: &str = "rolecall_sets_doubted_total";
pub(super) const DISCOVERY_ERRORS: &str = "rolecall_discovery_errors_total";
pub(super) const DISCOVERY_FAILING: &str = "rolecall_discovery_failing";
pub(super) const STALLS: &str = "rolecall_stalls_total";
pub(super) const MISSED: &str = "rolecall_events_missed_total";

fn label(state: MemberState) -> &'static str {
    match state {
        MemberState::Usable => "usable",
        MemberState::Busy => "busy",
        MemberState::Weightless => "weightless",
        MemberState::Ejected => "ejected",
        MemberState::Probation => "probation",
        MemberState::Draining => "draining",
        MemberState::Connecting => "connecting",
        MemberState::Disconnected => "disconnected",
    }
}

/// The handles of one balancer. All series exist from the start, except those of zones.
pub(super) struct Gauges {
    waiting: Gauge,
    in_flight: Gauge,
    members: [Gauge; MemberState::ALL.len()],
    zones: Zones,
    share_least: Gauge,
    share_most: Gauge,
    panic_mode: Gauge,
    set_age: Gauge,
    discovery_failing: Gauge,
    outliers: Counter,
    stalls: Counter,
    ejected_in_row: Counter,
    ejected_unresponsive: Counter,
    ejected_by_rate: Counter,
    ejected_by_hand: Counter,
    withheld_by_cap: Counter,
    withheld_in_shadow: Counter,
    trials_returned: Counter,
    trials_failed: Counter,
    dials_connected: Counter,
    dials_failed: Counter,
    connections_lost: Counter,
    sets_doubted: Counter,
    discovery_errors: Counter,
    events_missed: Counter,
}

impl Gauges {
    pub(super) fn new(labels: Vec<Label>) -> Self {
        let with = |name: &'static str, value: &'static str| {
            let mut labels = labels.clone();
            labels.push(Label::from_static_parts(name, value));
            labels
        };
        let (gauge, count) = (
            |name: &'static str| gauge!(name, labels.clone()),
            |name: &'static str| counter!(name, labels.clone()),
        );
        let count_by = |name: &'static str, label, value| counter!(name, with(label, value));
        Self {
            waiting: gauge(WAITING),
            in_flight: gauge(IN_FLIGHT),
            members: MemberState::ALL.map(|state| gauge!(MEMBERS, with("state", label(state)))),
            zones: Zones::new(labels.clone()),
            share_least: gauge(SHARE_LEAST),
            share_most: gauge(SHARE_MOST),
            panic_mode: gauge(PANIC_MODE),
            set_age: gauge(SET_AGE),
            discovery_failing: gauge(DISCOVERY_FAILING),
            outliers: count(OUTLIERS),
            stalls: count(STALLS),
            ejected_in_row: count_by(EJECTIONS, "reason", "failures-in-row"),
            ejected_unresponsive: count_by(EJECTIONS, "reason", "unresponsive"),
            ejected_by_rate: count_by(EJECTIONS, "reason", "failure-rate"),
            ejected_by_hand: count_by(EJECTIONS, "reason", "manual"),
            withheld_by_cap: count_by(WITHHELD, "reason", "by-cap"),
            withheld_in_shadow: count_by(WITHHELD, "reason", "in-shadow"),
            trials_returned: count_by(TRIALS, "result", "returned"),
            trials_failed: count_by(TRIALS, "result", "failed"),
            dials_connected: count_by(DIALS, "result", "connected"),
            dials_failed: count_by(DIALS, "result", "failed"),
            connections_lost: count(LOST),
            sets_doubted: count(DOUBTED),
            discovery_errors: count(DISCOVERY_ERRORS),
            events_missed: count(MISSED),
        }
    }

    /// Sets the gauges, and the counters that the fleet keeps itself.
    pub(super) fn set(&mut self, status: &Status, waiting: u32) {
        self.waiting.set(waiting);
        let in_flight: u64 = status.members.iter().map(|m| u64::from(m.in_flight)).sum();
        self.in_flight.set(in_flight as f64);
        for (state, gauge) in MemberState::ALL.iter().zip(&self.members) {
            let is_it = |member: &&MemberStatus| member.state == *state;
            gauge.set(status.members.iter().filter(is_it).count() as f64);
        }
        self.zones.set(status);
        let (least, most) = shares(status);
        self.share_least.set(least);
        self.share_most.set(most);
        self.panic_mode.set(f64::from(u8::from(status.panic_mode)));
        let age = status.set_age.map_or(f64::NAN, |age| age.as_secs_f64());
        self.set_age.set(age);
        let fails = status.discovery_error.is_some();
        self.discovery_failing.set(f64::from(u8::from(fails)));
        self.outliers.absolute(status.ejections.detected);
        self.stalls.absolute(status.stalls);
    }

    pub(super) fn count(&self, event: &Event) {
        match event {
            Event::Ejected { reason, .. } => match reason {
                EjectionReason::FailuresInRow { .. } => &self.ejected_in_row,
                EjectionReason::Unresponsive { .. } => &self.ejected_unresponsive,
                EjectionReason::FailureRate { .. } => &self.ejected_by_rate,
                EjectionReason::Manual => &self.ejected_by_hand,
            },
            Event::EjectionWithheld { by, .. } => match by {
                Withheld::ByCap => &self.withheld_by_cap,
                Withheld::InShadow => &self.withheld_in_shadow,
            },
            Event::Returned { by_trial: true, .. } => &self.trials_returned,
            Event::TrialFailed { .. } => &self.trials_failed,
            Event::Connected { .. } => &self.dials_connected,
            Event::DialFailed { .. } => &self.dials_failed,
            Event::ConnectionLost { .. } => &self.connections_lost,
            Event::SetDoubted { .. } => &self.sets_doubted,
            Event::DiscoveryFailed { .. } => &self.discovery_errors,
            Event::Missed { count } => {
                self.events_missed.increment(*count);
                return;
            }
            _ => return,
        }
        .increment(1);
    }

    /// The balancer has ended: a gauge that kept its last value would raise alerts about nothing. So would the number 0 for
    /// its members, which are not a number then.
    pub(super) fn end(&mut self) {
        let Self {
            waiting,
            in_flight,
            panic_mode,
            discovery_failing,
            ..
        } = self;
        for gauge in [waiting, in_flight, panic_mode, discovery_failing] {
            gauge.set(0.0);
        }
        for gauge in &self.members {
            gauge.set(f64::NAN);
        }
        self.zones.end();
    }
}

/// The least and the largest share of a member that is picked from, over its fair share. 1 without requests.
fn shares(status: &Status) -> (f64, f64) {
    let explained = status.explain();
    let shares = explained.members.iter().filter_map(|member| {
        let share = member
            .share
            .filter(|_| member.is_picked && member.fair > 0.0)?;
        Some(share / member.fair)
    });
    let ends = shares.fold(None, |ends: Option<(f64, f64)>, share| {
        let (least, most) = ends.unwrap_or((share, share));
        Some((least.min(share), most.max(share)))
    });
    ends.unwrap_or((1.0, 1.0))
}
