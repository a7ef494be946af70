//! Requests stay in the caller's zone while that costs little.

use std::time::Duration;

use rolecall::{BalanceConfig, ConfigBuilder, Event, Instance, InstanceId, Zone};

use crate::world::{MS, SECOND, World};

fn zone(name: &str) -> Zone {
    Zone::new(name).unwrap()
}

/// A caller in zone `a`.
fn caller() -> ConfigBuilder {
    BalanceConfig::builder().zone(zone("a"))
}

/// Instances of a zone, named after it: `a0`, `a1` and so on.
fn instances(name: &str, count: usize) -> impl Iterator<Item = Instance> {
    let name = name.to_owned();
    (0..count).map(move |n| {
        Instance::new(format!("{name}{n}"), ([127, 0, 0, 1], 80)).with_zone(zone(&name))
    })
}

fn three_zones(count: usize) -> impl Iterator<Item = Instance> {
    ["a", "b", "c"]
        .into_iter()
        .flat_map(move |name| instances(name, count))
}

/// A fleet of three zones that is warm.
fn world(config: ConfigBuilder, count: usize) -> World {
    let mut world = World::new(config);
    world.connect_all(three_zones(count));
    world.run(1000, MS, |_| Ok(5 * MS));
    world
}

#[test]
fn with_everything_well_requests_stay() {
    for count in [1, 4] {
        let mut world = World::new(caller());
        world.connect_all(three_zones(count));
        let counts = world.run(5000, 2 * MS, |_| Ok(3 * MS));
        assert!(counts.part("a") > 0.95, "{count}: {}", counts.part("a"));
    }
}

#[test]
fn a_caller_without_a_zone_and_instances_without_zones_have_no_preference() {
    let mut world = world(BalanceConfig::builder(), 2);
    let counts = world.run(6000, MS, |_| Ok(5 * MS));
    assert!(
        (counts.part("a") - 1.0 / 3.0).abs() < 0.05,
        "{}",
        counts.part("a")
    );

    // No instance says where it is.
    let mut world = World::new(caller());
    world.connect_all((0..3).map(|n| Instance::new(format!("{n}"), ([127, 0, 0, 1], 80))));
    let counts = world.run(6000, MS, |_| Ok(5 * MS));
    assert!(
        (counts.part("1") - 1.0 / 3.0).abs() < 0.05,
        "{}",
        counts.part("1")
    );

    // No instance is in the caller's zone.
    let mut world = World::new(BalanceConfig::builder().zone(zone("elsewhere")));
    world.connect_all(three_zones(1));
    let counts = world.run(6000, MS, |_| Ok(5 * MS));
    assert!(
        (counts.part("b") - 1.0 / 3.0).abs() < 0.05,
        "{}",
        counts.part("b")
    );

    // One that says nothing counts as near.
    let mut world = World::new(caller());
    let nowhere = Instance::new("n0", ([127, 0, 0, 1], 80));
    world.connect_all(instances("b", 2).chain([nowhere]));
    let counts = world.run(1000, 10 * MS, |_| Ok(5 * MS));
    assert!(counts.part("n") > 0.95, "{}", counts.part("n"));
}

#[test]
fn names_of_zones_may_differ_in_case() {
    let mut world = World::new(BalanceConfig::builder().zone(zone("A")));
    world.connect_all(three_zones(2));
    let counts = world.run(2000, 2 * MS, |_| Ok(3 * MS));
    assert!(counts.part("a") > 0.95, "{}", counts.part("a"));
}

#[test]
fn a_lost_zone_costs_no_request_and_comes_back() {
    let mut world = world(caller(), 2);
    world.lose(|id| id.starts_with('a'));
    let counts = world.run(1000, MS, |_| Ok(5 * MS));
    assert_eq!((counts.part("a"), counts.failed), (0.0, 0));
    world.connect(|_| true);
    let counts = world.run(1000, 2 * MS, |_| Ok(3 * MS));
    assert!(counts.part("a") > 0.9, "{}", counts.part("a"));
}

