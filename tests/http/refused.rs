//! Requests that an HTTP/2 instance says it did not act on: they are sent once more, with all of their body.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use futures::{StreamExt, stream};
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::{HeaderMap, Request, Response};
use rolecall::http::{self, CallError, Connector, ReplayBody, Resend, ResendLayer};
use rolecall::retry::{ReplayLayer, Retry};
use rolecall::{
    Balance, BalanceConfig, BalanceLayer, BoxError, Discovery, List, MemberStatus, Registrar,
    Registration, Registry,
};
use tokio::sync::Semaphore;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tower::retry::RetryLayer;
use tower::retry::budget::{Budget, TpsBudget};
use tower::{Layer, ServiceBuilder, ServiceExt};

use crate::frames::{END_HEADERS, END_STREAM, Frames, HEADERS};
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

type Client = Resend<Balance<http::Connection<ReplayBody>, http::HttpClassifier>>;

fn client_of(discovery: impl Discovery) -> Client {
    // Nobody is ejected: that is not what these tests are about.
    let config = BalanceConfig::builder().outlier(None).build().unwrap();
    let balance = BalanceLayer::new(discovery, "worker:http")
        .unwrap()
        .config(config)
        .classify(http::HttpClassifier::new())
        .layer(Connector::new().http2());
    ResendLayer::new().layer(balance)
}

fn client(server: &Raw) -> Client {
    client_of(List::from_addrs([server.addr]).unwrap())
}

fn member(client: &Client) -> MemberStatus {
    client.get_ref().control().status().members.remove(0)
}

fn post<B>(body: B) -> Request<B> {
    Request::post("/").body(body).unwrap()
}

#[tokio::test]
async fn a_refused_request_is_asked_again() {
    for body in ["", "body"] {
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
        let member = member(&client);
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
    let member = member(&client);
    assert_eq!((member.in_flight, member.failures), (0, 0));
}

/// How a server says that it acted on no request.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Refusal {
    Stream,
    GoAway,
    /// With an error code.
    Abort,
}

const ENHANCE_YOUR_CALM: u32 = 11;

/// Acts on no request, and counts them.
async fn refusing(refusal: Refusal) -> (Raw, Arc<AtomicUsize>) {
    let requests = Arc::new(AtomicUsize::new(0));
    let count = requests.clone();
    let server = Raw::start(move |stream| {
        let count = count.clone();
        async move {
            let mut frames = Frames::accept(stream).await?;
            while let Some((stream, _)) = frames.request().await? {
                count.fetch_add(1, SeqCst);
                match refusal {
                    Refusal::Stream => frames.refuse(stream).await?,
                    Refusal::GoAway => frames.go_away(0).await?,
                    Refusal::Abort => frames.abort(0, ENHANCE_YOUR_CALM).await?,
                }
            }
            Ok(())
        }
    })
    .await;
    (server, requests)
}

#[tokio::test]
async fn a_request_that_nobody_acts_on_is_sent_twice_and_not_at_all_after_an_error() {
    for body in ["", "body"] {
        for (refusal, sends) in [
            (Refusal::Stream, 2),
            (Refusal::GoAway, 2),
            (Refusal::Abort, 1),
        ] {
            let (server, requests) = refusing(refusal).await;
            let client = client(&server);
            let call = client.clone().oneshot(post(Full::<Bytes>::from(body)));
            let error = within(call).await.unwrap_err();
            assert!(!error.was_sent(), "{error:?}");
            let call = CallError::find(&error).unwrap();
            assert_eq!(call.is_refused(), refusal == Refusal::Stream);
            assert_eq!(requests.load(SeqCst), sends, "{refusal:?}");
            let member = member(&client);
            assert_eq!(member.in_flight, 0);
            let is_charged = refusal == Refusal::Abort;
            assert_eq!(member.failures, u64::from(is_charged), "{refusal:?}");
            assert_eq!(error.tried().len(), sends - 1);
        }
    }
}

