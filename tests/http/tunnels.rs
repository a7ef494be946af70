//! `CONNECT` over HTTP/2: the bodies of the request and of the response are the two directions of a tunnel.

use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::{Method, Request, Response};
use rolecall::List;
use rolecall::http::{Body, CallError, Client, Protocol};

use crate::streaming::{Count, open_body};
use crate::support::{Raw, until, within};

/// Says what target it was asked for, and sends back what it gets.
async fn echo(
    request: Request<h2::RecvStream>,
    mut respond: h2::server::SendResponse<Bytes>,
) -> Result<(), h2::Error> {
    let protocol = request.extensions().get::<h2::ext::Protocol>();
    let protocol = protocol.map_or("none", |protocol| protocol.as_str());
    let asked = format!("{} {} {protocol}", request.method(), request.uri());
    let response = Response::builder().header("asked", asked).body(()).unwrap();
    let mut answer = respond.send_response(response, false)?;
    let mut body = request.into_body();
    while let Some(data) = body.data().await {
        let data = data?;
        body.flow_control().release_capacity(data.len())?;
        answer.send_data(data, false)?;
    }
    answer.send_data(Bytes::new(), true)
}

async fn server(takes_extended: bool) -> Raw {
    Raw::start(move |stream| async move {
        let mut builder = h2::server::Builder::new();
        if takes_extended {
            builder.enable_connect_protocol();
        }
        let connection = builder.handshake(stream).await;
        let mut connection = connection.map_err(std::io::Error::other)?;
        while let Some(Ok((request, respond))) = connection.accept().await {
            tokio::spawn(echo(request, respond));
        }
        Ok(())
    })
    .await
}

fn client(server: &Raw) -> Client {
    let list = List::from_addrs([server.addr]).unwrap();
    Client::builder(list, "worker:http")
        .http2()
        .build()
        .unwrap()
}

fn in_flight(client: &Client) -> u32 {
    client.control().status().members[0].in_flight
}

fn request(uri: &str, protocol: Option<Protocol>, body: Body) -> Request<Body> {
    let mut request = Request::new(body);
    *request.method_mut() = Method::CONNECT;
    *request.uri_mut() = uri.parse().unwrap();
    if let Some(protocol) = protocol {
        request.extensions_mut().insert(protocol);
    }
    request
}

#[tokio::test]
async fn a_tunnel_is_open_in_both_directions_and_in_flight_until_it_ends() {
    let server = server(true).await;
    let client = client(&server);
    let websocket = || Some(Protocol::from_static("websocket"));
    for (uri, protocol, asked) in [
        ("role:81", None, "CONNECT role:81 none"),
        (
            "/chat?room=1",
            websocket(),
            &format!("CONNECT http://{}/chat?room=1 websocket", server.addr),
        ),
        (
            "http://chat/",
            websocket(),
            "CONNECT http://chat/ websocket",
        ),
    ] {
        for ends_well in [true, false] {
            let bodies = Count::default();
            let (write, body) = open_body(&bodies);
            let sent = client.request(request(uri, protocol.clone(), body));
            let mut response = within(sent).await.unwrap();
            assert_eq!(response.status(), 200);
            assert_eq!(response.headers()["asked"], asked);
            for word in ["ping", "pong"] {
                write.send(Bytes::from(word)).unwrap();
                let frame = within(response.frame()).await.unwrap().unwrap();
                assert_eq!(frame.into_data().unwrap(), word);
                assert_eq!((in_flight(&client), bodies.get()), (1, 1));
            }
            if ends_well {
                drop(write);
                let rest = within(response.into_body().collect()).await.unwrap();
                assert!(rest.to_bytes().is_empty());
            } else {
                drop(response);
            }
            until(|| in_flight(&client) == 0 && bodies.get() == 0).await;
        }
    }
    let member = client.control().status().members.remove(0);
    assert_eq!((member.failures, server.accepted()), (0, 1));
}

#[tokio::test]
async fn an_extended_connect_to_an_instance_that_takes_none_is_the_callers_fault() {
    let server = server(false).await;
    let client = client(&server);
    let websocket = Some(Protocol::from_static("websocket"));
    let sent = client.request(request("/chat", websocket, Body::empty()));
    let error = within(sent).await.unwrap_err();
    let cause = CallError::find(&error).unwrap();
    assert!(cause.is_callers(), "{cause:?}");
    let sent = client.request(request("role:81", None, Body::empty()));
    assert_eq!(within(sent).await.unwrap().status(), 200);
    assert_eq!(client.control().status().members[0].failures, 0);
}
