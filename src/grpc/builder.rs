use std::time::Duration;

use tonic::Code;
use tower_layer::Layer;

use super::channel::Channel;
use super::classify::ClassifyStatus;
use crate::balance::{BalanceLayer, Outcome};
use crate::discovery::Discovery;
use crate::fleet::BalanceConfig;
use crate::http::{Connector, ReplayBody};
use crate::model::name::Boundary;
use crate::model::target::{Target, TargetError};

/// Sets up a [`Channel`].
///
/// # Defaults
///
/// - [`boundary`](Self::boundary): `default`
/// - [`config`](Self::config): that of [`BalanceConfig`]
/// - [`attempt_timeout`](Self::attempt_timeout): none
/// - [`outcomes`](Self::outcomes): those of [`ClassifyStatus`]
/// - `tls` (feature `tls`): none
/// - [`connect_timeout`](Self::connect_timeout): 2 s
/// - [`max_connection_age`](Self::max_connection_age): none
/// - [`keep_alive_interval`](Self::keep_alive_interval): 20 s
/// - [`keep_alive_timeout`](Self::keep_alive_timeout): 20 s
/// - [`keep_alive_while_idle`](Self::keep_alive_while_idle): off
///
/// # Examples
///
/// ```
/// use rolecall::{BalanceConfig, Registry, grpc::Channel};
/// use std::time::Duration;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let config = BalanceConfig::builder().max_in_flight(100).build()?;
/// let channel = Channel::builder(Registry::new(), "worker:grpc")?
///     .config(config)
///     .keep_alive_interval(Duration::from_secs(30))
///     .build();
/// # drop(channel);
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
#[must_use = "nothing is balanced before `build`"]
pub struct Builder {
    layer: BalanceLayer<ClassifyStatus>,
    connector: Connector<ReplayBody>,
    #[cfg(feature = "tls")]
    role: crate::model::name::Role,
}

impl Builder {
    pub(super) fn new<T>(discovery: impl Discovery, target: T) -> Result<Self, TargetError>
    where
        T: TryInto<Target>,
        T::Error: Into<TargetError>,
    {
        let target = target.try_into().map_err(Into::into)?;
        #[cfg(feature = "tls")]
        let role = target.role().clone();
        let layer = BalanceLayer::new(discovery, target)?.classify(ClassifyStatus::new());
        Ok(Self {
            layer,
            #[cfg(feature = "tls")]
            role,
            connector: Connector::new().http2(),
        })
    }

    /// Dials from this ip.
    #[cfg(feature = "worker")]
    pub(crate) fn local_address(mut self, ip: std::net::IpAddr) -> Self {
        let options = crate::http::TcpOptions::new().local_address(ip);
        self.connector = self.connector.tcp(options);
        self
    }

    /// Sets the boundary that asks, see [`BalanceLayer::boundary`].
    pub fn boundary(mut self, boundary: Boundary) -> Self {
        self.layer = self.layer.boundary(boundary);
        self
    }

    /// Balances by another configuration than the default one.
    pub fn config(mut self, config: BalanceConfig) -> Self {
        self.layer = self.layer.config(config);
        self
    }

    /// Ends an attempt whose head does not come within `timeout`, see [`BalanceLayer::attempt_timeout`]. The status is
    /// `DeadlineExceeded`.
    ///
    /// A shorter `grpc-timeout` of the caller ends the call first.
    pub fn attempt_timeout(mut self, timeout: Duration) -> Self {
        self.layer = self.layer.attempt_timeout(timeout);
        self
    }

    /// Judges instances by another function of the status, see [`ClassifyStatus::by`].
    pub fn outcomes(mut self, outcomes: impl Fn(Code) -> Outcome + Send + Sync + 'static) -> Self {
        self.layer = self.layer.classify(ClassifyStatus::by(outcomes));
        self
    }

    /// Encrypts connections by TLS, see [`Connector::tls`].
    ///
    /// Where neither the metadata of an instance nor `tls` says whom to expect, it has to prove that it is called as the role
    /// of the target is: see [`Tls`](crate::http::Tls#server-name). [`Tls::role`](crate::http::Tls::role) is not asked.
    #[cfg(feature = "tls")]
    pub fn tls(mut self, tls: impl Into<crate::http::Tls>) -> Self {
        self.connector = self.connector.tls(tls.into().role(&self.role));
        self
    }

    /// Limits the time to open one connection, see [`Connector::connect_timeout`].
    pub fn connect_timeout(mut self, timeout: Duration) -> Self {
        self.connector = self.connector.connect_timeout(timeout);
        self
    }

    /// Replaces a connection that is older than this, see [`Connector::max_connection_age`].
    pub fn max_connection_age(mut self, age: Duration) -> Self {
        self.connector = self.connector.max_connection_age(age);
        self
    }

    /// Pings a connection with a call in flight on which nothing came for this long, see
    /// [`Connector::http2_keep_alive_interval`]. `None`: never.
    pub fn keep_alive_interval(mut self, interval: impl Into<Option<Duration>>) -> Self {
        self.connector = self.connector.http2_keep_alive_interval(interval);
        self
    }

    /// Closes a connection whose ping was not answered for this long, see [`Connector::http2_keep_alive_timeout`].
    pub fn keep_alive_timeout(mut self, timeout: Duration) -> Self {
        self.connector = self.connector.http2_keep_alive_timeout(timeout);
        self
    }

    /// Whether a connection without a call is pinged too, see [`Connector::http2_keep_alive_while_idle`].
    pub fn keep_alive_while_idle(mut self, enabled: bool) -> Self {
        self.connector = self.connector.http2_keep_alive_while_idle(enabled);
        self
    }

    /// The channel. Its driver starts here inside a tokio runtime with timers, else at the first call inside one.
    #[must_use]
    pub fn build(self) -> Channel {
        Channel::from(self.layer.layer(self.connector))
    }
}
