//! rolecall's HTTP client, as it comes.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures::StreamExt;
use http_body_util::Empty;
use rolecall::{BoxError, Instance, List, http};

use super::{Ask, ask_by};

pub(super) async fn connect(servers: &[SocketAddr], tell_events: bool) -> Result<Ask, BoxError> {
    let instances = (0..).zip(servers);
    let list = List::new(
        instances.map(|(number, addr)| Instance::new(format!("server-{number}"), *addr)),
    )?;
    let client = http::client::<Empty<Bytes>, _>(list, "worker:http")?;
    if tell_events {
        let (began, mut events) = (Instant::now(), client.events());
        tokio::spawn(async move {
            while let Some(event) = events.next().await {
                eprintln!("  {:>6.2} s: {event}", began.elapsed().as_secs_f64());
            }
        });
    }
    client.wait_usable(Duration::from_secs(5)).await?;
    Ok(ask_by(client))
}
