//! What the log says of discovery: a warning when something begins, one line when it ends, nothing in between.

use std::io;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::time::Duration;

use rolecall::discovery::backend::{PollAnswer, PollBounds, poll};
use rolecall::discovery::{DiscoveryError, Folder};
use rolecall::guard::Guard;
use rolecall::{
    BalanceLayer, Boundary, Discovery, Instance, InstanceSet, Registrar, Registration, Registry,
    connect,
};
use tower::{Layer, service_fn};
use tracing::Level;

use crate::captured::Captured;

impl Captured {
    /// The lines of a level that have this text.
    fn lines(&self, level: &str, text: &str) -> Vec<String> {
        let all = String::from_utf8(self.0.lock().unwrap().clone()).unwrap();
        let lines = all
            .lines()
            .filter(|line| line.contains(level) && line.contains(text));
        lines.map(str::to_owned).collect()
    }
}

/// A balancer that follows the discovery until it is dropped.
fn balanced(discovery: impl Discovery) -> impl Send {
    let layer = BalanceLayer::new(discovery, "worker:http").unwrap();
    layer.layer(connect::per_instance(|_: &Instance| {
        service_fn(|(): ()| async { Ok::<_, io::Error>(()) })
    }))
}

#[tokio::test]
async fn a_first_start_warns_of_nothing() {
    let path = std::env::temp_dir().join(format!("rolecall-first-{}", std::process::id()));
    let captured = Captured::default();
    let _another = tracing::Dispatch::new(tracing_subscriber::registry());
    let _capture = captured.capture(Level::INFO);
    let (folder, registry) = (Folder::new(&path), Registry::new());
    let guards = [
        Guard::builder(folder.clone(), Boundary::default())
            .build()
            .unwrap(),
        Guard::builder(registry.clone(), Boundary::default())
            .build()
            .unwrap(),
    ];
    let callers = (balanced(folder.clone()), balanced(registry.clone()));
    for guard in &guards {
        tokio::time::timeout(Duration::from_secs(30), guard.synced())
            .await
            .unwrap();
    }
    let worker = || Registration::new("worker").endpoint("http", ([127, 0, 0, 1], 80));
    let leases = (
        folder.register(worker()).await.unwrap(),
        registry.register(worker()).await.unwrap(),
    );
    let waited = tokio::time::timeout(Duration::from_secs(30), async {
        while captured.lines("INFO", "discovery answers again").len() < 2 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    });
    assert!(waited.await.is_ok(), "{:?}", captured.lines("", ""));
    assert_eq!(captured.lines("WARN", ""), Vec::<String>::new());
    let waiting = captured.lines("INFO", "waiting for the first instance");
    assert!(!waiting.is_empty(), "{:?}", captured.lines("", ""));
    assert_eq!(captured.lines("INFO", "does not exist yet").len(), 1);
    drop((callers, guards, leases));
    let _ = std::fs::remove_dir_all(path);
}

/// Polls every second, and answers by the number of the question.
fn polled(
    answer: impl Fn(u32) -> Result<InstanceSet, DiscoveryError> + Send + Sync + 'static,
) -> impl Discovery {
    let asked = AtomicU32::new(0);
    let second = Duration::from_secs(1);
    let query = move |_| {
        let answer = answer(asked.fetch_add(1, Relaxed));
        async move { answer.map(PollAnswer::new) }
    };
    poll(query, PollBounds::new(second, second))
}

fn instance(id: &str, port: u16) -> Instance {
    Instance::new(id, ([127, 0, 0, 1], port))
}

#[tokio::test(start_paused = true)]
async fn a_poll_that_fails_warns_when_it_begins_and_tells_when_it_ends() {
    let captured = Captured::default();
    let _another = tracing::Dispatch::new(tracing_subscriber::registry());
    let _capture = captured.capture(Level::INFO);
    let _caller = balanced(polled(|asked| match asked {
        5..30 => Err(DiscoveryError::backend("asking", "connection refused")),
        _ => Ok([instance("a", 1)].into_iter().collect()),
    }));
    tokio::time::sleep(Duration::from_secs(10)).await;
    assert_eq!(captured.lines("WARN", "connection refused").len(), 1);
    tokio::time::sleep(Duration::from_secs(50)).await;
    assert_eq!(
        captured.lines("WARN", "").len(),
        1,
        "{:?}",
        captured.lines("", "")
    );
    let ended = captured.lines("INFO", "discovery answers again");
    assert_eq!(ended.len(), 1);
    assert!(ended[0].contains("25 errors"), "{ended:?}");
}

#[tokio::test(start_paused = true)]
async fn an_instance_that_is_refused_warns_when_it_begins_and_tells_when_it_ends() {
    let captured = Captured::default();
    let _another = tracing::Dispatch::new(tracing_subscriber::registry());
    let _capture = captured.capture(Level::INFO);
    let _caller = balanced(polled(|asked| {
        let port = if (5..30).contains(&asked) { 0 } else { 2 };
        let twice = (10..20).contains(&asked).then(|| instance("a", 3));
        let all = [instance("a", 1), instance("b", port)];
        // Weights differ, so that every answer is another set.
        let all = all.map(|one| one.with_weight(u16::try_from(asked % 100 + 1).unwrap()));
        Ok(all.into_iter().chain(twice).collect())
    }));
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(captured.lines("WARN", "refused:").len(), 1);
    assert_eq!(captured.lines("WARN", "announced several times").len(), 1);
    assert_eq!(captured.lines("WARN", "").len(), 2);
    let accepted = captured.lines("INFO", "is no longer refused");
    assert!(
        accepted.len() == 1 && accepted[0].contains("25 sets"),
        "{accepted:?}"
    );
    let single = captured.lines("INFO", "no longer a duplicate");
    assert!(
        single.len() == 1 && single[0].contains("10 sets"),
        "{single:?}"
    );
}
