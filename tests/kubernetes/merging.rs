//! What the slices of a service make of its instances.

use std::time::{Duration, Instant};

use rolecall::discovery::DiscoveryErrorKind;
use rolecall::{Availability, Discovery, Visibility};
use serde_json::{Value, json};

use super::stand_in::{Slice, endpoint};
use super::{Answers, cluster, ids, ip, server, slice, text};

fn with(mut endpoint: Value, field: &str, value: Value) -> Value {
    endpoint[field] = value;
    endpoint
}

#[tokio::test]
async fn the_slices_of_a_service_are_one_set() {
    let server = server().await;
    for (name, pods) in [("a", 0..100), ("b", 100..200), ("c", 200..250)] {
        server.put(slice(name, pods).into());
    }
    let mut answers = Answers::of(&cluster(&server), "shop/worker:http");
    let set = answers.next().await.unwrap();
    assert_eq!(set.len(), 250, "a whole set at once");
    assert!(!set.is_confirmed());

    server.put(slice("b", 100..201).into());
    server.put(slice("d", [300]).into());
    let (_, smallest) = answers
        .until("251", |set| set.get("pod-300").is_some())
        .await;
    assert!(
        smallest >= 250,
        "a change of one slice took others out: {smallest}"
    );
}

#[tokio::test]
async fn nobody_leaves_while_a_slice_is_replaced_or_endpoints_move() {
    let server = server().await;
    server.put(slice("a", 0..100).into());
    server.put(slice("b", 100..200).into());
    let mut answers = Answers::of(&cluster(&server), "shop/worker:http");
    answers.set_of(200).await;

    server.delete("endpointslices", "shop", "a");
    tokio::time::sleep(Duration::from_millis(700)).await;
    server.put(slice("c", 0..100).into());
    // Away from one, and later in the other.
    server.put(slice("b", 100..150).into());
    tokio::time::sleep(Duration::from_millis(300)).await;
    server.put(slice("c", (0..100).chain(150..200)).into());
    tokio::time::sleep(Duration::from_millis(2500)).await;
    server.put(slice("d", [300]).into());
    let (set, smallest) = answers
        .until("the last", |set| set.get("pod-300").is_some())
        .await;
    assert_eq!(set.len(), 201);
    assert!(smallest >= 200, "only {smallest} were left in between");
}

#[tokio::test]
async fn what_vanishes_leaves_after_the_hold_and_what_terminates_at_once() {
    let server = server().await;
    server.put(slice("a", 0..3).into());
    let mut answers = Answers::of(&cluster(&server), "shop/worker:http");
    answers.set_of(3).await;

    let vanished = Instant::now();
    server.put(slice("a", 0..2).into());
    answers.set_of(2).await;
    let held = vanished.elapsed();
    assert!(
        held >= Duration::from_millis(1900),
        "it left after {held:?}"
    );

    let terminating = json!({ "ready": false, "serving": true, "terminating": true });
    let last = with(endpoint("pod-1", &ip(1)), "conditions", terminating);
    server.put(
        slice("a", [])
            .endpoints([endpoint("pod-0", &ip(0)), last])
            .into(),
    );
    let is_draining = |set: &rolecall::InstanceSet| {
        set.get("pod-1")
            .is_some_and(|i| i.availability() == Availability::Draining)
    };
    answers.until("one that drains", is_draining).await;
    let vanished = Instant::now();
    server.put(slice("a", 0..1).into());
    answers.set_of(1).await;
    let took = vanished.elapsed();
    assert!(took < Duration::from_millis(1900), "it took {took:?}");
}

