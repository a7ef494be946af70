//! Follows a folder: by what the system tells of it, and where that is not everything, by looks once a second.

use std::collections::{BTreeSet, HashMap};
use std::pin::pin;
use std::time::{Duration, Instant};

use futures_util::future::{Either, select};
use tokio::time;

use super::events::{Changes, Events};
use super::look::{Look, Sight};
use super::place::Place;
use super::registrants::Registrants;
use crate::discovery::backend::Catalog;
use crate::discovery::disk::{self, LATE};
use crate::error::discovery::DiscoveryError;
use crate::runtime::clock;

/// Between looks where not everything is told.
const PACE: Duration = Duration::from_secs(1);
/// Between looks for a folder that is not there.
const ABSENT_PACE: Duration = Duration::from_millis(250);
/// A writer's close is told microseconds before its lock is released: looks after the first one.
const AFTER_CLOSE: [Duration; 4] = [
    Duration::from_millis(2),
    Duration::from_millis(10),
    Duration::from_millis(100),
    Duration::from_millis(800),
];

pub(super) async fn follow(place: Place, catalog: Catalog, registrants: Registrants) {
    let mut look = Look::new(place.clone(), catalog.is_empty());
    let mut sight = Sight::Everything;
    let mut events = None;
    let mut closed = Closed::default();
    let mut is_scan_told = false;
    let mut scanned = clock::now();
    let mut is_absence_told = false;
    loop {
        // Before the look, so that a change during the look is told.
        if events.is_none() {
            events = Events::of(&place.path);
            sight = Sight::Everything;
        }
        let seen = sight.clone();
        if matches!(sight, Sight::Everything) {
            scanned = clock::now();
        }
        let looked = move || {
            let updates = look.look(sight, clock::now());
            (look, updates)
        };
        let late = || {
            let (path, s) = (place.path.display(), LATE.as_secs());
            let text = format!("{path}: no answer for {s} s");
            catalog.fault(DiscoveryError::backend("reading a folder", text));
        };
        match disk::looked(looked, late).await {
            Ok((again, updates)) => {
                look = again;
                catalog.apply(updates);
            }
            Err(error) => {
                catalog.fault(DiscoveryError::backend("reading a folder", error));
                look = Look::new(place.clone(), catalog.is_empty());
                events = None;
                time::sleep(PACE).await;
                sight = Sight::Everything;
                continue;
            }
        }
        registrants.tell(&seen);
        if !look.is_there() {
            events = None;
        }
        if look.is_unmade && !std::mem::replace(&mut is_absence_told, true) {
            tracing::info!(
                folder = %place.path.display(),
                "the folder does not exist yet; the first registration creates it"
            );
        }

        let now = clock::now();
        let tells_everything = events.as_ref().is_some_and(|e: &Events| e.tells_everything);
        let scan = match (&events, tells_everything) {
            _ if look.is_unlisted() => now.checked_add(PACE),
            (_, true) if !look.is_overfull() => None,
            (None, _) if !look.is_there() => now.checked_add(ABSENT_PACE),
            _ => {
                if !is_scan_told && !tells_everything {
                    is_scan_told = true;
                    tracing::info!(
                        folder = %place.path.display(),
                        "the system does not tell all changes of this folder; it is looked at once a second"
                    );
                }
                // From the last one, not from the last change: a folder that never rests is looked at all the same.
                scanned.checked_add(PACE)
            }
        };
        let unsure = (!look.unsure.is_empty()).then(|| now + PACE);
        let due = [scan, unsure, look.spared_until(), closed.due()];
        let due = due.into_iter().flatten().min();
        let changes = async {
            match &events {
                Some(events) => events.next().await,
                None => std::future::pending().await,
            }
        };
        let waited = async {
            match due {
                Some(due) => time::sleep_until(due.into()).await,
                None => std::future::pending().await,
            }
        };
        let woken = match select(pin!(changes), pin!(waited)).await {
            Either::Left((changes, _)) => Some(changes),
            Either::Right(_) => None,
        };
        let now = clock::now();
        let mut is_all = [scan, look.spared_until()]
            .into_iter()
            .flatten()
            .any(|due| due <= now);
        let mut changed = Changes::default();
        match woken {
            Some(Some(changes)) if !changes.is_gone && !changes.is_lossy => changed = changes,
            Some(changes) => {
                if changes.is_none_or(|changes| changes.is_gone) {
                    events = None;
                }
                is_all = true;
            }
            None => {}
        }
        let mut names = closed.names_after(changed, now);
        names.extend(look.unsure.iter().cloned());
        sight = match is_all {
            true => Sight::Everything,
            false => Sight::Names(names),
        };
    }
}

/// Records that a writer closed, and when they are looked at again.
#[derive(Default)]
struct Closed(HashMap<String, (Instant, usize)>);

impl Closed {
    /// What to look at after these changes. That includes what is due: otherwise a folder that never rests would keep it waiting.
    fn names_after(&mut self, changes: Changes, now: Instant) -> BTreeSet<String> {
        let mut names = self.take(now);
        let after = |name| (name, (now + AFTER_CLOSE[0], 0));
        self.0.extend(changes.closed.into_iter().map(after));
        names.extend(changes.names);
        names
    }

    fn due(&self) -> Option<Instant> {
        self.0.values().map(|(due, _)| *due).min()
    }

    fn take(&mut self, now: Instant) -> BTreeSet<String> {
        let is_due = |(_, (due, _)): &(&String, &(Instant, usize))| *due <= now;
        let names: BTreeSet<_> = self
            .0
            .iter()
            .filter(is_due)
            .map(|(name, _)| name.clone())
            .collect();
        for name in &names {
            let Some((due, looks)) = self.0.get_mut(name) else {
                continue;
            };
            *looks += 1;
            match AFTER_CLOSE.get(*looks) {
                Some(after) => *due = now + *after,
                None => drop(self.0.remove(name)),
            }
        }
        names
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_closed_record_is_looked_at_again_in_time_however_much_else_changes() {
        let changes = |closed: &str| Changes {
            names: BTreeSet::from(["other".to_owned()]),
            closed: BTreeSet::from([closed.to_owned()]),
            ..Changes::default()
        };
        let began = clock::now();
        let mut closed = Closed::default();
        closed.names_after(changes("dead"), began);
        let mut looks = Vec::new();
        for ms in 1..1000 {
            let now = began + Duration::from_millis(ms);
            if closed.names_after(changes("other"), now).contains("dead") {
                looks.push(ms);
            }
        }
        assert_eq!(looks, [2, 12, 112, 912]);
        assert!(!closed.0.contains_key("dead"), "it is forgotten after that");
    }
}
