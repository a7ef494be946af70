//! The callers' own process stands still: every thread of its runtime is blocked.

use std::sync::{Arc, Barrier};
use std::time::Duration;

use rolecall::{Event, MemberStatus};

use crate::server::{Server, Work};
use crate::stage::{Length, Stage, pass};

const WORKERS: usize = 2;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_runtime_that_was_blocked_for_two_seconds_ejects_nobody() {
    stall(Length::Short).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "2 minutes: twenty stalls of 2 s"]
async fn a_runtime_that_is_blocked_again_and_again_ejects_nobody() {
    stall(Length::Full).await;
}

async fn stall(length: Length) {
    let (rate, stalls) = match length {
        Length::Full => (500.0, 10),
        Length::Short => (200.0, 1),
    };
    // The servers may stand still as well, so that nothing is answered that was under way when it began.
    for (patience, stops) in [
        (Duration::from_secs(2), true),
        (Duration::from_millis(100), false),
    ] {
        let stage = Stage::of(4, Work::unlimited(Duration::from_millis(2))).await;
        let load = stage.load(rate, Some(patience));
        for _ in 0..stalls {
            pass(Duration::from_secs(2)).await;
            let stopped: Vec<_> = stage
                .servers
                .iter()
                .filter(|_| stops)
                .map(Server::stop)
                .collect();
            if stops {
                // Charged, they would eject.
                let many = |member: &MemberStatus| member.in_flight >= 10;
                stage
                    .until(0, |status| status.members.iter().all(many))
                    .await;
            }
            block_all_workers(Duration::from_secs(2)).await;
            drop(stopped);
        }
        pass(Duration::from_secs(2)).await;
        let calls = load.finish().await;
        println!(
            "{stalls} stalls, patience {patience:?}: {} of {} failed; {}",
            calls.failed(),
            calls.0.len(),
            stage.census()
        );
        assert!(
            calls.0.len() as f64 > 0.9 * rate * f64::from(4 * stalls + 2),
            "what was due while it was blocked is made up for: {} calls",
            calls.0.len()
        );
        let is_verdict = |event: &Event| {
            matches!(
                event,
                Event::Ejected { .. } | Event::EjectionWithheld { .. }
            )
        };
        let verdicts = stage
            .events()
            .iter()
            .filter(|(_, event)| is_verdict(event))
            .count();
        assert_eq!(
            verdicts,
            0,
            "somebody was charged:{}\n{}",
            calls.errors(),
            stage.timeline()
        );
    }
}

/// All at the same time: each waits for the other ones first.
async fn block_all_workers(time: Duration) {
    let all = Arc::new(Barrier::new(WORKERS));
    let blocked: Vec<_> = (0..WORKERS)
        .map(|_| {
            let all = Arc::clone(&all);
            tokio::spawn(async move {
                all.wait();
                std::thread::sleep(time);
            })
        })
        .collect();
    for worker in blocked {
        worker.await.unwrap();
    }
}
