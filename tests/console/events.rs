use std::time::Duration;

use reqwest::Response;
use rolecall::InstanceId;
use rolecall::console::Console;
use serde_json::Value;
use tokio::time::timeout;

use crate::support::{Fleet, PATIENCE, get, serve, until};

/// The data of the next message of that name.
async fn next(events: &mut Response, name: &str) -> String {
    let mut text = String::new();
    loop {
        for message in text.split("\n\n") {
            if let Some(data) = message.strip_prefix(&format!("event: {name}\ndata: "))
                && text.contains(&format!("{message}\n\n"))
            {
                return data.to_owned();
            }
        }
        let chunk = timeout(PATIENCE, events.chunk()).await;
        let chunk = chunk
            .expect("no event came")
            .unwrap()
            .expect("events ended");
        text.push_str(std::str::from_utf8(&chunk).unwrap());
    }
}

#[tokio::test]
async fn programs_read_each_event_with_its_balancer() {
    let (pay, mail) = (Fleet::of(["pay-1", "pay-2"]), Fleet::of(["mail-1"]));
    let console = Console::new()
        .add("payments", &pay.control)
        .add("mail", &mail.control);
    let url = serve(console).await;
    let mut events = get(&format!("{url}/events")).await;
    assert_eq!(events.headers()["content-type"], "text/event-stream");
    pay.fail_until_ejected("pay-2").await;
    let json: Value = serde_json::from_str(&next(&mut events, "ejected").await).unwrap();
    assert_eq!(
        (&json["target"], &json["id"]),
        (&"payments".into(), &"pay-2".into())
    );
    assert_eq!(json["reason"]["rule"], "failures-in-row");
    assert!(
        json["text"]
            .as_str()
            .unwrap()
            .starts_with("instance pay-2 (10.0.0.2:80) ejected for")
    );
    assert!(
        mail.control
            .eject(&InstanceId::from("mail-1"), Duration::from_secs(9))
    );
    let json: Value = serde_json::from_str(&next(&mut events, "ejected").await).unwrap();
    assert_eq!(
        (&json["target"], &json["reason"]["rule"]),
        (&"mail".into(), &"manual".into())
    );
}

#[tokio::test]
async fn the_page_follows_once_a_second() {
    let fleet = Fleet::of(["pay-1", "pay-2"]);
    let url = serve(Console::new().add("payments", &fleet.control)).await;
    let mut views = get(&format!("{url}/events?view")).await;
    let before = next(&mut views, "view").await;
    assert!(before.contains("no instance is out"), "{before}");
    fleet.fail_until_ejected("pay-1").await;
    let mut view = before;
    while !view.contains("1 of 2 instances out") {
        view = next(&mut views, "view").await;
    }
    assert!(
        view.contains("<b>ejected</b>") && !view.contains('\n'),
        "{view}"
    );
    fleet.heal("pay-1");
    assert!(fleet.control.restore(&InstanceId::from("pay-1")));
    while !view.contains("no instance is out") {
        view = next(&mut views, "view").await;
    }
}

#[tokio::test]
async fn connections_are_bounded_and_end_with_their_clients() {
    let fleet = Fleet::of(["pay-1"]);
    let url = serve(Console::new().add("payments", &fleet.control)).await;
    let mut follow = Vec::new();
    for at in 0..64 {
        let view = if at % 2 == 0 { "?view" } else { "" };
        let events = get(&format!("{url}/events{view}")).await;
        assert_eq!(events.status(), 200);
        follow.push(events);
    }
    let refused = get(&format!("{url}/events")).await;
    assert_eq!(refused.status(), 503);
    assert_eq!(refused.headers()["retry-after"], "10");
    follow.truncate(1);
    until("the place of a client that went is free", async || {
        get(&format!("{url}/events")).await.status() == 200
    })
    .await;
}
