//! Warns that a worker bound to loopback cannot reach other hosts.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::task::{Context, Poll};

use tower_service::Service;

use crate::model::instance::Instance;

/// A connector that warns once when an instance of another host is dialled from a loopback address. The dial fails in the
/// system, with an error that names both addresses.
pub(super) struct WarnOfOtherHosts<M> {
    connector: M,
    bind: IpAddr,
    is_warned: Arc<AtomicBool>,
}

impl<M> WarnOfOtherHosts<M> {
    /// `is_warned` is shared by the connectors of a worker: one warning is enough.
    pub(super) fn new(connector: M, bind: IpAddr, is_warned: Arc<AtomicBool>) -> Self {
        Self {
            connector,
            bind,
            is_warned,
        }
    }
}

impl<M: Service<Instance>> Service<Instance> for WarnOfOtherHosts<M> {
    type Response = M::Response;
    type Error = M::Error;
    type Future = M::Future;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), M::Error>> {
        self.connector.poll_ready(cx)
    }

    fn call(&mut self, instance: Instance) -> M::Future {
        let is_elsewhere = |address: &crate::model::address::Address| {
            address
                .ip()
                .is_some_and(|ip| !ip.to_canonical().is_loopback())
        };
        if self.bind.is_loopback()
            && instance.addresses().all(is_elsewhere)
            && !self.is_warned.swap(true, Relaxed)
        {
            tracing::warn!(
                target: "rolecall",
                bind = %self.bind, id = %instance.id(), address = %instance.address(),
                "this worker is bound to a loopback address and cannot reach other hosts; set ROLECALL_BIND"
            );
        }
        self.connector.call(instance)
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::io;
    use std::sync::Mutex;

    use tower::service_fn;

    use super::*;

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
    async fn other_hosts_are_warned_of_once_and_only_from_loopback() {
        for (bind, warnings) in [([127, 0, 0, 1], 1), ([10, 0, 0, 1], 0)] {
            let lines = Lines::default();
            let writer = lines.clone();
            let subscriber = tracing_subscriber::fmt()
                .with_writer(move || writer.clone())
                .finish();
            let _logging = tracing::subscriber::set_default(subscriber);
            let dial = service_fn(|_: Instance| async { Ok::<_, Infallible>(()) });
            let mut connector = WarnOfOtherHosts::new(dial, bind.into(), Arc::default());
            for host in [[127, 0, 0, 2], [10, 0, 0, 7], [10, 0, 0, 8]] {
                let instance = Instance::new("a", (host, 80));
                connector.call(instance).await.unwrap();
            }
            let unix = crate::model::address::Address::unix("/run/a.sock").unwrap();
            connector.call(Instance::new("b", unix)).await.unwrap();
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
