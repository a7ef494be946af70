//! A service on Kubernetes, whose pods come, drain and die, and whose API server goes away.
//!
//! With `KUBECONFIG` set it prints the instances of a target of that cluster, `default/kubernetes:https` or the one given. Without,
//! it starts a stand-in for the API server and plays a cluster: four worker processes as pods, of which one is deleted and
//! drains, and one is killed while the API server is down. The exit code is 0 only if every request that failed had gone to the
//! killed worker, before it was ejected or as the one trial that follows each ejection.
//!
//! ```sh
//! cargo run --features kubernetes --example kubernetes_role
//! KUBECONFIG=~/.kube/config cargo run --features kubernetes --example kubernetes_role -- shop/worker:http
//! ```

#![expect(clippy::disallowed_methods, reason = "a program may look at the clock")]

mod calls;
mod pods;
#[expect(dead_code, reason = "the tests make it fail in more ways")]
#[path = "../../tests/kubernetes/stand_in/mod.rs"]
mod stand_in;
mod work;

use std::env;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use futures::StreamExt;
use rolecall::discovery::Kubernetes;
use rolecall::{BoxError, Discovery, Target};
use tokio::time::{sleep, timeout};

use crate::calls::Calls;
use crate::pods::{Cluster, NAMESPACE};
use crate::stand_in::ApiServer;

const SECOND: Duration = Duration::from_secs(1);

#[tokio::main(worker_threads = 2)]
async fn main() -> Result<ExitCode, BoxError> {
    let argument = env::args().nth(1);
    if argument.as_deref() == Some(pods::AS_WORKER) {
        work::run().await?;
        return Ok(ExitCode::SUCCESS);
    }
    if let Some(config) = env::var_os("KUBECONFIG") {
        println!("the cluster of {}", config.display());
        look(argument.as_deref().unwrap_or("default/kubernetes:https")).await?;
        return Ok(ExitCode::SUCCESS);
    }
    println!("KUBECONFIG is not set: a stand-in for the API server");
    Ok(if play().await? {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// Prints the first set of a target.
async fn look(target: &str) -> Result<(), BoxError> {
    let target: Target = target.parse()?;
    let mut answers = Kubernetes::new().watch(&target);
    let set = timeout(10 * SECOND, answers.next())
        .await?
        .ok_or("no answer")??;
    println!("{target} has {} instances", set.len());
    for instance in &set {
        let node = instance.metadata().get("node").map_or("-", String::as_str);
        println!(
            "  {} at {}, node {node}, {}",
            instance.id(),
            instance.address(),
            instance.availability()
        );
    }
    Ok(())
}

/// The story; whether it came true.
async fn play() -> Result<bool, BoxError> {
    let mut cluster = Cluster::of(ApiServer::start().await?)?;
    for pod in 1..=4 {
        cluster.start(pod).await?;
    }
    let calls = Calls::begin(&cluster).await?;
    wait("all four answered", || {
        (1..=4).all(|pod| calls.answers_of(pod) > 50)
    })
    .await?;
    println!("pods 1 to 4 of {NAMESPACE} answer 500 requests a second");

    let ended = cluster.delete(4).await?;
    calls.settle().await;
    let mut came_true = ended.success() && calls.failures() == 0;
    println!(
        "pod 4 was deleted, drained and ended: {ended}; {} failed",
        calls.failures()
    );

    cluster.server.kill().await;
    cluster.kill(3).await?;
    let answered = calls.answers();
    wait("pod 3 was ejected", || calls.ejections() > 0).await?;
    wait("1000 requests were answered", || {
        calls.answers() > answered + 1000
    })
    .await?;
    let (failures, failed_trials) = calls.settled_failures().await;
    let before_ejection = failures - failed_trials.min(failures);
    came_true &= before_ejection <= 20 || calls.stalls() > 0;
    println!(
        "the API server went away, and pod 3 was killed: {before_ejection} failed before it was ejected, {failed_trials} as \
         trials, {} were answered",
        calls.answers() - answered
    );

    cluster.server.come_back().await?;
    cluster.forget(3);
    cluster.start(5).await?;
    wait("the new pod answered", || calls.answers_of(5) > 50).await?;
    calls.settle().await;
    // Until the server is back, the dead pod is listed. Each time an ejection of it ends, one request tries it.
    let (failures, all_failed_trials) = calls.settled_failures().await;
    came_true &= failures == before_ejection + all_failed_trials || calls.stalls() > 0;
    came_true &= failures == calls.failures_of(3);
    if calls.stalls() > 0 {
        println!("this process stalled, so how often pod 3 may fail is not checked; no other may");
    }
    println!(
        "the API server came back, and pod 5 in place of 3: {} trials of pod 3 failed, {} other requests",
        all_failed_trials - failed_trials,
        failures.saturating_sub(before_ejection + all_failed_trials)
    );

    calls.print();
    drop(calls);
    cluster.end().await?;
    Ok(came_true)
}

async fn wait(what: &str, condition: impl Fn() -> bool) -> Result<(), BoxError> {
    let began = Instant::now();
    while !condition() {
        if began.elapsed() > 30 * SECOND {
            return Err(format!("waited 30 s in vain until {what}").into());
        }
        sleep(SECOND / 100).await;
    }
    Ok(())
}
