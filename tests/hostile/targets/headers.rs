//! Heads and trailers of answers and requests, one `name: value` on each line, a status in the first.

use std::convert::Infallible;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use futures::FutureExt;
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, StatusCode};
use http_body::Frame;
use http_body_util::{BodyExt, Empty, StreamBody};
use rolecall::grpc::{Channel, GrpcClassifier};
use rolecall::http::HttpClassifier;
use rolecall::retry::Retry;
use rolecall::{Instance, List, Outcome, connect};
use tokio::runtime::{Builder, Runtime};
use tower::retry::Policy;
use tower::{Layer, Service, ServiceExt, service_fn};

type Body =
    StreamBody<futures::stream::Iter<std::array::IntoIter<Result<Frame<Bytes>, Infallible>, 1>>>;

fn runtime() -> Runtime {
    let runtime = Builder::new_current_thread().enable_all().build();
    runtime.expect("a runtime")
}

fn headers(lines: &[u8]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for line in lines.split(|byte| *byte == b'\n') {
        let colon = line.iter().position(|byte| *byte == b':');
        let Some((name, value)) = colon.map(|at| line.split_at(at)) else {
            continue;
        };
        let value = value.get(2..).unwrap_or_default();
        if let (Ok(name), Ok(value)) =
            (HeaderName::from_bytes(name), HeaderValue::from_bytes(value))
            && headers.len() < 100
        {
            headers.append(name, value);
        }
    }
    headers
}

/// A head, and what comes after an empty line as trailers.
fn answer(data: &[u8]) -> Response<Body> {
    let (status, rest) = match data.iter().position(|byte| *byte == b'\n') {
        Some(end) => (&data[..end], &data[end + 1..]),
        None => (data, &[][..]),
    };
    let end = rest.windows(2).position(|two| two == b"\n\n");
    let (head, trailers) = rest.split_at(end.unwrap_or(rest.len()));
    let trailers = Ok(Frame::trailers(headers(trailers)));
    let mut response = Response::new(StreamBody::new(futures::stream::iter([trailers])));
    *response.status_mut() = StatusCode::from_bytes(status).unwrap_or_default();
    *response.headers_mut() = headers(head);
    response
}

pub(crate) fn http_answer(data: &[u8]) {
    let (head, _) = answer(data).into_parts();
    if let Outcome::Overloaded(Some(wait)) = HttpClassifier::new().outcome(&head) {
        assert!(wait.as_secs() >= 1 && wait.as_secs() <= 60, "{wait:?}");
    }
}

/// The head and the trailers of one answer, through a balancer.
pub(crate) fn grpc_answer(data: &[u8]) {
    type Answers = Arc<Mutex<Vec<u8>>>;
    type Call = futures::future::BoxFuture<'static, ()>;
    struct Caller {
        runtime: Runtime,
        answers: Answers,
        call: Box<dyn Fn() -> Call>,
    }
    thread_local! {
        static CALLER: Caller = {
            let answers = Answers::default();
            let answered = Arc::clone(&answers);
            let server = service_fn(move |_: Request<Empty<Bytes>>| {
                let answer = answer(&answered.lock().expect("no panic"));
                async move { Ok::<_, Infallible>(answer) }
            });
            let list = List::from_addrs([([127, 0, 0, 1], 1).into()]).expect("an address");
            let layer = rolecall::BalanceLayer::new(list, "worker:grpc").expect("a target");
            let layer = layer.classify(GrpcClassifier::new());
            let balance = layer.layer(connect::per_instance(move |_: &Instance| server.clone()));
            let call = move || -> Call {
                let balance = balance.clone();
                Box::pin(async move {
                    // An ejected one is used all the same: it is the only one.
                    let answered = balance.oneshot(Request::new(Empty::new())).await;
                    if let Ok(answer) = answered {
                        let _ = answer.into_body().collect().await;
                    }
                })
            };
            Caller { runtime: runtime(), answers, call: Box::new(call) }
        };
    }
    CALLER.with(|caller| {
        data.clone_into(&mut caller.answers.lock().expect("no panic"));
        caller.runtime.block_on((caller.call)());
    });
}

/// The time that a caller gives a call.
pub(crate) fn grpc_timeout(data: &[u8]) {
    thread_local! {
        static RUNTIME: Runtime = runtime();
    }
    let Ok(value) = HeaderValue::from_bytes(data) else {
        return;
    };
    RUNTIME.with(|runtime| {
        runtime.block_on(async {
            let list = List::new([]).expect("a list");
            let mut channel = Channel::new(list, "worker:grpc").expect("a target");
            let mut request = Request::new(Empty::<Bytes>::new());
            request.headers_mut().insert("grpc-timeout", value);
            // It has no time, or waits for an instance.
            let _ = channel.call(request).now_or_never();
        });
    });
}

/// What a server wants of those that would call again.
pub(crate) fn retry(data: &[u8]) {
    thread_local! {
        static RUNTIME: Runtime = runtime();
    }
    RUNTIME.with(|runtime| {
        runtime.block_on(async {
            let mut policy = Retry::new();
            let mut request = Request::new(());
            *request.headers_mut() = headers(data);
            let mut answered: Result<_, rolecall::Error> = Ok(answer(data));
            let _ = policy.retry(&mut request, &mut answered);
        });
    });
}
