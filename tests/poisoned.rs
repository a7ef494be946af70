//! A discovery answer that somebody made to do harm: very many instances, ids of a megabyte, control characters.

use std::time::Instant;

use rolecall::fleet::Fleet;
use rolecall::{BalanceConfig, Event, Instance, InstanceSet};

const MEGABYTE: usize = 1 << 20;

#[expect(clippy::disallowed_methods, reason = "the fleet is given one moment")]
fn fleet() -> (Fleet<()>, Instant) {
    let now = Instant::now();
    (Fleet::new(BalanceConfig::default(), 7, now), now)
}

fn at(id: String) -> Instance {
    Instance::new(id, ([10, 0, 0, 7], 80))
}

fn told(fleet: &Fleet<()>) -> Vec<Event> {
    let mut events = fleet.take_events();
    events.retain(|event| !matches!(event, Event::SetChanged { .. }));
    events
}

/// Everything about an event that ends up in logs and in status pages.
fn assert_harmless(event: &Event) {
    let text = event.to_string();
    assert!(text.len() < 1024, "{} bytes: {text:.80}", text.len());
    assert!(!text.contains(char::is_control), "{text:?}");
    if let Event::InstanceRefused { id, .. } | Event::DuplicateId { id, .. } = event {
        assert!(id.as_str().len() < 1024, "an event keeps what it tells");
    }
}

#[test]
fn a_million_instances_with_forged_ids_become_no_members_and_few_events() {
    let (fleet, now) = fleet();
    let good = at("good".to_owned());
    let dials = fleet.apply([good.clone()].into_iter().collect::<InstanceSet>(), now);
    assert_eq!(dials.len(), 1);
    fleet.take_events();
    let forged = (0..1_000_000).map(|n| at(format!("{n}\n\u{1b}[2J WARN all is lost")));
    let set: InstanceSet = forged.chain([good]).collect();
    assert!(fleet.apply(set, now).is_empty(), "nobody is dialled");
    assert_eq!(fleet.status(now).members.len(), 1);
    let events = told(&fleet);
    assert!((1..=8).contains(&events.len()), "{} events", events.len());
    events.iter().for_each(assert_harmless);
}

#[test]
fn ids_of_a_megabyte_are_refused_and_not_kept() {
    let (fleet, now) = fleet();
    let huge = |n: usize| at(format!("{n}{}", "\u{202e}\u{7}x".repeat(MEGABYTE / 5)));
    let set: InstanceSet = (0..50).chain(0..50).map(huge).collect();
    assert_eq!(set.duplicates().len(), 50);
    assert!(fleet.apply(set, now).is_empty());
    assert!(fleet.status(now).members.is_empty());
    let events = told(&fleet);
    assert_eq!(events.len(), 16, "8 refused, 8 there twice: {events:?}");
    events.iter().for_each(assert_harmless);
}

#[test]
fn a_hundred_thousand_ids_that_are_there_twice_are_few_events() {
    let (fleet, now) = fleet();
    let twice = (0..100_000).map(|n| at((n % 1000).to_string()));
    let set: InstanceSet = twice.collect();
    assert_eq!(fleet.apply(set, now).len(), 1000);
    let duplicates = told(&fleet)
        .into_iter()
        .filter(|event| matches!(event, Event::DuplicateId { .. }))
        .count();
    assert_eq!(duplicates, 8);
}
