//! Requests that an HTTP/2 instance says it did not act on: they are sent again, with all of their body.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use futures::{StreamExt, stream};
use http_body_util::{Full, StreamBody};
use hyper::body::{Body, Frame, Incoming};
use hyper::{HeaderMap, Request, Response};
use rolecall::http::{self, CallError, Connector};
use rolecall::{Balance, BalanceLayer, BoxError, List, Registrar, Registration, Registry};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tower::{Layer, ServiceExt};

use crate::frames::Frames;
use crate::support::{Raw, Server, hello, until, within};

/// What a server does with a request.
#[derive(Clone, Copy)]
enum Verdict {
    Answer,
    /// Once all of it is there.
    Refuse,
    /// Once some of its body is there.
    RefuseEarly,
}

/// The body of a request that was answered, and its trailers.
type Asked = (Vec<u8>, Option<HeaderMap>);

/// Does with each request as `decide` says, which is told how many came before.
async fn server(
    decide: impl Fn(usize) -> Verdict + Clone + Send + Sync + 'static,
) -> (Raw, UnboundedReceiver<Asked>) {
    let (tell, asked) = unbounded_channel();
    let count = Arc::new(AtomicUsize::new(0));
    let server = Raw::start(move |stream| {
        let (tell, count, decide) = (tell.clone(), count.clone(), decide.clone());
        async move {
            let connection = h2::server::handshake(stream).await;
            let mut connection = connection.map_err(io::Error::other)?;
            while let Some(Ok((request, respond))) = connection.accept().await {
                let verdict = decide(count.fetch_add(1, SeqCst));
                tokio::spawn(handle(request, respond, verdict, tell.clone()));
            }
            Ok(())
        }
    })
    .await;
    (server, asked)
}

async fn handle(
    request: Request<h2::RecvStream>,
    mut respond: h2::server::SendResponse<Bytes>,
    verdict: Verdict,
    tell: UnboundedSender<Asked>,
) -> Result<(), BoxError> {
    let mut body = request.into_body();
    let mut data = Vec::new();
    while let Some(piece) = body.data().await {
        let piece = piece?;
        body.flow_control().release_capacity(piece.len())?;
        data.extend_from_slice(&piece);
        if matches!(verdict, Verdict::RefuseEarly) {
            break;
        }
    }
    if !matches!(verdict, Verdict::Answer) {
        respond.send_reset(h2::Reason::REFUSED_STREAM);
        return Ok(());
    }
    tell.send((data, body.trailers().await?))?;
    respond.send_response(Response::new(()), true)?;
    Ok(())
}

fn first(verdict: Verdict) -> impl Fn(usize) -> Verdict + Clone + Send + Sync + 'static {
    move |before| match before {
        0 => verdict,
        _ => Verdict::Answer,
    }
}

type Client<B> = Balance<http::Connection<B>, http::ClassifyStatus>;

fn client<B>(server: &Raw) -> Client<B>
where
    B: Body<Data: Send, Error: Into<BoxError>> + Send + Unpin + 'static,
{
    BalanceLayer::new(List::from_addrs([server.addr]).unwrap(), "worker:http")
        .unwrap()
        .classify(http::ClassifyStatus::new())
        .layer(Connector::new().http2())
}

fn post<B>(body: B) -> Request<B> {
    Request::post("/").body(body).unwrap()
}

#[tokio::test]
async fn a_refused_request_is_asked_again() {
    for body in ["", "body"] {
        // Not eight in a row.
        let (server, mut asked) = server(|before| match before % 3 {
            2 => Verdict::Refuse,
            _ => Verdict::Answer,
        })
        .await;
        let client = client(&server);
        for _ in 0..100 {
            let call = client.clone().oneshot(post(Full::<Bytes>::from(body)));
            within(call).await.expect("no request fails");
            assert_eq!(asked.recv().await.unwrap(), (body.into(), None));
        }
        assert_eq!(server.accepted(), 1);
        let member = client.control().status().members.remove(0);
        assert_eq!((member.in_flight, member.failures), (0, 0));
    }
}

#[tokio::test]
async fn a_body_that_is_still_written_comes_again_from_its_start() {
    let (arrive, mut arrivals) = unbounded_channel();
    let (server, mut asked) = server(move |before| {
        arrive.send(()).unwrap();
        first(Verdict::RefuseEarly)(before)
    })
    .await;
    let (write, mut written) = unbounded_channel();
    let body = stream::poll_fn(move |cx| written.poll_recv(cx));
    let body =
        StreamBody::new(body.map(|text| Ok::<_, Infallible>(Frame::data(Bytes::from(text)))));
    write.send("one ").unwrap();
    let call = tokio::spawn(client(&server).oneshot(post(body)));
    for _ in 0..2 {
        within(arrivals.recv()).await.unwrap();
    }
    write.send("two").unwrap();
    drop(write);
    within(call).await.unwrap().expect("no request fails");
    assert_eq!(asked.recv().await.unwrap().0, b"one two");
}

#[tokio::test]
async fn trailers_come_again() {
    let (server, mut asked) = server(first(Verdict::Refuse)).await;
    let mut trailers = HeaderMap::new();
    trailers.insert("checksum", 7.into());
    // Data that are no `Bytes`.
    let data = io::Cursor::new("one");
    let frames = [Frame::data(data), Frame::trailers(trailers.clone())];
    let body = StreamBody::new(stream::iter(frames.map(Ok::<_, Infallible>)));
    let call = client(&server).oneshot(post(body));
    within(call).await.expect("no request fails");
    assert_eq!(asked.recv().await.unwrap(), (b"one".into(), Some(trailers)));
}

