//! An address is no identity; a certificate is one. Here the role is in the certificate, as the URI `rolecall://shop/catalog`,
//! and both sides check it: the server whom it serves, the caller whom it asks.
//!
//! Everybody sits at the same address, which the guard admits, as on a machine that instances share. What tells them apart is
//! what they can prove. An instance that registers as the catalog and has the cart's certificate is found out before a byte
//! of a request goes to it, and the balancer asks the real one.
//!
//! The exit code is 0 only if friends were served and nobody else.
//!
//! ```sh
//! cargo run --example mutual_tls
//! ```

mod identity;

use std::net::Ipv4Addr;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use rolecall::guard::{Guard, Networks};
use rolecall::{
    Balance, BalanceLayer, Boundary, BoxError, Instance, Lease, MemberState, MemberStatus,
    Registrar, Registration, Registry,
};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpListener;
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsConnector;
use tower::{Layer, Service, service_fn};

use crate::identity::{Authority, Identity};

const PATIENCE: Duration = Duration::from_secs(10);
const CALLS: usize = 20;

#[tokio::main(worker_threads = 2)]
async fn main() -> Result<ExitCode, BoxError> {
    let authority = Authority::new()?;
    let shop = Registry::new();
    let catalog = authority.identify("shop/catalog")?;
    let cart = authority.identify("shop/cart")?;
    let impostor_was_asked = Arc::new(AtomicUsize::new(0));
    let _leases = [
        serve(&shop, "catalog-1", &catalog, Arc::default()).await?,
        serve(&shop, "impostor", &cart, Arc::clone(&impostor_was_asked)).await?,
    ];

    println!(
        "The cart calls the catalog, of which two instances are registered; one of them has the cart's certificate."
    );
    let answers = calls(&shop, cart.client()?).await?;
    let from_catalog = answers
        .iter()
        .filter(|answer| *answer == "hello from catalog-1");
    let served = from_catalog.count();
    println!("  {served} of {CALLS} calls were answered by catalog-1");
    let asked = impostor_was_asked.load(Relaxed);
    println!("  the impostor was asked {asked} times");

    println!("\nOthers call from the same address, which the guard admits:");
    let mut all_refused = true;
    let forged = Authority::new()?.identify("shop/cart")?.trusting(&catalog);
    for (who, identity) in [
        (
            "another role, signed by the authority",
            authority.identify("shop/audit")?,
        ),
        ("the right role, signed by somebody else", forged),
    ] {
        let outcome = calls(&shop, identity.client()?).await;
        all_refused &= outcome.is_err();
        println!(
            "  {who}: {}",
            outcome.map_or_else(told, |answers| answers.join(", "))
        );
    }

    let came_true = served == CALLS && asked == 0 && all_refused;
    println!(
        "\n{}",
        if came_true {
            "It all came true."
        } else {
            "It did NOT come true."
        }
    );
    Ok(ExitCode::from(u8::from(!came_true)))
}

/// Registers an instance of the catalog that can prove what its identity says, and serves the cart.
async fn serve(
    shop: &Registry,
    id: &'static str,
    identity: &Identity,
    asked: Arc<AtomicUsize>,
) -> Result<Lease, BoxError> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    let here = Registration::new("catalog")
        .boundary("shop")
        .id(id)
        .endpoint("lines", listener.local_addr()?);
    let guard = Guard::builder(shop.clone(), Boundary::new("shop")?).build()?;
    let mut listener = guard.wrap(listener);
    let acceptor = identity.server()?;
    tokio::spawn(async move {
        loop {
            let (connection, _) = listener.accept().await;
            let (acceptor, asked) = (acceptor.clone(), Arc::clone(&asked));
            tokio::spawn(async move {
                let stream = identity::accept(&acceptor, connection, &["shop/cart"]).await?;
                let mut stream = BufReader::new(stream);
                let mut question = String::new();
                if stream.read_line(&mut question).await? > 0 {
                    asked.fetch_add(1, Relaxed);
                    stream
                        .write_all(format!("hello from {id}\n").as_bytes())
                        .await?;
                    stream.shutdown().await?;
                }
                Ok::<_, BoxError>(())
            });
        }
    });
    let lease = shop.register(here).await?;
    guard.synced().await;
    Ok(lease)
}

/// Calls the catalog some times, and stops at the first failure.
async fn calls(shop: &Registry, tls: TlsConnector) -> Result<Vec<String>, BoxError> {
    // A dial that finds somebody else there fails, and its instance is not asked.
    let connector = service_fn(move |instance: Instance| {
        let tls = tls.clone();
        async move {
            drop(identity::connect(&tls, instance.address(), "shop/catalog").await?);
            Ok::<_, BoxError>(service_fn(move |()| ask(tls.clone(), instance.clone())))
        }
    });
    let networks: Networks = "127.0.0.0/8".parse()?;
    let layer = BalanceLayer::new(shop.clone(), "catalog:lines")?.boundary(Boundary::new("shop")?);
    let mut balance = layer.layer(networks.layer(connector));
    timeout(PATIENCE, all_dialled(&balance)).await?;
    let mut answers = Vec::new();
    for _ in 0..CALLS {
        answers.push(timeout(PATIENCE, balance.call(())).await??);
    }
    Ok(answers)
}

/// Waits until the catalog's two instances were dialled, with whatever outcome, and tells of failures.
async fn all_dialled<S: Send + Sync + 'static>(balance: &Balance<S>) {
    loop {
        let members = balance.control().status().members;
        let dialled =
            |member: &&MemberStatus| member.error.is_some() || member.state == MemberState::Usable;
        if members.iter().filter(dialled).count() == 2 {
            for member in members {
                if let Some(error) = member.error {
                    println!("  dialling {}: {error}", member.instance.id());
                }
            }
            return;
        }
        sleep(Duration::from_millis(1)).await;
    }
}

/// Each request has a connection of its own, and each connection is checked.
async fn ask(tls: TlsConnector, instance: Instance) -> Result<String, BoxError> {
    let stream = identity::connect(&tls, instance.address(), "shop/catalog").await?;
    let mut stream = BufReader::new(stream);
    stream.write_all(b"who is there?\n").await?;
    let mut answer = String::new();
    match stream.read_line(&mut answer).await? {
        0 => Err("closed without an answer".into()),
        _ => Ok(answer.trim_end().to_owned()),
    }
}

/// An error with its causes.
fn told(error: BoxError) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}
