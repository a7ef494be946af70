//! What each status says of an instance.

use std::sync::Arc;

use bytes::Bytes;
use futures::{StreamExt, stream};
use http_body_util::StreamBody;
use hyper::body::Frame;
use hyper::header::{HeaderName, HeaderValue};
use hyper::{HeaderMap, Response};
use rolecall::grpc::{self, Channel, GrpcClassifier};
use rolecall::{Error, Outcome};
use tokio::sync::Semaphore;
use tonic::{Code, Status};

use crate::client::read;
use crate::server::{Order, Server};
use crate::support::{all_usable, builder, channel, charges, client, member, names, tally, within};

/// All but `Ok`.
fn codes() -> impl Iterator<Item = Code> {
    (1..=16).map(Code::from)
}

const FAILURES: [Code; 5] = [
    Code::Unknown,
    Code::DeadlineExceeded,
    Code::Internal,
    Code::Unavailable,
    Code::DataLoss,
];

fn failures(code: Code) -> u64 {
    u64::from(FAILURES.contains(&code))
}

/// Checks that the failure that was counted, if any, is labelled by its code.
fn check_label(channel: &Channel, code: Code) {
    let member = member(channel);
    if member.failures > 0 {
        assert_eq!(member.last_failure, Some(&*format!("{code:?}")));
    }
}

fn check(status: &Status, code: Code) {
    assert_eq!(status.code(), code);
    assert_eq!(status.message(), "as ordered");
    assert_eq!(grpc::failed_at(status).unwrap(), "a");
    assert!(Error::find(status).is_none(), "it is the instance's own");
}

#[tokio::test]
async fn a_status_in_the_head_is_judged_by_its_code() {
    let server = Server::tonic();
    for code in codes() {
        charges(failures(code), async || {
            let channel = channel([&server]);
            let order = Order::default().ending_in(code);
            let status = within(client(&channel).unary(order)).await.unwrap_err();
            check(&status, code);
            check_label(&channel, code);
            channel
        })
        .await;
    }
}

#[tokio::test]
async fn a_status_in_the_trailers_is_judged_by_its_code() {
    let server = Server::tonic();
    for code in codes() {
        charges(failures(code), async || {
            let channel = channel([&server]);
            let order = Order::messages(2).ending_in(code);
            let answer = within(client(&channel).server_stream(order)).await;
            let (numbers, end) = within(read(answer.unwrap().get_mut())).await;
            assert_eq!(numbers, [1, 2]);
            check(&end.unwrap_err(), code);
            check_label(&channel, code);
            channel
        })
        .await;
    }
}

#[tokio::test]
async fn an_exhausted_instance_is_given_less_and_not_blamed() {
    let well = Server::tonic();
    let exhausted = Server::http(|_| async {
        let mut response = Response::new(String::new());
        response.headers_mut().insert("grpc-status", 8.into());
        response
    });
    let channel = channel([&well, &exhausted]);
    all_usable(&channel).await;
    let mut refused = 0;
    for _ in 0..40 {
        match within(client(&channel).unary(Order::messages(1))).await {
            Ok(_) => {}
            Err(status) => {
                assert_eq!(status.code(), Code::ResourceExhausted);
                assert_eq!(grpc::failed_at(&status).unwrap(), "b");
                refused += 1;
            }
        }
    }
    assert!(refused <= 2, "it was asked {refused} times of 40");
    let members = channel.control().status().members;
    assert_eq!(members[1].failures, 0);
}

#[tokio::test]
async fn what_counts_as_failure_is_the_callers_to_say() {
    let server = Server::tonic();
    charges(1, async || {
        let builder = builder([&server]).classify(GrpcClassifier::by(|code| match code {
            Code::NotFound => Outcome::Failure,
            _ => Outcome::Success,
        }));
        let channel = builder.build();
        for code in [Code::Internal, Code::NotFound, Code::Unavailable] {
            let order = Order::default().ending_in(code);
            within(client(&channel).unary(order)).await.unwrap_err();
        }
        channel
    })
    .await;
}

fn grpc_head<B>(body: B) -> Response<B> {
    let response = Response::builder().header("content-type", "application/grpc");
    response.body(body).unwrap()
}

