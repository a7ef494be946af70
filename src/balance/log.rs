//! Events as log lines. Requests are never logged.
//!
//! A warning is written when something begins, an info when it ends. What is normal, and what repeats, goes to `debug`.

use std::time::{Duration, Instant};

use tracing::{debug, enabled, info, warn};

use super::faults::{Faults, Flaw};
use crate::event::Event;
use crate::event::reason::{EjectionReason, Withheld};
use crate::model::instance::{Availability, InstanceId};
use crate::model::target::Target;
use crate::runtime::duration::Rounded;
use crate::runtime::text::{Counted, legible};

/// The most lines at `info` and `warn` in one [`PERIOD`] of each sort: ejections, instances, the fleet as a whole, discovery.
/// The rest goes to `debug` and is counted, so that a flapping fleet or a poisoned discovery cannot flood the log.
const MAX_LINES: u32 = 20;
const PERIOD: Duration = Duration::from_secs(60);
/// An outlier that stays in play is logged once in this time.
const WITHHELD_PERIOD: Duration = Duration::from_secs(60);
/// The most outliers that are remembered for that.
const WITHHELD_KEPT: usize = 64;

/// Writes every event as one log line: the text of the event, with the target, the kind and the id as fields.
#[derive(Debug, Default)]
pub(super) struct Log {
    ejections: Budgets,
    instances: Budgets,
    fleet: Budgets,
    discovery: Budgets,
    /// Outliers that stay in play, and when each was last logged above `debug`.
    withheld: Vec<(InstanceId, Instant)>,
    faults: Faults,
    panic_mode_began: Option<Instant>,
    /// Whether requests fail because no instance is usable.
    is_unavailable: bool,
    /// Whether the driver stopped, so that its consequences are logged at `debug` only.
    is_stopped: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Level {
    Debug,
    Info,
    Warn,
}

/// The lines of one sort. What ends or merely happens cannot silence a warning.
#[derive(Debug, Default)]
struct Budgets {
    warnings: Budget,
    others: Budget,
}

/// The lines of one sort and level in the current period.
#[derive(Debug, Default)]
struct Budget {
    began: Option<Instant>,
    written: u32,
    omitted: u64,
}

impl Log {
    pub(super) fn write(&mut self, target: &Target, event: &Event, now: Instant) {
        let level = self.level(event, now);
        let (about, budgets) = self.budgets(event);
        let budget = match level {
            Level::Warn => &mut budgets.warnings,
            Level::Info | Level::Debug => &mut budgets.others,
        };
        let level = if level != Level::Debug && budget.admits(about, target, now) {
            level
        } else {
            Level::Debug
        };
        let end = self.end_of(event, now);
        if level == Level::Debug && !enabled!(target: "rolecall", tracing::Level::DEBUG) {
            return;
        }
        let text = legible(event) + &end.unwrap_or_default();
        let (kind, id) = (event.kind(), event.id().map(|id| legible(id.as_str())));
        let id = id.as_deref();
        match level {
            Level::Debug => debug!(target: "rolecall", %target, event = kind, id, "{text}"),
            Level::Info => info!(target: "rolecall", %target, event = kind, id, "{text}"),
            Level::Warn => warn!(target: "rolecall", %target, event = kind, id, "{text}"),
        }
    }

    /// What the log knows of a state that ends with this event.
    fn end_of(&mut self, event: &Event, now: Instant) -> Option<String> {
        match event {
            Event::PanicModeBegan { .. } => self.panic_mode_began = Some(now),
            Event::PanicModeEnded => {
                let began = self.panic_mode_began.take()?;
                let lasted = Rounded(now.saturating_duration_since(began));
                return Some(format!(" after {lasted}"));
            }
            Event::Unavailable { .. } => self.is_unavailable = true,
            Event::Usable { .. } if std::mem::take(&mut self.is_unavailable) => {
                return Some("; requests are served again".to_owned());
            }
            _ => {}
        }
        None
    }

