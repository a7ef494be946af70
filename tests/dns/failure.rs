//! The server fails, hangs, or does not know its zone.

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
