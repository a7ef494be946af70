//! Workers that a DNS zone lists, whose records change live under load.
//!
//! It starts a BIND of its own with the zone `svc.test`, and HTTP servers that SRV records name. It asks them 200 times a
//! second. Then
//!
//! 1. a third server is added to the zone: it serves within the TTL of 1 s and a little;
//! 2. a server dies and the zone names another one: failing dials ask DNS again, before the TTL of an hour is over;
//! 3. BIND is killed for 5 s: no request fails;
//! 4. BIND forgets all records: the empty answer is doubted, and no request fails.
//!
//! The exit code is 0 only if all of that came true.
//!
//! ```sh
//! cargo run --example dns_role --features dns
//! ```
//!
//! It needs BIND and `nsupdate`: on Debian `apt install bind9 bind9-dnsutils`.

#![expect(clippy::disallowed_methods, reason = "a program may look at the clock")]

mod bind;
mod server;
#[path = "../support/traffic.rs"]
mod traffic;

use std::process::ExitCode;
use std::time::{Duration, Instant};

use rolecall::{BoxError, discovery, http};
use tokio::time::sleep;

use crate::bind::Bind;
use crate::server::Server;
use crate::traffic::Traffic;

const NAME: &str = "_http._tcp.worker.default.svc.test.";
const SECOND: Duration = Duration::from_secs(1);

#[tokio::main(worker_threads = 2)]
async fn main() -> Result<ExitCode, BoxError> {
    let mut bind = Bind::start().await?;
    let [a, b] = [Server::start().await?, Server::start().await?];
    bind.update(&[a.record("a", 1), b.record("b", 1)].concat())
        .await?;
    let uri = format!("dns://{}/svc.test?longest-ttl=1h", bind.addr());
    println!("BIND runs; worker:http is {NAME} by {uri}");

    let client = http::Client::builder(discovery::from_uri(&uri)?, "worker:http").build()?;
    let control = client.control().clone();
    control.wait_usable(20 * SECOND).await?;
    let traffic = Traffic::start(client);
    let mut came_true = true;
    let mut promise = |what: &str, holds: bool| {
        println!("  {} {what}", if holds { "yes" } else { "NO " });
        came_true &= holds;
    };
    until("a and b serve", || a.served() > 0 && b.served() > 0).await?;

    println!("c is added to the zone, with a TTL of an hour from now on");
    let c = Server::start().await?;
    let mut hour = vec![format!("delete {NAME} SRV")];
    for (server, name) in [(&a, "a"), (&b, "b"), (&c, "c")] {
        hour.extend(server.record(name, 3600));
    }
    bind.update(&hour).await?;
    let took = until("c serves", || c.served() > 0).await?;
    println!("  it serves after {took:.1?}");
    promise(
        "c serves within the old TTL of 1 s and 1 s more",
        took < 2 * SECOND,
    );
    let outcomes = traffic.take();
    println!("  {outcomes}");
    promise("no request failed", outcomes.failures() == 0);

    println!("all three die, and the zone names d");
    let d = Server::start().await?;
    let mut only_d = vec![format!("delete {NAME} SRV")];
    only_d.extend(d.record("d", 3600));
    bind.update(&only_d).await?;
    drop((a, b, c));
    let took = until("d serves", || d.served() > 0).await?;
    println!("  it serves after {took:.1?}; {}", traffic.take());
    promise(
        "failing dials asked DNS again, long before the TTL was over",
        took < 5 * SECOND,
    );
    // Requests that wait for the first dial are through.
    sleep(SECOND).await;
    traffic.take();

    println!("BIND is killed, and comes back after 5 s");
    bind.kill().await?;
    sleep(5 * SECOND).await;
    bind.restart().await?;
    let outcomes = traffic.take();
    println!("  {outcomes}");
    promise("no request failed", outcomes.failures() == 0);

    println!("BIND forgets its records");
    bind.update(&[format!("delete {NAME}")]).await?;
    sleep(3 * SECOND).await;
    let outcomes = traffic.finish().await?;
    println!("  {outcomes}");
    promise("no request failed", outcomes.failures() == 0);
    bind.kill().await?;
    Ok(if came_true {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

async fn until(what: &str, holds: impl Fn() -> bool) -> Result<Duration, BoxError> {
    let began = Instant::now();
    while !holds() {
        if began.elapsed() > 20 * SECOND {
            return Err(format!("waited 20 s in vain until {what}").into());
        }
        sleep(Duration::from_millis(5)).await;
    }
    Ok(began.elapsed())
}
