//! Calls that go well: every kind, by whom they are answered, and how long they count.

use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Duration, Instant};

use futures::stream;
use hyper::body::Incoming;
use hyper::{Request, Response};
use rolecall::grpc::Channel;
use rolecall::{BalanceConfig, Load, MemberStatus, grpc};
use tokio::runtime::Builder;
use tonic::{Code, Status};
use tonic_health::pb::health_client::HealthClient;
use tonic_health::pb::{HealthCheckRequest, health_check_response::ServingStatus};

use crate::client::read;
use crate::server::{Order, Server};
use crate::support::{all_usable, builder, channel, client, member, tally, until, within};

#[tokio::test]
async fn calls_of_every_kind_are_answered_and_say_by_whom() {
    let server = Server::tonic();
    let channel = channel([&server]);
    let mut client = client(&channel);

    let answer = within(client.unary(Order::messages(3))).await.unwrap();
    assert_eq!(grpc::answered_by(&answer).unwrap(), "a");
    assert_eq!(answer.into_inner().number, 3);

    let orders = stream::iter([Order::messages(1), Order::messages(2)]);
    let answer = within(client.client_stream(orders)).await.unwrap();
    assert_eq!(grpc::answered_by(&answer).unwrap(), "a");
    assert_eq!(answer.into_inner().number, 3);

    let answer = within(client.server_stream(Order::messages(3))).await;
    let answer = answer.unwrap();
    assert_eq!(grpc::answered_by(&answer).unwrap(), "a");
    let (numbers, end) = within(read(&mut answer.into_inner())).await;
    end.unwrap();
    assert_eq!(numbers, [1, 2, 3]);

    let orders = stream::iter([Order::messages(2), Order::messages(1)]);
    let answer = within(client.bidi(orders)).await.unwrap();
    assert_eq!(grpc::answered_by(&answer).unwrap(), "a");
    let (numbers, end) = within(read(&mut answer.into_inner())).await;
    end.unwrap();
    assert_eq!(numbers, [1, 2, 1]);

    assert_eq!(tally(&channel), (0, 0));
    assert_eq!(member(&channel).picks, 4);
}

#[tokio::test]
async fn a_generated_client_takes_a_channel_with_and_without_an_interceptor() {
    let server = Server::tonic();
    let channel = channel([&server]);
    let request = HealthCheckRequest::default();
    let mut health = HealthClient::new(channel.clone());
    let answer = within(health.check(request.clone())).await.unwrap();
    assert_eq!(answer.into_inner().status(), ServingStatus::Serving);
    let watch = within(health.watch(request.clone())).await.unwrap();
    let first = within(watch.into_inner().message()).await.unwrap();
    assert_eq!(first.unwrap().status(), ServingStatus::Serving);

    let mut health = HealthClient::with_interceptor(channel.clone(), Ok);
    let answer = within(health.check(request.clone())).await.unwrap();
    assert_eq!(grpc::answered_by(&answer).unwrap(), "a");
    let refuse = |_| Err(Status::unauthenticated("no token"));
    let mut health = HealthClient::with_interceptor(channel.clone(), refuse);
    let status = within(health.check(request)).await.unwrap_err();
    assert_eq!(status.code(), Code::Unauthenticated);
    until(|| tally(&channel) == (0, 0)).await;
}

#[tokio::test]
async fn calls_are_spread_over_all_instances() {
    let servers = [Server::tonic(), Server::tonic(), Server::tonic()];
    let config = BalanceConfig::builder().load(Load::least_in_flight());
    let builder = builder(&servers).config(config.build().unwrap());
    let channel = builder.build();
    all_usable(&channel).await;
    let mut streams = Vec::new();
    for _ in 0..12 {
        let order = Order::messages(1).gated();
        streams.push(within(client(&channel).server_stream(order)).await.unwrap());
    }
    for member in channel.control().status().members {
        let open = member.in_flight;
        assert!(
            (3..=5).contains(&open),
            "{open} of 12 open streams of three"
        );
    }
}

#[tokio::test]
async fn a_long_stream_holds_its_slot_and_its_length_is_no_latency() {
    const LONG: Duration = Duration::from_millis(600);
    let server = Server::tonic();
    let channel = channel([&server]);
    for _ in 0..20 {
        within(client(&channel).unary(Order::messages(1)))
            .await
            .unwrap();
    }
    let began = Instant::now();
    let order = Order::messages(2).gated();
    let answer = within(client(&channel).server_stream(order)).await;
    let mut stream = answer.unwrap().into_inner();
    server.gate.add_permits(1);
    assert_eq!(within(stream.message()).await.unwrap().unwrap().number, 1);
    assert_eq!(tally(&channel), (1, 0));
    tokio::time::sleep(LONG.saturating_sub(began.elapsed())).await;
    server.gate.add_permits(2);
    let (numbers, end) = within(read(&mut stream)).await;
    end.unwrap();
    assert_eq!(numbers, [2]);
    assert_eq!(tally(&channel), (0, 0), "freed at the trailers");
    let latency = member(&channel).latency.unwrap();
    assert!(
        latency < LONG / 2,
        "{latency:?} is the length of the stream"
    );
}

