//! One instance of two does as no server should. It loses its traffic, callers get errors that say what, and nothing hangs or
//! is left behind.

use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Empty, Full};
use hyper::{Request, Response};
use rolecall::http::{CallError, Connection, Connector, HttpClassifier};
use rolecall::{Balance, BalanceLayer, BoxError, Control, ErrorKind, MemberState, grpc};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tower::{Layer, Service, ServiceExt};

use crate::support::{Server, beside, call_until, until};

type Client = Balance<Connection<Empty<Bytes>>, HttpClassifier>;

#[derive(Clone, Copy, Debug)]
enum Stranger {
    GarbageAtOnce,
    GarbageForAnAnswer,
    ClosesAtOnce,
    ClosesForAnAnswer,
    HalfAHead,
    HalfABody,
    HugeHeader,
    EndlessHeader,
    EndlessBody,
    Silent,
}

use Stranger::*;

async fn beside_a_stranger(stranger: Stranger) {
    for http2 in [false, true] {
        let bad = Server::start(move |stream| async move {
            if http2 {
                over_http2(stranger, stream).await
            } else {
                over_http1(stranger, stream).await
            }
        })
        .await;
        let healthy = Server::http(|_| Response::new(Full::new(Bytes::from_static(b"well")))).await;
        let connector = Connector::new();
        let connector = if http2 { connector.http2() } else { connector };
        let client = BalanceLayer::new(beside(&bad, &healthy), "worker:http")
            .unwrap()
            .classify(HttpClassifier::new())
            .layer(connector);
        is_usable(&client, "healthy").await;
        let is_settled = || has_lost_its_traffic(client.control());
        call_until(|| is_answered(&client), 200, is_settled).await;
        until(|| {
            client
                .control()
                .status()
                .members
                .iter()
                .all(|member| member.in_flight == 0)
        })
        .await;
        drop(client);
        until(|| bad.open() == 0 && healthy.open() == 0).await;
    }
}

/// Whether a call was answered well. The error of one that was not is one of ours.
async fn is_answered(client: &Client) -> bool {
    let request = Request::get("/").body(Empty::new()).unwrap();
    match client.clone().oneshot(request).await {
        // The body's error is hyper's own, by its type.
        Ok(response) => response
            .into_body()
            .collect()
            .await
            .is_ok_and(|body| body.to_bytes() == "well"),
        Err(error) => {
            assert!(matches!(error.kind(), ErrorKind::Call), "{error:?}");
            assert_eq!(error.instance().unwrap().as_str(), "stranger");
            let call = CallError::find(&error).expect("the connection's error is its source");
            assert_eq!(call.was_sent(), error.was_sent());
            false
        }
    }
}

async fn is_usable(client: &Client, id: &str) {
    until(|| {
        let members = client.control().status().members;
        let mut members = members
            .iter()
            .filter(|member| member.instance.id().as_str() == id);
        members.any(|member| member.state == MemberState::Usable)
    })
    .await;
}

/// Out, or asked a fifth as often as the other one at most.
fn has_lost_its_traffic(control: &Control) -> bool {
    let members = control.status().members;
    let of = |id| {
        members
            .iter()
            .find(|member| member.instance.id().as_str() == id)
            .unwrap()
    };
    let (stranger, healthy) = (of("stranger"), of("healthy"));
    stranger.state == MemberState::Ejected || stranger.picks * 5 < healthy.picks
}

