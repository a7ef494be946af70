//! Who is ejected, one test for each row of the table in the crate documentation.

use crate::ejection::{ANSWERS, MS, SECOND, all_calls_hang, call_until, is, warm};
use crate::support::{Does, next_event};
use rolecall::{EjectionReason, Event, MemberState};
use tokio::time::{Instant, sleep, timeout};

#[tokio::test(start_paused = true)]
async fn an_instance_that_answers_errors_at_once_is_soon_ejected() {
    let stage = warm(&["a", "b", "c"]).await;
    let a = stage.node("a");
    let before = a.calls();
    a.when_called(Does::Fail);
    call_until(&stage, is("a", MemberState::Ejected)).await;
    let cost = a.calls() - before;
    assert!(cost <= 5, "{cost} requests failed before it was ejected");
    let reason = stage.member("a").ejection.unwrap().reason;
    assert!(
        matches!(reason, EjectionReason::FailuresInRow { .. }),
        "{reason}"
    );

    // Ejected, it gets nothing at all.
    let before = a.calls();
    stage.shares(200).await;
    assert_eq!(a.calls(), before);
}

#[tokio::test(start_paused = true)]
async fn an_instance_that_hangs_is_ejected_as_unresponsive_although_no_error_ever_came() {
    let stage = warm(&["a", "b", "c", "d"]).await;
    stage.node("a").when_called(Does::Hang);
    call_until(&stage, is("a", MemberState::Ejected)).await;
    let member = stage.member("a");
    let reason = member.ejection.unwrap().reason;
    assert!(
        matches!(reason, EjectionReason::Unresponsive { .. }),
        "{reason}"
    );
    assert_eq!(stage.in_flight(), 0, "who gave up holds no slot");
}

#[tokio::test(start_paused = true)]
async fn a_pause_of_half_a_second_ejects_nobody_however_many_give_up_in_it() {
    let stage = all_calls_hang().await;
    let began = Instant::now();
    while began.elapsed() < 500 * MS {
        let callers = (0..20).map(|_| timeout(250 * MS, stage.call()));
        futures::future::join_all(callers).await;
    }
    assert!(stage.member("a").failures_in_row > 20, "many gave up");
    assert_eq!(stage.balance.control().status().ejections.detected, 0);
    assert_eq!(stage.state("a"), Some(MemberState::Usable));
}

#[tokio::test(start_paused = true)]
async fn where_every_instance_is_bad_all_of_them_keep_being_asked() {
    let ids = ["a", "b", "c", "d", "e"];
    let stage = warm(&ids).await;
    ids.iter()
        .for_each(|id| stage.node(id).when_called(Does::Fail));
    for _ in 0..1000 {
        stage.call().await.unwrap_err();
        sleep(MS).await;
    }
    let status = stage.balance.control().status();
    assert_eq!(status.usable, 5, "nobody is worse than usual: {status}");
    assert_eq!(status.ejections.detected, 0, "{status}");
    assert!(status.members.iter().all(|m| m.failures > 100), "{status}");

    ids.iter()
        .for_each(|id| stage.node(id).when_called(ANSWERS));
    stage
        .call()
        .await
        .expect("whoever is asked answers at once");
}

#[tokio::test(start_paused = true)]
async fn the_last_instance_is_never_ejected() {
    let stage = warm(&["a"]).await;
    stage.node("a").when_called(Does::Fail);
    for _ in 0..100 {
        let error = stage.call().await.unwrap_err();
        assert!(error.was_sent(), "it is asked all the same");
    }
    assert_eq!(stage.state("a"), Some(MemberState::Usable));
}

#[tokio::test(start_paused = true)]
async fn where_all_are_ejected_by_hand_all_are_picked_from() {
    let stage = warm(&["a", "b"]).await;
    let mut events = stage.balance.control().events();
    assert!(stage.balance.control().eject(&"a".into(), 60 * SECOND));
    assert!(stage.balance.control().eject(&"b".into(), 60 * SECOND));
    next_event(&mut events, |e| {
        matches!(e, Event::PanicModeBegan { members: 2, .. })
    })
    .await;
    assert!(stage.balance.control().status().panic_mode);
    assert_eq!(stage.shares(100).await.len(), 2, "both answer");

    assert!(stage.balance.control().restore(&"a".into()));
    next_event(&mut events, |e| matches!(e, Event::PanicModeEnded)).await;
    assert_eq!(stage.shares(100).await.len(), 1, "a alone");
}
