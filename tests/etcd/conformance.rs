//! The suite of all backends, on a real server.

use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use rolecall::discovery::conformance::{self, Subject, Victim};
use rolecall::discovery::{BoxFuture, Etcd, RegisterError};
use rolecall::{Discovery, Lease, Registrar, Registration};

use crate::child::Child;
use crate::foreign;
use crate::server::Server;

struct OnServer {
    server: Mutex<Server>,
    /// All registrants, as of one process: ten thousand connections would be another test.
    writer: Etcd,
    most: usize,
}

impl OnServer {
    fn new(most: usize) -> Self {
        let server = Server::start();
        Self {
            writer: handle(&server),
            server: Mutex::new(server),
            most,
        }
    }
}

fn handle(server: &Server) -> Etcd {
    // Renewing ten thousand leases every third of a second would be another test.
    Etcd::builder([server.endpoint()])
        .ttl(Duration::from_secs(60))
        .build()
        .unwrap()
}

impl Subject for OnServer {
    fn open(&self) -> Arc<dyn Discovery> {
        Arc::new(handle(&self.server.lock().unwrap()))
    }

    fn announce(
        &self,
        registration: Registration,
    ) -> BoxFuture<'static, Result<Lease, RegisterError>> {
        self.writer.register(registration)
    }

    fn lacks(&self) -> &'static [conformance::Ability] {
        &[
            conformance::Ability::Confirmation,
            conformance::Ability::Memory,
        ]
    }

    fn most_instances(&self) -> usize {
        self.most
    }

    fn break_it(&self) -> bool {
        self.server.lock().unwrap().kill();
        true
    }

    fn repair(&self) {
        self.server.lock().unwrap().restart();
    }

    fn spoil(&self) -> bool {
        let server = self.server.lock().unwrap();
        thread::scope(|scope| {
            let spoiling = scope.spawn(|| {
                let runtime = tokio::runtime::Builder::new_current_thread()
                    .enable_all()
                    .build();
                runtime.unwrap().block_on(async {
                    let mut client = foreign(&server).await;
                    let escapes = "\u{1b}[31m\n".repeat(1000);
                    for (id, value) in [("text", escapes.as_str()), ("torn", "{"), ("", "")] {
                        let key = format!("rolecall/default/worker/{id}");
                        client.put(key, value, None).await.unwrap();
                    }
                });
            });
            spoiling.join().is_ok()
        })
    }

    fn victim(&self, registration: Registration) -> BoxFuture<'_, Option<Victim>> {
        let endpoint = self.server.lock().unwrap().endpoint();
        let announced = registration.validate().unwrap();
        let (_, instance) = announced.endpoints().next().unwrap();
        let mut child = Child::start(&endpoint, announced.id(), &instance.address().to_string());
        child.registered();
        // A time to live of 1 s.
        let victim = Victim::new(Duration::from_secs(3), move || child.kill());
        Box::pin(std::future::ready(Some(victim)))
    }

    fn running(&self) -> usize {
        let server = self.server.lock().unwrap();
        let watchers = server.metric("etcd_debugging_mvcc_watcher_total");
        usize::from(watchers.is_some_and(|watchers| watchers > 0.0))
    }
}

async fn conforms(most: usize) {
    let report = conformance::run(|| OnServer::new(most)).await;
    println!("{report}");
    report.assert_passed();
    assert_eq!(report.skipped().count(), 0, "{report}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn etcd_conforms() {
    conforms(500).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "ten thousand leases take a minute"]
async fn etcd_conforms_with_ten_thousand_instances() {
    conforms(10_000).await;
}
