//! Three workers that register in etcd, and a caller that finds them there.
//!
//! With an argument it uses that etcd, without one it starts its own, which must be installed (Debian: `etcd-server`).
//!
//! ```sh
//! cargo run --features etcd --example etcd
//! cargo run --features etcd --example etcd -- 127.0.0.1:2379
//! ```

#![expect(clippy::disallowed_methods, reason = "a program may look at the clock")]

#[expect(dead_code, reason = "another example kills it")]
#[path = "support/etcd.rs"]
mod etcd;

use std::collections::BTreeMap;
use std::env;

use axum::http::Request;
use axum::{Router, routing::get};
use http_body_util::BodyExt;
use rolecall::discovery::Etcd;
use rolecall::http::{Body, Client};
use rolecall::{BoxError, Registrar, Registration};
use tokio::net::TcpListener;

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    let mut own = None;
    let endpoint = match env::args().nth(1) {
        Some(endpoint) => endpoint,
        None => own.insert(etcd::Etcd::start().await?).endpoint(),
    };
    let discovery = Etcd::builder([endpoint]).prefix("example").build()?;

    let mut leases = Vec::new();
    for name in ["a", "b", "c"] {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let worker = Registration::new("worker")
            .id(name)
            .endpoint("http", listener.local_addr()?);
        let app = Router::new().route("/", get(move || async move { name }));
        tokio::spawn(async move { axum::serve(listener, app).await });
        // The lease is renewed until it is dropped.
        leases.push(discovery.register(worker).await?);
    }

    let client = Client::new(discovery, "worker:http")?;
    let mut answers = BTreeMap::<String, u32>::new();
    for _ in 0..300 {
        let request = Request::get("/").body(Body::empty())?;
        let body = client.request(request).await?.into_body().collect().await?;
        let name = String::from_utf8_lossy(&body.to_bytes()).into_owned();
        *answers.entry(name).or_default() += 1;
    }
    println!("{answers:?}");
    for lease in leases {
        lease.deregister().await?;
    }
    println!("{}", client.control().status());
    Ok(())
}
