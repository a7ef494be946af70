use std::convert::Infallible;
use std::time::Duration;

use rolecall::console::Console;
use rolecall::{BalanceLayer, Instance, InstanceId, List, Status, connect};
use serde_json::Value;
use tower::{Layer, Service, service_fn};

use crate::support::{Fleet, get, serve, text, until};

/// The value of an attribute of the first tag that begins so.
fn attribute<'a>(html: &'a str, tag: &str, name: &str) -> &'a str {
    let rest = html.split(tag).nth(1).unwrap();
    let rest = rest.split(&format!("{name}=")).nth(1).unwrap();
    rest.split(['>', ' ']).next().unwrap()
}

#[tokio::test]
async fn the_page_says_who_is_out_why_and_until_when() {
    let fleet = Fleet::of(["pay-1", "pay-2", "pay-3"]);
    let url = serve(Console::new().add("payments", &fleet.control)).await;
    fleet.fail_until_ejected("pay-2").await;
    let page = text(&url).await;
    assert!(
        page.contains("<h1 class=out>1 of 3 instances out"),
        "{page}"
    );
    let rows: Vec<_> = page.split("<tbody class=").skip(1).collect();
    assert_eq!(rows.len(), 3, "{page}");
    assert!(rows[0].starts_with("out"), "trouble comes first: {page}");
    assert!(rows[0].contains("pay-2<small>10.0.0.2:80"), "{page}");
    assert!(rows[0].contains("<b>ejected</b><small>until "), "{page}");
    let explained = fleet.control.explain().to_string();
    let why = explained
        .lines()
        .find(|line| line.contains("pay-2"))
        .unwrap();
    let (_, rule) = why.split_once("to go: ").unwrap();
    assert!(
        rule.contains("failures in a row, the last: connection reset"),
        "{rule}"
    );
    assert!(rows[0].contains(rule), "expected {rule} in {page}");
    assert!(
        rows[1].starts_with("fine") || rows[1].starts_with("wrong"),
        "{page}"
    );
    until("the ejection is among the events", async || {
        text(&url)
            .await
            .contains("pay-2 (10.0.0.2:80) ejected for ")
    })
    .await;
}

#[tokio::test]
async fn events_from_before_the_first_look_are_shown_with_their_time() {
    let fleet = Fleet::of(["pay-1", "pay-2"]);
    let console = Console::new().add("payments", &fleet.control);
    fleet.fail_until_ejected("pay-1").await;
    tokio::time::sleep(Duration::from_millis(1100)).await;
    let page = text(&serve(console).await).await;
    let events = page.split("<h3>Events").nth(1).unwrap();
    let ejected = events
        .split("<li ")
        .find(|event| event.contains("ejected for"))
        .unwrap();
    assert!(
        ejected.starts_with("class=out") && !ejected.contains("<small>0 s ago"),
        "{ejected}"
    );
}

#[tokio::test]
async fn all_answers_have_the_headers_that_protect_the_page() {
    let fleet = Fleet::of(["pay-1"]);
    let url = serve(
        Console::new()
            .add("payments", &fleet.control)
            .with_controls("secret"),
    )
    .await;
    for path in [
        "/",
        "/status.json",
        "/events",
        "/nothing",
        "/eject",
        "/?at=nothing",
    ] {
        let response = get(&format!("{url}{path}")).await;
        let header = |name: &str| response.headers()[name].to_str().unwrap().to_owned();
        assert_eq!(header("cache-control"), "no-store", "{path}");
        assert_eq!(header("x-content-type-options"), "nosniff", "{path}");
        assert_eq!(header("referrer-policy"), "same-origin", "{path}");
        let policy = header("content-security-policy");
        assert!(policy.starts_with("default-src 'none'"), "{path}: {policy}");
        assert!(
            policy.contains("frame-ancestors 'none'"),
            "{path}: {policy}"
        );
        assert!(!policy.contains("unsafe"), "{path}: {policy}");
    }
    let mut nonces = Vec::new();
    for _ in 0..2 {
        let response = get(&url).await;
        let policy = response.headers()["content-security-policy"]
            .to_str()
            .unwrap()
            .to_owned();
        let page = response.text().await.unwrap();
        let nonce = attribute(&page, "<script", "nonce").to_owned();
        assert_eq!(nonce, attribute(&page, "<style", "nonce"));
        assert!(
            nonce.len() == 32 && policy.contains(&format!("script-src 'nonce-{nonce}'")),
            "{policy}"
        );
        assert!(
            !page.contains(" style=") && !page.contains(" onclick="),
            "refused by the policy"
        );
        nonces.push(nonce);
    }
    assert_ne!(nonces[0], nonces[1], "a nonce serves once");
}

#[tokio::test]
async fn methods_and_paths_are_answered_as_http_has_it() {
    let fleet = Fleet::of(["pay-1"]);
    let url = serve(Console::new().add("payments", &fleet.control)).await;
    let client = reqwest::Client::new();
    for path in ["/", "/status.json"] {
        let head = client.head(format!("{url}{path}")).send().await.unwrap();
        assert_eq!(head.status(), 200);
        let length: usize = head.headers()["content-length"]
            .to_str()
            .unwrap()
            .parse()
            .unwrap();
        assert!(length > 300, "{path}: {length}");
        assert!(head.text().await.unwrap().is_empty());
    }
    let head = client.head(format!("{url}/events")).send().await.unwrap();
    assert_eq!(head.headers()["content-type"], "text/event-stream");
    for path in ["/", "/status.json", "/events"] {
        for refused in [
            client.post(format!("{url}{path}")),
            client.delete(format!("{url}{path}")),
        ] {
            let refused = refused.send().await.unwrap();
            assert_eq!(refused.status(), 405, "{path}");
            assert_eq!(refused.headers()["allow"], "GET, HEAD");
        }
    }
    for path in [
        "/x",
        "/eject",
        "/restore",
        "/shadow",
        "/status.json/",
        "//",
        "/page.js",
        "/?at=eject",
    ] {
        assert_eq!(get(&format!("{url}{path}")).await.status(), 404, "{path}");
        let posted = client.post(format!("{url}{path}")).send().await.unwrap();
        assert_eq!(posted.status(), 404, "{path}");
    }
}

