//! The pods of a namespace, as a guard admits them.

use rolecall::discovery::LeaseState;
use rolecall::{Boundary, Discovery, Registrar, Registration};

use super::stand_in::pod;
use super::{Answers, cluster, ids, server};

#[tokio::test]
async fn peers_are_the_running_pods_of_the_namespace_by_all_their_addresses() {
    let server = server().await;
    server.put(pod("shop", "a", "Running", &["10.1.0.1", "fd00::1"]));
    server.put(pod("shop", "done", "Succeeded", &["10.1.0.2"]));
    server.put(pod("other", "b", "Running", &["10.1.0.3"]));
    let mut host = pod("shop", "host", "Running", &["10.9.0.1"]);
    host["spec"]["hostNetwork"] = true.into();
    server.put(host);
    let cluster = cluster(&server);
    let shop: Boundary = "shop".parse().unwrap();
    let mut answers = Answers(cluster.peers(&shop));
    let set = answers.next().await.unwrap();
    let found: Vec<_> = set
        .iter()
        .map(|i| (i.id().as_str(), i.address().to_string()))
        .collect();
    assert_eq!(
        found,
        [
            ("pod/a", "10.1.0.1:0".into()),
            ("pod/a/fd00::1", "[fd00::1]:0".to_owned())
        ]
    );

    server.put(pod("shop", "c", "Pending", &[]));
    server.put(pod("shop", "c", "Running", &["10.1.0.4"]));
    let set = answers.set_of(3).await;
    assert!(set.get("pod/c").is_some());
    // Its address may be given to another pod now.
    server.put(pod("shop", "a", "Failed", &["10.1.0.1", "fd00::1"]));
    assert_eq!(ids(&answers.set_of(1).await), ["pod/c"]);
    server.delete("pods", "shop", "c");
    answers.set_of(0).await;
}

#[tokio::test]
async fn registrations_are_left_to_the_platform() {
    let server = server().await;
    let cluster = cluster(&server);
    let lease = cluster.register(Registration::new("worker")).await.unwrap();
    assert!(matches!(lease.state(), LeaseState::ByPlatform));
    assert!(cluster.register(Registration::new("Worker")).await.is_err());
}