#[test]
fn a_slow_zone_is_left_and_taken_again() {
    let mut world = world(caller(), 3);
    let slow = |id: &str| Ok(if id.starts_with('a') { 50 * MS } else { 5 * MS });
    world.run(2000, MS, slow);
    let counts = world.run(2000, MS, slow);
    assert!(counts.part("a") < 0.2, "{}", counts.part("a"));
    world.run(10_000, MS, |_| Ok(5 * MS));
    let counts = world.run(2000, 2 * MS, |_| Ok(3 * MS));
    assert!(counts.part("a") > 0.9, "{}", counts.part("a"));
}

/// The zones elsewhere were slow. When they are well again and the own zone becomes slow, that is noticed.
#[test]
fn what_was_slow_elsewhere_is_looked_at_again() {
    let mut world = world(caller(), 3);
    world.run(5000, MS, |id| {
        Ok(if id.starts_with('a') {
            5 * MS
        } else {
            500 * MS
        })
    });
    world.run(10_000, MS, |_| Ok(5 * MS));
    let slow = |id: &str| Ok(if id.starts_with('a') { 50 * MS } else { 5 * MS });
    world.run(3000, MS, slow);
    let counts = world.run(2000, MS, slow);
    assert!(counts.part("a") < 0.25, "{}", counts.part("a"));
}

#[test]
fn of_three_zones_with_one_instance_each_one_that_fails_is_ejected_as_ever() {
    for failing in ["a0", "b0"] {
        for config in [caller(), BalanceConfig::builder()] {
            let mut world = world(config.clone(), 1);
            let is_zoned = config.build().unwrap().zone().is_some();
            let counts = world.run(
                3000,
                MS,
                |id| if id == failing { Err(MS) } else { Ok(5 * MS) },
            );
            assert!(counts.failed < 40, "{failing}: {}", counts.failed);
            let ejected = world.status().ejections.ejected;
            // A zone that gets no requests fails none.
            assert!(
                ejected > 0 || is_zoned && failing == "b0",
                "{failing}: {}",
                world.status()
            );
        }
    }
}

#[test]
fn if_the_only_member_of_the_own_zone_is_ejected_no_request_fails() {
    let mut world = world(caller(), 1);
    let hour = Duration::from_secs(3600);
    world.fleet.eject(&"a0".into(), hour, world.now());
    let counts = world.run(1000, MS, |_| Ok(5 * MS));
    assert_eq!((counts.part("a"), counts.failed), (0.0, 0));
}

#[test]
fn a_retry_leaves_the_zone_that_failed() {
    let mut world = world(caller(), 4);
    for _ in 0..200 {
        let tried = [InstanceId::from("a1")];
        let now = world.now();
        let pick = world.fleet.pick(now, &mut world.rng, &tried).unwrap();
        let id = pick.instance().id().as_str();
        assert!(!id.starts_with('a'), "the retry went to {id}");
    }
    // What failed elsewhere is avoided, and the own zone comes first.
    for _ in 0..200 {
        let tried = [InstanceId::from("b1")];
        let now = world.now();
        let pick = world.fleet.pick(now, &mut world.rng, &tried).unwrap();
        assert!(pick.instance().id().as_str() != "b1");
    }
    // If all others are to be avoided too, the own zone has to do.
    let tried: Vec<InstanceId> = (three_zones(4).map(|instance| instance.id().clone()))
        .filter(|id| id.as_str() != "a3")
        .collect();
    for _ in 0..50 {
        let now = world.now();
        let pick = world.fleet.pick(now, &mut world.rng, &tried).unwrap();
        assert_eq!(pick.instance().id().as_str(), "a3");
    }
    let in_flight = world.status().members.into_iter().map(|m| m.in_flight);
    assert_eq!(in_flight.sum::<u32>(), 0, "a slot leaked");
}

#[test]
fn members_at_their_cap_send_requests_out_of_the_zone() {
    let mut world = World::new(caller().max_in_flight(1));
    world.connect_all(three_zones(2));
    let picks: Vec<_> = (0..6).map(|_| world.pick().unwrap()).collect();
    let mut ids: Vec<_> = picks
        .iter()
        .map(|pick| pick.instance().id().to_string())
        .collect();
    ids.sort();
    assert_eq!(ids, ["a0", "a1", "b0", "b1", "c0", "c1"]);
    assert!(world.pick().is_err(), "all are at their cap");
}

