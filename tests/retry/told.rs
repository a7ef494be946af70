//! What the caller gets to know of the attempts.

use std::io;
use std::sync::{Arc, Mutex};

use hyper::Method;
use rolecall::http::{Tried, answered_by};
use rolecall::retry::Retry;
use rolecall::{Error, InstanceId};
use tracing::Instrument as _;

use crate::script::{Does, Stage, ask, idempotent};

fn ids(tried: &[InstanceId]) -> Vec<&str> {
    tried.iter().map(InstanceId::as_str).collect()
}

#[tokio::test(start_paused = true)]
async fn a_response_tells_who_answered_and_who_was_tried() {
    let stage = Stage::new(3, [Does::Answer(503), Does::Break]).await;
    let answer = stage.send(&Retry::new(), idempotent()).await.unwrap();
    let made = stage.instances();
    assert_eq!(answered_by(&answer).unwrap().as_str(), made[2]);
    let tried = answer.extensions().get::<Tried>().unwrap();
    assert_eq!(ids(tried.instances()), made[..2]);

    let answer = stage.send(&Retry::new(), idempotent()).await.unwrap();
    assert!(answer.extensions().get::<Tried>().is_none(), "at once");
}

#[tokio::test(start_paused = true)]
async fn an_error_tells_who_was_tried_and_that_somebody_may_have_acted() {
    // The second attempt is sent again without a retry.
    let stage = Stage::new(3, [Does::Break, Does::Unsent, Does::Unsent]).await;
    let retry = Retry::new().attempts(2);
    let error = stage.send(&retry, idempotent()).await.unwrap_err();
    let made = stage.instances();
    assert_eq!(error.instance().unwrap().as_str(), made[2]);
    assert_eq!(ids(error.tried()), made[..2]);
    assert!(error.was_sent(), "by the first attempt");
    let text = error.to_string();
    let after = format!(", after {}, {}", made[0], made[1]);
    assert!(text.ends_with(&after), "{text}");

    stage.settle().await;
    stage.then([Does::Unsent; 3]);
    let error = stage.send(&retry, ask(Method::POST)).await.unwrap_err();
    assert!(!error.was_sent(), "by none");
    assert_eq!(error.tried().len(), 2);
}

#[tokio::test(start_paused = true)]
async fn an_error_below_anothers_tells_it_too() {
    let stage = Stage::new(3, [Does::Break, Does::Unsent, Does::Unsent]).await;
    let retry = Retry::new().attempts(2);
    let error = stage.send_wrapped(&retry, idempotent()).await.unwrap_err();
    assert_eq!(error.to_string(), "wrapped");
    let error = Error::find(&*error).unwrap();
    let made = stage.instances();
    assert_eq!(error.instance().unwrap().as_str(), made[2]);
    assert_eq!(ids(error.tried()), made[..2]);
    assert!(error.was_sent(), "by the first attempt");
}

#[tokio::test(start_paused = true)]
async fn an_error_in_a_box_tells_it_too() {
    let stage = Stage::new(2, [Does::Break; 2]).await;
    let retry = Retry::new().attempts(2);
    let limit = std::time::Duration::from_secs(1);
    let error = stage.send_limited(&retry, limit, idempotent()).await;
    let error = error.unwrap_err();
    let made = stage.instances();
    assert_eq!(made.len(), 2);
    assert_eq!(ids(Error::find(&*error).unwrap().tried()), made[..1]);
}

#[tokio::test(start_paused = true)]
async fn a_caller_may_say_itself_whom_to_avoid() {
    let stage = Stage::new(2, []).await;
    for _ in 0..20 {
        let mut ask = ask(Method::GET);
        let mut tried = Tried::default();
        tried.extend([InstanceId::from("0"), InstanceId::from("0")]);
        assert_eq!(tried.instances().len(), 1, "said twice, kept once");
        ask.extensions_mut().insert(tried);
        stage.send(&Retry::new(), ask).await.unwrap();
    }
    assert_eq!(stage.instances(), ["1"; 20]);
}

/// What a subscriber wrote.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[tokio::test(start_paused = true)]
async fn the_callers_span_learns_of_the_last_instance_last() {
    let log = Log::default();
    let writer = log.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_ansi(false)
        .with_writer(move || writer.clone())
        .finish();
    let _default = tracing::subscriber::set_default(subscriber);
    let stage = Stage::new(2, [Does::Answer(503)]).await;
    let span = tracing::info_span!(
        "order",
        "rolecall.instance" = tracing::field::Empty,
        "rolecall.attempts" = tracing::field::Empty,
    );
    let call = async {
        stage.send(&Retry::new(), idempotent()).await.unwrap();
        tracing::info!("done");
    };
    call.instrument(span).await;
    let log = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
    let made = stage.instances();
    let line = log.lines().find(|line| line.contains("done")).unwrap();
    let (_, last) = line.rsplit_once("rolecall.instance=").unwrap();
    let expected = format!("\"{}\" rolecall.attempts=2}}", made[1]);
    assert!(last.starts_with(&expected), "{line}");
}
