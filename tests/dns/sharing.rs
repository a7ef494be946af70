//! How often the server is asked.

use std::time::{Duration, Instant};

use futures::future::join_all;
use rolecall::Discovery;
use rolecall::discovery::Dns;
use tokio::time;

use crate::server::Server;
use crate::{Answers, PATIENCE, add};

#[tokio::test]
async fn a_thousand_balancers_of_ten_roles_are_ten_polls() {
    let server = Server::start();
    for role in 0..10 {
        server.update(&[
            format!("add _http._tcp.role-{role}.default.svc.test. 3600 SRV 0 1 80 w.svc.test."),
            "add w.svc.test. 3600 A 10.0.0.1".to_owned(),
        ]);
    }
    let dns = Dns::srv("svc.test").servers([server.addr()]);
    let watching = (0..1000).map(|number| {
        let mut answers = Answers::of(&dns, &format!("role-{}:http", number % 10));
        async move {
            answers.until(|set| set.len() == 1).await;
            answers
        }
    });
    let watching = join_all(watching).await;
    assert_eq!(server.queries(" IN SRV "), 10);
    assert_eq!(watching.len(), 1000);
}

/// The longest that the balancer waits for new records when dials fail.
#[tokio::test]
#[expect(clippy::disallowed_methods, reason = "measures a real server")]
async fn a_refresh_asks_soon_and_at_most_once_a_second() {
    let server = Server::start();
    server.update(&[
        "add _http._tcp.worker.default.svc.test. 3600 SRV 0 1 80 w.svc.test.",
        "add w.svc.test. 3600 A 10.0.0.1",
    ]);
    let dns = Dns::srv("svc.test").servers([server.addr()]);
    let mut answers = Answers::of(&dns, "worker:http");
    answers.until(|set| set.len() == 1).await;
    server.update(&add("w2", "10.0.0.2", 80));
    let began = Instant::now();
    let target = "worker:http".parse().unwrap();
    let again = answers.until(|set| set.len() == 2);
    let mut again = std::pin::pin!(again);
    let refreshed = async {
        loop {
            dns.refresh(&target);
            if let Ok(set) = time::timeout(Duration::from_millis(10), &mut again).await {
                return set;
            }
        }
    };
    time::timeout(PATIENCE, refreshed).await.unwrap();
    println!("seen after {:?}", began.elapsed());
    assert!(server.queries(" IN SRV ") <= 2 + usize::try_from(began.elapsed().as_secs()).unwrap());
}
