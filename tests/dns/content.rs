//! What records become.

use std::time::Duration;

use rolecall::discovery::{DiscoveryErrorKind, Dns, DnsQuery, LeaseState};
use rolecall::{Discovery, Registrar, Registration, Visibility};

use crate::server::Server;
use crate::{Answers, add, ids, impatient};

const WORKER: &str = "_http._tcp.worker.default.svc.test.";

#[tokio::test]
async fn records_come_and_go() {
    let server = Server::start();
    let mut answers = Answers::of(&impatient(&server), "worker:http");
    let error = answers.next().await.unwrap_err();
    assert_eq!(error.kind(), DiscoveryErrorKind::UnknownRole, "{error}");
    server.update(&add("w1", "10.0.0.1", 8001));
    let set = answers.until(|set| ids(set) == ["w1.svc.test:8001"]).await;
    assert!(!set.is_confirmed());
    let only = set.iter().next().unwrap();
    assert_eq!(*only.visibility(), Visibility::Public);
    assert_eq!(only.address().to_string(), "10.0.0.1:8001");
    server.update(&add("w2", "10.0.0.2", 8002));
    answers.until(|set| set.len() == 2).await;
    // A changed address is the same instance.
    server.update(&["delete w1.svc.test. A", "add w1.svc.test. 1 A 10.0.0.9"]);
    let moved = |set: &rolecall::InstanceSet| {
        let moved = set.get("w1.svc.test:8001").unwrap();
        moved.address().to_string() == "10.0.0.9:8001"
    };
    answers.until(moved).await;
    // The name still exists, without such records, and then does not.
    server.update(&[
        format!("delete {WORKER} SRV"),
        format!("add {WORKER} 1 TXT x"),
    ]);
    answers.until(|set| set.is_empty()).await;
    let mut fresh = Answers::of(&impatient(&server), "worker:http");
    assert!(fresh.next().await.unwrap().is_empty(), "known, and empty");
    server.update(&[format!("delete {WORKER}")]);
    for _ in 0..3 {
        assert!(answers.next().await.unwrap().is_empty(), "it was known");
    }
    let error = Answers::of(&impatient(&server), "worker:http").next().await;
    assert_eq!(error.unwrap_err().kind(), DiscoveryErrorKind::UnknownRole);
}

#[tokio::test]
async fn priorities_weights_and_both_families_arrive() {
    let server = Server::start();
    server.update(&[
        format!("add {WORKER} 1 SRV 10 7 80 a.svc.test."),
        format!("add {WORKER} 1 SRV 20 0 80 b.svc.test."),
        format!("add {WORKER} 1 SRV 10 3 80 nowhere.svc.test."),
        "add a.svc.test. 1 A 10.0.0.1".to_owned(),
        "add a.svc.test. 1 AAAA 2001:db8::1".to_owned(),
        "add b.svc.test. 1 A 10.0.0.2".to_owned(),
    ]);
    let set = Answers::of(&impatient(&server), "worker:http")
        .until(|_| true)
        .await;
    assert_eq!(ids(&set), ["a.svc.test:80", "b.svc.test:80"]);
    let [a, b] = ["a.svc.test:80", "b.svc.test:80"].map(|id| set.get(id).unwrap());
    assert_eq!((a.rank(), a.weight().get()), (0, 7));
    assert_eq!((b.rank(), b.weight().get()), (1, 1));
    let all: Vec<_> = a.addresses().map(ToString::to_string).collect();
    assert_eq!(all, ["10.0.0.1:80", "[2001:db8::1]:80"]);
}

#[tokio::test]
async fn shuffled_answers_are_the_same_set() {
    let server = Server::start();
    for number in 1..=9 {
        server.update(&add(&format!("w{number}"), &format!("10.0.0.{number}"), 80));
    }
    let mut answers = Answers::of(&impatient(&server), "worker:http");
    let first = answers.next().await.unwrap();
    assert_eq!(first.len(), 9);
    for _ in 0..10 {
        assert_eq!(answers.next().await.unwrap(), first);
    }
}

#[tokio::test]
async fn an_answer_that_fits_no_datagram_comes_whole() {
    // BIND takes 100 records of a type. These are 5 KiB.
    const COUNT: usize = 90;
    let server = Server::start();
    let records: Vec<_> = (0..COUNT)
        .flat_map(|number| add(&format!("worker-{number}"), &format!("10.0.0.{number}"), 80))
        .collect();
    server.update(&records);
    let set = Answers::of(&impatient(&server), "worker:http").next().await;
    assert_eq!(set.unwrap().len(), COUNT);
    assert!(server.queries("E(0)T") > 0, "nothing came over TCP");
}

#[tokio::test]
async fn addresses_of_a_host_are_instances_through_aliases() {
    let server = Server::start();
    server.update(&[
        "add worker.default.svc.test. 0 CNAME one.svc.test.",
        "add one.svc.test. 1 CNAME two.svc.test.",
        "add two.svc.test. 1 A 10.0.0.1",
        "add two.svc.test. 1 A 10.0.0.2",
        "add two.svc.test. 1 AAAA 2001:db8::1",
        "add six.svc.test. 1 AAAA 2001:db8::6",
    ]);
    let bounds = (Duration::from_millis(50), Duration::from_secs(1));
    let hosts = Dns::addresses("svc.test", 8080).servers([server.addr()]);
    let hosts = hosts.ttl_bounds(bounds.0, bounds.1);
    let mut answers = Answers::of(&hosts, "worker:http");
    let set = answers.until(|_| true).await;
    assert_eq!(ids(&set), ["10.0.0.1:8080", "10.0.0.2:8080"]);
    server.update(&["delete two.svc.test. A 10.0.0.2"]);
    answers.until(|set| ids(set) == ["10.0.0.1:8080"]).await;

    let own = Dns::query(|target| DnsQuery::addresses(format!("{}.svc.test.", target.role()), 1))
        .servers([server.addr()])
        .visibility(Visibility::Internal);
    let set = Answers::of(&own, "six:http").until(|_| true).await;
    assert_eq!(ids(&set), ["[2001:db8::6]:1"]);
    let only = set.iter().next().unwrap();
    assert_eq!(*only.visibility(), Visibility::Internal);
}

#[tokio::test]
async fn the_platform_registers_and_lists_no_peers() {
    let dns = Dns::srv("svc.test").servers([([127, 0, 0, 1], 1).into()]);
    let lease = dns.register(Registration::new("worker")).await.unwrap();
    assert!(matches!(lease.state(), LeaseState::ByPlatform));
    let mut peers = Answers(dns.peers(&"default".parse().unwrap()));
    let error = peers.next().await.unwrap_err();
    assert_eq!(error.kind(), DiscoveryErrorKind::Unsupported);
}
