//! Ejection and return: what the balancer promises of instances that turn bad, one test for each row of the table in the
//! crate documentation that needs it.

use std::time::Duration;

use crate::support::{Does, Stage, next_event};
use rolecall::{EjectionReason, Event, MemberState};
use tokio::time::{Instant, advance, sleep, timeout};

const MS: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);

/// Has each instance answer a while, so that the fleet's mean latency, 10 ms, is known.
async fn warm(ids: &[&str]) -> Stage {
    let stage = Stage::of(ids).await;
    stage.shares(100).await;
    stage
}

#[tokio::test(start_paused = true)]
async fn a_pause_of_half_a_second_ejects_nobody_however_many_give_up_in_it() {
    let stage = warm(&["a", "b"]).await;
    stage.node("a").when_called(Does::Hang);
    let began = Instant::now();
    while began.elapsed() < 500 * MS {
        let callers = (0..20).map(|_| timeout(200 * MS, stage.call()));
        futures::future::join_all(callers).await;
    }
    assert!(stage.member("a").failures_in_row > 10, "many gave up");
    assert_eq!(stage.balance.status().ejections.detected, 0);
    stage.node("a").when_called(Does::Answer(10 * MS));
    assert!(
        stage.shares(200).await.contains_key("a"),
        "it is still picked"
    );
}
