//! The suite of all backends, on a real server whose zone is written by `nsupdate`.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rolecall::discovery::backend::{Publish, keep};
use rolecall::discovery::conformance::{self, Ability, Subject};
use rolecall::discovery::{Announcement, BoxFuture, RegisterError};
use rolecall::{Discovery, Lease, Registration};
use tokio::task;

use crate::impatient;
use crate::server::Server;

struct OnServer {
    server: Arc<Mutex<Server>>,
}

impl OnServer {
    fn new() -> Self {
        let server = Arc::new(Mutex::new(Server::start()));
        Self { server }
    }
}

/// The records of one announcement.
struct Records {
    server: Arc<Mutex<Server>>,
    written: BTreeSet<String>,
}

impl Records {
    /// Writes all changes in one update, so that nobody sees a part of them.
    async fn write(&mut self, wanted: BTreeSet<String>) -> Result<(), RegisterError> {
        let gone = self.written.difference(&wanted);
        let new = wanted.difference(&self.written);
        let gone = gone.map(|record| format!("delete {}", record.replacen(" 0 ", " ", 1)));
        let changes: Vec<String> = gone
            .chain(new.map(|record| format!("add {record}")))
            .collect();
        let server = Arc::clone(&self.server);
        let done = task::spawn_blocking(move || server.lock().unwrap().try_update(&changes));
        let done = done
            .await
            .map_err(|error| RegisterError::backend("writing", error))?;
        done.map_err(|error| RegisterError::backend("updating the zone", error))?;
        self.written = wanted;
        Ok(())
    }
}

impl Publish for Records {
    async fn put(&mut self, announcement: &Announcement) -> Result<(), RegisterError> {
        let (role, boundary, id) = (
            announcement.role(),
            announcement.boundary(),
            announcement.id(),
        );
        let weight = announcement.weight();
        let records = announcement.endpoints().flat_map(|(endpoint, instance)| {
            let at = instance.address().tcp().unwrap();
            let host = format!("{id}.{endpoint}.{role}.{boundary}.hosts.svc.test.");
            let name = format!("_{endpoint}._tcp.{role}.{boundary}.svc.test.");
            let port = at.port();
            [
                format!("{host} 0 A {}", at.ip()),
                format!("{name} 0 SRV 1 {} {port} {host}", weight.get()),
            ]
        });
        self.write(records.collect()).await
    }

    async fn renew(&mut self) -> Result<(), RegisterError> {
        Ok(())
    }

    fn every(&self) -> Duration {
        Duration::from_secs(3600)
    }

    async fn withdraw(&mut self) -> Result<(), RegisterError> {
        self.write(BTreeSet::new()).await
    }
}

impl Subject for OnServer {
    fn open(&self) -> Arc<dyn Discovery> {
        Arc::new(impatient(&self.server.lock().unwrap()))
    }

    fn announce(
        &self,
        registration: Registration,
    ) -> BoxFuture<'static, Result<Lease, RegisterError>> {
        let records = Records {
            server: Arc::clone(&self.server),
            written: BTreeSet::new(),
        };
        Box::pin(async move { keep(records, registration.validate()?).await })
    }

    fn lacks(&self) -> &'static [Ability] {
        &[
            Ability::Registration,
            Ability::Ids,
            Ability::Confirmation,
            Ability::UnknownEndpoints,
            Ability::Memory,
            Ability::Peers,
            // They are relative: the best priority of a name is rank 0.
            Ability::Rank,
            Ability::Zone,
            Ability::Availability,
            Ability::Visibility,
            Ability::Metadata,
        ]
    }

    /// A thousand changes by `nsupdate` take a minute or two.
    fn news_within(&self) -> Duration {
        Duration::from_secs(300)
    }

    /// BIND takes 100 records of a type.
    fn most_instances(&self) -> usize {
        100
    }

    fn break_it(&self) -> bool {
        self.server.lock().unwrap().kill();
        true
    }

    fn repair(&self) {
        self.server.lock().unwrap().restart();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "minutes: each change is a run of nsupdate"]
async fn dns_conforms() {
    let report = conformance::run(OnServer::new).await;
    println!("{report}");
    report.assert_passed();
    let skipped: Vec<_> = report.skipped().map(|(check, _)| check).collect();
    let by_the_zone = [
        "an_unknown_endpoint_is_an_error_until_it_appears",
        "text_in_metadata_arrives_as_it_is",
        "a_drain_is_seen_before_the_end",
        "a_taken_id_is_refused_and_its_holder_stays",
        "invalid_registrations_leave_no_trace",
        "hostile_ids_are_only_ids",
        "visibility_arrives_and_nothing_is_filtered",
        "peers_are_the_instances_of_one_boundary",
        "garbage_is_reported_and_harms_nobody",
        "a_dropped_lease_deregisters",
        "a_dropped_registration_leaves_nothing",
        "a_crashed_registrant_is_gone_within_its_lease",
        "leases_go_on_in_another_runtime",
    ];
    assert_eq!(skipped, by_the_zone, "{report}");
}
