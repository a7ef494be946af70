//! How who was ejected comes back, one test for each row of the table in the crate documentation.

use std::collections::HashMap;

use crate::ejection::{ANSWERS, MS, SECOND, call_until, is, warm};
use crate::support::{Does, Gets, addr, instance, next_event, set};
use rolecall::{Event, Instance, MemberState, Weight};
use tokio::time::{Instant, timeout};

#[tokio::test(start_paused = true)]
async fn a_recovered_instance_is_tried_by_one_request_and_comes_back_step_by_step() {
    let stage = warm(&["a", "b"]).await;
    let a = stage.node("a");
    a.when_called(Does::Fail);
    call_until(&stage, is("a", MemberState::Ejected)).await;
    stage.until(is("a", MemberState::Probation)).await;
    a.when_called(ANSWERS);
    let before = a.calls();
    let callers: Vec<_> = (0..50).map(|_| stage.call()).collect();
    futures::future::join_all(callers).await;
    assert_eq!(a.calls() - before, 1, "one trial at a time");
    assert_eq!(stage.state("a"), Some(MemberState::Usable));

    // Ten callers at a time, for the five seconds of slow start.
    let mut shares = Vec::new();
    for _ in 0..6 {
        let (began, mut answers) = (Instant::now(), HashMap::<String, f64>::new());
        while began.elapsed() < SECOND {
            let callers = (0..10).map(|_| stage.call());
            for answer in futures::future::join_all(callers).await {
                *answers.entry(answer.unwrap()).or_default() += 1.0;
            }
        }
        let a = answers.get("a").copied().unwrap_or_default();
        shares.push(a / (a + answers["b"]));
    }
    assert!(shares[0] < 0.35, "no stampede: {shares:?}");
    assert!(shares[5] > 0.4, "and wholly back: {shares:?}");
}

#[tokio::test(start_paused = true)]
async fn a_failed_trial_keeps_the_instance_out_for_longer() {
    let stage = warm(&["a", "b"]).await;
    let mut events = stage.balance.control().events();
    stage.node("a").when_called(Does::Fail);
    call_until(&stage, is("a", MemberState::Ejected)).await;
    stage.until(is("a", MemberState::Probation)).await;
    let before = stage.node("a").calls();
    stage.shares(100).await;
    assert_eq!(stage.node("a").calls() - before, 1, "one request finds out");
    let failed = next_event(&mut events, |e| matches!(e, Event::TrialFailed { .. })).await;
    let Event::TrialFailed { time, .. } = failed else {
        unreachable!()
    };
    assert!((10 * SECOND..=20 * SECOND).contains(&time), "{time:?}");
    assert_eq!(stage.state("a"), Some(MemberState::Ejected));
    assert_eq!(stage.member("a").ejection.unwrap().multiplier, 2);
}

#[tokio::test(start_paused = true)]
async fn a_trial_that_hangs_has_failed_after_a_second_and_the_next_one_has_its_place() {
    let stage = warm(&["a", "b"]).await;
    let mut events = stage.balance.control().events();
    let a = stage.node("a");
    assert!(stage.balance.control().eject(&"a".into(), MS));
    stage.until(is("a", MemberState::Probation)).await;
    a.when_called(Does::Hang);
    let began = Instant::now();
    let mut hung = std::pin::pin!(stage.call());
    assert!(futures::poll!(hung.as_mut()).is_pending());
    assert_eq!(stage.in_flight(), 1, "the trial");
    let failed = next_event(&mut events, |e| matches!(e, Event::TrialFailed { .. }));
    let mut failed = std::pin::pin!(failed);
    while futures::poll!(failed.as_mut()).is_pending() {
        assert_eq!(stage.call().await.unwrap(), "b");
    }
    let waited = began.elapsed();
    assert!((SECOND..SECOND + 200 * MS).contains(&waited), "{waited:?}");

    a.when_called(ANSWERS);
    call_until(&stage, is("a", MemberState::Usable)).await;
    assert!(
        futures::poll!(hung.as_mut()).is_pending(),
        "nobody ended it"
    );
}

#[tokio::test(start_paused = true)]
async fn an_id_that_comes_back_on_a_new_address_while_ejected_is_tried_at_once() {
    let stage = warm(&["a", "b"]).await;
    stage.node("a").when_called(Does::Fail);
    call_until(&stage, is("a", MemberState::Ejected)).await;
    stage.node("a").when_called(ANSWERS);
    let began = Instant::now();
    stage.announce(
        [Instance::new("a", addr(81)), instance("b")]
            .into_iter()
            .collect(),
    );
    stage.until(is("a", MemberState::Probation)).await;
    stage.shares(1).await;
    stage.until(is("a", MemberState::Usable)).await;
    assert!(began.elapsed() < SECOND, "{:?}", began.elapsed());
}

#[tokio::test(start_paused = true)]
async fn an_id_that_leaves_and_comes_back_while_ejected_is_new() {
    let stage = warm(&["a", "b"]).await;
    stage.node("a").when_called(Does::Fail);
    call_until(&stage, is("a", MemberState::Ejected)).await;
    stage.announce(set(["b"]));
    stage.until(|status| status.members.len() == 1).await;
    stage.announce(set(["a", "b"]));
    stage.until(is("a", MemberState::Usable)).await;
    assert_eq!(stage.member("a").ejection, None);
    call_until(&stage, is("a", MemberState::Ejected)).await;
    let multiplier = stage.member("a").ejection.unwrap().multiplier;
    assert_eq!(multiplier, 1, "as the first time");
}

#[tokio::test(start_paused = true)]
async fn an_announcement_of_another_weight_changes_no_ejection() {
    let stage = warm(&["a", "b"]).await;
    stage.balance.control().eject(&"a".into(), 60 * SECOND);
    let heavier = instance("a").with_weight(Weight::new(7));
    stage.announce([heavier, instance("b")].into_iter().collect());
    stage
        .until(|status| status.members[0].instance.weight().get() == 7)
        .await;
    assert_eq!(stage.state("a"), Some(MemberState::Ejected));
    assert_eq!(stage.shares(50).await.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn an_instance_that_is_dialled_again_while_ejected_stays_ejected() {
    let stage = warm(&["a", "b"]).await;
    stage.balance.control().eject(&"a".into(), 10 * SECOND);
    stage.until(is("a", MemberState::Probation)).await;
    let a = stage.node("a");
    a.when_polled(Gets::Refused);
    assert_eq!(stage.call().await.unwrap(), "b", "the trial was not sent");
    a.when_polled(Gets::Ready);
    stage.until(is("a", MemberState::Probation)).await;
    stage.shares(1).await;
    stage.until(is("a", MemberState::Usable)).await;
}

#[tokio::test(start_paused = true)]
async fn callers_less_patient_than_a_trial_are_not_sent_to_hung_instances_for_ever() {
    let stage = warm(&["a", "b", "c", "d"]).await;
    for id in ["a", "b"] {
        stage.node(id).when_called(Does::Hang);
        assert!(stage.balance.control().eject(&id.into(), MS));
        stage.until(is(id, MemberState::Probation)).await;
    }
    let calls = || stage.node("a").calls() + stage.node("b").calls();
    let before = calls();
    for _ in 0..200 {
        let _ = timeout(40 * MS, stage.call()).await;
    }
    let lost = calls() - before;
    assert!(
        lost <= 4,
        "{lost} of 200 requests, one after another, were their trials"
    );
    // Their silence adds up, at one trial of two hundred requests.
    for id in ["a", "b"] {
        call_until(&stage, is(id, MemberState::Ejected)).await;
    }
}
