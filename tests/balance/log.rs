//! What the log says at `info`: a warning when something begins, an info when it ends, and nothing in between.

use std::time::Duration;

use rolecall::BalanceConfig;
use tokio::time::sleep;
use tracing::Level;

use crate::captured::Captured;

use crate::support::{Does, Gets, Stage, set};

const MS: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);

impl Captured {
    /// The lines since the last call, without the fields.
    fn take(&self) -> Vec<String> {
        let written = std::mem::take(&mut *self.0.lock().unwrap());
        let lines = String::from_utf8(written).unwrap();
        let text = |line: &str| {
            let line = line.trim_start().replace("rolecall: ", "");
            line.split(" target=").next().unwrap_or(&line).to_owned()
        };
        lines.lines().map(text).collect()
    }
}

/// Whether the lines are as many, and each has what stands between the ellipses, in order.
#[track_caller]
fn assert_lines(lines: &[String], expected: &[&str]) {
    assert_eq!(lines.len(), expected.len(), "{lines:#?}");
    for (line, expected) in lines.iter().zip(expected) {
        let mut rest = line.as_str();
        for part in expected.split('…') {
            let Some((_, after)) = rest.split_once(part) else {
                panic!("{line:?} has no {part:?} of {expected:?}");
            };
            rest = after;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn one_of_two_that_is_killed_is_a_warning_and_its_return_an_info() {
    let captured = Captured::default();
    let _another = tracing::Dispatch::new(tracing_subscriber::registry());
    let _capture = captured.capture(Level::INFO);
    let stage = Stage::of(&["a", "b"]).await;
    assert_lines(
        &captured.take(),
        &[
            "INFO set changed: 2 added…2 known",
            "INFO an instance is usable, after",
        ],
    );
    let a = stage.node("a");
    a.when_dialled(Gets::Refused);
    a.when_polled(Gets::Refused);
    while a.dials() < 2 {
        let _ = stage.call().await;
        sleep(MS).await;
    }
    sleep(60 * SECOND).await;
    assert_lines(
        &captured.take(),
        &["WARN instance a (127.0.0.1:80) has been unreachable for …the last: refused (111)"],
    );
    a.when_dialled(Gets::Ready);
    a.when_polled(Gets::Ready);
    sleep(10 * SECOND).await;
    assert_lines(
        &captured.take(),
        &["INFO instance a (127.0.0.1:80) is reachable now, after 6…failed dials"],
    );
}

#[tokio::test(start_paused = true)]
async fn a_restart_within_a_second_is_no_line() {
    let captured = Captured::default();
    let _another = tracing::Dispatch::new(tracing_subscriber::registry());
    let stage = Stage::of(&["a", "b"]).await;
    let _capture = captured.capture(Level::INFO);
    let a = stage.node("a");
    a.when_dialled(Gets::Refused);
    a.when_polled(Gets::Refused);
    let before = a.dials();
    while a.dials() == before {
        let _ = stage.call().await;
        sleep(MS).await;
    }
    sleep(300 * MS).await;
    a.when_dialled(Gets::Ready);
    a.when_polled(Gets::Ready);
    sleep(10 * SECOND).await;
    assert_lines(&captured.take(), &[]);
}

#[tokio::test(start_paused = true)]
async fn an_outage_is_one_warning_with_the_census_and_the_cause() {
    let captured = Captured::default();
    let _another = tracing::Dispatch::new(tracing_subscriber::registry());
    let _capture = captured.capture(Level::INFO);
    let stage = Stage::unfed(BalanceConfig::default());
    for id in ["a", "b"] {
        stage.node(id).when_dialled(Gets::Refused);
    }
    stage.announce(set(["a", "b"]));
    sleep(300 * SECOND).await;
    let lines = captured.take();
    assert_lines(
        &lines,
        &[
            "INFO set changed: 2 added",
            "WARN instance …(127.0.0.1:80) has been unreachable",
            "WARN instance …(127.0.0.1:80) has been unreachable",
            "WARN no instance has been usable for 3 s, requests fail at once: 2 known: 2 refused (111)",
        ],
    );
    stage.node("a").when_dialled(Gets::Ready);
    sleep(SECOND).await;
    assert_lines(
        &captured.take(),
        &[
            "INFO instance a (127.0.0.1:80) is reachable now, after 5 min…failed dials",
            "INFO an instance is usable, after 5 min without one; requests are served again",
        ],
    );
}

#[tokio::test(start_paused = true)]
async fn a_mute_discovery_is_one_warning() {
    let captured = Captured::default();
    let _another = tracing::Dispatch::new(tracing_subscriber::registry());
    let _capture = captured.capture(Level::INFO);
    let stage = Stage::unfed(BalanceConfig::default());
    sleep(60 * SECOND).await;
    assert_lines(
        &captured.take(),
        &[
            "WARN no instance has been usable for 3 s, requests fail at once: no set of instances yet",
        ],
    );
    stage.announce(set(["a"]));
    sleep(SECOND).await;
    assert_lines(
        &captured.take(),
        &[
            "INFO set changed: 1 added",
            "INFO an instance is usable, after 60 s without one; requests are served again",
        ],
    );
}

#[tokio::test(start_paused = true)]
async fn a_doubted_set_is_a_warning_and_so_is_that_it_is_believed() {
    let captured = Captured::default();
    let _another = tracing::Dispatch::new(tracing_subscriber::registry());
    let ids: Vec<_> = (0..20).map(|n| format!("i{n:02}")).collect();
    let ids: Vec<_> = ids.iter().map(String::as_str).collect();
    let stage = Stage::of(&ids).await;
    let _capture = captured.capture(Level::INFO);
    stage.announce(set(["i00"]));
    sleep(5 * SECOND).await;
    stage.announce(set(ids.iter().copied()));
    sleep(5 * SECOND).await;
    assert_lines(
        &captured.take(),
        &[
            "WARN discovery's answer is doubted: it has 1 of 20 known instances; missing ones are kept for 30 s",
            "INFO discovery's answer is no longer doubted, after 5 s",
        ],
    );
    stage.announce(set(["i00"]));
    sleep(60 * SECOND).await;
    assert_lines(
        &captured.take(),
        &[
            "WARN discovery's answer is doubted",
            "WARN discovery's answer was doubted for 30 s and is believed now: 20 instances become 1",
            "INFO set changed: 0 added, 19 removed, 0 changed, 1 known; gone: i01, i02, i03, …",
        ],
    );
}

#[tokio::test(start_paused = true)]
async fn an_ejection_is_a_warning_with_the_last_failure_and_its_end_an_info() {
    let captured = Captured::default();
    let _another = tracing::Dispatch::new(tracing_subscriber::registry());
    let stage = Stage::of(&["a", "b"]).await;
    stage.shares(100).await;
    let _capture = captured.capture(Level::INFO);
    stage.node("a").when_called(Does::Fail);
    while stage.balance.control().status().ejections.ejected == 0 {
        let _ = stage.call().await;
        sleep(MS).await;
    }
    stage.node("a").when_called(Does::Answer(10 * MS));
    while stage.balance.control().status().ejections.returned == 0 {
        let _ = stage.call().await;
        sleep(100 * MS).await;
    }
    sleep(SECOND).await;
    assert_lines(
        &captured.take(),
        &[
            "WARN instance a (127.0.0.1:80) ejected for…failures in a row",
            "INFO instance a (127.0.0.1:80) is well again, after",
        ],
    );
}

#[tokio::test(start_paused = true)]
async fn a_reconfiguration_names_what_changed() {
    let captured = Captured::default();
    let _another = tracing::Dispatch::new(tracing_subscriber::registry());
    let stage = Stage::of(&["a"]).await;
    let _capture = captured.capture(Level::INFO);
    let config = BalanceConfig::builder()
        .shrink_grace(5 * SECOND)
        .build()
        .unwrap();
    stage.balance.control().reconfigure(config.clone());
    sleep(SECOND).await;
    stage.balance.control().reconfigure(config);
    sleep(SECOND).await;
    assert_lines(
        &captured.take(),
        &["INFO reconfigured: shrink_grace from 30s to 5s"],
    );
}
