//! How soon the dead are gone, and that nobody else is.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use rolecall::Discovery;
use rustix::process::Signal;

use crate::child::Child;
use crate::{Answers, Place, registered};

/// Kills registrants, also the last and the only one, and says how long each was seen after that.
#[expect(clippy::disallowed_methods, reason = "measures real processes")]
async fn deaths(parent: PathBuf, kills: usize) -> Vec<Duration> {
    let place = Place::within(parent);
    let mut answers = Answers::of(&place.folder());
    let mut took = Vec::new();
    for kill in 0..kills {
        let with_another = kill % 2 == 0;
        let other = match with_another {
            true => Some(registered(&place.folder(), "lives").await),
            false => None,
        };
        let mut child = Child::start(&place.0, "dies");
        let (before, after) = match with_another {
            true => (&["dies", "lives"][..], &["lives"][..]),
            false => (&["dies"][..], &[][..]),
        };
        answers.ids(before).await;
        let began = Instant::now();
        child.kill();
        let set = answers.ids(after).await;
        took.push(began.elapsed());
        assert!(set.is_confirmed(), "also of the last one");
        if let Some(other) = other {
            other.deregister().await.unwrap();
            answers.ids(&[]).await;
        }
    }
    took.sort_unstable();
    took
}

fn judge(took: &[Duration]) {
    let (median, most) = (took[took.len() / 2], took[took.len() - 1]);
    println!(
        "{} kills: gone after {median:?} in the median, {most:?} at most",
        took.len()
    );
    assert!(median < Duration::from_millis(50), "{median:?}");
    assert!(most < Duration::from_secs(1), "{most:?}");
}

#[tokio::test]
async fn a_killed_registrant_is_gone_at_once() {
    judge(&deaths(std::env::temp_dir(), 20).await);
}

#[tokio::test]
async fn a_killed_registrant_is_gone_at_once_from_memory() {
    judge(&deaths(PathBuf::from("/dev/shm"), 20).await);
}

#[tokio::test]
async fn a_killed_registrant_is_gone_at_once_in_the_checkout() {
    judge(&deaths(PathBuf::from(env!("CARGO_TARGET_TMPDIR")), 20).await);
}

/// Stops all processes, registrants and a watcher, as a machine that is suspended does, and lets them go on.
async fn suspended(seconds: u64) {
    let place = Place::new();
    let children = ["a", "b", "c"].map(|id| Child::start(&place.0, id));
    let mut watcher = Child::watch(&place.0);
    assert_eq!(watcher.told(3), ["a b c"]);
    let mut answers = Answers::of(&place.folder());
    answers.ids(&["a", "b", "c"]).await;
    for child in children.iter().chain([&watcher]) {
        child.signal(Signal::STOP);
    }
    let mut fresh = Answers::of(&place.folder());
    fresh.ids(&["a", "b", "c"]).await;
    let stopped = tokio::time::timeout(Duration::from_secs(seconds), answers.next());
    assert!(
        stopped.await.is_err(),
        "nothing is timed, so nothing happens"
    );
    for child in children.iter().chain([&watcher]) {
        child.signal(Signal::CONT);
    }
    let _fourth = registered(&place.folder(), "d").await;
    answers.ids(&["a", "b", "c", "d"]).await;
    assert_eq!(watcher.told(4), ["a b c d"], "nobody had expired before");
}

#[tokio::test]
async fn stopped_registrants_stay_and_go_on() {
    suspended(3).await;
}

#[tokio::test]
#[ignore = "half a minute"]
async fn a_suspended_machine_expires_nobody() {
    suspended(30).await;
}

/// How often registrants that nothing happens to wake up, and what they compute.
async fn idle(registrants: usize, seconds: u64) {
    let place = Place::new();
    let children: Vec<_> = (0..registrants)
        .map(|id| Child::start(&place.0, &id.to_string()))
        .collect();
    let mut peers = place.folder().peers(&rolecall::Boundary::default());
    let everybody = async {
        loop {
            let answer = futures::StreamExt::next(&mut peers).await.unwrap();
            if answer.is_ok_and(|set| set.len() == registrants) {
                break;
            }
        }
    };
    everybody.await;
    // The looks that follow a change end after a second, idle threads of tokio's pool for blocking work after ten. A thread that
    // ends takes its count of wake-ups along.
    tokio::time::sleep(Duration::from_secs(12)).await;
    let sum = |of: fn(&Child) -> u64| children.iter().map(of).sum::<u64>();
    let before = (sum(Child::wake_ups), sum(Child::ticks));
    tokio::time::sleep(Duration::from_secs(seconds)).await;
    let woken = sum(Child::wake_ups) - before.0;
    let ticks = sum(Child::ticks) - before.1;
    println!("{registrants} registrants, {seconds} s: {woken} wake-ups, {ticks} ticks of CPU");
    let few = u64::try_from(registrants).unwrap();
    assert!(woken <= few, "{woken} wake-ups in {seconds} s");
}

#[tokio::test]
async fn registrants_that_nothing_happens_to_sleep() {
    idle(5, 3).await;
}

#[tokio::test]
#[ignore = "two hundred processes for a minute"]
async fn two_hundred_registrants_that_nothing_happens_to_sleep() {
    idle(200, 60).await;
}
