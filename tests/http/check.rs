//! The check by a path.

use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt;
use http_body_util::{Empty, Full};
use hyper::{Response, StatusCode};
use rolecall::http::{self, Client};
use rolecall::{Event, Instance, List};

use crate::support::{Server, body, request, until, within};

async fn server(health: StatusCode) -> Server {
    Server::start(
        move |request: hyper::Request<hyper::body::Incoming>| async move {
            let mut answer = Response::new(Full::from("hello"));
            if request.uri().path() == "/healthz" {
                *answer.status_mut() = health;
            }
            answer
        },
    )
    .await
}

#[tokio::test]
async fn a_path_is_asked_on_each_new_connection_and_its_status_decides() {
    let servers = [
        server(StatusCode::NO_CONTENT).await,
        server(StatusCode::SERVICE_UNAVAILABLE).await,
    ];
    let instances = servers.iter().zip('a'..);
    let instances = instances.map(|(server, id)| Instance::new(id.to_string(), server.addr));
    let client = Client::<Empty<Bytes>>::builder(List::new(instances).unwrap(), "worker:http")
        .check(http::check("/healthz"))
        .build()
        .unwrap();
    let mut events = client.control().events();
    until(|| client.control().status().usable == 2).await;
    let failed = within(async {
        while let Some(event) = events.next().await {
            if matches!(event, Event::WarmUpFailed { .. }) {
                return event;
            }
        }
        panic!("the events ended");
    });
    let failed = failed.await;
    assert_eq!(failed.id().unwrap(), "b");
    let says = "GET /healthz was answered with 503 Service Unavailable";
    assert!(failed.to_string().contains(says), "{failed}");
    let is_more = |event: &Event| matches!(event, Event::WarmUpFailed { .. });
    let next = tokio::time::timeout(Duration::from_millis(50), events.next()).await;
    assert!(!next.is_ok_and(|event| event.is_some_and(|event| is_more(&event))));
    let members = client.control().status().members;
    assert!(members[0].check.as_ref().unwrap().error.is_none());
    assert!(members[1].check.as_ref().unwrap().error.is_some());
    // The check leaves its connection to the first request.
    for _ in 0..4 {
        let answer = within(client.request(request("/"))).await.unwrap();
        assert_eq!(body(answer).await, "hello");
    }
    assert!(servers.iter().all(|server| server.accepted() == 1));
}
