use std::error::Error as StdError;
use std::fmt;
use std::future::Future;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::pin::Pin;
use std::str::FromStr;
use std::sync::Arc;
use std::task::{Context, Poll};

use ipnet::IpNet;
use pin_project_lite::pin_project;
use tower_layer::Layer;
use tower_service::Service;

use crate::error::BoxError;
use crate::event::dial::DialError;
use crate::model::address::Address;
use crate::model::instance::{Instance, InstanceId};
use crate::runtime::text::excerpt;

/// The networks that calls may go to: wraps a connector, and refuses to dial outside them.
///
/// Whoever can write to a discovery can send its callers anywhere, to the cloud's metadata service or to a stranger who
/// collects their requests. Behind this layer an instance outside the networks is never dialled: its dial fails with
/// [`OutsideNetworks`], which [`Event::DialFailed`](crate::Event::DialFailed), the log and the status tell of, and
/// requests go to the others.
///
/// # Examples
///
/// ```
/// use rolecall::{BalanceLayer, Instance, List, guard::Networks};
/// use tower::{Layer, service_fn};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let discovery = List::from_addrs(["10.1.2.3:8080".parse()?])?;
/// # type Never = tower::util::BoxCloneSyncService<(), (), std::io::Error>;
/// # let connector = service_fn(|_: Instance| std::future::pending::<Result<Never, std::io::Error>>());
/// let networks: Networks = "10.0.0.0/8, fd00::/8".parse()?;
/// assert!(networks.contains([10, 1, 2, 3].into()));
/// assert!(!networks.contains([169, 254, 169, 254].into()));
/// let balance = BalanceLayer::new(discovery, "worker:http")?.layer(networks.layer(connector));
/// # drop(balance);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct Networks(Arc<[IpNet]>);

impl Networks {
    /// These networks, each written as `"10.0.0.0/8"`, or as an address alone for a network of one, or `"any"` for all
    /// addresses.
    ///
    /// # Errors
    ///
    /// One of them is written in no such way, or has bits set beyond its prefix; or there is none, which would allow
    /// nothing.
    pub fn new<T: AsRef<str>>(
        networks: impl IntoIterator<Item = T>,
    ) -> Result<Self, NetworksError> {
        let networks = networks.into_iter();
        let networks: Arc<[_]> = networks
            .map(|network| match network.as_ref() {
                "any" => Ok(vec![any(Ipv4Addr::UNSPECIFIED), any(Ipv6Addr::UNSPECIFIED)]),
                network => parse(network).map(|network| vec![network]),
            })
            .collect::<Result<Vec<_>, _>>()?
            .concat()
            .into();
        if networks.is_empty() {
            return Err(NetworksError::new("", "name at least one network"));
        }
        Ok(Self(networks))
    }

    /// Whether an address lies in one of them. An IPv4 address that is written as an IPv6 one is an IPv4 address.
    pub fn contains(&self, ip: IpAddr) -> bool {
        let ip = ip.to_canonical();
        self.0.iter().any(|network| network.contains(&ip))
    }
}

fn any(unspecified: impl Into<IpAddr>) -> IpNet {
    IpNet::new_assert(unspecified.into(), 0)
}

fn parse(text: &str) -> Result<IpNet, NetworksError> {
    if let Ok(ip) = text.parse::<IpAddr>() {
        return Ok(ip.to_canonical().into());
    }
    let network: IpNet = text.parse().map_err(|_| {
        NetworksError::new(
            text,
            "write an address and a prefix length, as in 10.0.0.0/8",
        )
    })?;
    // Whether the prefix or the address is the mistake, nobody can say.
    if network.addr() != network.network() {
        return Err(NetworksError::new(
            text,
            "it has bits set beyond its prefix",
        ));
    }
    Ok(canonical(network))
}

/// A network of IPv4 addresses that are written as IPv6 ones is an IPv4 network, as they are IPv4 addresses.
fn canonical(network: IpNet) -> IpNet {
    let within = match network.addr().to_canonical() {
        IpAddr::V4(ip) if network.max_prefix_len() == 128 => {
            let prefix = network.prefix_len().checked_sub(96);
            prefix.and_then(|prefix| IpNet::new(ip.into(), prefix).ok())
        }
        _ => None,
    };
    within.unwrap_or(network)
}

/// Written with commas: `"10.0.0.0/8, fd00::/8"`, or `"any"`.
impl FromStr for Networks {
    type Err = NetworksError;

    fn from_str(text: &str) -> Result<Self, NetworksError> {
        Self::new(text.split(',').map(str::trim))
    }
}

impl fmt::Display for Networks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, network) in self.0.iter().enumerate() {
            let comma = if at == 0 { "" } else { ", " };
            write!(f, "{comma}{network}")?;
        }
        Ok(())
    }
}

impl fmt::Debug for Networks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Networks({self})")
    }
}

/// A text that is no network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NetworksError {
    value: Box<str>,
    reason: &'static str,
}

impl NetworksError {
    fn new(value: &str, reason: &'static str) -> Self {
        let value = excerpt(value);
        Self { value, reason }
    }

    /// The value that was refused, escaped and cut to 80 characters.
    pub fn value(&self) -> &str {
        &self.value
    }
}

impl fmt::Display for NetworksError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "invalid network \"{}\": {}", self.value, self.reason)
    }
}

impl StdError for NetworksError {}

impl<M> Layer<M> for Networks {
    type Service = Confined<M>;

