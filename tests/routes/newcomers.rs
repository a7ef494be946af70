//! New members fade in, if `slow_start_new` says so.

use std::time::Duration;

use rolecall::{BalanceConfig, ConfigBuilder, Instance};

use crate::world::{MS, SECOND, World};

fn instances(count: usize) -> impl Iterator<Item = Instance> {
    (0..count).map(|n| Instance::new(format!("m{n}"), ([127, 0, 0, 1], 80)))
}

fn ramped() -> ConfigBuilder {
    BalanceConfig::builder().slow_start_new(Duration::from_secs(10))
}

/// A fleet of four that is warm, and a fifth member that has just connected.
fn with_newcomer(config: ConfigBuilder) -> World {
    let mut world = World::new(config);
    world.connect_all(instances(4));
    world.run(30_000, MS, |_| Ok(3 * MS));
    world.connect_all(instances(5));
    world
}

#[test]
fn a_new_member_ramps_from_a_tenth_of_its_share() {
    let mut world = with_newcomer(ramped());
    let first = world.run(1000, MS, |_| Ok(3 * MS)).part("m4");
    assert!((0.01..0.06).contains(&first), "{first} in the first second");
    let sentence = world.explain("m4");
    assert!(
        sentence.contains("new for 1 s, slow start gives it 19 % of its share"),
        "{sentence}"
    );
    world.run(4000, MS, |_| Ok(3 * MS));
    let middle = world.run(1000, MS, |_| Ok(3 * MS)).part("m4");
    assert!((0.07..0.17).contains(&middle), "{middle} after 5 s");
    world.run(6000, MS, |_| Ok(3 * MS));
    let last = world.run(2000, MS, |_| Ok(3 * MS)).part("m4");
    assert!((0.16..0.24).contains(&last), "{last} after 12 s");
    assert!(!world.status().members[4].is_new);
}

#[test]
fn without_it_a_new_member_gets_its_share_at_once() {
    let mut world = with_newcomer(BalanceConfig::builder());
    let first = world.run(1000, MS, |_| Ok(3 * MS)).part("m4");
    assert!(first > 0.15, "{first}");
}

#[test]
fn nothing_is_ramped_while_over_half_of_the_weight_is_new() {
    let mut world = World::new(ramped());
    world.connect_all(instances(2));
    let counts = world.run(1000, MS, |_| Ok(3 * MS));
    assert!((counts.part("m0") - 0.5).abs() < 0.05);
    world.pass_until(60 * SECOND);
    world.run(1000, MS, |_| Ok(3 * MS));
    // Two of four are half, three of five are more.
    world.connect_all(instances(4));
    let counts = world.run(500, MS, |_| Ok(3 * MS));
    let new = counts.part("m2") + counts.part("m3");
    assert!(new < 0.2, "{new}");
    world.connect_all(instances(5));
    let counts = world.run(500, MS, |_| Ok(3 * MS));
    let new = counts.part("m2") + counts.part("m3") + counts.part("m4");
    assert!(new > 0.5, "{new}");
    assert_eq!(world.status().members[4].slow_start, None);
}

#[test]
fn a_member_that_reconnects_is_not_new() {
    let mut world = World::new(ramped());
    world.connect_all(instances(4));
    world.run(30_000, MS, |_| Ok(3 * MS));
    world.lose(|id| id == "m1");
    world.pass_until(31 * SECOND);
    world.connect(|_| true);
    assert!(world.status().members.iter().all(|member| !member.is_new));
}

#[test]
fn a_new_member_with_another_address_keeps_ramping_and_one_that_leaves_is_forgotten() {
    let mut world = with_newcomer(ramped());
    world.run(2000, MS, |_| Ok(3 * MS));
    let moved = instances(5).map(|instance| match instance.id().as_str() {
        "m4" => Instance::new("m4", ([127, 0, 0, 2], 81)),
        _ => instance,
    });
    world.connect_all(moved);
    assert!(world.status().members[4].is_new);
    assert!(world.status().members[4].slow_start.is_some());
    world.connect_all(instances(4));
    world.run(100, MS, |_| Ok(3 * MS));
    assert!(world.status().members.iter().all(|member| !member.is_new));
    // Switched off, the ramp of a new one ends at the next tick.
    world.connect_all(instances(5));
    world
        .fleet
        .reconfigure(BalanceConfig::default(), world.now());
    world.run(1000, MS, |_| Ok(3 * MS));
    assert!(world.status().members.iter().all(|member| !member.is_new));
}
