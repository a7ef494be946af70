//! What is made of the head of a response.

use std::time::Duration;

use bytes::Bytes;
use http_body_util::{Empty, Full};
use hyper::body::Incoming;
use hyper::{Request, Response};
use rolecall::http::{Connector, HttpClassifier};
use rolecall::{BalanceLayer, List, Outcome};
use tower::{Layer, ServiceExt};

use crate::support::{Server, balanced, member, request, until, within};

fn answer(status: u16, headers: &[(&str, &str)]) -> Response<Full<Bytes>> {
    let mut response = Response::builder().status(status);
    for &(name, value) in headers {
        response = response.header(name, value);
    }
    response.body(Full::default()).unwrap()
}

#[test]
fn retry_after_makes_429_and_503_overloaded() {
    let seconds = |seconds| Outcome::Overloaded(Some(Duration::from_secs(seconds)));
    let noon = "Sun, 06 Nov 1994 12:00:00 GMT";
    let earlier = ("date", "Sun, 06 Nov 1994 11:59:45 GMT");
    for (status, headers, outcome) in [
        (429, vec![("retry-after", "7")], seconds(7)),
        (429, vec![("retry-after", noon), earlier], seconds(15)),
        (429, vec![("retry-after", noon)], Outcome::Overloaded(None)),
        (429, vec![("retry-after", "-7")], Outcome::Overloaded(None)),
        (429, vec![], Outcome::Overloaded(None)),
        (503, vec![("retry-after", "7")], seconds(7)),
        (503, vec![("retry-after", "0")], seconds(1)),
        (
            503,
            vec![("retry-after", "99999999999999999999999")],
            seconds(60),
        ),
        (503, vec![("retry-after", noon), earlier], seconds(15)),
        (503, vec![("retry-after", "soon")], Outcome::Failure),
        (503, vec![], Outcome::Failure),
        (500, vec![("retry-after", "7")], Outcome::Failure),
        (599, vec![], Outcome::Failure),
        (999, vec![], Outcome::Failure),
        (499, vec![("retry-after", "7")], Outcome::Success),
        (301, vec![("retry-after", "7")], Outcome::Success),
    ] {
        let head = answer(status, &headers).into_parts().0;
        assert_eq!(
            HttpClassifier::new().outcome(&head),
            outcome,
            "{status} {headers:?}"
        );
    }
}

#[tokio::test]
async fn an_overloaded_instance_is_not_blamed() {
    let server = Server::start(|request: Request<Incoming>| async move {
        match request.uri().path() {
            "/503" => answer(503, &[("retry-after", "3")]),
            _ => answer(429, &[]),
        }
    })
    .await;
    let client = balanced([server.addr]);
    for path in ["/503", "/429"] {
        drop(within(client.clone().oneshot(request(path))).await.unwrap());
        let member = member(&client);
        assert_eq!((member.in_flight, member.failures), (0, 0), "{path}");
    }
}

#[tokio::test]
async fn what_counts_as_failure_is_a_closure_away() {
    let server = Server::start(|request: Request<Incoming>| async move {
        answer(request.uri().path()[1..].parse().unwrap(), &[])
    })
    .await;
    let usual = HttpClassifier::new();
    let classify = HttpClassifier::by(move |head| match head.status.as_u16() {
        404 => Outcome::Failure,
        500 => Outcome::Success,
        _ => usual.outcome(head),
    });
    let client = BalanceLayer::new(List::from_addrs([server.addr]).unwrap(), "worker:http")
        .unwrap()
        .classify(classify)
        .layer(Connector::<Empty<Bytes>>::new());
    for (path, failures, label) in [
        ("/500", 0, None),
        ("/404", 1, Some("404")),
        ("/200", 1, Some("404")),
        ("/502", 2, Some("502")),
    ] {
        drop(within(client.clone().oneshot(request(path))).await.unwrap());
        until(|| member(&client).in_flight == 0).await;
        assert_eq!(member(&client).failures, failures, "{path}");
        assert_eq!(member(&client).last_failure, label, "{path}");
    }
}
