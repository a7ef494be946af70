//! The server fails, hangs, or does not know its zone.

use std::net::{SocketAddr, UdpSocket};
use std::thread;
use std::time::Duration;

use rolecall::discovery::{DiscoveryErrorKind, Dns, DnsQuery};

use crate::server::Server;
use crate::{Answers, add, ids, impatient};

#[tokio::test]
async fn a_failing_server_empties_nothing() {
    let mut server = Server::start();
    server.update(&add("w1", "10.0.0.1", 80));
    let mut answers = Answers::of(&impatient(&server), "worker:http");
    answers.until(|set| set.len() == 1).await;
    server.break_zone();
    let failed = |error: rolecall::discovery::DiscoveryError| {
        assert_eq!(error.kind(), DiscoveryErrorKind::Backend, "{error}");
        let text = error.to_string();
        assert!(
            text.contains("_http._tcp.worker.default.svc.test."),
            "{text}"
        );
    };
    failed(answers.error().await);
    failed(answers.next().await.expect_err("SERVFAIL is no empty set"));
    let late = Answers::of(&impatient(&server), "worker:http").next().await;
    failed(late.expect_err("nothing is known yet"));
    server.empty_zone();
    answers.until(|set| set.is_empty()).await;
    server.update(&add("w2", "10.0.0.2", 80));
    answers.until(|set| ids(set) == ["w2.svc.test:80"]).await;
    server.kill();
    failed(answers.error().await);
}

#[tokio::test]
async fn a_hanging_server_is_asked_again() {
    let server = Server::start();
    server.update(&add("w1", "10.0.0.1", 80));
    let mut answers = Answers::of(&impatient(&server), "worker:http");
    answers.until(|set| set.len() == 1).await;
    server.freeze();
    let error = answers.error().await;
    assert_eq!(error.kind(), DiscoveryErrorKind::Backend, "{error}");
    server.thaw();
    server.update(&add("w2", "10.0.0.2", 80));
    answers.until(|set| set.len() == 2).await;
}

#[tokio::test]
async fn a_dead_server_delays_no_answer_of_another() {
    let server = Server::start();
    server.update(&add("w1", "10.0.0.1", 80));
    let dead = server_that_never_answers();
    let both = impatient(&server).servers([dead.local_addr().unwrap(), server.addr()]);
    let set = Answers::of(&both, "worker:http").next().await.unwrap();
    assert_eq!(set.len(), 1);
}

fn server_that_never_answers() -> std::net::UdpSocket {
    std::net::UdpSocket::bind("127.0.0.1:0").unwrap()
}

#[tokio::test]
async fn a_name_that_is_none_is_an_error_and_a_panic_too() {
    let server = Server::start();
    let long = Dns::query(|_| DnsQuery::srv("x".repeat(300))).servers([server.addr()]);
    let error = Answers::of(&long, "worker:http").next().await.unwrap_err();
    assert_eq!(error.kind(), DiscoveryErrorKind::Backend);
    assert!(error.to_string().len() < 200, "{error}");
    let panics = Dns::query(|_| std::panic::resume_unwind(Box::new("a caller's fault")));
    let error = Answers::of(&panics, "worker:http")
        .next()
        .await
        .unwrap_err();
    assert_eq!(error.kind(), DiscoveryErrorKind::Backend);
}

const A: u16 = 1;
const AAAA: u16 = 28;

#[derive(Clone, Copy)]
enum Fault {
    Servfail,
    Silence,
}

/// Passes queries on to a server, but those for records of this type.
fn proxy(server: SocketAddr, failing: u16, fault: Fault) -> SocketAddr {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = socket.local_addr().unwrap();
    thread::spawn(move || {
        let mut query = [0; 1500];
        loop {
            let (length, from) = socket.recv_from(&mut query).unwrap();
            let query = &mut query[..length];
            // The labels of the name begin after the header and end with an empty one.
            let mut at = 12;
            while query[at] != 0 {
                at += usize::from(query[at]) + 1;
            }
            let asked = u16::from_be_bytes([query[at + 1], query[at + 2]]);
            if asked == failing {
                if let Fault::Servfail = fault {
                    query[2] |= 0x80;
                    query[3] = 2;
                    socket.send_to(query, from).unwrap();
                }
                continue;
            }
            let onward = UdpSocket::bind("127.0.0.1:0").unwrap();
            let patience = Some(Duration::from_secs(5));
            onward.set_read_timeout(patience).unwrap();
            onward.send_to(query, server).unwrap();
            let mut answer = [0; 1500];
            if let Ok(length) = onward.recv(&mut answer) {
                socket.send_to(&answer[..length], from).unwrap();
            }
        }
    });
    address
}

/// Both families of two hosts, or one of each, and what an answer has to be if those of one type fail.
#[tokio::test]
async fn one_family_that_fails_spares_the_other() {
    let server = Server::start();
    server.update(&[
        "add both.svc.test. 1 A 10.0.0.1".to_owned(),
        "add both.svc.test. 1 AAAA fd00::1".to_owned(),
        "add four.svc.test. 1 A 10.0.0.4".to_owned(),
        "add six.svc.test. 1 AAAA fd00::6".to_owned(),
    ]);
    for (host, failing, fault, expected) in [
        ("both", AAAA, Fault::Servfail, Some("10.0.0.1:80")),
        ("both", AAAA, Fault::Silence, Some("10.0.0.1:80")),
        ("four", AAAA, Fault::Servfail, Some("10.0.0.4:80")),
        ("both", A, Fault::Servfail, Some("[fd00::1]:80")),
        ("six", A, Fault::Servfail, Some("[fd00::6]:80")),
        // Nobody knows what the other family is.
        ("both", A, Fault::Silence, None),
        ("six", AAAA, Fault::Servfail, None),
        ("four", A, Fault::Servfail, None),
    ] {
        let through = proxy(server.addr(), failing, fault);
        let dns = Dns::query(move |_| DnsQuery::addresses(format!("{host}.svc.test."), 80));
        let dns = dns.servers([through]).timeout(Duration::from_millis(300));
        let answer = Answers::of(&dns, "worker:http").next().await;
        let case = format!("{host} without {failing}: {answer:?}");
        match expected {
            Some(id) => assert_eq!(ids(&answer.expect(&case)), [id], "{case}"),
            None => {
                let error = answer.expect_err("it must not be taken for all");
                assert_eq!(error.kind(), DiscoveryErrorKind::Backend, "{case}");
            }
        }
    }
}
