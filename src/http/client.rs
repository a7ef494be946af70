//! HTTP over a balanced target, in one type.

use std::fmt;
use std::future::Future;
use std::marker::PhantomData;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use http::{Request, Response};

use pin_project_lite::pin_project;
use tower_layer::Layer;
use tower_service::Service;

use super::classify::{HttpClassifier, TrackedBody};
use super::connection::{Connection, IncomingBody};
use super::connector::Connector;
use super::replay::ReplayBody;
use super::resend::{Resend, ResendLayer};
use super::tcp::TcpOptions;
#[cfg(feature = "tls")]
use super::tls::Tls;
use crate::balance::{Balance, BalanceLayer, Control};
use crate::discovery::Discovery;
use crate::error::{BoxError, Error};
use crate::fleet::BalanceConfig;
use crate::model::name::Boundary;
#[cfg(feature = "tls")]
use crate::model::name::Role;
use crate::model::target::{Target, TargetError};

type Inner = Resend<Balance<Connection<ReplayBody>, HttpClassifier>>;

/// An HTTP client of a [`Target`]: each request goes to one of its instances.
///
/// Clones are cheap and share everything. When the last one is dropped, idle connections close at once, and those with a
/// request in flight close after it.
///
/// `B` is the type of the request bodies: [`Body`](super::Body), which boxes any body, or a type of yours.
///
/// ```no_run
/// use rolecall::Registry;
/// use rolecall::http::{self, Body};
/// use hyper::Request;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let client = http::Client::new(Registry::new(), "worker:http")?;
/// let response = client.request(Request::get("/jobs").body(Body::empty())?).await?;
/// println!("{} by {:?}", response.status(), http::answered_by(&response));
/// # Ok(())
/// # }
/// ```
///
/// # Parts
///
/// It is made of public parts, which also work alone: [`ResendLayer`], [`BalanceLayer`] with [`HttpClassifier`], and
/// [`Connector`]. Put them together by hand for middleware on each instance or for a connector of your own:
///
/// ```
/// use rolecall::http::{Connector, HttpClassifier, ReplayBody, ResendLayer};
/// use rolecall::{BalanceLayer, Registry};
/// use std::time::Duration;
/// use tower::{ServiceBuilder, ServiceExt, timeout::Timeout};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), rolecall::TargetError> {
/// // Each instance's service is what the connector makes of it.
/// let connector = Connector::<ReplayBody>::new()
///     .map_response(|connection| Timeout::new(connection, Duration::from_secs(5)));
/// let client = ServiceBuilder::new()
///     .layer(ResendLayer::new())
///     .layer(BalanceLayer::new(Registry::new(), "worker:http")?.classify(HttpClassifier::new()))
///     .service(connector);
/// # drop(client);
/// # Ok(())
/// # }
/// ```
///
/// # Errors
///
/// [`Error`], which names the target, the instance and the cause. A response of any status is `Ok`.
pub struct Client<B = super::Body> {
    inner: Inner,
    body: PhantomData<fn(B)>,
}

impl<B> Client<B> {
    /// A client with the defaults of [`ClientBuilder`].
    ///
    /// # Errors
    ///
    /// `target` is not written as one.
    pub fn new<T>(discovery: impl Discovery, target: T) -> Result<Self, TargetError>
    where
        T: TryInto<Target>,
        T::Error: Into<TargetError>,
    {
        Self::builder(discovery, target).build()
    }

    /// Sets up a client with other settings. An invalid `target` is reported by [`build`](ClientBuilder::build).
    pub fn builder<T>(discovery: impl Discovery, target: T) -> ClientBuilder<B>
    where
        T: TryInto<Target>,
        T::Error: Into<TargetError>,
    {
        ClientBuilder::new(discovery, target)
    }

    /// The balanced target, with its boundary.
    #[must_use]
    pub fn target(&self) -> &Target {
        self.inner.get_ref().target()
    }

    /// The handle to observe and steer the balancer: status, events, ejection by hand, configuration.
    #[must_use]
    pub fn control(&self) -> &Control {
        self.inner.get_ref().control()
    }
}

