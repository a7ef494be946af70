use std::convert::Infallible;
use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::StreamExt;
use futures::stream::{self, BoxStream};
use rolecall::discovery::DiscoveryError;
use rolecall::guard::{Networks, OutsideNetworks};
use rolecall::{Address, BalanceLayer, Discovery, ErrorKind, Event, Instance, InstanceSet, Target};
use tower::{Layer, Service, service_fn};

use super::support::*;

/// Answers once.
struct Answer(Mutex<Option<InstanceSet>>);

impl Answer {
    fn new(instances: impl IntoIterator<Item = Instance>) -> Self {
        let set: InstanceSet = instances.into_iter().collect();
        Self(Mutex::new(Some(set.confirmed())))
    }
}

impl Discovery for Answer {
    fn watch(&self, _: &Target) -> BoxStream<'static, Result<InstanceSet, DiscoveryError>> {
        stream::iter(self.0.lock().unwrap().take().map(Ok))
            .chain(stream::pending())
            .boxed()
    }

    fn peers(
        &self,
        _: &rolecall::Boundary,
    ) -> BoxStream<'static, Result<InstanceSet, DiscoveryError>> {
        rolecall::discovery::no_peers()
    }

    fn refresh(&self, _: &Target) {}
}

/// A connector that writes down whom it was asked to dial.
#[derive(Clone, Default)]
struct Dialled(Arc<Mutex<Vec<Instance>>>);

impl Dialled {
    fn connector(
        &self,
    ) -> impl Service<
        Instance,
        Response = impl Service<(), Response = String, Error = Infallible, Future: Send>
                   + Clone
                   + Send
                   + Sync
                   + 'static,
        Error = Infallible,
        Future: Send,
    > + Send
    + 'static {
        let dialled = Arc::clone(&self.0);
        service_fn(move |instance: Instance| {
            dialled.lock().unwrap().push(instance.clone());
            let answer = service_fn(move |()| {
                let from = instance.id().to_string();
                async { Ok::<_, Infallible>(from) }
            });
            async { Ok::<_, Infallible>(answer) }
        })
    }

    fn ids(&self) -> Vec<String> {
        let dialled = self.0.lock().unwrap();
        dialled
            .iter()
            .map(|instance| instance.id().to_string())
            .collect()
    }
}

#[tokio::test(start_paused = true)]
async fn an_instance_outside_is_never_dialled_and_is_reported() {
    let networks: Networks = "127.0.0.0/8, fd00::/8".parse().unwrap();
    let metadata: Address = "169.254.169.254:80".parse().unwrap();
    let discovery = Answer::new([
        Instance::new("good", ([127, 0, 0, 1], 80)),
        Instance::new("evil", metadata.clone()),
        Instance::new("clothed", "[::ffff:6.6.6.6]:80".parse::<Address>().unwrap()),
    ]);
    let dialled = Dialled::default();
    let layer = BalanceLayer::new(discovery, "worker:http").unwrap();
    let (mut balance, driver) = layer.pair(networks.layer(dialled.connector()));
    let mut events = balance.control().events();
    tokio::spawn(driver);
    let error = in_time(async {
        loop {
            match events.next().await.unwrap() {
                Event::DialFailed { id, error, .. } if id == "evil" => return error,
                _ => {}
            }
        }
    })
    .await;
    assert_eq!(error.label(), "outside the networks");
    let outside: &OutsideNetworks = error.source().downcast_ref().unwrap();
    assert_eq!(*outside.address(), metadata);
    assert_eq!(
        error.to_string(),
        "outside the networks: instance evil not dialled: 169.254.169.254:80 is outside 127.0.0.0/8, fd00::/8"
    );
    for _ in 0..100 {
        assert_eq!(balance.call(()).await.unwrap(), "good");
    }
    // It is tried again and again, and never dialled.
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(dialled.ids(), ["good"]);
}

