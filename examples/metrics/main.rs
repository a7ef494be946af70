//! Metrics of a balancer by the Prometheus exporter: two instances, one of which answers 503, a page to scrape, and what a
//! scrape of it shows.
//!
//! The exit code is 0 only if the page is of the format and shows the failures and the ejection.
//!
//! ```sh
//! cargo run --example metrics
//! ```

mod exposition;

use std::process::ExitCode;
use std::time::Duration;

use axum::Router;
use axum::http::StatusCode;
use axum::routing::get;
use hyper::Request;
use metrics_exporter_prometheus::PrometheusBuilder;
use rolecall::http::Body;
use rolecall::{BoxError, Instance, List, http, metrics};
use tokio::net::TcpListener;

use crate::exposition::{Sample, parse};

const REQUESTS: usize = 300;

#[tokio::main(worker_threads = 2)]
async fn main() -> Result<ExitCode, BoxError> {
    // The recorder comes first: `report` uses the one that is installed.
    let recorder = PrometheusBuilder::new().install_recorder()?;

    let good = serve(Router::new().route("/", get(async || StatusCode::OK))).await?;
    let bad = async || StatusCode::SERVICE_UNAVAILABLE;
    let bad = serve(Router::new().route("/", get(bad))).await?;
    let list =
        List::new([("good", good), ("bad", bad)].map(|(id, address)| Instance::new(id, address)))?;
    let client = http::Client::new(list, "worker:http")?;
    tokio::spawn(metrics::report(client.control()));

    let page = async move || recorder.render();
    let admin = serve(Router::new().route("/metrics", get(page))).await?;

    client.control().wait_usable(Duration::from_secs(5)).await?;
    for _ in 0..REQUESTS {
        let request = Request::get("/").body(Body::empty())?;
        // A 503 is an answer, not an error.
        let _ = client.request(request).await?;
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    tokio::time::sleep(Duration::from_secs(1)).await;

    let scraped = reqwest::get(format!("http://{admin}/metrics"))
        .await?
        .text()
        .await?;
    let samples = parse(&scraped)?;
    let find = |name: &str, label: (&str, &str)| {
        let has = |sample: &&Sample| {
            sample.name == name
                && sample
                    .labels
                    .get(label.0)
                    .is_some_and(|value| value == label.1)
        };
        samples.iter().find(has).map_or(0.0, |sample| sample.value)
    };
    let count = "rolecall_attempt_duration_seconds_count";
    let shown = [
        (count, ("outcome", "success")),
        (count, ("outcome", "failure")),
        ("rolecall_members", ("state", "usable")),
        ("rolecall_dials_total", ("result", "connected")),
        ("rolecall_ejections_total", ("reason", "failures-in-row")),
        ("rolecall_ejections_total", ("reason", "failure-rate")),
    ];
    println!("Of {} samples at http://{admin}/metrics:", samples.len());
    for (name, label) in shown {
        println!(
            "  {name}{{{}=\"{}\"}} {}",
            label.0,
            label.1,
            find(name, label)
        );
    }
    let attempts = find(shown[0].0, shown[0].1) + find(shown[1].0, shown[1].1);
    let ejections = find(shown[4].0, shown[4].1) + find(shown[5].0, shown[5].1);
    let is_right =
        attempts >= REQUESTS as f64 && ejections >= 1.0 && find(shown[1].0, shown[1].1) >= 1.0;
    Ok(if is_right {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

async fn serve(router: Router) -> Result<std::net::SocketAddr, BoxError> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    tokio::spawn(async move { axum::serve(listener, router).await });
    Ok(address)
}
