//! What people can do about ejection, and what they get to see of it.

use std::io::{self, Write};
use std::sync::{Arc, Mutex};

use crate::ejection::{ANSWERS, MS, SECOND, call_until, is, warm};
use crate::support::{Does, Stage, next_event};
use rolecall::{BalanceConfig, EjectionReason, Event, MemberState, OutlierConfig};
use tokio::time::sleep;
use tracing_subscriber::fmt::MakeWriter;

#[tokio::test(start_paused = true)]
async fn a_person_ejects_for_a_time_and_restores_before_it_is_over() {
    let stage = warm(&["a", "b"]).await;
    assert!(
        !stage.balance.control().eject(&"nobody".into(), SECOND),
        "not known"
    );
    assert!(!stage.balance.control().restore(&"a".into()), "not out");
    assert!(stage.balance.control().eject(&"a".into(), 60 * SECOND));
    let ejection = stage.member("a").ejection.unwrap();
    assert_eq!(ejection.reason, EjectionReason::Manual);
    assert_eq!(stage.shares(50).await.len(), 1, "from the next pick on");
    assert!(stage.balance.control().restore(&"a".into()));
    assert_eq!(stage.state("a"), Some(MemberState::Usable));
    let callers = (0..100).map(|_| stage.call());
    let answers = futures::future::join_all(callers).await;
    let back = answers
        .iter()
        .filter(|answer| answer.as_deref().is_ok_and(|id| id == "a"));
    assert!(back.count() > 0, "and from the next pick on it is back");
}

#[tokio::test(start_paused = true)]
async fn ejection_switched_off_at_run_time_puts_back_whom_rules_ejected_and_ejects_no_more() {
    let stage = warm(&["a", "b"]).await;
    stage.node("a").when_called(Does::Fail);
    call_until(&stage, is("a", MemberState::Ejected)).await;
    stage
        .balance
        .control()
        .reconfigure(BalanceConfig::builder().outlier(None).build().unwrap());
    assert_eq!(stage.state("a"), Some(MemberState::Usable));
    for _ in 0..1000 {
        let _ = stage.call().await;
    }
    assert_eq!(stage.state("a"), Some(MemberState::Usable));
    assert_eq!(stage.balance.control().status().ejections.detected, 1);

    stage
        .balance
        .control()
        .reconfigure(BalanceConfig::default());
    call_until(&stage, is("a", MemberState::Ejected)).await;
}

#[tokio::test(start_paused = true)]
async fn in_shadow_outliers_are_told_of_and_stay() {
    let shadow = OutlierConfig::builder().shadow(true).build().unwrap();
    let config = BalanceConfig::builder().outlier(shadow).build().unwrap();
    let stage = Stage::with(config, &["a", "b"]).await;
    let mut events = stage.balance.control().events();
    stage.node("a").when_called(Does::Fail);
    for _ in 0..20 {
        let callers = (0..10).map(|_| stage.call());
        futures::future::join_all(callers).await;
    }
    let told = |e: &Event| matches!(e, Event::EjectionWithheld { .. });
    let told = next_event(&mut events, told).await;
    assert!(told.to_string().contains("shadow"), "{told}");
    let status = stage.balance.control().status();
    assert_eq!(status.usable, 2);
    assert!(status.ejections.detected > 0);
    assert_eq!(status.ejections.ejected, 0);
}

#[tokio::test(start_paused = true)]
async fn status_and_events_tell_who_is_out_and_why_and_since_when_and_until_when() {
    let stage = warm(&["a", "b"]).await;
    let mut events = stage.balance.control().events();
    stage.node("a").when_called(Does::Fail);
    call_until(&stage, is("a", MemberState::Ejected)).await;
    let told = next_event(&mut events, |e| matches!(e, Event::Ejected { .. })).await;
    let Event::Ejected {
        id, reason, time, ..
    } = told
    else {
        unreachable!()
    };
    assert_eq!(id.as_str(), "a");
    assert!((5 * SECOND..=10 * SECOND).contains(&time), "{time:?}");
    sleep(2 * SECOND).await;
    let ejection = stage.member("a").ejection.unwrap();
    assert_eq!(ejection.reason, reason);
    assert!(
        (2 * SECOND..2100 * MS).contains(&ejection.since),
        "{:?}",
        ejection.since
    );
    let whole = ejection.since + ejection.remaining.unwrap();
    assert!(whole.abs_diff(time) < MS, "{whole:?} is not {time:?}");
    assert!(!ejection.is_over);
    assert_eq!((ejection.ejections, ejection.multiplier), (1, 1));
    let text = stage.balance.control().status().to_string();
    assert!(text.contains("in a row (threshold"), "{text}");

    stage.node("a").when_called(ANSWERS);
    stage.until(is("a", MemberState::Probation)).await;
    assert_eq!(stage.member("a").ejection.unwrap().remaining, None);
    stage.shares(1).await;
    let told = next_event(&mut events, |e| matches!(e, Event::Returned { .. })).await;
    assert!(
        told.to_string().contains(") is well again, after"),
        "{told}"
    );
    let ejection = stage.member("a").ejection.unwrap();
    assert!(ejection.is_over && ejection.since < 100 * MS, "{ejection}");
    let counters = stage.balance.control().status().ejections;
    let counted = [counters.detected, counters.ejected, counters.returned];
    assert_eq!(counted, [1; 3]);
    assert!(
        counters.trials >= 1,
        "it may have been tried as a suspect, too"
    );
}

#[tokio::test(start_paused = true)]
async fn many_ejections_fill_no_log() {
    let lines = Lines::default();
    let subscriber = tracing_subscriber::fmt()
        .with_writer(lines.clone())
        .with_ansi(false)
        .finish();
    // Of one subscriber alone, `tracing` thinks that every thread has it: a line that the thread of another test comes to
    // first would count as wanted by nobody.
    let _another = tracing::Dispatch::new(tracing_subscriber::registry());
    let _capture = tracing::subscriber::set_default(subscriber);
    let ids: Vec<_> = (0..100).map(|n| format!("i{n}")).collect();
    let ids: Vec<_> = ids.iter().map(String::as_str).collect();
    let stage = warm(&ids).await;
    for id in &ids[10..] {
        stage.balance.control().eject(&(*id).into(), 60 * SECOND);
        sleep(50 * MS).await;
    }
    assert_eq!(stage.balance.control().status().ejections.ejected, 90);
    let count = |text: &str| {
        let written = lines.0.lock().unwrap();
        let written = std::str::from_utf8(&written).unwrap();
        written.lines().filter(|line| line.contains(text)).count()
    };
    let written = count("event=\"ejected\"") + count("event=\"ejection-withheld\"");
    assert_eq!(written, 20, "within a minute");
    sleep(60 * SECOND).await;
    stage.balance.control().eject(&"i0".into(), SECOND);
    stage.until(is("i0", MemberState::Probation)).await;
    assert_eq!(
        count("lines about ejections were written at debug only"),
        1,
        "and says so"
    );
}

#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<u8>>>);

impl Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl MakeWriter<'_> for Lines {
    type Writer = Self;

    fn make_writer(&self) -> Self {
        self.clone()
    }
}
