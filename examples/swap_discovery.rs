//! The same calling code over discovery backends that are chosen at run time.
//!
//! `call_all` knows only `Arc<dyn Discovery>`. It is given, one after another, a fixed list from a line of configuration,
//! the embedded registry, and a stream of changes; the latter two change while it is being used. Then a list stands in for a
//! registry until that has its first instance. The exit code is 0 only if each led to exactly the instances it announced.
//!
//! ```sh
//! cargo run --example swap_discovery
//! ```

use std::collections::BTreeSet;
use std::convert::Infallible;
use std::net::{Ipv4Addr, SocketAddr};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use rolecall::discovery::{Change, Discovery, from_changes, from_uri};
use rolecall::{
    Balance, BalanceConfig, BalanceLayer, BoxError, DiscoveryExt, Event, Instance, List, Load,
    MemberState, MemberStatus, Registrar, Registration, Registry, connect,
};
use tokio::sync::mpsc;
use tower::util::BoxCloneSyncService;
use tower::{Layer, Service, service_fn};

const REQUESTS: usize = 200;

type Who = BoxCloneSyncService<(), String, Infallible>;

#[tokio::main]
async fn main() -> Result<ExitCode, BoxError> {
    let mut came_true = true;
    let mut expect = |backend: &str, reached: BTreeSet<String>, expected: &[&str]| {
        let expected: BTreeSet<_> = expected.iter().map(ToString::to_string).collect();
        println!("{backend:<34} led to {reached:?}");
        came_true &= reached == expected;
    };

    let listed = from_uri("list:127.0.0.1:8001,127.0.0.1:8002")?;
    let mut balance = balance(Arc::new(listed))?;
    let both = ["127.0.0.1:8001", "127.0.0.1:8002"];
    expect("a list", call_all(&mut balance).await?, &both);

    let registry = Registry::new();
    let register = |id, port| {
        registry.register(
            Registration::new("worker")
                .id(id)
                .endpoint("http", addr(port)),
        )
    };
    let one = register("one", 1).await?;
    let mut balance = self::balance(Arc::new(registry.clone()))?;
    expect("the registry", call_all(&mut balance).await?, &["one"]);

    let mut news = balance.control().events();
    let _two = register("two", 2).await?;
    one.deregister().await?;
    only_usable(&balance, &mut news, &["two"]).await?;
    expect(
        "the registry, after a change",
        call_all(&mut balance).await?,
        &["two"],
    );

    let (changes, stream) = mpsc::unbounded_channel();
    let insert = |id, port| changes.send(Change::Insert(Instance::new(id, addr(port))));
    insert("red", 1)?;
    let stream = futures::stream::unfold(stream, async |mut stream| {
        let change = stream.recv().await?;
        Some((Ok::<_, Infallible>(change), stream))
    });
    let mut balance = self::balance(Arc::new(from_changes(stream)))?;
    expect(
        "a stream of changes",
        call_all(&mut balance).await?,
        &["red"],
    );

    let mut news = balance.control().events();
    insert("blue", 2)?;
    only_usable(&balance, &mut news, &["blue", "red"]).await?;
    expect(
        "a stream of changes, after one",
        call_all(&mut balance).await?,
        &["blue", "red"],
    );

    let registry = Registry::new();
    let seed = List::new([Instance::new("seed", addr(9))])?;
    let mut balance = self::balance(Arc::new(registry.clone().or(seed)))?;
    expect(
        "a list until the registry answers",
        call_all(&mut balance).await?,
        &["seed"],
    );

    let mut news = balance.control().events();
    let first = Registration::new("worker")
        .id("first")
        .endpoint("http", addr(1));
    let _first = registry.register(first).await?;
    only_usable(&balance, &mut news, &["first"]).await?;
    expect(
        "and from then on the registry",
        call_all(&mut balance).await?,
        &["first"],
    );

    Ok(ExitCode::from(u8::from(!came_true)))
}

/// What every caller writes, whatever the backend.
fn balance(discovery: Arc<dyn Discovery>) -> Result<Balance<Who>, BoxError> {
    let connector = connect::per_instance(|instance: &Instance| {
        let id = instance.id().to_string();
        Who::new(service_fn(move |()| {
            let id = id.clone();
            async move { Ok(id) }
        }))
    });
    // These services take no time, so their latency says nothing.
    let config = BalanceConfig::builder()
        .load(Load::least_in_flight())
        .build()?;
    let layer = BalanceLayer::new(discovery, "worker:http")?.config(config);
    Ok(layer.layer(connector))
}

/// Whom many requests reach, once everybody that is known is connected.
async fn call_all(balance: &mut Balance<Who>) -> Result<BTreeSet<String>, BoxError> {
    balance
        .control()
        .wait_usable(Duration::from_secs(5))
        .await?;
    let connected = async {
        let is_usable = |member: &MemberStatus| member.state == MemberState::Usable;
        while !balance.control().status().members.iter().all(is_usable) {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(5), connected).await?;
    let mut reached = BTreeSet::new();
    for _ in 0..REQUESTS {
        reached.insert(balance.call(()).await?);
    }
    Ok(reached)
}

/// Tells the news until exactly these instances are usable, in order of id. Two changes in a row may arrive as one set or
/// as two.
async fn only_usable(
    balance: &Balance<Who>,
    news: &mut (impl StreamExt<Item = Event> + Unpin),
    wanted: &[&str],
) -> Result<(), BoxError> {
    let usable = async {
        while let Some(event) = news.next().await {
            println!("  {event}");
            let members = balance.control().status().members;
            let known = members.iter().map(|member| member.instance.id());
            let all_usable = members.iter().all(|m| m.state == MemberState::Usable);
            if all_usable && known.eq(wanted) {
                return;
            }
        }
    };
    Ok(tokio::time::timeout(Duration::from_secs(5), usable).await?)
}

fn addr(port: u16) -> SocketAddr {
    (Ipv4Addr::LOCALHOST, port).into()
}
