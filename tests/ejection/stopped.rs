//! One of four servers is stopped by SIGSTOP: it accepts connections and never answers, and no error ever comes.

use std::time::{Duration, Instant};

use rolecall::EjectionReason;

use crate::server::Work;
use crate::stage::{Length, Stage, insist, pass};

const SECOND: Duration = Duration::from_secs(1);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stopped_server_is_ejected_by_callers_that_give_up_after_a_second_and_comes_back() {
    insist(Length::Short, async |length| {
        one_is_stopped(SECOND, length).await
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stopped_server_is_ejected_by_callers_that_give_up_after_a_tenth_and_comes_back() {
    insist(Length::Short, async |length| {
        one_is_stopped(SECOND / 10, length).await
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "5 minutes: ten times a server is stopped for 10 s"]
async fn of_the_time_a_server_is_stopped_half_a_percent_fails_and_it_is_back_within_twenty_seconds()
{
    for patience in [SECOND, SECOND / 10] {
        let mut back_after = Vec::new();
        for _ in 0..5 {
            let back = insist(Length::Full, async |length| {
                one_is_stopped(patience, length).await
            })
            .await;
            back_after.extend(back);
        }
        back_after.sort_unstable();
        let median = back_after[back_after.len() / 2];
        println!("patience {patience:?}: back after {back_after:.1?}, median {median:.1?}");
        assert!(
            median <= 20 * SECOND,
            "a median of {median:?} until it is back"
        );
    }
}

/// Returns how long after SIGCONT its share was back, unless the machine was too busy.
async fn one_is_stopped(patience: Duration, length: Length) -> Option<Duration> {
    let work = Work::unlimited(Duration::from_millis(2));
    let (stage, rate) = match length {
        Length::Full => (Stage::of(4, work).await, 500.0),
        Length::Short => (Stage::hasty(4, work).await, 200.0),
    };
    let load = stage.load(rate, Some(patience));
    pass(2 * SECOND).await;
    let stopped_at = Instant::now();
    let stopped = stage.servers[0].stop();
    match length {
        Length::Full => pass(10 * SECOND).await,
        Length::Short => stage.until(0, |status| status.usable == 3).await,
    }
    let ejection = stage.member("a").ejection;
    drop(stopped);
    let continued_at = Instant::now();
    let after = |at: Instant| match at.checked_duration_since(continued_at) {
        Some(after) => after.as_secs_f64(),
        None => -(continued_at - at).as_secs_f64(),
    };

    let back_after = loop {
        let now = Instant::now();
        let recent = load.so_far().sent(now - 2 * SECOND, now);
        let after = now - continued_at;
        if after >= 2 * SECOND && recent.share("a") >= 0.7 / 4.0 {
            break after;
        }
        assert!(
            after < 60 * SECOND,
            "never back: {}\n{}",
            stage.client().control().status(),
            stage.timeline()
        );
        pass(SECOND / 10).await;
    };
    let calls = load.finish().await;
    let in_that_time = calls.sent(stopped_at, continued_at).0.len();
    let failed = calls.sent(stopped_at - 2 * SECOND, continued_at);
    let percent = 100.0 * failed.failed() as f64 / in_that_time as f64;
    println!(
        "stopped for {:.1} s, patience {patience:?}: {} of {in_that_time} failed, {percent:.2} %; share back after {:.1} s; mean before {:?}; {}\n{}",
        -after(stopped_at),
        failed.failed(),
        back_after.as_secs_f64(),
        calls
            .sent(stopped_at - 2 * SECOND, stopped_at)
            .mean_latency(),
        stage.census(),
        ejections(&stage, after),
    );
    if calls.starved() {
        return None;
    }
    // Of the time that is promised; in a shorter one as many fail.
    let allowed = 10.0 * rate * 0.005;
    assert!(
        failed.failed() as f64 <= allowed,
        "{} of that time failed:{}\n{}",
        failed.failed(),
        failed.errors(),
        stage.timeline()
    );
    let unresponsive = |reason| matches!(reason, EjectionReason::Unresponsive { .. });
    assert!(
        ejection
            .as_ref()
            .is_some_and(|ejection| unresponsive(ejection.reason)),
        "status says that it is unresponsive: {ejection:?}\n{}",
        stage.timeline()
    );
    let others = stage.client().control().status().members.split_off(1);
    assert!(
        others.iter().all(|other| other.ejection.is_none()),
        "nobody else is ejected:\n{}",
        stage.timeline()
    );
    let later = calls.sent(continued_at, Instant::now());
    assert!(
        later.failed_percent() <= 0.5,
        "{:.2} % failed after it went on:{}",
        later.failed_percent(),
        later.errors()
    );
    Some(back_after)
}

fn ejections(stage: &Stage, after: impl Fn(Instant) -> f64) -> String {
    use rolecall::Event::{Ejected, Probation, Returned, TrialFailed};
    let told = stage.events().into_iter().filter(|(_, event)| {
        matches!(
            event,
            Ejected { .. } | TrialFailed { .. } | Probation { .. } | Returned { .. }
        )
    });
    told.map(|(at, event)| format!("  {:+.1} s: {event}\n", after(at)))
        .collect()
}
