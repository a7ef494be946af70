//! The newest events of a balancer, as the page lists them.

use std::collections::VecDeque;
use std::fmt;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::event::Event;
use crate::runtime::text::legible;

/// How many entries are kept.
const KEPT: usize = 100;

/// Kinds that repeat while a fault lasts. A repetition counts on instead of pushing other events out.
const REPEATED: [&str; 7] = [
    "dial-failed",
    "probation",
    "trial-failed",
    "ejection-withheld",
    "discovery-failed",
    "instance-refused",
    "duplicate-id",
];

/// What an event means to somebody on call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Tone {
    Bad,
    Good,
    Plain,
}

#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub(super) at: Instant,
    pub(super) tone: Tone,
    pub(super) text: String,
    /// How often it was repeated.
    pub(super) times: u32,
    kind: &'static str,
    id: Option<Box<str>>,
}

impl Entry {
    pub(super) fn of(at: Instant, event: &Event) -> Self {
        Self {
            at,
            tone: tone(event),
            text: legible(event),
            times: 1,
            kind: event.kind(),
            id: event.id().map(|id| id.as_str().into()),
        }
    }

    fn repeats(&self, other: &Self) -> bool {
        REPEATED.contains(&self.kind) && self.kind == other.kind && self.id == other.id
    }
}

#[derive(Debug, Default)]
pub(super) struct Timeline(VecDeque<Entry>);

impl Timeline {
    pub(super) fn add(&mut self, mut entry: Entry) {
        if let Some(at) = self.0.iter().position(|known| entry.repeats(known)) {
            let known = self.0.remove(at);
            entry.times = known.map_or(1, |known| known.times.saturating_add(1));
        }
        self.0.truncate(KEPT - 1);
        self.0.push_front(entry);
    }

    /// The newest first.
    pub(super) fn entries(&self) -> impl ExactSizeIterator<Item = &Entry> {
        self.0.iter()
    }
}

fn tone(event: &Event) -> Tone {
    match event {
        Event::SetDoubted { .. }
        | Event::InstanceRefused { .. }
        | Event::DuplicateId { .. }
        | Event::DialFailed { .. }
        | Event::Unreachable { .. }
        | Event::ConnectionLost { .. }
        | Event::Ejected { .. }
        | Event::EjectionWithheld { .. }
        | Event::TrialFailed { .. }
        | Event::PanicModeBegan { .. }
        | Event::NothingUsable
        | Event::Unavailable { .. }
        | Event::Stalled { .. }
        | Event::DiscoveryFailed { .. }
        | Event::DiscoveryEnded
        | Event::WithoutEffect { .. }
        | Event::DriverStopped { .. } => Tone::Bad,
        Event::Connected { .. }
        | Event::Returned { .. }
        | Event::PanicModeEnded
        | Event::Usable { .. }
        | Event::DiscoveryRecovered { .. } => Tone::Good,
        Event::SetChanged { .. }
        | Event::DoubtEnded { .. }
        | Event::AvailabilityChanged { .. }
        | Event::Probation { .. }
        | Event::Reconfigured { .. }
        | Event::Missed { .. } => Tone::Plain,
    }
}

/// A moment as logs have it: `02:41:07`, in UTC.
pub(super) struct TimeOfDay(Option<SystemTime>);

/// What the clocks say when a page is written.
#[derive(Clone, Copy, Debug)]
pub(super) struct Clocks {
    pub(super) now: Instant,
    pub(super) wall: SystemTime,
}

impl Clocks {
    pub(super) fn at(&self, at: Instant) -> TimeOfDay {
        let ago = self.now.saturating_duration_since(at);
        TimeOfDay(self.wall.checked_sub(ago))
    }

    pub(super) fn after(&self, time: Duration) -> TimeOfDay {
        TimeOfDay(self.wall.checked_add(time))
    }
}

impl fmt::Display for TimeOfDay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let since = self.0.and_then(|at| at.duration_since(UNIX_EPOCH).ok());
        let Some(since) = since else {
            return f.write_str("–");
        };
        let second = since.as_secs() % (24 * 3600);
        let (hours, minutes) = (second / 3600, second / 60 % 60);
        write!(f, "{hours:02}:{minutes:02}:{:02}", second % 60)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn repetitions_count_on_and_push_nothing_out() {
        let now = crate::runtime::clock::now();
        let mut timeline = Timeline::default();
        let entry = |kind, id: &str| Entry {
            at: now,
            tone: Tone::Bad,
            text: String::new(),
            times: 1,
            kind,
            id: Some(id.into()),
        };
        timeline.add(entry("ejected", "a"));
        for _ in 0..1000 {
            timeline.add(entry("dial-failed", "a"));
            timeline.add(entry("dial-failed", "b"));
        }
        let told = timeline.entries().map(|entry| (entry.kind, entry.times));
        let told: Vec<_> = told.collect();
        assert_eq!(
            told,
            [("dial-failed", 1000), ("dial-failed", 1000), ("ejected", 1)]
        );
        for _ in 0..1000 {
            timeline.add(entry("connected", "a"));
        }
        assert_eq!(timeline.entries().len(), KEPT);
    }

    #[test]
    fn times_are_those_of_the_day() {
        let clocks = Clocks {
            now: crate::runtime::clock::now(),
            wall: UNIX_EPOCH + Duration::from_secs(86_400 + 2 * 3600 + 41 * 60 + 7),
        };
        assert_eq!(clocks.at(clocks.now).to_string(), "02:41:07");
        assert_eq!(
            clocks.after(Duration::from_secs(53)).to_string(),
            "02:42:00"
        );
        assert_eq!(clocks.after(Duration::MAX).to_string(), "–");
        let early = Clocks {
            wall: UNIX_EPOCH - Duration::from_secs(1),
            ..clocks
        };
        assert_eq!(early.at(clocks.now).to_string(), "–");
    }
}
