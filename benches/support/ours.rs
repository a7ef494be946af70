//! rolecall's balancer, as a program builds it.

use std::convert::Infallible;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use rolecall::{Balance, BalanceConfig, BalanceLayer, Instance, List, connect};
use tokio::runtime::Runtime;
use tokio::time;
use tower::{Layer, Service};

use super::service::Request;

/// Nothing listens there, and nothing dials: an instance is told by its port.
const FIRST_PORT: u16 = 1024;

const PATIENCE: Duration = Duration::from_secs(10);

/// A balancer whose driver runs on `runtime` and whose members are all connected.
pub(crate) fn balance<S>(runtime: &Runtime, instances: u16, config: BalanceConfig) -> Balance<S>
where
    S: Service<Request, Response = u16, Error = Infallible>
        + From<u16>
        + Clone
        + Send
        + Sync
        + 'static,
{
    let roster = (0..instances).map(|instance| {
        let addr = SocketAddr::from((Ipv4Addr::LOCALHOST, FIRST_PORT + instance));
        Instance::new(format!("instance-{instance}"), addr)
    });
    let connector = connect::per_instance(|instance: &Instance| {
        S::from(instance.address().port().expect("a TCP address") - FIRST_PORT)
    });
    runtime.block_on(async {
        let balance = BalanceLayer::new(List::new(roster).expect("valid instances"), "bench:http")
            .expect("a valid target")
            .config(config)
            .layer(connector);
        let connected = async {
            while balance.control().status().usable < usize::from(instances) {
                time::sleep(Duration::from_millis(1)).await;
            }
        };
        time::timeout(PATIENCE, connected)
            .await
            .expect("every member connects");
        balance
    })
}