const LIMIT: usize = 64 * 1024;

#[tokio::test]
async fn a_body_up_to_the_limit_is_kept() {
    let (server, mut asked) = server(first(Verdict::Refuse)).await;
    let body = vec![b'x'; LIMIT];
    let call = client(&server).oneshot(post(Full::new(Bytes::from(body.clone()))));
    within(call).await.expect("no request fails");
    assert!(asked.recv().await.unwrap().0 == body);
}

#[tokio::test]
async fn a_refused_body_beyond_the_limit_was_not_sent_and_nobody_is_charged() {
    let (server, _asked) = server(first(Verdict::RefuseEarly)).await;
    let client = client(&server);
    let body = Full::new(Bytes::from(vec![b'x'; LIMIT + 1]));
    let error = within(client.clone().oneshot(post(body)))
        .await
        .unwrap_err();
    assert!(!error.was_sent(), "{error:?}");
    assert!(!CallError::find(&error).unwrap().was_sent());
    let member = client.control().status().members.remove(0);
    assert_eq!((member.in_flight, member.failures), (0, 0));
}

/// Acts on no request: says so of each, or goes away.
async fn refuse_all(stream: TcpStream, goes_away: bool) -> io::Result<()> {
    let mut frames = Frames::accept(stream).await?;
    while let Some((stream, _)) = frames.request().await? {
        if goes_away {
            frames.go_away(0).await?;
        } else {
            frames.refuse(stream).await?;
        }
    }
    Ok(())
}

#[tokio::test]
async fn an_instance_that_refuses_everything_is_an_error_not_a_loop() {
    for (goes_away, body) in [(false, ""), (false, "body"), (true, ""), (true, "body")] {
        let server = Raw::start(move |stream| refuse_all(stream, goes_away)).await;
        let client = client(&server);
        let call = client.clone().oneshot(post(Full::<Bytes>::from(body)));
        let error = within(call).await.unwrap_err();
        assert!(!error.was_sent(), "{error:?}");
        // Three times, for there may be others, nine each.
        assert!(server.accepted() <= 30, "{} dials", server.accepted());
        let member = client.control().status().members.remove(0);
        assert_eq!((member.in_flight, member.failures), (0, 0));
    }
}

/// A request to an instance that takes its first connection, and goes away without having acted; another one comes meanwhile.
async fn ask_one_that_leaves(
    request: Request<Full<Bytes>>,
) -> (Result<(), rolecall::Error>, Vec<String>, SocketAddr) {
    let (arrive, mut arrived) = unbounded_channel();
    let leave = Arc::new(Semaphore::new(0));
    let (count, may_leave) = (Arc::new(AtomicUsize::new(0)), leave.clone());
    let leaving = Raw::start(move |stream| {
        let is_first = count.fetch_add(1, SeqCst) == 0;
        let (arrive, leave) = (arrive.clone(), may_leave.clone());
        async move {
            if !is_first {
                return Ok(());
            }
            let mut frames = Frames::accept(stream).await?;
            frames.request().await?;
            arrive.send(()).unwrap();
            leave.acquire().await.unwrap().forget();
            frames.go_away(0).await?;
            while frames.request().await?.is_some() {}
            Ok(())
        }
    })
    .await;
    let asked = Arc::new(Mutex::new(Vec::new()));
    let hosts = asked.clone();
    let staying = Server::start(move |request: Request<Incoming>| {
        let host = request.uri().authority().unwrap().to_string();
        hosts.lock().unwrap().push(host);
        hello(request)
    })
    .await;
    let registry = Registry::new();
    let worker = |id: &str, addr| Registration::new("worker").id(id).endpoint("http", addr);
    let first = registry.register(worker("a", leaving.addr)).await.unwrap();
    let client = BalanceLayer::new(registry.clone(), "worker:http")
        .unwrap()
        .classify(http::ClassifyStatus::new())
        .layer(Connector::new().http2());
    let call = tokio::spawn(client.clone().oneshot(request));
    within(arrived.recv()).await.unwrap();
    let second = registry.register(worker("b", staying.addr)).await.unwrap();
    until(|| client.control().status().usable == 2).await;
    leave.add_permits(1);
    let answer = within(call).await.unwrap().map(drop);
    drop((first, second));
    let asked = std::mem::take(&mut *asked.lock().unwrap());
    (answer, asked, staying.addr)
}

#[tokio::test]
async fn a_request_goes_to_another_instance_as_its_caller_wrote_it() {
    for host in [None, Some("worker.example")] {
        let mut request = Request::get("/").body(Full::default()).unwrap();
        if let Some(host) = host {
            request.headers_mut().insert("host", host.parse().unwrap());
        }
        let (answer, asked, other) = ask_one_that_leaves(request).await;
        answer.expect("no request fails");
        let expected = host.map_or_else(|| other.to_string(), str::to_owned);
        assert_eq!(asked, [expected]);
    }
}

#[tokio::test]
async fn a_request_whose_body_was_read_is_left_to_its_caller() {
    let (answer, asked, _) = ask_one_that_leaves(post(Full::from("body"))).await;
    assert!(!answer.unwrap_err().was_sent());
    assert!(asked.is_empty(), "{asked:?}");
}