    fn layer(&self, connector: M) -> Confined<M> {
        Confined {
            networks: self.clone(),
            connector,
        }
    }
}

/// A connector that dials only within [`Networks`], which make it by [`layer`](Networks::layer).
#[derive(Clone)]
pub struct Confined<M> {
    networks: Networks,
    connector: M,
}

impl<M> Service<Instance> for Confined<M>
where
    M: Service<Instance>,
    M::Error: Into<BoxError>,
{
    type Response = M::Response;
    type Error = BoxError;
    type Future = ConfinedFuture<M::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.connector.poll_ready(cx).map_err(Into::into)
    }

    fn call(&mut self, instance: Instance) -> Self::Future {
        let ip = instance.address().ip();
        let outcome = if ip.is_none_or(|ip| self.networks.contains(ip)) {
            Dial::Allowed {
                future: self.connector.call(instance),
            }
        } else {
            Dial::Refused {
                error: Some(OutsideNetworks {
                    instance: instance.id().clone(),
                    address: instance.address().clone(),
                    networks: self.networks.clone(),
                }),
            }
        };
        ConfinedFuture { outcome }
    }
}

impl<M: fmt::Debug> fmt::Debug for Confined<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Confined")
            .field("networks", &self.networks)
            .field("connector", &self.connector)
            .finish()
    }
}

pin_project! {
    /// A dial of [`Confined`].
    pub struct ConfinedFuture<F> {
        #[pin]
        outcome: Dial<F>,
    }
}

pin_project! {
    #[project = DialProjection]
    enum Dial<F> {
        Allowed { #[pin] future: F },
        Refused { error: Option<OutsideNetworks> },
    }
}

impl<F, S, E> Future for ConfinedFuture<F>
where
    F: Future<Output = Result<S, E>>,
    E: Into<BoxError>,
{
    type Output = Result<S, BoxError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match self.project().outcome.project() {
            DialProjection::Allowed { future } => future.poll(cx).map_err(Into::into),
            // Polled once more it is nobody's.
            DialProjection::Refused { error } => error.take().map_or(Poll::Pending, |error| {
                let error = DialError::labelled("outside the networks", error);
                Poll::Ready(Err(error.into()))
            }),
        }
    }
}

impl<F> fmt::Debug for ConfinedFuture<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ConfinedFuture").finish_non_exhaustive()
    }
}

/// An instance was not dialled, since its address lies outside the networks that calls may go to.
#[derive(Clone, Debug)]
pub struct OutsideNetworks {
    instance: InstanceId,
    address: Address,
    networks: Networks,
}

impl OutsideNetworks {
    /// The instance.
    pub fn instance(&self) -> &InstanceId {
        &self.instance
    }

    /// Its address, as announced.
    pub fn address(&self) -> &Address {
        &self.address
    }

    /// The networks that calls may go to.
    pub fn networks(&self) -> &Networks {
        &self.networks
    }
}

impl fmt::Display for OutsideNetworks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let instance = excerpt(self.instance.as_str());
        let Self {
            address, networks, ..
        } = self;
        write!(
            f,
            "instance {instance} not dialled: {address} is outside {networks}"
        )
    }
}

impl StdError for OutsideNetworks {}

#[cfg(test)]
mod tests {
    use super::*;

    fn networks(text: &str) -> Result<Networks, NetworksError> {
        text.parse()
    }

    #[test]
    fn networks_are_read_as_they_are_shown() {
        for text in ["10.0.0.0/8", "10.0.0.0/8, fd00::/8", "127.0.0.1/32", "::/0"] {
            assert_eq!(networks(text).unwrap().to_string(), text);
        }
        assert_eq!(
            networks("10.0.0.7,::1").unwrap().to_string(),
            "10.0.0.7/32, ::1/128"
        );
    }

    #[test]
    fn what_is_no_network_is_refused_and_named() {
        for text in [
            "",
            "10.0.0.0/8,",
            "10.0.0.0/33",
            "10.0.0/8",
            "10.0.0.1/8",
            "fd00::1/8",
            "10.0.0.0/8 fd00::/8",
            "10.0.0.0/255.0.0.0",
            "everywhere",
            "10.0.0.0/-1",
        ] {
            assert!(networks(text).is_err(), "{text}");
        }
        assert_eq!(
            networks("fd00::/8, 10.0.0.1/8").unwrap_err().to_string(),
            "invalid network \"10.0.0.1/8\": it has bits set beyond its prefix"
        );
        assert!(Networks::new(Vec::<String>::new()).is_err());
        let any = networks("any").unwrap();
        assert_eq!(any.to_string(), "0.0.0.0/0, ::/0");
        assert!(any.contains([10, 0, 0, 7].into()) && any.contains("fd00::1".parse().unwrap()));
    }

    #[test]
    fn an_address_is_inside_in_either_form_or_outside_in_both() {
        let networks =
            networks("10.0.0.0/8, fd00::/8, ::ffff:192.0.2.1, ::ffff:198.51.100.0/120").unwrap();
        for ip in [
            "10.255.0.1",
            "::ffff:10.0.0.1",
            "fd12::1",
            "192.0.2.1",
            "198.51.100.7",
        ] {
            assert!(networks.contains(ip.parse().unwrap()), "{ip}");
        }
        for ip in [
            "11.0.0.1",
            "::ffff:11.0.0.1",
            "::10.0.0.1",
            "fe80::1",
            "192.0.2.2",
        ] {
            assert!(!networks.contains(ip.parse().unwrap()), "{ip}");
        }
    }
}
