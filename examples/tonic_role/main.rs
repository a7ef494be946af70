//! A gRPC service in four processes, called by one generated-style client over two channels at once: `grpc::channel`, and
//! tonic's own `Channel::balance_list`.
//!
//! Each channel gets 50 calls a second, nine unary ones and a server stream in turn, and each call has half a second. One
//! server is killed. Later another is stopped, so that it keeps its connections and answers nothing, and then goes on. A
//! table shows how many calls failed in each phase and what the failures said; the exit code is 0 only if the calls over
//! `grpc::channel` went as promised, and the ones over `balance_list` no better.
//!
//! ```sh
//! cargo run --example tonic_role
//! ```

#![expect(clippy::disallowed_methods, reason = "a program may look at the clock")]

mod caller;
mod greeter;
mod report;
mod server;

use std::process::ExitCode;
use std::time::{Duration, Instant};

use rolecall::{BoxError, Registrar, Registration, Registry, grpc};
use tokio::time::sleep;
use tonic::transport;

use crate::caller::Callers;
use crate::greeter::GreeterClient;
use crate::report::Report;
use crate::server::Server;

#[tokio::main(worker_threads = 2)]
async fn main() -> Result<ExitCode, BoxError> {
    if let Some(name) = server::asked_for() {
        server::serve(name).await?;
        return Ok(ExitCode::SUCCESS);
    }

    let mut servers = Vec::new();
    let mut leases = Vec::new();
    let registry = Registry::new();
    for name in ["a", "b", "c", "d"] {
        let server = Server::start(name).await?;
        let here = Registration::new("greeter")
            .id(name)
            .endpoint("grpc", server.addr());
        leases.push(registry.register(here).await?);
        servers.push(server);
    }

    let channel = grpc::Channel::new(registry, "greeter:grpc")?;
    let ours = GreeterClient::new(channel.clone());

    let mut endpoints = Vec::new();
    for server in &servers {
        endpoints.push(transport::Endpoint::from_shared(format!(
            "http://{}",
            server.addr()
        ))?);
    }
    let theirs = GreeterClient::new(transport::Channel::balance_list(endpoints.into_iter()));

    let all = channel.control();
    wait(|| all.status().usable == 4).await?;
    println!("a, b, c and d serve greeter:grpc, each in a process of its own\n");
    let callers = Callers::start(ours, theirs);
    let second = Duration::from_secs(1);

    callers.enter("calm");
    sleep(2 * second).await;

    callers.enter("b killed");
    // What b has in its hands by then is of this phase.
    sleep(second / 10).await;
    servers[1].kill()?;
    sleep(4 * second).await;

    callers.enter("c stopped");
    servers[2].stop()?;
    sleep(4 * second).await;

    callers.enter("c goes on");
    servers[2].go_on()?;
    // It may be ejected, or have a bad name that it lives down slowly.
    let picks = || {
        let members = all.status().members;
        members
            .iter()
            .find(|m| *m.instance.id() == *"c")
            .map(|m| m.picks)
    };
    let before = picks();
    wait(|| all.status().usable == 3 && picks() > before).await?;
    sleep(3 * second).await;

    let mut report = Report::new(callers.finish().await?);
    println!("\nin the end: {}\n", all.status());
    report.print();
    report.answered("c goes on", "c");
    report.failed("calm", 0.0);
    report.failed("b killed", 0.02);
    report.failed("c stopped", 0.08);
    report.failures_say_where();
    drop(leases);
    Ok(report.verdict())
}

async fn wait(condition: impl Fn() -> bool) -> Result<(), BoxError> {
    let began = Instant::now();
    while !condition() {
        if began.elapsed() > Duration::from_secs(20) {
            return Err("waited for 20 s in vain".into());
        }
        sleep(Duration::from_millis(10)).await;
    }
    Ok(())
}
