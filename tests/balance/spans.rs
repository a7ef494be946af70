//! What the caller's span gets to know of its request.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rolecall::BalanceConfig;
use tokio::time::{sleep, timeout};
use tower::Service;
use tracing::field::{Empty, Field, Visit};
use tracing::span::{Id, Record};
use tracing::{Instrument, Span, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::{Context, SubscriberExt};

use crate::support::{Does, Stage, set};

const MS: Duration = Duration::from_millis(1);

/// A layer that keeps the fields that spans get after they began.
#[derive(Clone, Default)]
struct Recorded(Arc<Mutex<BTreeMap<&'static str, String>>>);

impl<S: Subscriber> Layer<S> for Recorded {
    fn on_record(&self, _: &Id, values: &Record<'_>, _: Context<'_, S>) {
        values.record(&mut self.clone());
    }
}

impl Visit for Recorded {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.0
            .lock()
            .unwrap()
            .insert(field.name(), value.to_owned());
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        let value = format!("{value:?}");
        self.0.lock().unwrap().insert(field.name(), value);
    }
}

impl Recorded {
    fn install(&self) -> impl Drop + use<> {
        tracing::subscriber::set_default(tracing_subscriber::registry().with(self.clone()))
    }

    fn get(&self, field: &str) -> Option<String> {
        self.0.lock().unwrap().get(field).cloned()
    }

    fn all(&self) -> [Option<String>; 3] {
        [
            "rolecall.instance",
            "rolecall.attempts",
            "rolecall.waited_ms",
        ]
        .map(|field| self.get(field))
    }
}

fn order() -> Span {
    tracing::info_span!(
        "order",
        "rolecall.instance" = Empty,
        "rolecall.attempts" = Empty,
        "rolecall.waited_ms" = Empty,
    )
}

fn fields(instance: &str, attempts: &str, waited_ms: &str) -> [Option<String>; 3] {
    [instance, attempts, waited_ms].map(|value| Some(value.to_owned()))
}

#[tokio::test(start_paused = true)]
async fn a_span_gets_instance_attempts_and_the_time_waited() {
    let recorded = Recorded::default();
    let _installed = recorded.install();
    let stage = Stage::of(&["a"]).await;
    // The call is made outside of its span, as with `client.request(..).instrument(span)`.
    let call = (&stage.balance).call(());
    call.instrument(order()).await.unwrap();
    assert_eq!(recorded.all(), fields("a", "1", "0.0"));
}

#[tokio::test(start_paused = true)]
async fn a_span_gets_how_long_its_request_waited() {
    let recorded = Recorded::default();
    let _installed = recorded.install();
    let stage = Stage::unfed(BalanceConfig::default());
    let call = (&stage.balance).call(()).instrument(order());
    let feed = async {
        sleep(250 * MS).await;
        stage.announce(set(["a"]));
    };
    let (answer, ()) = tokio::join!(call, feed);
    answer.unwrap();
    let waited: f64 = recorded.get("rolecall.waited_ms").unwrap().parse().unwrap();
    assert!((250.0..255.0).contains(&waited), "{waited}");
    assert_eq!(recorded.get("rolecall.instance").as_deref(), Some("a"));
}

#[tokio::test(start_paused = true)]
async fn the_span_of_a_caller_that_gave_up_has_the_instance() {
    let recorded = Recorded::default();
    let _installed = recorded.install();
    let stage = Stage::of(&["a"]).await;
    stage.node("a").when_called(Does::Hang);
    let call = (&stage.balance).call(()).instrument(order());
    assert!(timeout(10 * MS, call).await.is_err());
    assert_eq!(recorded.all(), fields("a", "1", "0.0"));
}

#[tokio::test(start_paused = true)]
async fn only_declared_fields_are_recorded() {
    let recorded = Recorded::default();
    let _installed = recorded.install();
    let stage = Stage::of(&["a"]).await;
    let span = tracing::info_span!("order", "rolecall.attempts" = Empty);
    (&stage.balance).call(()).instrument(span).await.unwrap();
    assert_eq!(recorded.all(), [None, Some("1".into()), None]);
}
