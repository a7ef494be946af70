//! Ejection and return: what the balancer promises of instances that turn bad.

mod control;
mod excused;
mod return_to_play;
mod rules;

use std::time::Duration;

use crate::support::{Does, Stage, instance};
use rolecall::{Availability, MemberState, Status};
use tokio::time::timeout;

const MS: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);
const ANSWERS: Does = Does::Answer(Duration::from_millis(10));

/// Has each instance answer a while, so that the fleet's mean latency, 10 ms, is known.
async fn warm(ids: &[&str]) -> Stage {
    let stage = Stage::of(ids).await;
    stage.shares(100).await;
    stage
}

/// Two instances, and all calls go to `a`, which hangs: `b` is busy. Who waits for more than 200 ms, twenty times the mean
/// latency, gives up on an unanswered call.
async fn all_calls_hang() -> Stage {
    let stage = warm(&["a", "b"]).await;
    let busy = instance("b").with_availability(Availability::Busy);
    stage.announce([instance("a"), busy].into_iter().collect());
    stage.until(|status| status.usable == 1).await;
    stage.node("a").when_called(Does::Hang);
    stage
}

/// Calls, one after another, until it is so; who waits for a second gives up.
async fn call_until(stage: &Stage, reached: impl Fn(&Status) -> bool) {
    let mut calls = 0;
    while !reached(&stage.balance.control().status()) {
        assert!(
            calls < 10_000,
            "never reached: {}",
            stage.balance.control().status()
        );
        let _ = timeout(SECOND, stage.call()).await;
        calls += 1;
    }
}

fn is(id: &'static str, state: MemberState) -> impl Fn(&Status) -> bool {
    move |status| {
        let mut members = status.members.iter();
        members.any(|member| *member.instance.id() == *id && member.state == state)
    }
}