#[tokio::test]
async fn a_stream_dropped_after_a_good_head_is_no_failure() {
    let server = Server::tonic();
    let channel = channel([&server]);
    let order = Order::messages(1).gated();
    let stream = within(client(&channel).server_stream(order)).await.unwrap();
    assert_eq!(tally(&channel), (1, 0));
    drop(stream);
    assert_eq!(tally(&channel), (0, 0));
}

#[tokio::test]
async fn a_call_dropped_before_its_head_gives_its_slot_back() {
    let server = Server::tonic();
    let channel = channel([&server]);
    {
        let mut client = client(&channel);
        let mut call = Box::pin(client.unary(Order::hang()));
        assert!(futures::poll!(&mut call).is_pending());
        tokio::select! {
            _ = &mut call => panic!("answered"),
            () = until(|| server.arrived() == 1) => {}
        }
        assert_eq!(member(&channel).in_flight, 1);
    }
    assert_eq!(member(&channel).in_flight, 0);
}

#[tokio::test]
async fn a_channel_is_shared_by_clones_and_threads() {
    fn shared<T: Clone + Send + Sync + 'static>(_: &T) {}
    let server = Server::tonic();
    let channel = channel([&server]);
    shared(&channel);
    let calls = (0..8).map(|_| {
        let mut client = client(&channel);
        tokio::spawn(async move { client.unary(Order::messages(1)).await.map(drop) })
    });
    for call in within(futures::future::join_all(calls)).await {
        call.unwrap().unwrap();
    }
    assert_eq!(member(&channel).picks, 8);
}

#[tokio::test]
async fn the_callers_span_learns_which_instance_it_was() {
    #[derive(Clone, Default)]
    struct Written(Arc<Mutex<Vec<u8>>>);
    impl std::io::Write for Written {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().extend(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let written = Written::default();
    let log = written.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_ansi(false)
        .with_writer(move || log.clone())
        .finish();
    let _default = tracing::subscriber::set_default(subscriber);

    let server = Server::tonic();
    let channel = channel([&server]);
    let span = tracing::info_span!(
        "order",
        "rolecall.instance" = tracing::field::Empty,
        "rolecall.attempts" = tracing::field::Empty,
    );
    let mut client = client(&channel);
    let call = async {
        client.unary(Order::messages(1)).await.unwrap();
        tracing::info!("done");
    };
    within(tracing::Instrument::instrument(call, span)).await;
    let written = String::from_utf8(written.0.lock().unwrap().clone()).unwrap();
    assert!(
        written.contains("order{rolecall.instance=\"a\" rolecall.attempts=1}"),
        "{written}"
    );
}

#[test]
fn a_static_channel_works_in_one_runtime_after_the_other() {
    static CHANNEL: OnceLock<Channel> = OnceLock::new();
    let servers = [Server::tonic(), Server::tonic()];
    for threads in [0, 2, 0] {
        let mut runtime = match threads {
            0 => Builder::new_current_thread(),
            _ => Builder::new_multi_thread(),
        };
        let runtime = runtime.worker_threads(2).enable_all().build().unwrap();
        runtime.block_on(async {
            let channel = CHANNEL.get_or_init(|| channel(&servers));
            for _ in 0..20 {
                let mut client = client(channel);
                within(client.unary(Order::messages(1))).await.unwrap();
            }
            all_usable(channel).await;
        });
    }
    let members = CHANNEL.get().unwrap().control().status().members;
    let clean = |member: &MemberStatus| (member.failures, member.in_flight) == (0, 0);
    assert!(members.iter().all(clean), "{members:?}");
}

#[tokio::test]
async fn calls_name_the_program_and_rolecall_as_their_agent() {
    let (tell, mut told) = tokio::sync::mpsc::unbounded_channel();
    let server = Server::http(move |request: Request<Incoming>| {
        let agent = request.headers()["user-agent"].to_str().unwrap().to_owned();
        tell.send(agent).unwrap();
        async { Response::new(String::new()) }
    });
    let ours = concat!("rolecall/", env!("CARGO_PKG_VERSION"));
    let named = builder([&server]).user_agent("shop/1.2").unwrap().build();
    for (channel, callers, agent) in [
        (channel([&server]), None, ours.to_owned()),
        (channel([&server]), Some("cart/3"), format!("cart/3 {ours}")),
        (named.clone(), None, format!("shop/1.2 {ours}")),
        (named, Some("cart/3"), format!("cart/3 shop/1.2 {ours}")),
    ] {
        let mut call = tonic::Request::new(Order::default());
        if let Some(callers) = callers {
            call.metadata_mut()
                .insert("user-agent", callers.parse().unwrap());
        }
        // It is no answer of gRPC.
        within(client(&channel).unary(call)).await.unwrap_err();
        assert_eq!(told.recv().await.unwrap(), agent);
    }
    assert!(builder([&server]).user_agent("a\nb").is_err());
}
