use std::fmt;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use http::header::{self, HeaderMap, HeaderValue, InvalidHeaderValue};
use http::{Request, Response};
use http_body::Body;
use tower_layer::Layer;
use tower_service::Service;

use super::body::ResponseBody;
use super::classify::GrpcClassifier;
use super::deadline::Deadline;
use super::first_message::HoldHead;
use super::future::ResponseFuture;
use crate::balance::{Balance, BalanceLayer, Control};
use crate::discovery::Discovery;
use crate::error::{BoxError, Error};
use crate::fleet::BalanceConfig;
use crate::http::{Connection, Connector, ReplayBody, Resend, ResendLayer, TcpOptions};
use crate::model::name::Boundary;
use crate::model::target::{Target, TargetError};

/// Spreads gRPC calls over the instances of a target: what clients that were generated for tonic take as their channel.
///
/// Clones are cheap and share everything. When the last one is dropped, connections end after what is in flight on them.
///
/// # A connector of your own
///
/// `S` is the service of one instance, [`http::Connection`](Connection) unless said otherwise. For middleware for each
/// instance, balance what your connector makes, with [`GrpcClassifier`], and make a channel of that:
///
/// ```
/// use rolecall::{BalanceLayer, Registry, grpc, http};
/// use std::time::Duration;
/// use tower::util::MapResponseLayer;
/// use tower::{Layer, timeout::Timeout};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), rolecall::TargetError> {
/// let limit = |connection| Timeout::new(connection, Duration::from_secs(1));
/// let connector = http::Connector::<http::ReplayBody>::new().http2();
/// let connector = MapResponseLayer::new(limit).layer(connector);
/// let balance = BalanceLayer::new(Registry::new(), "worker:grpc")?
///     .classify(grpc::GrpcClassifier::new())
///     .layer(connector);
/// let channel = grpc::Channel::from(balance);
/// # fn is_channel<T: tonic::client::GrpcService<tonic::body::Body>>(_: T) {}
/// # is_channel(channel);
/// # Ok(())
/// # }
/// ```
///
/// # Errors
///
/// Every [`Error`] has a [`tonic::Status`] as its source, and that the cause, if there is one.
pub struct Channel<S = Connection<ReplayBody>> {
    balance: Resend<Balance<S, GrpcClassifier>>,
    target: Arc<Target>,
    user_agent: HeaderValue,
}

const AGENT: &str = concat!("rolecall/", env!("CARGO_PKG_VERSION"));
const USER_AGENT: HeaderValue = HeaderValue::from_static(AGENT);

/// Sets the user agent, after what the caller set, as tonic's own channel does.
fn name_agent(headers: &mut HeaderMap, agent: &HeaderValue) {
    let named = match headers.get(header::USER_AGENT) {
        None => agent.clone(),
        Some(callers) => {
            let both = [callers.as_bytes(), b" ", agent.as_bytes()].concat();
            // Both are values of headers, so this is one.
            HeaderValue::from_bytes(&both).unwrap_or_else(|_| agent.clone())
        }
    };
    headers.insert(header::USER_AGENT, named);
}

impl Channel {
    /// A channel with the defaults of [`Builder`].
    ///
    /// # Errors
    ///
    /// `target` is not written as one.
    pub fn new<T>(discovery: impl Discovery, target: T) -> Result<Self, TargetError>
    where
        T: TryInto<Target>,
        T::Error: Into<TargetError>,
    {
        Ok(Self::builder(discovery, target)?.build())
    }

    /// Sets up a channel that is other than the default one.
    ///
    /// # Errors
    ///
    /// `target` is not written as one.
    pub fn builder<T>(discovery: impl Discovery, target: T) -> Result<Builder, TargetError>
    where
        T: TryInto<Target>,
        T::Error: Into<TargetError>,
    {
        Builder::new(discovery, target)
    }
}

impl<S> Channel<S> {
    /// The handle to observe and steer the balancer below: status, events, ejection by hand, configuration.
    pub fn control(&self) -> &Control {
        self.balance.get_ref().control()
    }
}

impl<S: Send + Sync + 'static> Channel<S> {
    fn with(
        balance: Balance<S, GrpcClassifier>,
        resend: ResendLayer,
        user_agent: HeaderValue,
    ) -> Self {
        let target = Arc::new(balance.target().clone());
        let balance = resend.layer(balance);
        Self {
            balance,
            target,
            user_agent,
        }
    }
}

impl<S: Send + Sync + 'static> From<Balance<S, GrpcClassifier>> for Channel<S> {
    fn from(balance: Balance<S, GrpcClassifier>) -> Self {
        Self::with(balance, ResendLayer::new(), USER_AGENT)
    }
}