impl<B> Client<B>
where
    B: http_body::Body<Error: Into<BoxError>> + Send + Unpin + 'static,
{
    /// Sends a request to an instance of the target.
    ///
    /// The URI may be a path, such as `/jobs`; see [`Connection`] for what becomes of its authority and of `Host`.
    pub fn request(&self, request: Request<B>) -> ClientFuture {
        ClientFuture {
            sending: self.inner.clone().call(request),
        }
    }
}

impl<B> Service<Request<B>> for Client<B>
where
    B: http_body::Body<Error: Into<BoxError>> + Send + Unpin + 'static,
{
    type Response = Response<TrackedBody<IncomingBody>>;
    type Error = Error;
    type Future = ClientFuture;

    /// Always ready, and reserves nothing.
    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> ClientFuture {
        ClientFuture {
            sending: self.inner.call(request),
        }
    }
}

impl<B> Service<Request<B>> for &Client<B>
where
    B: http_body::Body<Error: Into<BoxError>> + Send + Unpin + 'static,
{
    type Response = Response<TrackedBody<IncomingBody>>;
    type Error = Error;
    type Future = ClientFuture;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> ClientFuture {
        self.request(request)
    }
}

impl<B> Clone for Client<B> {
    fn clone(&self) -> Self {
        Self {
            inner: self.inner.clone(),
            body: PhantomData,
        }
    }
}

impl<B> fmt::Debug for Client<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client")
            .field("target", self.target())
            .finish_non_exhaustive()
    }
}

pin_project! {
    /// The response of a [`Client`].
    ///
    /// # Cancellation
    ///
    /// Dropped before the response it gives up the request: an HTTP/1.1 connection is closed, an HTTP/2 stream is reset.
    #[must_use = "futures do nothing unless polled"]
    pub struct ClientFuture {
        #[pin]
        sending: <Inner as Service<Request<ReplayBody>>>::Future,
    }
}

impl Future for ClientFuture {
    type Output = Result<Response<TrackedBody<IncomingBody>>, Error>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.project().sending.poll(cx)
    }
}

impl fmt::Debug for ClientFuture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientFuture").finish_non_exhaustive()
    }
}

/// Sets up a [`Client`].
///
/// # Defaults
///
/// - [`boundary`](Self::boundary): `default`
/// - [`config`](Self::config): that of [`BalanceConfig`]
/// - [`classify`](Self::classify): that of [`HttpClassifier`]
/// - [`attempt_timeout`](Self::attempt_timeout): none
/// - [`resend`](Self::resend): on
/// - `tls` (feature `tls`): none
/// - [`http1`](Self::http1), [`http2`](Self::http2): what an instance chooses in the TLS handshake (ALPN), HTTP/2 preferred;
///   without TLS HTTP/1.1
/// - [`tcp`](Self::tcp): those of [`TcpOptions`]
/// - [`connector`](Self::connector): the defaults of [`Connector`]
///
/// # Examples
///
/// ```
/// use rolecall::{BalanceConfig, Registry, http};
/// use std::time::Duration;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let client: http::Client = http::Client::builder(Registry::new(), "worker:http")
///     .config(BalanceConfig::builder().max_in_flight(100).build()?)
///     .attempt_timeout(Duration::from_secs(2))
///     .connector(|connector| connector.max_idle(16))
///     .build()?;
/// # drop(client);
/// # Ok(())
/// # }
/// ```
#[must_use = "nothing is balanced before `build`"]
pub struct ClientBuilder<B = super::Body> {
    layer: Result<BalanceLayer<HttpClassifier>, TargetError>,
    connector: Connector<ReplayBody>,
    connect_timeout: Duration,
    resend: bool,
    #[cfg(feature = "tls")]
    role: Option<Role>,
    body: PhantomData<fn(B)>,
}