async fn over_http1(stranger: Stranger, mut stream: TcpStream) -> Result<(), BoxError> {
    const GARBAGE: &[u8] = b"SSH-2.0-OpenSSH_9.6\r\n\xff\xfe\x00 and then some more\r\n\r\n";
    match stranger {
        GarbageAtOnce => stream.write_all(GARBAGE).await?,
        ClosesAtOnce => return Ok(()),
        _ => {}
    }
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await?);
    }
    match stranger {
        GarbageForAnAnswer => stream.write_all(GARBAGE).await?,
        ClosesForAnAnswer => return Ok(()),
        HalfAHead => return Ok(stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-le").await?),
        HalfABody => {
            let half = b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nhalf";
            return Ok(stream.write_all(half).await?);
        }
        HugeHeader => {
            let huge = format!("HTTP/1.1 200 OK\r\nhuge: {}\r\n\r\n", "x".repeat(1 << 20));
            stream.write_all(huge.as_bytes()).await?;
        }
        EndlessHeader => {
            stream.write_all(b"HTTP/1.1 200 OK\r\n").await?;
            loop {
                stream.write_all(b"more: of it\r\n").await?;
            }
        }
        EndlessBody => {
            stream
                .write_all(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")
                .await?;
            loop {
                stream.write_all(b"4\r\nmore\r\n").await?;
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        }
        GarbageAtOnce | ClosesAtOnce | Silent => {}
    }
    stream.read_to_end(&mut Vec::new()).await?;
    Ok(())
}

async fn over_http2(stranger: Stranger, mut stream: TcpStream) -> Result<(), BoxError> {
    match stranger {
        GarbageAtOnce | ClosesAtOnce | HalfAHead => {
            return over_http1_garbage(stranger, stream).await;
        }
        GarbageForAnAnswer => {
            stream.read_exact(&mut [0; 64]).await?;
            stream.write_all(&[0xff; 4096]).await?;
            stream.read_to_end(&mut Vec::new()).await?;
            return Ok(());
        }
        _ => {}
    }
    let mut connection = h2::server::handshake(stream).await?;
    while let Some(accepted) = connection.accept().await {
        let (_request, mut respond) = accepted?;
        let mut response = Response::new(());
        match stranger {
            ClosesForAnAnswer => return Ok(()),
            HalfABody => {
                response.headers_mut().insert("content-length", 100.into());
                let mut body = respond.send_response(response, false)?;
                body.send_data("half".into(), false)?;
                body.send_reset(h2::Reason::INTERNAL_ERROR);
            }
            HugeHeader => {
                let huge = "x".repeat(1 << 20).parse()?;
                response.headers_mut().insert("huge", huge);
                respond.send_response(response, true)?;
            }
            EndlessHeader => {
                for _ in 0..2_000 {
                    response.headers_mut().append("more", "of it".parse()?);
                }
                respond.send_response(response, true)?;
            }
            EndlessBody => {
                let mut body = respond.send_response(response, false)?;
                tokio::spawn(async move {
                    while body.send_data("more".into(), false).is_ok() {
                        tokio::time::sleep(Duration::from_millis(5)).await;
                    }
                });
            }
            _ => {
                // Held until the caller goes.
                tokio::spawn(
                    async move { std::future::poll_fn(|cx| respond.poll_reset(cx)).await },
                );
            }
        }
    }
    Ok(())
}

/// What is no HTTP/2 at all.
async fn over_http1_garbage(stranger: Stranger, mut stream: TcpStream) -> Result<(), BoxError> {
    match stranger {
        ClosesAtOnce => return Ok(()),
        HalfAHead => {
            // Half of a frame.
            stream.write_all(&[0, 0, 100, 1, 4, 0, 0]).await?;
            return Ok(());
        }
        _ => {
            stream
                .write_all(b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n")
                .await?
        }
    }
    stream.read_to_end(&mut Vec::new()).await?;
    Ok(())
}

#[tokio::test]
async fn garbage() {
    beside_a_stranger(GarbageAtOnce).await;
    beside_a_stranger(GarbageForAnAnswer).await;
}

#[tokio::test]
async fn closed_at_once() {
    beside_a_stranger(ClosesAtOnce).await;
    beside_a_stranger(ClosesForAnAnswer).await;
}

#[tokio::test]
async fn half_a_head() {
    beside_a_stranger(HalfAHead).await;
}

#[tokio::test]
async fn half_a_body() {
    beside_a_stranger(HalfABody).await;
}

#[tokio::test]
async fn a_huge_header() {
    beside_a_stranger(HugeHeader).await;
}

#[tokio::test]
async fn headers_without_end() {
    beside_a_stranger(EndlessHeader).await;
}

#[tokio::test]
async fn a_body_without_end() {
    beside_a_stranger(EndlessBody).await;
}

#[tokio::test]
async fn no_answer() {
    beside_a_stranger(Silent).await;
}

#[tokio::test]
async fn a_failing_grpc_status_with_200() {
    fn status(code: &'static str) -> Response<Empty<Bytes>> {
        let response = Response::builder().header("content-type", "application/grpc");
        response
            .header("grpc-status", code)
            .body(Empty::new())
            .unwrap()
    }
    let bad = Server::http(|_| status("14")).await;
    let healthy = Server::http(|_| status("0")).await;
    let channel = grpc::Channel::new(beside(&bad, &healthy), "worker:grpc").unwrap();
    let call = async || {
        let request = Request::post("/service/method")
            .body(tonic::body::Body::empty())
            .unwrap();
        let response = channel.clone().call(request).await.unwrap();
        response.headers()["grpc-status"] == "0"
    };
    call_until(call, 200, || has_lost_its_traffic(channel.control())).await;
    let members = channel.control().status().members;
    assert!(members.iter().all(|member| member.in_flight == 0));
}
