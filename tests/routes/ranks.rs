//! Backups take what the ranks before them cannot.

use std::time::Duration;

use rand::seq::SliceRandom;
use rand::{RngExt, SeedableRng, rngs::SmallRng};
use rolecall::fleet::PickError;
use rolecall::{Availability, BalanceConfig, Instance, InstanceId, Weight};

use crate::world::{MS, SECOND, World};

const PRIMARIES: usize = 10;

/// Ten instances of rank 0, `p0` to `p9`.
fn primaries() -> impl Iterator<Item = Instance> {
    (0..PRIMARIES).map(|n| Instance::new(format!("p{n}"), ([127, 0, 0, 1], 80)))
}

/// Instances of rank 1, `b0` and so on.
fn backups(count: usize) -> impl Iterator<Item = Instance> {
    (0..count).map(|n| Instance::new(format!("b{n}"), ([127, 0, 0, 2], 80)).with_rank(1))
}

fn both() -> impl Iterator<Item = Instance> {
    primaries().chain(backups(10))
}

fn is_primary(id: &str) -> bool {
    id.starts_with('p')
}

fn close(value: f64, expected: f64) -> bool {
    (value - expected).abs() < 0.02
}

#[test]
fn rank_0_takes_everything_while_it_has_seven_tenths_of_its_weight() {
    let mut world = World::new(BalanceConfig::builder());
    world.connect_all(both());
    assert_eq!(world.picks(1000).part("b"), 0.0);
    world.lose(|id| ["p0", "p1", "p2"].contains(&id));
    let counts = world.picks(10_000);
    assert_eq!(counts.part("b"), 0.0);
    assert!(close(counts.largest(), 1.0 / 7.0), "{}", counts.largest());
    assert!(
        world.explain("b3").ends_with(
            "gets no requests: it is a backup, and 70 % of the weight of rank 0 is usable"
        ),
        "{}",
        world.explain("b3")
    );
    assert_eq!(world.status().usable, 7);
}

#[test]
fn with_nine_of_ten_primaries_dead_the_backups_take_six_sevenths() {
    let mut world = World::new(BalanceConfig::builder());
    world.connect_all(both());
    world.lose(|id| is_primary(id) && id != "p4");
    let counts = world.picks(20_000);
    assert!(close(counts.part("p4"), 1.0 / 7.0), "{}", counts.part("p4"));
    assert!(close(counts.part("b"), 6.0 / 7.0), "{}", counts.part("b"));
    assert!(counts.largest() < 0.16, "no member takes more than 1/7");
    world.lose(|id| id == "p4");
    assert_eq!(world.picks(100).part("b"), 1.0);
    let status = world.status();
    assert_eq!((status.ranks[0].share, status.ranks[1].share), (0.0, 1.0));
}

#[test]
fn at_the_start_backups_wait_for_the_first_dials_of_rank_0() {
    let mut world = World::new(BalanceConfig::builder());
    world.announce(both());
    world.connect(|id| !is_primary(id));
    let unusable = world.pick();
    assert!(
        matches!(&unusable, Err(PickError::NoneUsable(_))),
        "{unusable:?}"
    );
    assert!(
        unusable.unwrap_err().to_string().contains("10 backup"),
        "the census says what the backups are"
    );
    assert_eq!(world.status().usable, 0);
    // One connection is enough: the dials of the other nine are still running.
    world.connect(|id| id == "p7");
    assert_eq!(world.picks(100).part("p7"), 1.0);
    // The others are refused.
    world.refuse(is_primary);
    let counts = world.picks(20_000);
    assert!(close(counts.part("p7"), 1.0 / 7.0), "{}", counts.part("p7"));
}

#[test]
fn at_the_start_backups_take_over_when_the_dials_of_rank_0_fail() {
    let mut world = World::new(BalanceConfig::builder());
    world.announce(both());
    world.connect(|id| !is_primary(id));
    world.refuse(|id| is_primary(id) && id != "p0");
    assert!(world.pick().is_err(), "one first dial is still running");
    world.refuse(is_primary);
    assert_eq!(world.picks(100).part("b"), 1.0);
}

#[test]
fn a_primary_that_is_being_dialled_takes_nothing_from_backups_in_use() {
    let mut world = World::new(BalanceConfig::builder());
    world.connect_all(backups(2));
    assert_eq!(world.picks(10).part("b"), 1.0);
    world.announce(backups(2).chain(primaries().take(1)));
    assert_eq!(world.picks(10).part("b"), 1.0);
    world.connect(is_primary);
    assert_eq!(world.picks(10).part("p"), 1.0);
}

