//! Slices and pods as a cluster's controllers write them.

use serde_json::{Value, json};

/// An `EndpointSlice`.
#[derive(Clone, Debug)]
pub(crate) struct Slice(Value);

impl Slice {
    pub(crate) fn new(namespace: &str, service: &str, name: &str) -> Self {
        Self(json!({
            "apiVersion": "discovery.k8s.io/v1",
            "kind": "EndpointSlice",
            "metadata": {
                "name": name,
                "namespace": namespace,
                "labels": { "kubernetes.io/service-name": service },
            },
            "addressType": "IPv4",
            "ports": [],
            "endpoints": [],
        }))
    }

    pub(crate) fn ipv6(mut self) -> Self {
        self.0["addressType"] = "IPv6".into();
        self
    }

    pub(crate) fn port(self, name: &str, number: u16) -> Self {
        self.port_of("TCP", name, number)
    }

    pub(crate) fn port_of(mut self, protocol: &str, name: &str, number: u16) -> Self {
        let port = json!({ "name": name, "port": number, "protocol": protocol });
        if let Some(ports) = self.0["ports"].as_array_mut() {
            ports.push(port);
        }
        self
    }

    pub(crate) fn endpoints(mut self, endpoints: impl IntoIterator<Item = Value>) -> Self {
        self.0["endpoints"] = endpoints.into_iter().collect();
        self
    }
}

impl From<Slice> for Value {
    fn from(slice: Slice) -> Self {
        slice.0
    }
}

/// A ready endpoint of a pod.
pub(crate) fn endpoint(pod: &str, ip: &str) -> Value {
    json!({
        "addresses": [ip],
        "conditions": { "ready": true, "serving": true, "terminating": false },
        "nodeName": "node-1",
        "zone": "zone-a",
        "targetRef": { "kind": "Pod", "namespace": "shop", "name": pod, "uid": format!("uid-{pod}") },
    })
}

/// A pod in a phase, with its addresses.
pub(crate) fn pod(namespace: &str, name: &str, phase: &str, ips: &[&str]) -> Value {
    let ips: Vec<_> = ips.iter().map(|ip| json!({ "ip": ip })).collect();
    json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": { "name": name, "namespace": namespace, "labels": { "app": "worker" } },
        "spec": { "containers": [{ "name": "worker", "image": "worker:1" }], "nodeName": "node-1" },
        "status": { "phase": phase, "podIPs": ips, "podIP": ips.first().map_or("", |_| "") },
    })
}
