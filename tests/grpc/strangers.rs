//! What answers is no gRPC server.

use hyper::{Response, StatusCode};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tonic::Code;

use crate::server::{Order, Server};
use crate::support::{
    all_usable, builder, channel, charges, client, impatient, member, names, within,
};

/// An HTTP status with a page.
fn page(status: StatusCode) -> Server {
    Server::http(move |_| async move {
        let page = Response::builder()
            .status(status)
            .header("content-type", "text/html");
        page.body("<html>sorry</html>".to_owned()).unwrap()
    })
}

#[tokio::test]
async fn an_http_status_is_translated_and_names_the_instance() {
    for (status, code, failures) in [
        (200, Code::Unknown, 1),
        (302, Code::Unknown, 1),
        (400, Code::Internal, 1),
        (401, Code::Unauthenticated, 0),
        (403, Code::PermissionDenied, 0),
        (404, Code::Unimplemented, 1),
        (429, Code::Unavailable, 0),
        (500, Code::Unknown, 1),
        (502, Code::Unavailable, 1),
        (503, Code::Unavailable, 1),
        (504, Code::Unavailable, 1),
    ] {
        let server = page(StatusCode::from_u16(status).unwrap());
        charges(failures, async || {
            let channel = channel([&server]);
            let answer = within(client(&channel).unary(Order::default())).await;
            let told = answer.unwrap_err();
            assert_eq!(told.code(), code, "HTTP status {status}");
            names(&told, "a");
            let message = told.message();
            assert!(message.contains(&status.to_string()), "{message}");
            channel
        })
        .await;
    }
}

#[tokio::test]
async fn a_proxy_that_asks_for_time_is_given_less_and_the_instance_is_not_blamed() {
    let well = Server::tonic();
    let busy = Server::http(|_| async {
        let page = Response::builder().status(503).header("retry-after", "60");
        page.body("<html>later</html>".to_owned()).unwrap()
    });
    let channel = channel([&well, &busy]);
    all_usable(&channel).await;
    let mut refused = 0;
    for _ in 0..40 {
        if let Err(status) = within(client(&channel).unary(Order::messages(1))).await {
            assert_eq!(status.code(), Code::Unavailable);
            names(&status, "b");
            refused += 1;
        }
    }
    assert!(refused <= 2, "it was asked {refused} times of 40");
    assert_eq!(channel.control().status().members[1].failures, 0);
}

#[tokio::test]
async fn a_server_that_speaks_http1_only_is_unavailable() {
    let server = Server::connections(|stream| async move {
        let hello = hyper::service::service_fn(|_| async {
            Ok::<_, std::convert::Infallible>(Response::new("hello".to_owned()))
        });
        hyper::server::conn::http1::Builder::new()
            .serve_connection(hyper_util::rt::TokioIo::new(stream), hello)
            .await
            .map_err(std::io::Error::other)
    });
    unavailable(&server).await;
}

#[tokio::test]
async fn a_server_that_speaks_garbage_is_unavailable() {
    for early in [false, true] {
        let server = Server::connections(move |mut stream| async move {
            if !early {
                stream.read_exact(&mut [0; 64]).await?;
            }
            stream.write_all(b"SSH-2.0-OpenSSH_9.6\r\n").await?;
            stream.write_all(&[0xff; 4096]).await?;
            stream.read_to_end(&mut Vec::new()).await.map(drop)
        });
        unavailable(&server).await;
    }
}

#[tokio::test]
async fn a_server_that_closes_at_once_is_unavailable() {
    let server = Server::connections(|stream| async move {
        drop(stream);
        Ok(())
    });
    unavailable(&server).await;
}

/// Every call fails as `Unavailable` and says where; nothing panics, nothing hangs.
async fn unavailable(server: &Server) {
    let channel = builder([server]).config(impatient()).build();
    for _ in 0..5 {
        let answer = within(client(&channel).unary(Order::default())).await;
        let status = answer.unwrap_err();
        assert_eq!(status.code(), Code::Unavailable, "{status}");
        let message = status.message();
        assert!(message.starts_with("default/worker:grpc: "), "{message}");
    }
    assert_eq!(member(&channel).in_flight, 0);
}

#[tokio::test]
async fn garbage_in_a_message_fails_the_call_and_leaves_no_slot_behind() {
    let server = Server::http(|_| async {
        let response = Response::builder().header("content-type", "application/grpc");
        response.body("<html>no message</html>".to_owned()).unwrap()
    });
    let channel = channel([&server]);
    let answer = within(client(&channel).unary(Order::default())).await;
    assert_eq!(answer.unwrap_err().code(), Code::Internal);
    assert_eq!(member(&channel).in_flight, 0);
}
