//! Many threads that detect and change the same thing.

use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::thread;

use rand::SeedableRng;
use rand::rngs::SmallRng;
use rolecall::MemberState::{Ejected, Probation, Usable};

use crate::scenario::{MS, SECOND, Scenario, fleet};

/// Picks of one member, made long enough ago that a run of them outlasts the requests in flight.
fn picks(scenario: &mut Scenario, id: &str, picks: usize) -> Vec<rolecall::fleet::Pick<()>> {
    let picks = (0..picks).map(|_| scenario.pick(id)).collect();
    scenario.pass(30 * MS);
    picks
}

#[test]
fn two_threads_that_report_the_same_run_eject_once() {
    for _ in 0..200 {
        let mut scenario = fleet(3);
        let (one, other) = (picks(&mut scenario, "a", 5), picks(&mut scenario, "a", 5));
        let now = scenario.now();
        thread::scope(|scope| {
            for picks in [one, other] {
                scope.spawn(move || picks.into_iter().for_each(|pick| _ = pick.failure(now)));
            }
        });
        scenario
            .is("a", Ejected)
            .in_flight_is("a", 0)
            .counted([1, 1, 0, 0, 0, 0])
            .story_is("a", ["ejected"]);
    }
}

#[test]
fn two_runs_that_race_for_the_last_place_eject_one_member() {
    for _ in 0..200 {
        let mut scenario = fleet(3);
        let (a, b) = (picks(&mut scenario, "a", 5), picks(&mut scenario, "b", 5));
        let now = scenario.now();
        thread::scope(|scope| {
            for picks in [a, b] {
                scope.spawn(move || picks.into_iter().for_each(|pick| _ = pick.failure(now)));
            }
        });
        // Each is a yardstick for the other, or is out when the other is judged.
        let counted = scenario.status().ejections;
        assert!(counted.ejected <= 1, "{}", scenario.table());
        assert_eq!(counted.detected, counted.ejected + counted.refused_by_cap);
        let usable = 3 - counted.ejected as usize;
        assert_eq!(scenario.status().usable, usable, "{}", scenario.table());
    }
}

#[test]
fn many_threads_that_detect_a_withheld_outlier_report_it_once() {
    for _ in 0..200 {
        let mut scenario = fleet(1);
        let all: Vec<_> = (0..8).map(|_| picks(&mut scenario, "a", 5)).collect();
        let now = scenario.now();
        thread::scope(|scope| {
            for picks in all {
                scope.spawn(move || picks.into_iter().for_each(|pick| _ = pick.failure(now)));
            }
        });
        scenario
            .is("a", Usable)
            .counted([1, 0, 1, 0, 0, 0])
            .story_is("a", ["withheld"]);
    }
}

#[test]
fn an_ejection_is_seen_by_the_very_next_pick_on_any_thread() {
    for round in 0..200 {
        let mut scenario = fleet(3);
        let failing = picks(&mut scenario, "a", 5);
        let (now, fleet, reported) = (scenario.now(), &scenario.fleet, AtomicBool::new(false));
        let reported = &reported;
        thread::scope(|scope| {
            for thread in 0..3 {
                scope.spawn(move || {
                    let mut rng = SmallRng::seed_from_u64(round * 3 + thread);
                    let mut after = 0;
                    while after < 50 {
                        let known = reported.load(SeqCst);
                        let pick = fleet.pick(now, &mut rng, &[]).unwrap();
                        assert!(
                            !known || *pick.instance().id() != *"a",
                            "picked after its ejection was reported"
                        );
                        after += u32::from(known);
                    }
                });
            }
            scope.spawn(move || {
                failing.into_iter().for_each(|pick| _ = pick.failure(now));
                reported.store(true, SeqCst);
            });
        });
        scenario.is("a", Ejected);
    }
}

#[test]
fn one_of_many_threads_gets_the_trial() {
    for round in 0..200 {
        let mut scenario = fleet(3);
        scenario.fail("a", 5).outlast("a").is("a", Probation);
        let (now, fleet) = (scenario.now(), &scenario.fleet);
        let picked: Vec<_> = thread::scope(|scope| {
            let threads: Vec<_> = (0..4)
                .map(|thread| {
                    scope.spawn(move || {
                        let mut rng = SmallRng::seed_from_u64(round * 4 + thread);
                        (0..5)
                            .map(|_| fleet.pick(now, &mut rng, &[]).unwrap())
                            .collect::<Vec<_>>()
                    })
                })
                .collect();
            let picks = threads.into_iter().flat_map(|t| t.join().unwrap());
            picks.collect()
        });
        let trials = picked.iter().filter(|pick| *pick.instance().id() == *"a");
        assert_eq!(trials.count(), 1, "one trial at a time");
        picked.into_iter().for_each(|pick| _ = pick.success(now));
        scenario
            .is("a", Usable)
            .in_flight_is("a", 0)
            .counted([1, 1, 0, 1, 1, 0]);
    }
}

#[test]
fn ejecting_restoring_and_picking_from_many_threads_leaks_nothing() {
    let mut scenario = fleet(4);
    let (now, fleet) = (scenario.now(), &scenario.fleet);
    thread::scope(|scope| {
        for thread in 0..4_u64 {
            scope.spawn(move || {
                let mut rng = SmallRng::seed_from_u64(thread);
                for step in 0..2000_u32 {
                    let id = ["a", "b", "c", "d"][(step % 4) as usize].into();
                    let now = now + step * SECOND / 1000;
                    match (thread, step % 7) {
                        (0, 0) => _ = fleet.eject(&id, SECOND / 100, now),
                        (0, 3) => _ = fleet.restore(&id, now),
                        (1, _) => _ = fleet.on_deadline(now),
                        _ => {
                            let Ok(pick) = fleet.pick(now, &mut rng, &[]) else {
                                continue;
                            };
                            match step % 5 {
                                0 => pick.success(now),
                                1 => pick.cancelled(now),
                                2 => pick.neutral(),
                                _ => pick.failure(now),
                            };
                        }
                    }
                }
            });
        }
    });
    scenario.pass(100 * SECOND);
    for id in ["a", "b", "c", "d"] {
        scenario.in_flight_is(id, 0);
        assert!(
            !matches!(scenario.member(id).state, Ejected),
            "an ejection did not end\n{}",
            scenario.table()
        );
    }
}