#[test]
fn a_rank_that_flaps_moves_the_traffic_of_one_member_at_a_time() {
    let mut world = World::new(BalanceConfig::builder());
    world.connect_all(both());
    let mut order = SmallRng::seed_from_u64(3);
    let mut parts = vec![1.0];
    for round in 1..=20 {
        let mut ids: Vec<_> = (0..PRIMARIES).map(|n| format!("p{n}")).collect();
        ids.shuffle(&mut order);
        for id in &ids {
            world.lose(|other| other == id);
            parts.push(world.rank(0).share);
        }
        assert_eq!(world.rank(0).share, 0.0);
        world.pass_until(round * 10 * SECOND);
        for id in &ids {
            world.connect(|other| other == id);
            parts.push(world.rank(0).share);
            let counts = world.picks(2000);
            assert!(
                counts.largest() < 1.2 / 7.0,
                "one member takes {} of all requests",
                counts.largest()
            );
        }
        assert_eq!(world.rank(0).share, 1.0);
    }
    let steps = parts.windows(2).map(|two| (two[1] - two[0]).abs());
    let largest = steps.fold(0.0, f64::max);
    assert!(largest < 0.15, "{largest} of all requests moved at once");
}

#[test]
fn a_lone_primary_that_fails_is_ejected_and_returns() {
    let mut world = World::new(BalanceConfig::builder());
    world.connect_all(primaries().take(1).chain(backups(2)));
    world.run(200, 10 * MS, |_| Ok(5 * MS));
    let counts = world.run(1000, 10 * MS, |id| {
        if is_primary(id) { Err(MS) } else { Ok(5 * MS) }
    });
    assert!(counts.failed < 20, "{} of 1000 failed", counts.failed);
    assert!(counts.part("b") > 0.98, "{}", counts.part("b"));
    // It is well again: a trial brings it back, and then it takes everything.
    world.run(6000, 10 * MS, |_| Ok(5 * MS));
    assert_eq!(world.picks(100).part("p"), 1.0, "{}", world.status());
}

#[test]
fn backups_that_are_not_needed_get_no_trials() {
    let mut world = World::new(BalanceConfig::builder());
    world.connect_all(both());
    world.run(200, 10 * MS, |_| Ok(5 * MS));
    world
        .fleet
        .eject(&"b0".into(), Duration::from_millis(1), world.now());
    let counts = world.run(5000, 10 * MS, |_| Ok(5 * MS));
    assert_eq!(counts.part("b"), 0.0);
    // As soon as rank 0 is short, it is tried.
    world.lose(|id| is_primary(id) && id != "p0");
    world.run(2000, 10 * MS, |_| Ok(5 * MS));
    let status = world.status();
    let backup = status
        .members
        .iter()
        .find(|member| member.instance.id().as_str() == "b0");
    assert!(
        backup
            .unwrap()
            .ejection
            .as_ref()
            .is_some_and(|ejection| ejection.is_over),
        "{status}"
    );
}

#[test]
fn a_retry_leaves_a_rank_whose_members_are_all_to_be_avoided() {
    let mut world = World::new(BalanceConfig::builder());
    world.connect_all(primaries().take(2).chain(backups(1)));
    let mut retry = |tried: &[&str]| {
        let tried: Vec<InstanceId> = tried.iter().map(|&id| id.into()).collect();
        let now = world.now();
        let pick = world.fleet.pick(now, &mut world.rng, &tried).unwrap();
        pick.instance().id().to_string()
    };
    assert_eq!(retry(&["p0"]), "p1");
    assert_eq!(retry(&["p0", "p1"]), "b0");
    assert!(retry(&["p0", "p1", "b0"]).starts_with('p'));
    let in_flight = world.status().members.into_iter().map(|m| m.in_flight);
    assert_eq!(in_flight.sum::<u32>(), 0, "a slot leaked");
}

#[test]
fn busy_counts_as_pickable_and_draining_is_not_counted() {
    let mut world = World::new(BalanceConfig::builder());
    let busy = |id| {
        move |instance: Instance| match instance.id().as_str() < id {
            true => instance.with_availability(Availability::Busy),
            false => instance,
        }
    };
    world.connect_all(primaries().map(busy("p9")).chain(backups(2)));
    assert_eq!(world.picks(100).part("p9"), 1.0, "the others are busy");
    world.announce(primaries().map(busy("q")).chain(backups(2)));
    assert_eq!(world.picks(100).part("p"), 1.0, "all of them are busy");
    let draining = |instance: Instance| match instance.id().as_str() < "p8" {
        true => instance.with_availability(Availability::Draining),
        false => instance,
    };
    world.announce(primaries().map(draining).chain(backups(2)));
    assert_eq!(world.picks(100).part("p"), 1.0, "two of two are there");
    assert_eq!(world.rank(0).announced_weight, 2);
}

