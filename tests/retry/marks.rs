//! What the caller says of a request: that it may be sent twice, and until when.

use std::time::Duration;

use hyper::Method;
use hyper::header::HeaderValue;
use rolecall::retry::{Deadline, Idempotent, Retry};

use crate::script::{Ask, Does, Stage, ask, idempotent};

const MS: Duration = Duration::from_millis(1);

async fn attempts(retry: Retry, does: Does, ask: Ask) -> usize {
    let stage = Stage::new(2, [does]).await;
    drop(stage.send(&retry, ask).await);
    stage.instances().len()
}

#[tokio::test(start_paused = true)]
async fn nothing_that_was_sent_is_sent_again_unasked() {
    for does in [
        Does::Break,
        Does::Answer(503),
        Does::Grpc(&[("grpc-status", "14")]),
    ] {
        for method in [Method::GET, Method::PUT, Method::POST] {
            assert_eq!(attempts(Retry::new(), does, ask(method)).await, 1);
        }
        assert_eq!(attempts(Retry::new(), does, idempotent()).await, 2);
    }
}

#[tokio::test(start_paused = true)]
async fn methods_count_once_that_is_said() {
    for (method, expected) in [
        (Method::GET, 2),
        (Method::HEAD, 2),
        (Method::OPTIONS, 2),
        (Method::TRACE, 2),
        (Method::PUT, 2),
        (Method::DELETE, 2),
        (Method::POST, 1),
        (Method::PATCH, 1),
        (Method::CONNECT, 1),
        (Method::from_bytes(b"get").unwrap(), 1),
    ] {
        let retry = Retry::new().idempotent_methods();
        let made = attempts(retry, Does::Break, ask(method.clone())).await;
        assert_eq!(made, expected, "{method}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_mark_overrules_the_method() {
    let retry = Retry::new().idempotent_methods();
    let mut get = ask(Method::GET);
    get.extensions_mut().insert(Idempotent(false));
    assert_eq!(attempts(retry.clone(), Does::Break, get).await, 1);
    assert_eq!(attempts(retry, Does::Break, idempotent()).await, 2);
}

#[tokio::test(start_paused = true)]
async fn only_answers_of_instances_that_cannot_serve_are_asked_for_again() {
    for status in [200, 301, 404, 408, 429, 500, 501, 505] {
        let made = attempts(Retry::new(), Does::Answer(status), idempotent()).await;
        assert_eq!(made, 1, "{status}");
    }
    for status in [502, 503, 504] {
        let made = attempts(Retry::new(), Does::Answer(status), idempotent()).await;
        assert_eq!(made, 2, "{status}");
    }
    for status in ["0", "2", "4", "8", "13", "141", "fourteen"] {
        let head: &'static _ = Box::leak(Box::new([("grpc-status", status)]));
        let made = attempts(Retry::new(), Does::Grpc(head), idempotent()).await;
        assert_eq!(made, 1, "{status}");
    }
}

#[tokio::test(start_paused = true)]
async fn no_attempt_begins_after_the_deadline_and_no_backoff_outlasts_it() {
    // Without jitter, since the least wait is the most too.
    let retry = Retry::new().attempts(9).backoff(100 * MS, 100 * MS);
    for (limit, attempts) in [(0, 1), (50, 1), (100, 1), (150, 2), (250, 3), (350, 4)] {
        let stage = Stage::new(4, [Does::Answer(503); 9]).await;
        let began = stage.elapsed();
        let mut ask = idempotent();
        ask.extensions_mut()
            .insert(Deadline::after(limit * MS).unwrap());
        let answer = stage.send(&retry, ask).await.unwrap();
        assert_eq!(answer.status(), 503, "the last failure, not a late one");
        let took = stage.elapsed() - began;
        assert!(took <= limit * MS, "{took:?} of {limit} ms");
        assert_eq!(stage.made().len(), attempts, "in {limit} ms");
    }
    let mut ask = ask(Method::POST);
    ask.extensions_mut()
        .insert(Deadline::after(Duration::ZERO).unwrap());
    let stage = Stage::new(2, [Does::Unsent]).await;
    stage.send(&retry, ask).await.unwrap_err();
    assert_eq!(stage.instances().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_later_attempt_is_told_what_time_is_left_and_that_it_is_one() {
    let stage = Stage::new(2, [Does::Break]).await;
    let retry = Retry::new().backoff(100 * MS, 100 * MS);
    let call = || {
        let mut call = idempotent();
        let headers = call.headers_mut();
        headers.insert("content-type", HeaderValue::from_static("application/grpc"));
        headers.insert("grpc-timeout", HeaderValue::from_static("1S"));
        call
    };
    stage.send(&retry, call()).await.unwrap();
    let made = stage.made();
    let told = |position: usize, name: &str| made[position].headers.get(name).cloned();
    assert_eq!(told(0, "grpc-timeout").unwrap(), "1S");
    assert!(told(0, "grpc-previous-rpc-attempts").is_none());
    assert_eq!(told(1, "grpc-previous-rpc-attempts").unwrap(), "1");
    let left = told(1, "grpc-timeout").unwrap();
    let left: u64 = left
        .to_str()
        .unwrap()
        .strip_suffix('u')
        .unwrap()
        .parse()
        .unwrap();
    assert!((890_000..=900_000).contains(&left), "{left} µs");

    // Of 90 ms nothing is left.
    stage.then([Does::Break]);
    let mut hurried = call();
    let limit = HeaderValue::from_static("90m");
    hurried.headers_mut().insert("grpc-timeout", limit);
    stage.send(&retry, hurried).await.unwrap_err();
    assert_eq!(stage.made().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_server_that_asks_for_a_pause_gets_it() {
    const LATER: Does = Does::Grpc(&[("grpc-status", "14"), ("grpc-retry-pushback-ms", "700")]);
    const NEVER: Does = Does::Grpc(&[("grpc-status", "14"), ("grpc-retry-pushback-ms", "-1")]);
    const TOO_LONG: Does = Does::Grpc(&[
        ("grpc-status", "14"),
        ("grpc-retry-pushback-ms", "4294967295"),
    ]);
    let call = || {
        let mut call = idempotent();
        let grpc = HeaderValue::from_static("application/grpc");
        call.headers_mut().insert("content-type", grpc);
        call
    };
    let stage = Stage::new(2, [LATER]).await;
    let began = stage.elapsed();
    stage.send(&Retry::new(), call()).await.unwrap();
    let waited = stage.elapsed() - began;
    assert!((700 * MS..=702 * MS).contains(&waited), "{waited:?}");
    assert_eq!(attempts(Retry::new(), NEVER, call()).await, 1);
    assert_eq!(attempts(Retry::new(), TOO_LONG, call()).await, 1);
    // To plain HTTP it means nothing.
    assert_eq!(attempts(Retry::new(), NEVER, idempotent()).await, 2);
}
