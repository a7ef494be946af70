//! Channels to servers, and what tests wait for.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicU16, Ordering::Relaxed};
use std::time::Duration;

use rolecall::grpc::{self, Channel};
use rolecall::{
    BalanceConfig, Instance, Lease, List, MemberStatus, Registrar, Registration, Registry,
};
use tonic::Status;

use crate::client::OrderedClient;
use crate::server::Server;

pub(crate) use crate::waiting::{until, within};

pub(crate) type Client = OrderedClient<Channel>;

/// A builder for a channel to the servers, which are called a, b and so on.
pub(crate) fn builder<'a>(servers: impl IntoIterator<Item = &'a Server>) -> grpc::Builder {
    builder_to(servers.into_iter().map(|server| server.addr))
}

pub(crate) fn builder_to(addrs: impl IntoIterator<Item = SocketAddr>) -> grpc::Builder {
    let instances = addrs.into_iter().zip('a'..);
    let instances = instances.map(|(addr, id)| Instance::new(id.to_string(), addr));
    let list = List::new(instances).unwrap();
    let config = BalanceConfig::builder().unavailable_after(Duration::from_secs(15));
    Channel::builder(list, "worker:grpc")
        .unwrap()
        .config(config.build().unwrap())
}

/// Gives up on a fleet where nobody is usable after 200 ms.
pub(crate) fn impatient() -> BalanceConfig {
    let config = BalanceConfig::builder().unavailable_after(Duration::from_millis(200));
    config.build().unwrap()
}

pub(crate) fn channel<'a>(servers: impl IntoIterator<Item = &'a Server>) -> Channel {
    builder(servers).build()
}

pub(crate) fn client(channel: &Channel) -> Client {
    OrderedClient::new(channel.clone())
}

/// Checks that the calls in a scenario, which answers with the channel it made, left so many failures and no slot behind.
///
/// While a machine stands still nobody is charged. That happens on a busy one, but not ten times in a row.
pub(crate) async fn charges(failures: u64, mut scenario: impl AsyncFnMut() -> Channel) {
    for attempt in 1.. {
        let channel = scenario().await;
        let (in_flight, charged) = tally(&channel);
        assert_eq!(in_flight, 0, "every slot is free again");
        if charged == failures {
            return;
        }
        assert!(charged < failures && attempt < 10, "{charged} failures");
    }
}

/// The only member.
pub(crate) fn member(channel: &Channel) -> MemberStatus {
    channel.control().status().members.remove(0)
}

/// Its requests in flight and its failures.
pub(crate) fn tally(channel: &Channel) -> (u32, u64) {
    let member = member(channel);
    (member.in_flight, member.failures)
}

pub(crate) async fn all_usable(channel: &Channel) {
    let all = channel.control();
    until(|| {
        let status = all.status();
        !status.members.is_empty() && status.usable == status.members.len()
    })
    .await;
}

/// Checks that a message names target and instance.
pub(crate) fn names(status: &Status, instance: &str) {
    let message = status.message();
    assert!(message.contains("default/worker:grpc"), "{message}");
    let named = message.contains(&format!("instance {instance}"));
    assert!(named, "{message}");
    assert_eq!(
        grpc::failed_at(status).as_ref().map(|id| id.as_str()),
        Some(instance)
    );
}

pub(crate) async fn register(registry: &Registry, id: &str, server: &Server) -> Lease {
    let registration = Registration::new("worker").id(id);
    let registration = registration.endpoint("grpc", server.addr);
    registry.register(registration).await.unwrap()
}

/// A port of an address that no other test uses, also when its server is gone.
pub(crate) fn free_addr() -> SocketAddr {
    static USED: AtomicU16 = AtomicU16::new(0);
    let [high, low] = USED.fetch_add(1, Relaxed).to_be_bytes();
    let ip = if cfg!(target_os = "linux") {
        Ipv4Addr::new(127, 77, high, low)
    } else {
        Ipv4Addr::LOCALHOST
    };
    let listener = std::net::TcpListener::bind((ip, 0)).unwrap();
    listener.local_addr().unwrap()
}