#[test]
fn the_rules_eject_at_most_the_cap_of_a_zone() {
    let ejected = |config: ConfigBuilder| {
        let mut world = world(config, 4);
        world.run(5000, MS, |id| {
            if id.starts_with('a') {
                Err(MS)
            } else {
                Ok(5 * MS)
            }
        });
        let events = world.fleet.take_events();
        let mut ids: Vec<_> = events
            .iter()
            .filter_map(|event| match event {
                Event::Ejected { id, .. } => Some(id.to_string()),
                _ => None,
            })
            .collect();
        ids.sort();
        ids.dedup();
        let status = world.status();
        let out = status.members.iter().filter(|member| {
            let ejection = member.ejection.as_ref();
            ejection.is_some_and(|ejection| !ejection.is_over)
        });
        (ids.len(), out.count())
    };
    // The fleet's cap is six of twelve, that of a zone two of four.
    let (_, out) = ejected(caller());
    assert!(out <= 2, "{out} of the zone are out");
    let (_, out) = ejected(BalanceConfig::builder());
    assert_eq!(out, 4, "without zones the whole failing zone is ejected");
}

#[test]
fn the_zone_can_be_changed_while_the_balancer_runs() {
    let mut world = world(caller(), 2);
    world.fleet.reconfigure(
        BalanceConfig::builder().zone(zone("b")).build().unwrap(),
        world.now(),
    );
    let counts = world.run(2000, 2 * MS, |_| Ok(3 * MS));
    assert!(counts.part("b") > 0.95, "{}", counts.part("b"));
    world
        .fleet
        .reconfigure(BalanceConfig::default(), world.now());
    let counts = world.run(6000, MS, |_| Ok(5 * MS));
    assert!(
        (counts.part("b") - 1.0 / 3.0).abs() < 0.05,
        "{}",
        counts.part("b")
    );
    // An instance may move as well.
    world
        .fleet
        .reconfigure(caller().build().unwrap(), world.now());
    let moved = |instance: Instance| match instance.id().as_str() {
        "a0" | "a1" => instance.with_zone(zone("b")),
        "c0" => instance.with_zone(zone("a")),
        _ => instance,
    };
    world.announce(three_zones(2).map(moved));
    let counts = world.run(2000, 5 * MS, |_| Ok(3 * MS));
    assert!(counts.part("c0") > 0.95, "{}", counts.part("c0"));
}

#[test]
fn a_member_elsewhere_says_why_it_gets_little() {
    let mut world = world(caller(), 2);
    world.pass_until(60 * SECOND);
    world.run(2000, 2 * MS, |_| Ok(3 * MS));
    let sentence = world.explain("b1");
    assert!(
        sentence.ends_with(
            "fair is 0 %: in another zone: b gets requests while a costs more than 2 times as much"
        ),
        "{sentence}"
    );
    let sentence = world.explain("a1");
    assert!(sentence.contains("fair is 50 %"), "{sentence}");
}

#[test]
fn a_zone_or_a_price_without_effect_is_told_once() {
    let told = |config: ConfigBuilder| {
        let mut world = World::new(config);
        world.connect_all(three_zones(1));
        world.connect_all(three_zones(2));
        let events = world.fleet.take_events();
        let told = events.iter().filter_map(|event| match event {
            Event::WithoutEffect { setting, why, .. } => Some(format!("{setting}: {why}")),
            _ => None,
        });
        told.collect::<Vec<_>>()
    };
    assert_eq!(told(caller()), [""; 0]);
    assert_eq!(told(BalanceConfig::builder()), [""; 0]);
    assert_eq!(
        told(caller().zone(zone("x"))),
        ["zone: no instance is in x"]
    );
    let price = BalanceConfig::builder().zone_price(3.0);
    assert_eq!(told(price), ["zone_price: no zone is set"]);
}
