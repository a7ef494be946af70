//! A warm request goes through few files: `.ci/ejection-path --http` runs this under callgrind, and prints the source files that
//! the last call of `measured_request` passes through.

use std::convert::Infallible;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use rolecall::http::{Body, Client, answered_by};
use rolecall::{BoxError, InstanceId, List};
use tokio::net::TcpListener;
use tokio::runtime::{Builder, Runtime};

type Exchanged = Result<(StatusCode, Option<InstanceId>, Bytes), BoxError>;

/// Sends one request and reads its response: all of the caller's side, the task of the connection included.
#[inline(never)]
fn measured_request(runtime: &Runtime, client: &Client) -> Exchanged {
    // Callgrind counts no closures of a function of this name, which would end the count when they begin.
    runtime.block_on(exchange(client))
}

async fn exchange(client: &Client) -> Exchanged {
    let request = Request::get("/jobs").body(Body::empty())?;
    let response = client.request(request).await?;
    let (status, id) = (response.status(), answered_by(&response).cloned());
    let body = response.into_body().collect().await?;
    Ok((status, id, body.to_bytes()))
}

#[test]
fn a_warm_request_is_answered_over_one_connection() {
    let runtime = Builder::new_current_thread().enable_all().build().unwrap();
    let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
    let addr = listener.local_addr().unwrap();
    let accepting = runtime.spawn(async move {
        let (stream, _) = listener.accept().await.unwrap();
        let hello = |_| async { Ok::<_, Infallible>(Response::new(Full::<Bytes>::from("hello"))) };
        let serving =
            http1::Builder::new().serve_connection(TokioIo::new(stream), service_fn(hello));
        serving.await.unwrap();
    });
    let context = runtime.enter();
    let client = Client::new(List::from_addrs([addr]).unwrap(), "worker:http").unwrap();
    drop(context);
    for _ in 0..3 {
        let (status, id, body) = measured_request(&runtime, &client).unwrap();
        assert_eq!((status, &*body), (StatusCode::OK, &b"hello"[..]));
        assert_eq!(id.unwrap().as_str(), addr.to_string());
        // The driver hears of what was news in it.
        runtime.block_on(async { tokio::time::sleep(Duration::from_millis(10)).await });
    }
    drop(client);
    // The one connection was closed: the server accepts no second one.
    runtime.block_on(accepting).unwrap();
}