#[test]
fn in_panic_mode_all_ranks_are_picked_from_by_weight() {
    let mut world = World::new(BalanceConfig::builder());
    world.connect_all(primaries().take(3).chain(backups(1)));
    for id in ["p0", "p1", "p2"] {
        let hour = Duration::from_secs(3600);
        world.fleet.eject(&id.into(), hour, world.now());
    }
    assert_eq!(world.picks(100).part("b"), 1.0);
    assert!(!world.status().panic_mode);
    let hour = Duration::from_secs(3600);
    world.fleet.eject(&"b0".into(), hour, world.now());
    assert!(world.status().panic_mode);
    let counts = world.picks(10_000);
    assert!(close(counts.part("b"), 0.25), "{}", counts.part("b"));
    world.fleet.restore(&"p1".into(), world.now());
    assert!(!world.status().panic_mode);
    // A third of the weight of rank 0 is pickable, and nothing of rank 1.
    assert_eq!(world.picks(100).part("p1"), 1.0);
}

/// The capacities are counted as things change. Here they are compared with what the members' states say.
#[test]
fn capacities_follow_every_change() {
    let mut rng = SmallRng::seed_from_u64(11);
    let mut world = World::new(BalanceConfig::builder().shrink_grace(Duration::ZERO));
    let mut second = 0;
    for _ in 0..2000 {
        match rng.random_range(0..7) {
            0 | 1 => {
                let availabilities = [
                    Availability::Available,
                    Availability::Busy,
                    Availability::Draining,
                ];
                let set: Vec<_> = (0..12)
                    .filter_map(|n| {
                        let instance = Instance::new(format!("{n}"), ([127, 0, 0, 1], 80));
                        let instance = instance
                            .with_rank(rng.random_range(0..3))
                            .with_weight(Weight::new(rng.random_range(0..4)))
                            .with_availability(availabilities[rng.random_range(0..3)]);
                        rng.random_bool(0.8).then_some(instance)
                    })
                    .collect();
                world.announce(set);
            }
            2 | 3 => {
                let id = rng.random_range(0..12).to_string();
                world.connect(|other| other == id);
            }
            4 => {
                let id = rng.random_range(0..12).to_string();
                world.refuse(|other| other == id);
            }
            5 => {
                let id = rng.random_range(0..12).to_string();
                let (id, now) = (InstanceId::from(id), world.now());
                if rng.random_bool(0.5) {
                    world.fleet.eject(&id, Duration::from_secs(60), now);
                } else {
                    world.fleet.restore(&id, now);
                }
            }
            _ => {
                if let Ok(pick) = world.pick() {
                    pick.unsent(world.now());
                }
                second += 1;
                world.pass_until(second * SECOND);
            }
        }
        let status = world.status();
        let mut used = 0;
        for rank in &status.ranks {
            let members = status.members.iter();
            let own = members.filter(|member| {
                let instance = &member.instance;
                let is_draining = instance.availability() == Availability::Draining;
                instance.rank() == rank.rank && !is_draining
            });
            let weight =
                |member: &rolecall::MemberStatus| u64::from(member.instance.weight().get());
            assert_eq!(
                own.clone().map(weight).sum::<u64>(),
                rank.announced_weight,
                "{status}"
            );
            use rolecall::MemberState::{Busy, Connecting, Ejected, Probation, Usable};
            let in_play = |member: &&rolecall::MemberStatus| matches!(member.state, Usable | Busy);
            let connected: u64 = own.clone().filter(in_play).map(weight).sum();
            let dialled = own.filter(|member| member.state == Connecting);
            let dialled: u64 = dialled.map(weight).sum();
            assert!(
                (connected..=connected + dialled).contains(&rank.pickable_weight),
                "{rank:?}: {connected} connected, {dialled} being dialled: {status}"
            );
            if rank.share > 0.0 {
                let usable = status.members.iter().filter(|member| {
                    let is_out = matches!(member.state, Ejected | Probation);
                    member.instance.rank() == rank.rank
                        && (member.state == Usable || is_out && status.panic_mode)
                });
                used += usable.count();
            }
        }
        assert_eq!(status.usable, used, "{status}");
        let all: f64 = status.ranks.iter().map(|rank| rank.share).sum();
        let expected = if used > 0 { 1.0 } else { 0.0 };
        assert!((all - expected).abs() < 1e-9, "{all}: {status}");
        assert_eq!(world.fleet.unusable_since().is_none(), used > 0);
        assert_eq!(world.pick().is_ok(), used > 0, "{status}");
    }
}
