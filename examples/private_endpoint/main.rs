//! A private endpoint: balanced, and reachable for friends alone. Five real processes on loopback addresses of their own.
//!
//! `catalog` serves the boundary *shop* from 127.0.0.21; `cart` calls it from 127.0.0.22, as its friend. `audit` is of another
//! boundary, *billing*, and calls from 127.0.0.31. A stranger, registered nowhere, knocks from 127.0.0.99. Billing is granted
//! access and loses it again, the catalog opens a second port while it runs, and the cart leaves. The registry is in the
//! process that starts the others, and tells them the news over their standard input, where a real platform has a server for it.
//!
//! The exit code is 0 only if everybody got in, or not, as the story says.
//!
//! ```sh
//! cargo run --example private_endpoint
//! ```

#![expect(clippy::disallowed_methods, reason = "a program may look at the clock")]

mod caller;
mod news;
mod process;
mod server;

use std::net::{IpAddr, SocketAddr};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use rolecall::{Boundary, BoxError, Lease, Registrar, Registration, Registry, Visibility};
use tokio::time::sleep;

use crate::process::Process;

const CATALOG: &str = "127.0.0.21";
const CART: &str = "127.0.0.22";
const AUDIT: &str = "127.0.0.31";
const STRANGER: &str = "127.0.0.99";

/// What a registration or a grant may take to be known everywhere: a second, and two more where the machine is busy.
const MOMENT: Duration = Duration::from_secs(3);

#[tokio::main(worker_threads = 2)]
async fn main() -> Result<ExitCode, BoxError> {
    match process::asked_for() {
        Some(("serve", ip)) => server::serve(ip).await?,
        Some(("call", ip)) => caller::call(ip, home(ip)?).await?,
        _ => return tell().await,
    }
    Ok(ExitCode::SUCCESS)
}

/// The boundary that a caller speaks for. The stranger may claim what it likes.
fn home(ip: IpAddr) -> Result<Boundary, BoxError> {
    let is_audit = ip.to_string() == AUDIT;
    Ok(Boundary::new(if is_audit { "billing" } else { "shop" })?)
}

async fn tell() -> Result<ExitCode, BoxError> {
    let registry = Registry::new();
    let mut story = Story { is_true: true };
    let mut catalog = Process::start("serve", CATALOG, &registry).await?;
    let mut cart = Process::start("call", CART, &registry).await?;
    let mut audit = Process::start("call", AUDIT, &registry).await?;
    let mut stranger = Process::start("call", STRANGER, &registry).await?;

    println!(
        "The catalog opens its port in boundary shop; the cart is of shop, the audit of billing."
    );
    let lines: SocketAddr = catalog.ask("listen").await?.parse()?;
    let lease = announce(&registry, lines, Visibility::Internal).await?;
    let cart_lease = caller(&registry, "shop", "cart", CART).await?;
    let _audit_lease = caller(&registry, "billing", "audit", AUDIT).await?;
    let knock = format!("knock {lines}");

    story
        .until(&mut cart, "call shop/catalog:lines", "answered")
        .await?;
    story.until(&mut stranger, &knock, "closed").await?;
    story
        .until(&mut audit, "call shop/catalog:lines", "not visible")
        .await?;
    story.until(&mut audit, &knock, "closed").await?;
    story
        .until(&mut catalog, &format!("explain {AUDIT}"), "denied")
        .await?;

    println!("\nShop grants billing access.");
    // Announced anew, since what an instance says of its visibility holds for as long as it is registered.
    lease.deregister().await?;
    let granted = Visibility::Granted(vec![Boundary::new("billing")?]);
    let lease = announce(&registry, lines, granted).await?;
    story
        .until(&mut catalog, "allow billing", "allowed")
        .await?;
    story
        .until(&mut audit, "call shop/catalog:lines", "answered")
        .await?;
    story
        .until(&mut catalog, &format!("explain {AUDIT}"), "admitted")
        .await?;
    story.until(&mut stranger, &knock, "closed").await?;

    println!("\nIt takes the grant back.");
    lease.deregister().await?;
    let lease = announce(&registry, lines, Visibility::Internal).await?;
    story
        .until(&mut catalog, "revoke billing", "revoked")
        .await?;
    story
        .until(&mut audit, "call shop/catalog:lines", "not visible")
        .await?;
    story.until(&mut audit, &knock, "closed").await?;
    story
        .until(&mut cart, "call shop/catalog:lines", "answered")
        .await?;

    println!("\nThe catalog opens another port while it runs.");
    let admin: SocketAddr = catalog.ask("listen").await?.parse()?;
    lease.add_endpoint("admin", admin).await?;
    story
        .until(&mut cart, "call shop/catalog:admin", "answered")
        .await?;
    story
        .until(&mut stranger, &format!("knock {admin}"), "closed")
        .await?;

    println!("\nThe cart leaves, and knocks once more at the address that it remembers.");
    story.until(&mut cart, &knock, "answered").await?;
    cart_lease.deregister().await?;
    story.until(&mut cart, &knock, "closed").await?;

    println!(
        "\nThe guard's own account:\n{}",
        catalog.ask("status").await?
    );
    println!(
        "{}",
        if story.is_true {
            "It all came true."
        } else {
            "It did NOT come true."
        }
    );
    Ok(ExitCode::from(u8::from(!story.is_true)))
}

async fn announce(
    registry: &Registry,
    lines: SocketAddr,
    visibility: Visibility,
) -> Result<Lease, BoxError> {
    let here = Registration::new("catalog")
        .boundary("shop")
        .id("catalog-1")
        .endpoint("lines", lines)
        .visibility(visibility);
    Ok(registry.register(here).await?)
}

/// A role that only calls has no endpoint; guards admit it by the address it calls from.
async fn caller(
    registry: &Registry,
    boundary: &str,
    role: &str,
    ip: &str,
) -> Result<Lease, BoxError> {
    let ip: IpAddr = ip.parse()?;
    let here = Registration::new(role).boundary(boundary).peer_ip(ip);
    Ok(registry.register(here).await?)
}

struct Story {
    is_true: bool,
}

impl Story {
    /// Asks again until the answer is the expected one, which news may need a moment for.
    async fn until(
        &mut self,
        process: &mut Process,
        command: &str,
        expected: &str,
    ) -> Result<(), BoxError> {
        let began = Instant::now();
        let answer = loop {
            let answer = process.ask(command).await?;
            if answer.starts_with(expected) || began.elapsed() > MOMENT {
                break answer;
            }
            sleep(Duration::from_millis(10)).await;
        };
        let took = began.elapsed();
        let came_true = answer.starts_with(expected);
        self.is_true &= came_true;
        let mark = if came_true { "  " } else { "!!" };
        println!(
            "{mark} {:<34} {answer} ({} ms)",
            format!("{}: {command}", process.ip),
            took.as_millis()
        );
        Ok(())
    }
}
