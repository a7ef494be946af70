//! Warns that a worker bound to loopback cannot reach other hosts.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use futures_util::StreamExt;

use crate::discovery::{Backend, BoxStream, Discovery};
use crate::error::discovery::DiscoveryError;
use crate::model::address::Address;
use crate::model::instance::{Instance, InstanceSet};
use crate::model::name::Boundary;
use crate::model::target::Target;

/// The discovery of a worker that is bound to loopback. It warns once if an instance to call is on another host, because the
/// system then rejects the dials.
#[derive(Clone)]
pub(super) struct WarnOfOtherHosts {
    pub(super) discovery: Arc<dyn Backend>,
    /// Shared by all clients of a worker.
    pub(super) is_warned: Arc<AtomicBool>,
}

fn is_elsewhere(instance: &&Instance) -> bool {
    let is_elsewhere = |address: &Address| {
        address
            .ip()
            .is_some_and(|ip| !ip.to_canonical().is_loopback())
    };
    instance.addresses().all(is_elsewhere)
}

impl Discovery for WarnOfOtherHosts {
    fn watch(&self, target: &Target) -> BoxStream<'static, Result<InstanceSet, DiscoveryError>> {
        let is_warned = Arc::clone(&self.is_warned);
        let sets = self.discovery.watch(target);
        Box::pin(sets.inspect(move |answer| {
            if is_warned.load(Relaxed) {
                return;
            }
            let elsewhere = answer.iter().flat_map(InstanceSet::iter).find(is_elsewhere);
            if let Some(instance) = elsewhere
                && !is_warned.swap(true, Relaxed)
            {
                tracing::warn!(
                    target: "rolecall",
                    id = %instance.id(), address = %instance.address(),
                    "this worker is bound to a loopback address and cannot reach other hosts; set ROLECALL_BIND"
                );
            }
        }))
    }

    fn peers(
        &self,
        boundary: &Boundary,
    ) -> BoxStream<'static, Result<InstanceSet, DiscoveryError>> {
        self.discovery.peers(boundary)
    }

    fn refresh(&self, target: &Target) {
        self.discovery.refresh(target);
    }
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::sync::Mutex;

    use super::*;
    use crate::discovery::List;

    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[tokio::test]
    async fn other_hosts_are_warned_of_once() {
        let local = Instance::new("a", ([127, 0, 0, 2], 80));
        let unix = Instance::new("b", Address::unix("/run/b.sock").unwrap());
        let both = Instance::new("c", ([10, 0, 0, 6], 80)).with_alternates([([127, 0, 0, 3], 80)]);
        let host = |n| Instance::new(format!("d{n}"), ([10, 0, 0, n], 80));
        for (instances, warnings) in [
            (vec![local.clone(), unix, both], 0),
            (vec![local, host(7), host(8)], 1),
        ] {
            let lines = Lines::default();
            let writer = lines.clone();
            let subscriber = tracing_subscriber::fmt()
                .with_writer(move || writer.clone())
                .finish();
            let _logging = tracing::subscriber::set_default(subscriber);
            let discovery = WarnOfOtherHosts {
                discovery: Arc::new(List::new(instances).unwrap()),
                is_warned: Arc::default(),
            };
            for target in ["worker:http", "worker:grpc"] {
                let target = target.parse().unwrap();
                let _: Vec<_> = discovery.watch(&target).collect().await;
            }
            let told = String::from_utf8(lines.0.lock().unwrap().clone()).unwrap();
            assert_eq!(
                told.matches("cannot reach other hosts").count(),
                warnings,
                "{told}"
            );
            assert_eq!(told.matches("10.0.0.7:80").count(), warnings, "{told}");
        }
    }
}
