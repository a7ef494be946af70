//! A night on call: five faults, one after the other, and what a program shows of them.
//!
//! Only two things are printed: the log, as a default `tracing_subscriber` at `info` writes it, and what `explain()` says when
//! somebody looks. A reader of the log alone can name all five causes, and which line ends each: `is well again`, `is reachable
//! now`, `discovery answers again`. Each fault ends by itself.
//!
//! The exit code is 0 only if every fault was noticed and is over.
//!
//! ```sh
//! cargo run --example night
//! ```

mod flaky;
mod server;

use std::process::ExitCode;
use std::time::Duration;

use hyper::Request;
use rolecall::http::Body;
use rolecall::{BalanceConfig, BoxError, Control, OutlierConfig, http};
use tokio::time::{sleep, timeout};

use crate::flaky::Flaky;
use crate::server::{Mode, Server, tls};

/// How long a fault may take to be noticed, and to be over.
const PATIENCE: Duration = Duration::from_secs(60);

#[tokio::main(worker_threads = 2)]
async fn main() -> Result<ExitCode, BoxError> {
    tracing_subscriber::fmt().init();
    let servers = [
        Server::start("pay-1").await?,
        Server::start("pay-2").await?,
        Server::start("pay-3").await?,
    ];
    let discovery = Flaky::new(servers.iter().map(Server::instance).collect());
    let client: http::Client = http::Client::builder(discovery.clone(), "pay:http")
        .attempt_timeout(Duration::from_millis(300))
        .config(impatient()?)
        .build()?;
    let control = client.control().clone();
    control.wait_usable(PATIENCE).await?;
    let traffic = tokio::spawn(send(client));

    let [_, second, third] = &servers;
    let mut is_right = true;
    for (server, mode) in [
        (second, Mode::Unavailable),
        (third, Mode::Hang),
        (second, Mode::Close),
    ] {
        server.set(mode);
        is_right &= until(|| is_out(&control, server)).await;
        look(&control);
        server.set(Mode::Ok);
        is_right &= until(|| !is_out(&control, server)).await;
    }
    is_right &= wrong_certificate().await?;

    discovery.fail("connection to etcd.internal:2379 refused");
    is_right &= until(|| control.status().discovery_error.is_some()).await;
    sleep(Duration::from_secs(2)).await;
    look(&control);
    discovery.announce(servers.iter().map(Server::instance).collect());
    is_right &= until(|| control.status().discovery_error.is_none()).await;
    sleep(Duration::from_millis(100)).await;
    traffic.abort();
    Ok(if is_right {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// An instance whose certificate is for another name, until a good one replaces it.
async fn wrong_certificate() -> Result<bool, BoxError> {
    let (authority, vault) = tls::start("vault-1", "vault.internal").await?;
    let discovery = Flaky::new([vault.instance()].into_iter().collect());
    let client: http::Client = http::Client::builder(discovery, "vault:https")
        .tls(authority.client("secrets.internal")?)
        .build()?;
    let control = client.control().clone();
    let noticed = control.wait_usable(Duration::from_secs(4)).await.is_err();
    look(&control);
    vault.certify(&authority, "secrets.internal")?;
    Ok(noticed && control.wait_usable(PATIENCE).await.is_ok())
}

/// Ejects for a second at first, so that a night fits into a minute.
fn impatient() -> Result<BalanceConfig, BoxError> {
    let second = Duration::from_secs(1);
    let outlier = OutlierConfig::builder()
        .base_ejection_time(second)
        .build()?;
    Ok(BalanceConfig::builder().outlier(outlier).build()?)
}

/// Two hundred requests a second.
async fn send(client: http::Client) {
    loop {
        if let Ok(request) = Request::get("/").body(Body::empty()) {
            tokio::spawn(client.request(request));
        }
        sleep(Duration::from_millis(5)).await;
    }
}

fn is_out(control: &Control, server: &Server) -> bool {
    let members = control.status().members;
    let mut members = members.iter();
    members.any(|member| {
        let is_it = member.instance.id() == server.id();
        is_it
            && member
                .ejection
                .as_ref()
                .is_some_and(|ejection| !ejection.is_over)
    })
}

/// Whether something comes true within [`PATIENCE`].
async fn until(mut is_true: impl FnMut() -> bool) -> bool {
    let wait = async {
        while !is_true() {
            sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(PATIENCE, wait).await.is_ok()
}

fn look(control: &Control) {
    println!(
        "--- explain() ---\n{}\n-----------------",
        control.explain()
    );
}