    /// The level of an event: a warning for what begins, an info for what ends.
    fn level(&mut self, event: &Event, now: Instant) -> Level {
        match event {
            Event::Ejected {
                reason: EjectionReason::Manual,
                ..
            }
            | Event::TrialFailed { .. }
            | Event::Returned { .. }
            | Event::DoubtEnded {
                believed: false, ..
            }
            | Event::PanicModeEnded
            | Event::Usable { .. }
            | Event::Reconfigured { .. } => Level::Info,
            Event::DriverStopped { .. } => {
                self.is_stopped = true;
                Level::Info
            }
            Event::NothingUsable if self.is_stopped => Level::Debug,
            Event::NothingUsable => Level::Info,
            Event::SetChanged { added, removed, .. } if added + removed > 0 => Level::Info,
            Event::AvailabilityChanged {
                availability: Availability::Draining,
                ..
            } => Level::Info,
            Event::Connected {
                was_unreachable: true,
                ..
            } => Level::Info,
            Event::InstanceRefused { id, .. } => {
                warn_if(self.faults.begins(Flaw::Refused(id.clone())))
            }
            Event::DuplicateId { id } => warn_if(self.faults.begins(Flaw::Duplicate(id.clone()))),
            Event::DiscoveryFailed { error, .. } => {
                match self.faults.fails(&error.with_causes()) {
                    // Normal where callers start before the first instance.
                    true if error.is_expected() => Level::Info,
                    is_news => warn_if(is_news),
                }
            }
            Event::DiscoveryRecovered { .. } => {
                self.faults.recover();
                Level::Info
            }
            Event::EjectionWithheld { id, by, .. } => match self.is_news(id, now) {
                true if *by == Withheld::ByCap => Level::Warn,
                true => Level::Info,
                false => Level::Debug,
            },
            Event::Ejected { .. }
            | Event::Unreachable { .. }
            | Event::SetDoubted { .. }
            | Event::DoubtEnded { .. }
            | Event::PanicModeBegan { .. }
            | Event::Unavailable { .. }
            | Event::Stalled { .. }
            | Event::WithoutEffect { .. }
            | Event::Missed { .. } => Level::Warn,
            Event::SetChanged { .. }
            | Event::AvailabilityChanged { .. }
            | Event::Connected { .. }
            | Event::DialFailed { .. }
            | Event::ConnectionLost { .. }
            | Event::Probation { .. }
            | Event::DiscoveryEnded => Level::Debug,
        }
    }

    /// A set was applied, and its events were written.
    pub(super) fn set_applied(&mut self, target: &Target) {
        for (flaw, sets) in self.faults.end_set() {
            let (what, id) = match flaw {
                Flaw::Refused(id) => ("is no longer refused", id),
                Flaw::Duplicate(id) => ("is no longer a duplicate", id),
            };
            let (id, sets) = (legible(id.as_str()), Counted(sets, "set"));
            info!(target: "rolecall", %target, id, "instance {id} {what}, after {sets}");
        }
    }

    /// What an event is about, and the budgets of such lines.
    fn budgets(&mut self, event: &Event) -> (&'static str, &mut Budgets) {
        match event {
            Event::Ejected { .. }
            | Event::EjectionWithheld { .. }
            | Event::Probation { .. }
            | Event::TrialFailed { .. }
            | Event::Returned { .. } => ("ejections", &mut self.ejections),
            Event::Connected { .. }
            | Event::DialFailed { .. }
            | Event::Unreachable { .. }
            | Event::ConnectionLost { .. }
            | Event::AvailabilityChanged { .. } => ("instances", &mut self.instances),
            Event::SetChanged { .. }
            | Event::SetDoubted { .. }
            | Event::DoubtEnded { .. }
            | Event::InstanceRefused { .. }
            | Event::DuplicateId { .. }
            | Event::DiscoveryFailed { .. }
            | Event::DiscoveryRecovered { .. }
            | Event::DiscoveryEnded => ("discovery", &mut self.discovery),
            Event::PanicModeBegan { .. }
            | Event::PanicModeEnded
            | Event::NothingUsable
            | Event::Unavailable { .. }
            | Event::Usable { .. }
            | Event::Stalled { .. }
            | Event::Reconfigured { .. }
            | Event::WithoutEffect { .. }
            | Event::DriverStopped { .. }
            | Event::Missed { .. } => ("the fleet", &mut self.fleet),
        }
    }