#[tokio::test]
async fn the_json_has_status_explanation_and_text() {
    let fleet = Fleet::of(["pay-1", "pay-2"]);
    fleet.fail_until_ejected("pay-2").await;
    let url = serve(Console::new().add("payments", &fleet.control)).await;
    let json: Value = serde_json::from_str(&text(&format!("{url}/status.json")).await).unwrap();
    let target = &json["targets"][0];
    assert_eq!(
        (&target["name"], json["targets"].as_array().unwrap().len()),
        (&"payments".into(), 1)
    );
    assert_eq!(target["status"]["target"], "default/pay:http");
    let member = &target["status"]["members"][1];
    assert_eq!(
        (&member["instance"]["id"], &member["state"]),
        (&"pay-2".into(), &"ejected".into())
    );
    assert!(
        member["ejection"]["remaining"].as_f64().unwrap() > 0.0,
        "{member}"
    );
    assert_eq!(
        target["explanation"]["members"][1]["reasons"][0]["reason"],
        "ejected"
    );
    assert!(
        target["text"]
            .as_str()
            .unwrap()
            .contains("pay-2 (10.0.0.2:80) gets no requests")
    );
}

#[tokio::test]
async fn a_thousand_instances_stay_below_60_kb_with_trouble_first() {
    let fleet =
        Fleet::of((0..1000).map(|at| format!("deployment-with-a-long-name-7d9f8b6c5d-{at:04}")));
    let url = serve(
        Console::new()
            .add("payments", &fleet.control)
            .with_controls("x"),
    )
    .await;
    until("all are connected", async || {
        fleet.control.status().usable == 1000
    })
    .await;
    for at in 900..950 {
        let id = InstanceId::from(format!("deployment-with-a-long-name-7d9f8b6c5d-{at:04}"));
        assert!(fleet.control.eject(&id, Duration::from_secs(600)));
    }
    // With two minutes of graphs, as far as the clock of the test goes.
    let mut follows = get(&format!("{url}/events?view")).await;
    for _ in 0..4 {
        fleet.call(3000).await;
        assert!(follows.chunk().await.unwrap().is_some());
    }
    let page = text(&url).await;
    assert!(page.len() < 60_000, "{} bytes", page.len());
    assert!(page.contains("50 of 1000 instances out"), "{page}");
    let rows: Vec<_> = page.split("<tbody class=").skip(1).collect();
    assert_eq!(rows.len(), 40);
    assert!(rows.iter().all(|row| row.starts_with("out")), "{page}");
    assert!(page.contains("960 instances not shown. "), "{page}");
    let whole = text(&format!("{url}/?target=payments&all")).await;
    assert_eq!(whole.matches("<tbody class=").count(), 1000);
    let none = text(&format!("{url}/?target=nobody")).await;
    assert!(none.contains("no such balancer"), "{none}");
}

#[tokio::test]
async fn a_balancer_that_has_ended_is_shown_as_such() {
    let fleet = Fleet::of(["pay-1"]);
    let url = serve(Console::new().add("payments", &fleet.control)).await;
    let Fleet {
        balance, control, ..
    } = fleet;
    drop(balance);
    let page = text(&url).await;
    assert!(page.contains("requests cannot be served"), "{page}");
    let json = text(&format!("{url}/status.json")).await;
    assert!(json.contains("\"members\":[]"), "{json}");
    let status: Status = control.status();
    assert!(status.members.is_empty() && control.config().is_none());
}

#[tokio::test]
async fn a_console_without_balancers_and_one_with_the_same_name_twice_are_served() {
    let url = serve(Console::new()).await;
    assert!(text(&url).await.contains("no such balancer"));
    let (first, second) = (Fleet::of(["a"]), Fleet::of(["b"]));
    let console = Console::new()
        .add("x", &first.control)
        .add("x", &second.control);
    let url = serve(console).await;
    until("only the second is shown", async || {
        let page = text(&url).await;
        page.matches("<section").count() == 1 && page.contains(">b<small>")
    })
    .await;
}

#[tokio::test]
async fn a_backup_that_waits_is_not_in_trouble() {
    let first = Instance::new("pay-1", ([10, 0, 0, 1], 80));
    let backup = Instance::new("pay-2", ([10, 0, 0, 2], 80)).with_rank(1);
    let connector = connect::per_instance(|_: &Instance| {
        service_fn(|(): ()| async { Ok::<_, Infallible>(()) })
    });
    let list = List::new([first, backup]).unwrap();
    let balance = BalanceLayer::new(list, "pay:http")
        .unwrap()
        .layer(connector);
    (&balance).call(()).await.unwrap();
    let url = serve(Console::new().add("payments", balance.control())).await;
    let page = text(&url).await;
    assert!(page.contains("a backup"), "{page}");
    let rows: Vec<_> = page.split("<tbody class=").skip(1).collect();
    assert!(
        rows.len() == 2 && rows.iter().all(|row| row.starts_with("fine")),
        "{page}"
    );
}
