//! A backend written with public items only, which registers over a real HTTP server, and passes the suite.

#![expect(clippy::unwrap_used, reason = "a test")]

mod backend;
mod server;

use std::sync::Arc;
use std::thread;
use std::time::Duration;

use backend::HttpCatalog;
use futures::StreamExt;
use rolecall::discovery::conformance::{self, Ability, Subject, Victim};
use rolecall::discovery::{BoxFuture, RegisterError};
use rolecall::{Discovery, Lease, Registrar, Registration};
use server::Server;
use tokio::runtime::Builder;
use tokio::sync::oneshot;

struct OverHttp {
    server: Server,
    registrar: HttpCatalog,
}

impl OverHttp {
    fn new() -> Self {
        let server = Server::start();
        let registrar = HttpCatalog::new(server.url());
        Self { server, registrar }
    }
}

impl Subject for OverHttp {
    fn open(&self) -> Arc<dyn Discovery> {
        Arc::new(HttpCatalog::new(self.server.url()))
    }

    fn announce(
        &self,
        registration: Registration,
    ) -> BoxFuture<'static, Result<Lease, RegisterError>> {
        self.registrar.register(registration)
    }

    /// A server that has lost its records is doubted, and one that lists them tells of no role that has none.
    fn lacks(&self) -> &'static [Ability] {
        &[Ability::Confirmation, Ability::Memory]
    }

    fn most_instances(&self) -> usize {
        200
    }

    fn break_it(&self) -> bool {
        self.server.set_broken(true);
        true
    }

    fn repair(&self) {
        self.server.set_broken(false);
    }

    fn spoil(&self) -> bool {
        self.server.spoil();
        true
    }

    /// One whose runtime ends, as that of a process does.
    fn victim(&self, registration: Registration) -> BoxFuture<'_, Option<Victim>> {
        let announcing = HttpCatalog::new(self.server.url()).register(registration);
        let (kill, is_killed) = oneshot::channel::<()>();
        let (announced, is_announced) = oneshot::channel();
        let dying = thread::spawn(move || {
            let runtime = Builder::new_current_thread().enable_all().build().unwrap();
            let lease = runtime.block_on(announcing).unwrap();
            announced.send(()).unwrap();
            let _ = runtime.block_on(is_killed);
            drop(runtime);
            // It would deregister.
            std::mem::forget(lease);
        });
        Box::pin(async move {
            is_announced.await.unwrap();
            Some(Victim::new(server::TIME_TO_LIVE, move || {
                drop(kill);
                dying.join().unwrap();
            }))
        })
    }

    fn news_within(&self) -> Duration {
        Duration::from_secs(30)
    }
}

#[tokio::test]
async fn a_backend_of_somebodys_own_conforms() {
    let report = conformance::run(OverHttp::new).await;
    println!("{report}");
    report.assert_passed();
    assert_eq!(report.skipped().count(), 0, "{report}");
}

/// Renewals have to go on: the server forgets a record after its time to live.
#[tokio::test]
async fn a_lease_is_kept_where_somebody_waits_on_it_when_its_runtime_has_ended() {
    let subject = OverHttp::new();
    let announcing =
        subject.announce(Registration::new("worker").endpoint("http", ([127, 0, 0, 1], 80)));
    let announced = tokio::task::spawn_blocking(|| {
        let runtime = Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(announcing)
    });
    let lease = announced.await.unwrap().unwrap();
    let kept = tokio::spawn(async move { lease.changed().await });
    tokio::time::sleep(2 * server::TIME_TO_LIVE).await;
    let mut sets = subject.open().watch(&"worker:http".parse().unwrap());
    assert_eq!(sets.next().await.unwrap().unwrap().len(), 1);
    kept.abort();
}

#[test]
fn it_is_as_short_as_is_promised() {
    let source = include_str!("backend.rs");
    let is_code = |line: &&str| !line.trim().is_empty() && !line.trim_start().starts_with("//");
    assert!(source.lines().filter(is_code).count() < 120);
    assert!(!source.contains("crate::"), "public items only");
}
