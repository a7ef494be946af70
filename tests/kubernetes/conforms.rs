//! The public suite of discovery backends, run on a cluster whose controllers are the suite's own hand.

use std::future::ready;
use std::sync::{Arc, Mutex};
use std::thread;

use rolecall::discovery::conformance::{self, Ability, Subject};
use rolecall::discovery::{
    Announcement, BoxFuture, Kubernetes, LeaseEdit, LeaseHandle, RegisterError,
};
use rolecall::{Availability, Discovery, InstanceId, Lease, Registration};
use serde_json::json;
use tokio::runtime::{Builder, Runtime};

use super::stand_in::{ApiServer, Slice, endpoint, pod};

/// A server on a runtime of its own, since those of the suite end.
struct InCluster {
    runtime: Option<Runtime>,
    server: Arc<Mutex<ApiServer>>,
}

impl InCluster {
    fn new() -> Self {
        let runtime = Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let starting = runtime.spawn(async { ApiServer::start().await.unwrap() });
        let server = futures::executor::block_on(starting).unwrap();
        Self {
            runtime: Some(runtime),
            server: Arc::new(Mutex::new(server)),
        }
    }

    fn with<T: Send>(&self, act: impl AsyncFnOnce(&mut ApiServer) -> T + Send) -> T {
        let runtime = self.runtime.as_ref().unwrap();
        // Outside of the suite's runtime.
        thread::scope(|scope| {
            let acting = scope.spawn(|| {
                let mut server = self.server.lock().unwrap();
                runtime.block_on(act(&mut server))
            });
            acting.join().unwrap()
        })
    }
}

impl Drop for InCluster {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

impl Subject for InCluster {
    fn open(&self) -> Arc<dyn Discovery> {
        let address = self.server.lock().unwrap().address();
        let config = kube::Config::new(format!("http://{address}").parse().unwrap());
        Arc::new(Kubernetes::with_config(config))
    }

    /// As a pod that the controllers list in a slice of its own.
    fn announce(
        &self,
        registration: Registration,
    ) -> BoxFuture<'static, Result<Lease, RegisterError>> {
        let announced = registration.validate();
        Box::pin(ready(announced.map(|announced| {
            let listed = Listed {
                id: announced.id().clone(),
                server: Arc::clone(&self.server),
                announced: Mutex::new(announced),
            };
            listed.write();
            Lease::new(listed)
        })))
    }

    fn lacks(&self) -> &'static [Ability] {
        &[
            Ability::Registration,
            Ability::Ids,
            Ability::Confirmation,
            Ability::Memory,
            Ability::Weight,
            Ability::Rank,
            Ability::Availability,
            Ability::Visibility,
            Ability::Metadata,
        ]
    }

    fn most_instances(&self) -> usize {
        1000
    }

    fn break_it(&self) -> bool {
        self.with(async |server| server.kill().await);
        true
    }

    fn repair(&self) {
        self.with(async |server| server.come_back().await.unwrap());
    }

    fn spoil(&self) -> bool {
        self.server.lock().unwrap().garble_watch();
        true
    }

    fn running(&self) -> usize {
        self.server.lock().unwrap().counts().open_watches
    }
}

/// A pod and its slice.
struct Listed {
    id: InstanceId,
    server: Arc<Mutex<ApiServer>>,
    announced: Mutex<Announcement>,
}

impl Listed {
    fn name(announced: &Announcement) -> String {
        format!("{}.{}", announced.role(), announced.id())
    }

    fn write(&self) {
        let announced = self.announced.lock().unwrap();
        let (namespace, role) = (announced.boundary().as_str(), announced.role().as_str());
        let name = Self::name(&announced);
        let ports = announced.endpoints();
        let ports = ports.map(|(name, instance)| (name, instance.address().tcp().unwrap()));
        let mut slice = Slice::new(namespace, role, &name);
        let mut ip = announced.peer_ip();
        for (port, address) in ports {
            slice = slice.port(port.as_str(), address.port());
            ip = Some(address.ip());
        }
        if let Some(ip) = ip {
            let mut endpoint = endpoint(&name, &ip.to_string());
            let is_draining = announced.availability() == Availability::Draining;
            endpoint["conditions"] =
                json!({ "ready": !is_draining, "serving": true, "terminating": is_draining });
            endpoint["zone"] = json!(announced.zone().map(|zone| zone.as_str()));
            slice = slice.endpoints([endpoint]);
        }
        let server = self.server.lock().unwrap();
        if let Some(ip) = announced.peer_ip() {
            server.put(pod(namespace, &name, "Running", &[&ip.to_string()]));
        }
        server.put(slice.into());
    }

    fn remove(&self) {
        let announced = self.announced.lock().unwrap();
        let (namespace, name) = (announced.boundary().as_str(), Self::name(&announced));
        let server = self.server.lock().unwrap();
        server.delete("endpointslices", namespace, &name);
        server.delete("pods", namespace, &name);
    }
}

impl LeaseHandle for Listed {
    fn id(&self) -> &InstanceId {
        &self.id
    }

    fn edit(&self, edit: LeaseEdit) -> BoxFuture<'_, Result<(), RegisterError>> {
        let edited = edit.apply(&mut self.announced.lock().unwrap());
        self.write();
        Box::pin(ready(edited))
    }

    fn deregister(&mut self) -> BoxFuture<'_, Result<(), RegisterError>> {
        self.remove();
        Box::pin(ready(Ok(())))
    }
}

impl Drop for Listed {
    fn drop(&mut self) {
        self.remove();
    }
}

#[tokio::test]
async fn kubernetes_conforms() {
    let report = conformance::run(InCluster::new).await;
    println!("{report}");
    report.assert_passed();
    let skipped: Vec<_> = report.skipped().map(|(check, _)| check).collect();
    let by_controllers = [
        "text_in_metadata_arrives_as_it_is",
        "a_drain_is_seen_before_the_end",
        "a_taken_id_is_refused_and_its_holder_stays",
        "invalid_registrations_leave_no_trace",
        "hostile_ids_are_only_ids",
        "visibility_arrives_and_nothing_is_filtered",
        "a_dropped_lease_deregisters",
        "a_dropped_registration_leaves_nothing",
        "a_crashed_registrant_is_gone_within_its_lease",
        "leases_go_on_in_another_runtime",
    ];
    assert_eq!(skipped, by_controllers, "{report}");
}
