//! Heads of responses that are larger than the connector takes.

use http_body_util::{BodyExt, Empty, Full};
use hyper::body::Incoming;
use hyper::{Request, Response};
use rolecall::List;
use rolecall::http::{BodyError, CallError, Client, Connector, ReplayBody};

use crate::support::{Raw, Server, body, within};

/// Answers with as many headers as the path says, each of as many bytes.
async fn large(request: Request<Incoming>) -> Response<Full<bytes::Bytes>> {
    let numbers = request.uri().path().split('/').skip(1);
    let numbers: Vec<usize> = numbers.map(|number| number.parse().unwrap()).collect();
    let mut response = Response::new(Full::from("hello"));
    for header in 0..numbers[0] {
        let name = hyper::header::HeaderName::try_from(format!("header-{header}")).unwrap();
        let value = "x".repeat(numbers[1]).parse().unwrap();
        response.headers_mut().insert(name, value);
    }
    response
}

type Set = fn(Connector<ReplayBody>) -> Connector<ReplayBody>;

/// Whether the client takes the head, which is no fault of the instance either way.
async fn is_taken(server: &Server, http2: bool, set: Set, path: &str) -> bool {
    let list = List::from_addrs([server.addr]).unwrap();
    let client = Client::builder(list, "worker:http").connector(set);
    let client = if http2 { client.http2() } else { client };
    let client = client.build().unwrap();
    let request = || {
        Request::get(path)
            .body(Empty::<bytes::Bytes>::new())
            .unwrap()
    };
    let result = within(client.request(request())).await;
    let is_taken = match result {
        Ok(response) => {
            assert_eq!(body(response).await, "hello");
            true
        }
        Err(error) => {
            let cause = CallError::find(&error).unwrap();
            assert!(cause.is_callers() && cause.was_sent(), "{cause:?}");
            assert!(
                cause.to_string().contains("exceeds our own limits"),
                "{cause}"
            );
            false
        }
    };
    let member = client.control().status().members.remove(0);
    assert_eq!((member.failures, member.in_flight), (0, 0));
    // The next request is served.
    let small = Request::get("/1/1").body(Empty::new()).unwrap();
    let response = within(client.request(small)).await.unwrap();
    assert_eq!(body(response).await, "hello");
    is_taken
}

#[tokio::test]
async fn large_heads_are_taken_up_to_the_limits_and_charged_to_no_instance() {
    let server = Server::start(large).await;
    let default: Set = |connector| connector;
    // More than the 16 KiB that hyper and h2 take by default.
    assert!(is_taken(&server, true, default, "/10/10000").await);
    assert!(!is_taken(&server, true, default, "/30/10000").await);
    let small: Set = |connector| connector.http2_max_header_list_size(1000);
    assert!(!is_taken(&server, true, small, "/1/1000").await);

    assert!(is_taken(&server, false, default, "/10/10000").await);
    assert!(is_taken(&server, false, default, "/90/10").await);
    assert!(!is_taken(&server, false, default, "/110/10").await);
    let many: Set = |connector| connector.http1_max_headers(300);
    assert!(is_taken(&server, false, many, "/290/10").await);
    let small: Set = |connector| connector.http1_max_buffer(0);
    assert!(!is_taken(&server, false, small, "/2/10000").await);
}

/// Answers with trailers whose values have the lengths that the path says.
async fn trailing() -> Raw {
    Raw::start(|stream| async move {
        let connection = h2::server::handshake(stream).await;
        let mut connection = connection.map_err(std::io::Error::other)?;
        while let Some(Ok((request, mut respond))) = connection.accept().await {
            let mut trailers = hyper::HeaderMap::new();
            for (place, length) in request.uri().path().split('/').skip(1).enumerate() {
                let name = hyper::header::HeaderName::try_from(format!("trailer-{place}")).unwrap();
                let value = "x".repeat(length.parse().unwrap()).parse().unwrap();
                trailers.insert(name, value);
            }
            let mut body = respond.send_response(Response::new(()), false).unwrap();
            body.send_data("hello".into(), false).unwrap();
            body.send_trailers(trailers).unwrap();
        }
        Ok(())
    })
    .await
}

#[tokio::test]
async fn trailers_beyond_the_limit_are_an_error_and_charged_to_no_instance() {
    let server = trailing().await;
    let list = List::from_addrs([server.addr]).unwrap();
    let client = Client::<Empty<bytes::Bytes>>::builder(list, "worker:http").http2();
    let client = client.build().unwrap();
    for (path, is_taken) in [
        ("/1", true),
        ("/100000/100000", true),
        // One field that fits, and one that does not; one that is too large alone; many times the limit.
        ("/100000/200000", false),
        ("/1/600000", false),
        ("/200000/200000/200000/200000", false),
        ("/1/1", true),
    ] {
        let request = Request::get(path).body(Empty::new()).unwrap();
        let response = within(client.request(request)).await.unwrap();
        match within(response.into_body().collect()).await {
            Ok(read) => {
                assert!(is_taken, "{path}");
                let fields = path.split('/').count() - 1;
                assert_eq!(read.trailers().unwrap().len(), fields);
            }
            Err(error) => {
                assert!(
                    !is_taken && BodyError::is_callers(&error),
                    "{path} {error:?}"
                );
                assert!(
                    error.to_string().contains("exceed our own limits"),
                    "{error}"
                );
            }
        }
        let member = client.control().status().members.remove(0);
        assert_eq!((member.failures, member.in_flight), (0, 0), "{path}");
    }
    assert_eq!(server.accepted(), 1);
}