/// For a request body of any type that is `Unpin`, tonic's own being one.
impl<S, B, R> Service<Request<R>> for Channel<S>
where
    S: Service<Request<ReplayBody>, Response = Response<B>> + Clone + Send + Sync + 'static,
    S::Error: Into<BoxError> + 'static,
    B: Body<Error: Into<BoxError> + 'static>,
    R: Body<Error: Into<BoxError>> + Send + Unpin + 'static,
{
    type Response = Response<ResponseBody<B>>;
    type Error = Error;
    type Future = ResponseFuture<S, B>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, mut request: Request<R>) -> Self::Future {
        let deadline = Deadline::of(request.headers());
        name_agent(request.headers_mut(), &self.user_agent);
        let holds = request.extensions().get::<HoldHead>().is_some();
        let call = self.balance.call(request);
        ResponseFuture::new(call, holds, Arc::clone(&self.target), deadline)
    }
}

impl<S> Clone for Channel<S> {
    fn clone(&self) -> Self {
        Self {
            balance: self.balance.clone(),
            target: Arc::clone(&self.target),
            user_agent: self.user_agent.clone(),
        }
    }
}

impl<S> fmt::Debug for Channel<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Channel")
            .field("target", &self.target)
            .finish_non_exhaustive()
    }
}

/// Sets up a [`Channel`].
///
/// # Defaults
///
/// - [`boundary`](Self::boundary): `default`
/// - [`config`](Self::config): that of [`BalanceConfig`]
/// - [`attempt_timeout`](Self::attempt_timeout): none
/// - [`classify`](Self::classify): that of [`GrpcClassifier`]
/// - [`resend`](Self::resend): on
/// - [`user_agent`](Self::user_agent): `rolecall/` and its version
/// - `tls` (feature `tls`): none
/// - [`tcp`](Self::tcp): those of [`TcpOptions`]
/// - [`connector`](Self::connector): the defaults of [`Connector`]
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
    layer: BalanceLayer<GrpcClassifier>,
    connector: Connector<ReplayBody>,
    connect_timeout: Duration,
    resend: ResendLayer,
    user_agent: HeaderValue,
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
        let layer = BalanceLayer::new(discovery, target)?.classify(GrpcClassifier::new());
        Ok(Self {
            layer,
            #[cfg(feature = "tls")]
            role,
            connector: Connector::new().http2(),
            connect_timeout: BalanceConfig::default().connect_timeout(),
            resend: ResendLayer::new(),
            user_agent: USER_AGENT,
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
    ///
    /// Its [`connect_timeout`](BalanceConfig::connect_timeout) limits every dial.
    pub fn config(mut self, config: BalanceConfig) -> Self {
        self.connect_timeout = config.connect_timeout();
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

    /// Encrypts connections by TLS, see [`Connector::tls`].
    ///
    /// Unless `tls` names another one, an instance must prove that it has the name of the target's role: see
    /// [`Tls`](crate::http::Tls#server-name).
    #[cfg(feature = "tls")]
    pub fn tls(mut self, tls: impl Into<crate::http::Tls>) -> Self {
        self.connector = self.connector.tls(tls);
        self
    }

    /// Judges answers by another classifier.
    pub fn classify(mut self, classifier: GrpcClassifier) -> Self {
        self.layer = self.layer.classify(classifier);
        self
    }

    /// Whether a call that no instance acted on is sent once more, see [`ResendLayer`].
    pub fn resend(mut self, enabled: bool) -> Self {
        self.resend = self.resend.enabled(enabled);
        self
    }

    /// Names the program in the header `user-agent` of each call, before rolecall and its version. What a caller sets on a call
    /// stands before both.
    ///
    /// # Errors
    ///
    /// `name` is no value of a header.
    pub fn user_agent(mut self, name: &str) -> Result<Self, InvalidHeaderValue> {
        self.user_agent = HeaderValue::try_from(format!("{name} {AGENT}"))?;
        Ok(self)
    }

    /// Sets the options of TCP connections, see [`TcpOptions`].
    pub fn tcp(mut self, options: TcpOptions) -> Self {
        self.connector = self.connector.tcp(options);
        self
    }

    /// Changes what is set on the [`Connector`], such as `Host`. Its connect timeout is that of the configuration.
    pub fn connector(
        mut self,
        set: impl FnOnce(Connector<ReplayBody>) -> Connector<ReplayBody>,
    ) -> Self {
        self.connector = set(self.connector);
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
        // HTTP/2 whatever was set on the connector.
        let connector = self.connector.connect_timeout(self.connect_timeout).http2();
        // Also where TLS was set on the connector.
        #[cfg(feature = "tls")]
        let connector = connector.or_role(&self.role);
        Channel::with(self.layer.layer(connector), self.resend, self.user_agent)
    }
}
