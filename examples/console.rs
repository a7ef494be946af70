//! The console of a program with two balancers, one of which has instances that fail, hang and refuse: served on loopback,
//! read by the program itself, and what the page says of them.
//!
//! The exit code is 0 only if the page and its JSON name the instances that are out.
//!
//! ```sh
//! cargo run --example console
//! cargo run --example console -- --stay                  # until Ctrl-C; controls take the token "sesame"
//! cargo run --example console -- --stay --members 1000   # a large fleet
//! cargo run --example console -- --stay --quiet          # without a fault
//! ```

use std::io;
use std::process::ExitCode;
use std::time::Duration;

use axum::Router;
use rolecall::console::Console;
use rolecall::{BalanceLayer, BoxError, Control, Instance, List};
use tokio::net::TcpListener;
use tower::{Layer, Service, service_fn};

/// How long faults have until the page is read.
const UNTIL_READ: Duration = Duration::from_secs(6);

#[derive(Clone, Copy, PartialEq)]
enum Fault {
    None,
    Slow,
    Fails,
    Hangs,
    Refuses,
}

struct Options {
    stay: bool,
    quiet: bool,
    members: usize,
}

#[tokio::main(worker_threads = 2)]
async fn main() -> Result<ExitCode, BoxError> {
    let options = options()?;
    let (payments, mail) = (fleet("pay", options.members)?, fleet("mail", 2)?);
    let is_quiet = options.quiet;
    let pay = balance(payments, "pay:http", move |at| match at {
        _ if is_quiet => Fault::None,
        1 => Fault::Fails,
        2 => Fault::Slow,
        3 => Fault::Hangs,
        4 => Fault::Refuses,
        // Of a large fleet one in fifty is broken.
        at if at % 50 == 49 => Fault::Fails,
        _ => Fault::None,
    })?;
    let mail = balance(mail, "mail:smtp", |_| Fault::None)?;

    let console = Console::new()
        .add("payments", &pay)
        .add("mail", &mail)
        .with_controls("sesame");
    let admin = Router::new().nest_service("/console", console);
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let page = format!("http://{}/console", listener.local_addr()?);
    tokio::spawn(async move { axum::serve(listener, admin).await });

    println!("The console is at {page}");
    if options.stay {
        tokio::signal::ctrl_c().await?;
        return Ok(ExitCode::SUCCESS);
    }
    tokio::time::sleep(UNTIL_READ).await;

    let html = reqwest::get(&page).await?.text().await?;
    println!(
        "It has {} bytes. Its heading and what it says of instances in trouble:\n",
        html.len()
    );
    for line in text_of(&html)
        .lines()
        .filter(|line| line.contains(" out") || line.contains("pay-"))
    {
        println!("  {}", line.trim());
    }
    let json = reqwest::get(format!("{page}/status.json"))
        .await?
        .text()
        .await?;
    let json: serde_json::Value = serde_json::from_str(&json)?;
    let states = json["targets"][0]["status"]["members"].as_array();
    let is_out = |id: &str| {
        states
            .into_iter()
            .flatten()
            .any(|member| member["instance"]["id"] == id && member["state"] != "usable")
    };
    let are_out = options.quiet || is_out("pay-1") && is_out("pay-4");
    Ok(if are_out && html.contains("pay-1") {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

fn options() -> Result<Options, BoxError> {
    let mut options = Options {
        stay: false,
        quiet: false,
        members: 6,
    };
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--stay" => options.stay = true,
            "--quiet" => options.quiet = true,
            "--members" => {
                options.members = arguments.next().ok_or("--members: how many?")?.parse()?
            }
            other => return Err(format!("unknown argument {other}").into()),
        }
    }
    Ok(options)
}

fn fleet(name: &str, members: usize) -> Result<List, BoxError> {
    let instance = |at: usize| {
        let address = ([10, 0, (at / 250) as u8, (at % 250 + 1) as u8], 8080);
        Instance::new(format!("{name}-{at}"), address)
    };
    Ok(List::new((0..members).map(instance))?)
}

/// A balancer under traffic, over services that do what their instance's number says.
fn balance(
    list: List,
    target: &str,
    fault_of: impl Fn(usize) -> Fault + Copy + Send + Sync + 'static,
) -> Result<Control, BoxError> {
    let connector = service_fn(move |instance: Instance| async move {
        let number = instance
            .id()
            .as_str()
            .rsplit('-')
            .next()
            .and_then(|at| at.parse().ok());
        let fault = fault_of(number.unwrap_or_default());
        if fault == Fault::Refuses {
            return Err(io::Error::from_raw_os_error(111));
        }
        Ok(service_fn(move |(): ()| async move {
            match fault {
                Fault::Fails => return Err(io::Error::from(io::ErrorKind::ConnectionReset)),
                Fault::Hangs => std::future::pending().await,
                Fault::Slow => tokio::time::sleep(Duration::from_millis(80)).await,
                Fault::None | Fault::Refuses => {
                    tokio::time::sleep(Duration::from_millis(4)).await;
                }
            }
            Ok::<_, io::Error>(())
        }))
    });
    let balance = BalanceLayer::new(list, target)?
        .attempt_timeout(Duration::from_millis(500))
        .layer(connector);
    let control = balance.control().clone();
    for _ in 0..6 {
        let mut balance = balance.clone();
        tokio::spawn(async move {
            let mut ticks = tokio::time::interval(Duration::from_millis(15));
            loop {
                ticks.tick().await;
                // What fails is seen on the page.
                let _ = balance.call(()).await;
            }
        });
    }
    Ok(control)
}

/// The text of a page, a line for each row.
fn text_of(html: &str) -> String {
    let body = html.split("<header>").nth(1).unwrap_or_default();
    let body = body.split("<script").next().unwrap_or_default();
    let lines = body.replace("<tr>", "\n<tr>").replace("</h1>", "</h1>\n");
    let mut text = String::new();
    let mut is_tag = false;
    for char in lines.chars() {
        match char {
            '<' => (is_tag, ()) = (true, text.push(' ')),
            '>' => is_tag = false,
            char if !is_tag => text.push(char),
            _ => {}
        }
    }
    text.replace("&#39;", "'").replace("&amp;", "&")
}
