//! A generated tonic client over three workers, of which one drains. No call may fail.
//!
//! The service is gRPC's standard health service, whose client `tonic-health` has generated.
//!
//! ```sh
//! cargo run --example tonic
//! ```

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::time::Duration;

use rolecall::{BoxError, Registration, Registry, Worker, grpc};
use tokio::task::JoinHandle;
use tokio::time::sleep;
use tonic::transport::Server;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;
use tonic_health::server::health_reporter;

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    let registry = Registry::new();
    let mut workers = Vec::new();
    for name in ["a", "b", "c"] {
        workers.push(serve(&registry, name).await?);
    }

    let channel = grpc::Channel::builder(registry, "worker:grpc")?
        .attempt_timeout(Duration::from_secs(1))
        .build();
    let client = HealthClient::new(channel.clone());
    println!("three workers: {:?}", call(&client).await?);

    let (worker, serving) = workers.remove(0);
    worker.drain(Duration::from_secs(5)).await?;
    serving.abort();
    println!("a has drained: {:?}", call(&client).await?);
    println!("{}", channel.control().explain());
    Ok(())
}

/// Makes 200 calls and counts them by the instance that answered.
async fn call(client: &HealthClient<grpc::Channel>) -> Result<BTreeMap<String, u32>, BoxError> {
    let mut answers = BTreeMap::new();
    for _ in 0..200 {
        let response = client.clone().check(HealthCheckRequest::default()).await?;
        let instance = grpc::answered_by(&response).ok_or("no instance is named")?;
        *answers.entry(instance.to_string()).or_default() += 1;
        sleep(Duration::from_millis(2)).await;
    }
    Ok(answers)
}

/// Starts a worker: it listens, lets its boundary in, and registers.
async fn serve(registry: &Registry, name: &str) -> Result<(Worker, JoinHandle<()>), BoxError> {
    let registration = Registration::new("worker").id(name);
    let worker = Worker::new(registry.clone(), registration, Ipv4Addr::LOCALHOST.into())?;
    let listener = worker.listen("grpc").await?;
    let (_, health) = health_reporter();
    let serving = tokio::spawn(async move {
        let server = Server::builder().add_service(health);
        // It ends when it is aborted, after the drain.
        let _ = server.serve_with_incoming(listener).await;
    });
    Ok((worker, serving))
}