#[tokio::test]
async fn all_refuse_and_a_request_is_sent_twice_and_once_more_for_each_retry() {
    let servers = [
        refusing(Refusal::Stream).await,
        refusing(Refusal::GoAway).await,
        refusing(Refusal::Stream).await,
    ];
    let client = client_of(List::from_addrs(servers.each_ref().map(|(s, _)| s.addr)).unwrap());
    let control = client.get_ref().control();
    until(|| control.status().usable == 3).await;
    let sends = || -> usize { servers.iter().map(|(_, sent)| sent.load(SeqCst)).sum() };
    within(client.clone().oneshot(post(Full::<Bytes>::from("body"))))
        .await
        .unwrap_err();
    assert_eq!(sends(), 2);

    // Two retries, of which the budget pays one.
    let budget = TpsBudget::new(Duration::from_secs(10), 0, 1.0);
    budget.deposit();
    let retry = RetryLayer::new(Retry::new().attempts(3).budget(budget));
    let retrying = ServiceBuilder::new().layer(ReplayLayer::new()).layer(retry);
    let call = { retrying }.service(client.clone());
    let error = within(call.oneshot(post(Full::<Bytes>::from("body"))))
        .await
        .unwrap_err();
    assert_eq!(sends(), 2 + 3);
    assert_eq!(error.tried().len(), 2, "{error}");
    assert!(!error.was_sent());
}

#[tokio::test]
async fn a_server_that_sheds_keeps_its_connection_and_its_load_rises() {
    let (shedding, requests) = refusing(Refusal::Stream).await;
    let healthy = Server::start(hello).await;
    let client = client_of(List::from_addrs([shedding.addr, healthy.addr]).unwrap());
    let control = client.get_ref().control();
    until(|| control.status().usable == 2).await;
    for _ in 0..200 {
        let call = client.clone().oneshot(post(Full::<Bytes>::from("body")));
        within(call).await.expect("another instance answers");
    }
    let status = control.status();
    let [shed, other] = &*status.members else {
        panic!("{status:?}")
    };
    assert_eq!(shedding.accepted(), 1, "the connection stays");
    assert_eq!((shed.failures, other.failures), (0, 0));
    let shed = requests.load(SeqCst);
    assert!((1..40).contains(&shed), "{shed} of 200 to one that sheds");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_of_three_that_refuses_now_and_then_fails_no_request() {
    let requests: usize =
        std::env::var("ROLECALL_REQUESTS").map_or(1_000, |requests| requests.parse().unwrap());
    for graceful in [true, false] {
        let served = Arc::new(AtomicUsize::new(0));
        let moody = Raw::start(move |stream| {
            let served = served.clone();
            async move {
                let mut frames = Frames::accept(stream).await?;
                let mut last = u32::MAX;
                while let Some((stream, _)) = frames.request().await? {
                    if stream > last {
                        continue;
                    }
                    if served.fetch_add(1, SeqCst) % 20 < 19 {
                        // `:status: 200`, by the static table of HPACK.
                        let flags = END_HEADERS | END_STREAM;
                        frames.write(HEADERS, flags, stream, &[0x88]).await?;
                    } else if graceful {
                        // Not this one either.
                        last = stream - 1;
                        frames.go_away(last).await?;
                    } else {
                        frames.refuse(stream).await?;
                    }
                }
                Ok(())
            }
        })
        .await;
        let others = [Server::start(hello).await, Server::start(hello).await];
        let addrs = [moody.addr, others[0].addr, others[1].addr];
        let client = client_of(List::from_addrs(addrs).unwrap());
        until(|| client.get_ref().control().status().usable == 3).await;
        let callers = (0..8).map(|_| {
            let client = client.clone();
            tokio::spawn(async move {
                for _ in 0..requests / 8 {
                    let call = client.clone().oneshot(post(Full::<Bytes>::from("body")));
                    let response = within(call).await.expect("no request fails");
                    within(response.into_body().collect()).await.unwrap();
                }
            })
        });
        for caller in callers.collect::<Vec<_>>() {
            caller.await.unwrap();
        }
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
    let client = client_of(registry.clone());
    let call = tokio::spawn(client.clone().oneshot(request));
    within(arrived.recv()).await.unwrap();
    let second = registry.register(worker("b", staying.addr)).await.unwrap();
    until(|| client.get_ref().control().status().usable == 2).await;
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
async fn a_request_whose_body_was_read_goes_to_another_instance_too() {
    let (answer, asked, _) = ask_one_that_leaves(post(Full::from("body"))).await;
    answer.expect("no request fails");
    assert_eq!(asked.len(), 1);
}

#[tokio::test]
async fn a_client_may_send_nothing_again() {
    let (server, requests) = refusing(Refusal::Stream).await;
    let balance = client(&server).get_ref().clone();
    let client = ResendLayer::new().enabled(false).layer(balance);
    let call = client.oneshot(post(Full::<Bytes>::from("body")));
    assert!(!within(call).await.unwrap_err().was_sent());
    assert_eq!(requests.load(SeqCst), 1);
}
