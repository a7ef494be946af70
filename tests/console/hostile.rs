//! Text of others on the page.

use std::io;
use std::time::Duration;

use futures::{StreamExt, stream};
use rolecall::console::Console;
use rolecall::discovery::{BoxStream, DiscoveryError, no_peers};
use rolecall::{BalanceLayer, Boundary, Discovery, Instance, InstanceSet, Target, Zone};
use tower::{Layer, service_fn};

use crate::support::{Fleet, serve, text, until};

type Never = tower::util::BoxCloneSyncService<(), (), io::Error>;

struct Once(InstanceSet);

impl Discovery for Once {
    fn watch(&self, _: &Target) -> BoxStream<'static, Result<InstanceSet, DiscoveryError>> {
        let set = self.0.clone();
        stream::iter([Ok(set)]).chain(stream::pending()).boxed()
    }

    fn peers(&self, _: &Boundary) -> BoxStream<'static, Result<InstanceSet, DiscoveryError>> {
        no_peers()
    }

    fn refresh(&self, _: &Target) {}
}

fn check(page: &str) {
    let body = page
        .split("<main")
        .nth(1)
        .unwrap()
        .split("<script nonce")
        .next()
        .unwrap();
    for tag in body.split('<').skip(1) {
        let name: String = tag
            .chars()
            .take_while(|char| char.is_ascii_alphanumeric())
            .collect();
        let ours = "a b button dd div dl dt h1 h2 h3 li main nav ol p path section small span svg table tbody td th thead time tr";
        let is_ours = ours.split(' ').any(|known| known == name);
        assert!(
            is_ours || tag.starts_with('/'),
            "a tag of somebody else: <{}",
            &tag[..tag.len().min(80)]
        );
    }
    assert!(
        !body.contains('\u{202e}') && !body.contains("<script"),
        "{body}"
    );
    assert!(
        !body.contains("\" onload") && body.len() < 60_000,
        "{} bytes",
        body.len()
    );
}

#[tokio::test]
async fn ids_zones_and_errors_of_others_are_text_of_bounded_length() {
    let hostile = "<script>alert(1)</script>";
    let long = "x".repeat(1 << 20);
    let here = ([127, 0, 0, 1], 80);
    let set = InstanceSet::from_iter([
        Instance::new(hostile, here).with_zone(Zone::new("\"><svg/onload=alert(2)>").unwrap()),
        Instance::new("\"onmouseover='alert(3)'", ([127, 0, 0, 2], 80)),
        Instance::new("turned\u{202e}round", ([127, 0, 0, 3], 80)),
        Instance::new(format!("<b>{long}"), ([127, 0, 0, 4], 80)),
    ]);
    let connector = service_fn(move |_: Instance| {
        let error = format!("<img src=x onerror=alert(4)>\u{202e}\n{long}");
        std::future::ready(Err::<Never, _>(io::Error::other(error)))
    });
    let balance = BalanceLayer::new(Once(set), "pay:http")
        .unwrap()
        .layer(connector);
    let name = "<i>\" 'payments'\u{202e}";
    let console = Console::new()
        .add(name, balance.control())
        .with_controls("x");
    let url = serve(console).await;
    let control = balance.control();
    let _ = control.wait_usable(Duration::from_millis(50)).await;
    until(
        "its dials have failed, and its ids are refused",
        async || {
            let page = text(&url).await;
            page.contains("&lt;img src=x onerror") && page.contains("turned\\u{202e}round")
        },
    )
    .await;
    let page = text(&url).await;
    check(&page);
    assert!(
        page.contains("&lt;script&gt;alert(1)&lt;/script&gt;"),
        "{page}"
    );
    assert!(
        page.contains("value=\"&quot;onmouseover=&#39;alert(3)&#39;\""),
        "{page}"
    );
    assert!(page.contains("…"), "the cut is shown");
    let json = text(&format!("{url}/status.json")).await;
    assert!(serde_json::from_str::<serde_json::Value>(&json).is_ok());
    check(&text(&format!("{url}/?target=%3Cscript%3Ealert(5)%3C/script%3E")).await);
}

#[tokio::test]
async fn a_query_and_a_path_of_any_bytes_are_answered() {
    let fleet = Fleet::of(["pay-1"]);
    let url = serve(Console::new().add("payments", &fleet.control)).await;
    for query in [
        "?target=%ff",
        "?%",
        "?=&&=",
        "?at=%00",
        "?target=payments&all=&all",
    ] {
        let status = crate::support::get(&format!("{url}/{query}"))
            .await
            .status();
        assert!(status == 200 || status == 404, "{query}: {status}");
    }
    let long = "x".repeat(8000);
    let page = text(&format!("{url}/?target={long}")).await;
    assert!(page.contains("no such balancer") && !page.contains(&long));
}