#[tokio::test(start_paused = true)]
async fn with_nobody_inside_the_error_counts_who_is_outside() {
    let networks: Networks = "10.0.0.0/8".parse().unwrap();
    let discovery = Answer::new([Instance::new("evil", ([127, 0, 0, 1], 80))]);
    let dialled = Dialled::default();
    let layer = BalanceLayer::new(discovery, "worker:http").unwrap();
    let mut balance = layer.layer(networks.layer(dialled.connector()));
    let error = in_time(balance.call(())).await.unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::NoneUsable(_)), "{error}");
    assert!(
        error.to_string().contains("1 outside the networks"),
        "{error}"
    );
    assert!(dialled.ids().is_empty());
}

/// What a poisoned registry can say of one instance: ids that are huge or break terminals, addresses of nobody.
#[tokio::test(start_paused = true)]
async fn broken_instances_are_reported_and_not_dialled() {
    let addr = ([127, 0, 0, 2], 80);
    let discovery = Answer::new([
        Instance::new("x".repeat(1 << 20), addr),
        Instance::new("a\nadmitted\u{1b}[2J", addr),
        Instance::new("", addr),
        Instance::new("nowhere", ([0, 0, 0, 0], 80)),
        Instance::new("everybody", ([224, 0, 0, 1], 80)),
        Instance::new("good", ([127, 0, 0, 1], 80)),
    ]);
    let networks: Networks = "127.0.0.0/8".parse().unwrap();
    let dialled = Dialled::default();
    let layer = BalanceLayer::new(discovery, "worker:http").unwrap();
    let (mut balance, driver) = layer.pair(networks.layer(dialled.connector()));
    let mut events = balance.control().events();
    tokio::spawn(driver);
    let mut refused = 0;
    while refused < 5 {
        let event = in_time(events.next()).await.unwrap();
        let text = event.to_string();
        assert!(
            text.len() < 1000 && !text.contains(char::is_control),
            "{text}"
        );
        refused += usize::from(matches!(event, Event::InstanceRefused { .. }));
    }
    assert_eq!(in_time(balance.call(())).await.unwrap(), "good");
    assert_eq!(dialled.ids(), ["good"]);
}

/// As many as are followed: `cargo test --release --test guard -- --ignored --nocapture a_hundred_thousand`.
async fn a_crowd_from_anywhere_leads_nobody_out(crowd: u32) {
    let networks: Networks = "127.0.0.0/8".parse().unwrap();
    let anywhere = (0..crowd).map(|n| {
        let ip = Ipv4Addr::from_bits(0x0800_0001 + n);
        Instance::new(format!("evil-{n}"), (ip, 80))
    });
    let good = Instance::new("good", ([127, 0, 0, 1], 80));
    let discovery = Answer::new(anywhere.chain([good]));
    let dialled = Dialled::default();
    let layer = BalanceLayer::new(discovery, "worker:http").unwrap();
    let mut balance = layer.layer(networks.layer(dialled.connector()));
    assert_eq!(balance.call(()).await.unwrap(), "good");
    let outside = || {
        let members = balance.control().status().members;
        let told = members.iter().filter_map(|member| member.error.as_deref());
        told.filter(|error| error.contains("is outside")).count()
    };
    let told_of_each = async {
        while outside() < crowd as usize {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    let limit = Duration::from_secs(60);
    let told_of_each = tokio::time::timeout(limit, told_of_each).await;
    assert!(told_of_each.is_ok(), "told of {} of {crowd}", outside());
    assert_eq!(balance.call(()).await.unwrap(), "good");
    assert_eq!(dialled.ids(), ["good"]);
    assert_eq!(balance.control().status().usable, 1);
}

#[tokio::test(start_paused = true)]
async fn a_crowd_of_instances_outside_leads_nobody_out() {
    a_crowd_from_anywhere_leads_nobody_out(2000).await;
}

#[tokio::test]
#[ignore = "some seconds and a hundred megabytes"]
async fn a_hundred_thousand_instances_outside_lead_nobody_out() {
    let began = std::time::Instant::now();
    a_crowd_from_anywhere_leads_nobody_out(99_999).await;
    let memory = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let peak = memory.lines().find(|line| line.starts_with("VmHWM"));
    println!("{:.1?}, {}", began.elapsed(), peak.unwrap_or_default());
}