#[tokio::test]
async fn conditions_become_availability() {
    let server = server().await;
    let case = |name: &str, conditions: Value| {
        with(
            endpoint(name, &ip(name.len() as u32)),
            "conditions",
            conditions,
        )
    };
    server.put(
        slice("a", [])
            .endpoints([
                case("r", json!({ "ready": true })),
                case("ni", json!({ "ready": null })),
                case(
                    "not",
                    json!({ "ready": false, "serving": false, "terminating": false }),
                ),
                case(
                    "serv",
                    json!({ "ready": false, "serving": true, "terminating": true }),
                ),
                case(
                    "ended",
                    json!({ "ready": false, "serving": false, "terminating": true }),
                ),
                // A service with publishNotReadyAddresses.
                case(
                    "always",
                    json!({ "ready": true, "serving": false, "terminating": true }),
                ),
                case("silence", Value::Null),
            ])
            .into(),
    );
    let mut answers = Answers::of(&cluster(&server), "shop/worker:http");
    let set = answers.next().await.unwrap();
    let found: Vec<_> = set
        .iter()
        .map(|i| (i.id().as_str(), i.availability()))
        .collect();
    let (available, draining) = (Availability::Available, Availability::Draining);
    assert_eq!(
        found,
        [
            ("always", draining),
            ("ni", available),
            ("r", available),
            ("serv", draining),
            ("silence", available)
        ]
    );
}

#[tokio::test]
async fn an_endpoint_in_two_slices_counts_once_and_the_readiest_entry_wins() {
    let server = server().await;
    let not_ready = json!({ "ready": false, "serving": false, "terminating": false });
    let stale = with(endpoint("pod-1", &ip(1)), "conditions", not_ready.clone());
    server.put(slice("a", []).endpoints([stale.clone()]).into());
    server.put(slice("b", [1, 2]).into());
    let mut answers = Answers::of(&cluster(&server), "shop/worker:http");
    let set = answers.next().await.unwrap();
    assert_eq!(ids(&set), ["pod-1", "pod-2"]);

    // It moves to another slice as it turns unready: the former entry is not held against that.
    server.delete("endpointslices", "shop", "a");
    server.put(slice("b", [2]).into());
    server.put(slice("c", []).endpoints([stale]).into());
    let moved = Instant::now();
    answers.set_of(1).await;
    assert!(moved.elapsed() < Duration::from_millis(1900), "it was held");
}

#[tokio::test]
async fn of_pods_of_one_name_the_ready_one_counts() {
    let server = server().await;
    let uid = |uid: &str| json!({ "kind": "Pod", "name": "db-0", "uid": uid });
    let old = with(endpoint("db-0", "10.1.0.1"), "targetRef", uid("old"));
    let old = with(
        old,
        "conditions",
        json!({ "ready": false, "serving": true, "terminating": true }),
    );
    let new = with(endpoint("db-0", "10.1.0.2"), "targetRef", uid("new"));
    server.put(slice("a", []).endpoints([old]).into());
    server.put(slice("b", []).endpoints([new]).into());
    let mut answers = Answers::of(&cluster(&server), "shop/worker:http");
    let set = answers.next().await.unwrap();
    let only = set.get("db-0").unwrap();
    assert_eq!(
        (set.len(), &*only.address().to_string()),
        (1, "10.1.0.2:8080")
    );
    assert_eq!(only.availability(), Availability::Available);
}

#[tokio::test]
async fn ports_have_names_and_are_tcp() {
    let server = server().await;
    server.put(
        slice("a", [1])
            .port("grpc", 9090)
            .port_of("UDP", "dns", 53)
            .into(),
    );
    // The same pod, whose port of that name has another number in this slice.
    server.put(
        Slice::new("shop", "worker", "b")
            .port("http", 8081)
            .endpoints([endpoint("pod-2", &ip(2))])
            .into(),
    );
    server.put(
        Slice::new("shop", "plain", "p")
            .port("", 7070)
            .endpoints([endpoint("pod-3", &ip(3))])
            .into(),
    );
    let cluster = cluster(&server);
    for (target, expected) in [
        ("shop/worker:http", vec!["10.1.0.2:8080", "10.1.0.3:8081"]),
        ("shop/worker:grpc", vec!["10.1.0.2:9090"]),
        ("shop/plain:default", vec!["10.1.0.4:7070"]),
    ] {
        let set = Answers::of(&cluster, target).next().await.unwrap();
        let found: Vec<_> = set.iter().map(|i| i.address().to_string()).collect();
        assert_eq!(found, expected, "{target}");
    }
    let error = Answers::of(&cluster, "shop/worker:dns")
        .next()
        .await
        .unwrap_err();
    assert_eq!(error.kind(), DiscoveryErrorKind::UnknownEndpoint);
    assert!(text(&error).contains("\"grpc\", \"http\""), "{error}");
}