    /// Whether an outlier that stays in play was not logged for a while.
    fn is_news(&mut self, id: &InstanceId, now: Instant) -> bool {
        let is_recent = |at: Instant| now.saturating_duration_since(at) < WITHHELD_PERIOD;
        self.withheld.retain(|&(_, at)| is_recent(at));
        let is_known = self.withheld.iter().any(|(known, _)| known == id);
        if is_known || self.withheld.len() == WITHHELD_KEPT {
            return false;
        }
        self.withheld.push((id.clone(), now));
        true
    }
}

fn warn_if(is_news: bool) -> Level {
    if is_news { Level::Warn } else { Level::Debug }
}

impl Budget {
    /// Whether one more line may be written. The first line of a period says how many the last one omitted.
    fn admits(&mut self, about: &'static str, target: &Target, now: Instant) -> bool {
        let is_over = |began| now.saturating_duration_since(began) >= PERIOD;
        if self.began.is_none_or(is_over) {
            if self.omitted > 0 {
                let omitted = self.omitted;
                info!(target: "rolecall", %target, omitted, "{omitted} lines about {about} were written at debug only");
            }
            *self = Self {
                began: Some(now),
                ..Self::default()
            };
        }
        let admitted = self.written < MAX_LINES;
        if !admitted && self.omitted == 0 {
            info!(target: "rolecall", %target, "further lines about {about} are written at debug only, for a minute at most");
        }
        self.written += u32::from(admitted);
        self.omitted += u64::from(!admitted);
        admitted
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fleet_that_flaps_writes_a_bounded_number_of_lines() {
        let start = crate::runtime::clock::now();
        let target = "worker:http".parse().unwrap();
        let mut log = Budget::default();
        let admitted = |log: &mut Budget, second| {
            let now = start + Duration::from_secs(second);
            (0..1000)
                .filter(|_| log.admits("ejections", &target, now))
                .count()
        };
        assert_eq!(admitted(&mut log, 0), 20);
        assert_eq!(admitted(&mut log, 59), 0);
        assert_eq!(admitted(&mut log, 60), 20);
        assert_eq!(log.omitted, 980);
    }

    #[test]
    fn lines_of_what_merely_happens_leave_room_for_a_warning() {
        let now = crate::runtime::clock::now();
        let target = "worker:http".parse().unwrap();
        let mut log = Log::default();
        let failed = Event::DiscoveryFailed {
            error: crate::error::discovery::DiscoveryError::backend("watching", "refused"),
            errors: 1,
        };
        let (_, budgets) = log.budgets(&failed);
        while budgets.others.admits("discovery", &target, now) {}
        assert!(budgets.warnings.admits("discovery", &target, now));
    }

    #[test]
    fn an_outlier_that_stays_in_play_is_logged_once_a_minute() {
        let start = crate::runtime::clock::now();
        let mut log = Log::default();
        let mut news = |id: &str, second| {
            log.is_news(&InstanceId::from(id), start + Duration::from_secs(second))
        };
        assert!(news("a", 0) && news("b", 1));
        assert!((2..60).all(|second| !news("a", second)));
        assert!(news("a", 60) && !news("b", 60));
    }

    #[test]
    fn the_memory_for_outliers_in_play_is_bounded() {
        let now = crate::runtime::clock::now();
        let mut log = Log::default();
        let news = (0..1000).filter(|n| log.is_news(&InstanceId::from(&*n.to_string()), now));
        assert_eq!(news.count(), WITHHELD_KEPT);
        assert_eq!(log.withheld.len(), WITHHELD_KEPT);
    }
}