#[tokio::test]
async fn an_answer_without_a_status_is_unknown_and_a_failure() {
    let message = Bytes::from_static(b"\0\0\0\0\x02\x08\x07");
    let trailers = HeaderMap::from_iter([(
        HeaderName::from_static("x-other"),
        HeaderValue::from_static("1"),
    )]);
    for (messages, ends) in [(0, false), (1, false), (0, true), (1, true)] {
        let (message, trailers) = (message.clone(), trailers.clone());
        let server = Server::http(move |_| {
            let data = (0..messages).map(|_| Frame::data(message.clone()));
            let mut frames: Vec<_> = data.collect();
            frames.extend(ends.then(|| Frame::trailers(trailers.clone())));
            let frames = frames.into_iter().map(Ok::<_, Status>);
            async { grpc_head(StreamBody::new(stream::iter(frames))) }
        });
        charges(1, async || {
            let channel = channel([&server]);
            let status = within(client(&channel).unary(Order::default())).await;
            let code = status.unwrap_err().code();
            // Without any message tonic says `Internal` for a unary call.
            assert!(matches!(code, Code::Unknown | Code::Internal), "{code:?}");
            channel
        })
        .await;
    }
}

#[tokio::test]
async fn details_that_cannot_be_decoded_are_left_out() {
    for in_trailers in [false, true] {
        for (written, details) in [("aGVsbG8", b"hello".as_slice()), ("oh no!", b"")] {
            let told = [("grpc-status", "13"), ("grpc-status-details-bin", written)];
            let server = Server::http(move |_| async move {
                let told = told.map(|(name, value)| {
                    let name = HeaderName::from_static(name);
                    (name, HeaderValue::from_static(value))
                });
                let mut headers = HeaderMap::from_iter(told);
                let frames = if in_trailers {
                    let trailers = Frame::<Bytes>::trailers(std::mem::take(&mut headers));
                    vec![Ok::<_, Status>(trailers)]
                } else {
                    vec![]
                };
                let mut response = grpc_head(StreamBody::new(stream::iter(frames)));
                response.headers_mut().extend(headers);
                response
            });
            let channel = channel([&server]);
            let answer = within(client(&channel).server_stream(Order::default())).await;
            let status = match answer {
                Err(status) => status,
                Ok(mut answer) => within(read(answer.get_mut())).await.1.unwrap_err(),
            };
            assert_eq!(status.code(), Code::Internal);
            assert_eq!(status.details(), details);
            assert_eq!(grpc::failed_at(&status).unwrap(), "a");
        }
    }
}

#[tokio::test]
async fn the_name_of_another_instance_that_is_passed_on_is_replaced() {
    let server = Server::http(|_| async {
        let response = Response::builder()
            .header("grpc-status", "13")
            .header("rolecall-instance", "of another role");
        response.body(String::new()).unwrap()
    });
    let channel = channel([&server]);
    let status = within(client(&channel).unary(Order::default())).await;
    assert_eq!(grpc::failed_at(&status.unwrap_err()).unwrap(), "a");
}

#[tokio::test]
async fn a_stream_that_breaks_is_a_failure_and_names_the_instance() {
    for (reason, code) in [
        (h2::Reason::INTERNAL_ERROR, Code::Internal),
        (h2::Reason::REFUSED_STREAM, Code::Unavailable),
        (h2::Reason::ENHANCE_YOUR_CALM, Code::ResourceExhausted),
        (h2::Reason::INADEQUATE_SECURITY, Code::PermissionDenied),
    ] {
        // hyper would send the reset before what was written until then.
        let read_so_far = Arc::new(Semaphore::new(0));
        let gate = read_so_far.clone();
        let server = Server::http(move |_| {
            let gate = gate.clone();
            let message = Frame::data(Bytes::from_static(b"\0\0\0\0\x02\x08\x07"));
            let message = stream::iter([Ok(message)]);
            let reset = stream::once(async move {
                gate.acquire().await.unwrap().forget();
                Err(h2::Error::from(reason))
            });
            async { grpc_head(StreamBody::new(message.chain(reset))) }
        });
        charges(1, async || {
            let channel = channel([&server]);
            let answer = within(client(&channel).server_stream(Order::default())).await;
            let mut stream = answer.unwrap().into_inner();
            let first = within(stream.message()).await.unwrap();
            assert_eq!(first.unwrap().number, 7);
            assert_eq!(tally(&channel), (1, 0));
            read_so_far.add_permits(1);
            let status = within(stream.message()).await.unwrap_err();
            assert_eq!(status.code(), code, "{status}");
            names(&status, "a");
            assert!(Error::find(&status).unwrap().was_sent());
            channel
        })
        .await;
    }
}