#[tokio::test]
async fn a_slice_of_ipv6_addresses_is_as_good() {
    let server = server().await;
    server.put(
        slice("a", [])
            .ipv6()
            .endpoints([endpoint("pod-1", "fd00::1")])
            .into(),
    );
    let mut answers = Answers::of(&cluster(&server), "shop/worker:http");
    let set = answers.next().await.unwrap();
    let only = set.get("pod-1").unwrap();
    assert_eq!(only.address().to_string(), "[fd00::1]:8080");

    // The same pod in a slice of the other family: one instance, whichever slice comes first.
    server.put(slice("b", [1]).into());
    let has_both = |set: &rolecall::InstanceSet| {
        let only = set.get("pod-1").unwrap();
        let alternates: Vec<_> = only.alternates().iter().map(ToString::to_string).collect();
        let first = only.address().to_string();
        (set.len(), &*first, &*alternates.join(" ")) == (1, "10.1.0.2:8080", "[fd00::1]:8080")
    };
    answers.until("both families", has_both).await;
}

#[tokio::test]
async fn an_instance_tells_its_zone_node_and_pod_and_who_may_see_it() {
    let server = server().await;
    let external = json!({ "addresses": ["192.168.7.7"], "conditions": { "ready": true } });
    server.put(
        slice("a", [])
            .endpoints([endpoint("pod-1", &ip(1)), external])
            .into(),
    );
    let host_names = json!({
        "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "FQDN",
        "metadata": { "name": "f", "namespace": "shop", "labels": { "kubernetes.io/service-name": "worker" } },
        "ports": [{ "name": "http", "port": 80 }], "endpoints": [{ "addresses": ["db.example.com"] }],
    });
    server.put(host_names);
    let set = Answers::of(&cluster(&server), "shop/worker:http")
        .next()
        .await
        .unwrap();
    assert_eq!(ids(&set), ["192.168.7.7", "pod-1"]);
    let pod = set.get("pod-1").unwrap();
    assert_eq!(*pod.zone().unwrap(), "zone-a");
    assert_eq!(
        (&*pod.metadata()["pod"], &*pod.metadata()["node"]),
        ("pod-1", "node-1")
    );
    assert_eq!(*pod.visibility(), Visibility::Public);
    let external = set.get("192.168.7.7").unwrap();
    assert!(external.metadata().is_empty() && external.zone().is_none());

    let internal = cluster(&server).visibility(Visibility::Internal);
    let set = Answers::of(&internal, "shop/worker:http")
        .next()
        .await
        .unwrap();
    assert_eq!(
        *set.get("pod-1").unwrap().visibility(),
        Visibility::Internal
    );
}

#[tokio::test]
async fn a_service_is_unknown_until_it_has_a_slice_and_empty_when_the_last_has_gone() {
    let server = server().await;
    let cluster = cluster(&server);
    let mut answers = Answers::of(&cluster, "shop/worker:http");
    let error = answers.next().await.unwrap_err();
    assert_eq!(error.kind(), DiscoveryErrorKind::UnknownRole, "{error}");
    server.put(slice("a", [1]).into());
    answers.set_of(1).await;
    server.delete("endpointslices", "shop", "a");
    assert!(!answers.set_of(0).await.is_confirmed());

    // A service whose pods are not there yet.
    server.put(Slice::new("shop", "later", "l").port("http", 80).into());
    let mut later = Answers::of(&cluster, "shop/later:http");
    assert!(later.next().await.unwrap().is_empty());
}

#[tokio::test]
async fn the_boundary_is_the_namespace_and_the_default_one_can_be_chosen() {
    let server = server().await;
    server.put(slice("a", [1]).into());
    server.put(
        Slice::new("default", "worker", "a")
            .port("http", 80)
            .endpoints([endpoint("d", "10.1.0.9")])
            .into(),
    );
    let set = Answers::of(&cluster(&server), "worker:http")
        .next()
        .await
        .unwrap();
    assert_eq!(ids(&set), ["d"]);
    let chosen = cluster(&server).namespace("shop".parse().unwrap());
    let set = Answers::of(&chosen, "worker:http").next().await.unwrap();
    assert_eq!(ids(&set), ["pod-1"]);
    chosen.refresh(&"worker:http".parse().unwrap());
}