impl<B> ClientBuilder<B> {
    fn new<T>(discovery: impl Discovery, target: T) -> Self
    where
        T: TryInto<Target>,
        T::Error: Into<TargetError>,
    {
        let target = target.try_into().map_err(Into::into);
        Self {
            #[cfg(feature = "tls")]
            role: target.as_ref().ok().map(|target| target.role().clone()),
            layer: target.and_then(|target| {
                Ok(BalanceLayer::new(discovery, target)?.classify(HttpClassifier::new()))
            }),
            connector: Connector::new(),
            connect_timeout: BalanceConfig::default().connect_timeout(),
            resend: true,
            body: PhantomData,
        }
    }

    fn layer(
        mut self,
        set: impl FnOnce(BalanceLayer<HttpClassifier>) -> BalanceLayer<HttpClassifier>,
    ) -> Self {
        self.layer = self.layer.map(set);
        self
    }

    /// Sets the boundary that asks, see [`BalanceLayer::boundary`].
    pub fn boundary(self, boundary: Boundary) -> Self {
        self.layer(|layer| layer.boundary(boundary))
    }

    /// Balances by another configuration than the default one.
    ///
    /// Its [`connect_timeout`](BalanceConfig::connect_timeout) limits every dial, also those that the client makes for more
    /// connections to an instance. A later [`Control::reconfigure`] changes it for the first dial of an instance only.
    pub fn config(mut self, config: BalanceConfig) -> Self {
        self.connect_timeout = config.connect_timeout();
        self.layer(|layer| layer.config(config))
    }

    /// Judges responses by another classifier, see [`HttpClassifier::by`].
    pub fn classify(self, classifier: HttpClassifier) -> Self {
        self.layer(|layer| layer.classify(classifier))
    }

    /// Ends an attempt whose head does not come within `timeout`, see [`BalanceLayer::attempt_timeout`].
    pub fn attempt_timeout(self, timeout: Duration) -> Self {
        self.layer(|layer| layer.attempt_timeout(timeout))
    }

    /// Whether a request that no instance acted on is sent once more, see [`ResendLayer`].
    pub fn resend(mut self, enabled: bool) -> Self {
        self.resend = enabled;
        self
    }

    /// Encrypts connections by TLS, see [`Connector::tls`].
    ///
    /// Unless `tls` names another one, an instance must prove that it has the name of the target's role: see
    /// [`Tls`](Tls#server-name).
    #[cfg(feature = "tls")]
    pub fn tls(mut self, tls: impl Into<Tls>) -> Self {
        self.connector = self.connector.tls(tls);
        self
    }

    /// Speaks HTTP/1.1 only.
    pub fn http1(mut self) -> Self {
        self.connector = self.connector.http1();
        self
    }

    /// Speaks HTTP/2 only, without TLS by prior knowledge.
    pub fn http2(mut self) -> Self {
        self.connector = self.connector.http2();
        self
    }

    /// Sets the options of TCP connections, see [`TcpOptions`].
    pub fn tcp(mut self, options: TcpOptions) -> Self {
        self.connector = self.connector.tcp(options);
        self
    }

    /// Changes what is set on the [`Connector`]: pools, pings, `Host`.
    pub fn connector(
        mut self,
        set: impl FnOnce(Connector<ReplayBody>) -> Connector<ReplayBody>,
    ) -> Self {
        self.connector = set(self.connector);
        self
    }

    /// The client. Its driver starts here inside a tokio runtime with timers, else at the first call inside one.
    ///
    /// # Errors
    ///
    /// The target is not written as one.
    pub fn build(self) -> Result<Client<B>, TargetError> {
        let connector = self.connector.connect_timeout(self.connect_timeout);
        // Also where TLS was set on the connector.
        #[cfg(feature = "tls")]
        let connector = match &self.role {
            Some(role) => connector.or_role(role),
            None => connector,
        };
        let resend = ResendLayer::new().enabled(self.resend);
        Ok(Client {
            inner: resend.layer(self.layer?.layer(connector)),
            body: PhantomData,
        })
    }
}

impl<B> fmt::Debug for ClientBuilder<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientBuilder")
            .field("layer", &self.layer)
            .field("connector", &self.connector)
            .field("connect_timeout", &self.connect_timeout)
            .field("resend", &self.resend)
            .finish_non_exhaustive()
    }
}
