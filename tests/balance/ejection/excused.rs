//! What is nobody's fault ejects nobody; and time passes also where nobody sends.

use std::pin::pin;

use crate::ejection::{ANSWERS, MS, SECOND, all_calls_hang, is, warm};
use crate::support::{Does, next_event};
use rolecall::{Event, MemberState};
use tokio::time::{Instant, advance, sleep, timeout};

#[tokio::test(start_paused = true)]
async fn a_standstill_of_the_process_itself_is_charged_to_nobody() {
    let stage = warm(&["a", "b"]).await;
    stage.node("a").when_called(Does::Hang);
    stage.node("b").when_called(Does::Hang);
    let callers = (0..100).map(|_| timeout(SECOND, stage.call()));
    let callers = futures::future::join_all(callers);
    // All of them wait when the clock jumps: no timer is on time, neither theirs nor the balancer's.
    let (gave_up, ()) = futures::join!(callers, async {
        sleep(100 * MS).await;
        advance(5 * SECOND).await;
    });
    assert!(gave_up.iter().all(Result::is_err));
    let status = stage.balance.control().status();
    assert_eq!(status.ejections.detected, 0, "{status}");
    assert!(
        status.members.iter().all(|member| member.failures == 0),
        "{status}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_standstill_makes_no_silence_of_a_pause_before_it_and_one_after_it() {
    let stage = all_calls_hang().await;
    // While one waits, whether the process stands still is watched.
    let mut waits = pin!(stage.call());
    assert!(futures::poll!(waits.as_mut()).is_pending());
    let give_up_together = async || {
        let callers = (0..20).map(|_| timeout(250 * MS, stage.call()));
        futures::future::join_all(callers).await;
    };
    give_up_together().await;
    assert_eq!(stage.member("a").failures_in_row, 20, "a pause");
    advance(5 * SECOND).await;
    sleep(MS).await;
    give_up_together().await;
    assert_eq!(stage.member("a").failures_in_row, 40, "and another one");
    assert_eq!(stage.balance.control().status().ejections.detected, 0);
    sleep(SECOND).await;
    give_up_together().await;
    assert_eq!(
        stage.balance.control().status().ejections.detected,
        1,
        "silence"
    );
}

#[tokio::test(start_paused = true)]
async fn a_trial_that_spans_a_standstill_judges_nobody() {
    let stage = warm(&["a", "b"]).await;
    assert!(stage.balance.control().eject(&"a".into(), MS));
    stage.until(is("a", MemberState::Probation)).await;
    stage.node("a").when_called(Does::Answer(1200 * MS));
    let mut events = stage.balance.control().events();
    let (answer, ()) = futures::join!(stage.call(), async {
        sleep(100 * MS).await;
        advance(SECOND).await;
    });
    assert_eq!(answer.unwrap(), "a");
    assert_eq!(
        stage.state("a"),
        Some(MemberState::Probation),
        "neither back nor out for longer"
    );
    stage.node("a").when_called(ANSWERS);
    stage.call().await.unwrap();
    let judged = |e: &Event| matches!(e, Event::TrialFailed { .. } | Event::Returned { .. });
    let judged = next_event(&mut events, judged).await;
    assert!(matches!(judged, Event::Returned { .. }), "{judged}");
}

#[tokio::test(start_paused = true)]
async fn while_nobody_sends_an_ejection_ends_on_time() {
    let stage = warm(&["a", "b"]).await;
    let mut events = stage.balance.control().events();
    stage.balance.control().eject(&"a".into(), 50 * SECOND);
    let began = Instant::now();
    next_event(&mut events, |e| matches!(e, Event::Probation { .. })).await;
    let took = began.elapsed();
    assert!((50 * SECOND..51 * SECOND).contains(&took), "{took:?}");
}
