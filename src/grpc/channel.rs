use std::fmt;
use std::sync::Arc;
use std::task::{Context, Poll};

use http::{Request, Response};
use http_body::Body;
use tower_layer::Layer;
use tower_service::Service;

use super::body::ResponseBody;
use super::builder::Builder;
use super::classify::ClassifyStatus;
use super::deadline::Deadline;
use super::future::ResponseFuture;
use super::held::HoldHead;
use crate::balance::{Balance, Control};
use crate::discovery::Discovery;
use crate::error::{BoxError, Error};
use crate::http::{Connection, ReplayBody, Resend, ResendLayer};
use crate::model::target::{Target, TargetError};

/// Balances gRPC calls over the instances of a target, with the defaults of [`Builder`].
///
/// # Errors
///
/// `target` is not written as one.
pub fn channel<T>(discovery: impl Discovery, target: T) -> Result<Channel, TargetError>
where
    T: TryInto<Target>,
    T::Error: Into<TargetError>,
{
    Ok(Channel::builder(discovery, target)?.build())
}

/// Spreads gRPC calls over the instances of a target: what clients that were generated for tonic take as their channel.
///
/// Clones are cheap and share everything. When the last one is dropped, connections end after what is in flight on them.
///
/// # A connector of your own
///
/// `S` is the service of one instance, [`http::Connection`](Connection) unless said otherwise. For middleware for each
/// instance, balance what your connector makes, with [`ClassifyStatus`], and make a channel of that:
///
/// ```
/// use rolecall::{BalanceLayer, Instance, Registry, grpc, http};
/// use tower::{Layer, ServiceExt, limit::ConcurrencyLimit, service_fn};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), rolecall::TargetError> {
/// let http = http::Connector::<http::ReplayBody>::new().http2();
/// let connector = service_fn(move |instance: Instance| {
///     let dial = http.clone().oneshot(instance);
///     async { Ok::<_, rolecall::DialError>(tower::timeout::Timeout::new(dial.await?, LIMIT)) }
/// });
/// # const LIMIT: std::time::Duration = std::time::Duration::from_secs(1);
/// let balance = BalanceLayer::new(Registry::new(), "worker:grpc")?
///     .classify(grpc::ClassifyStatus::new())
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
    balance: Resend<Balance<S, ClassifyStatus>>,
    target: Arc<Target>,
}

impl Channel {
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

impl<S: Send + Sync + 'static> From<Balance<S, ClassifyStatus>> for Channel<S> {
    fn from(balance: Balance<S, ClassifyStatus>) -> Self {
        let target = Arc::new(balance.target().clone());
        let balance = ResendLayer::new().layer(balance);
        Self { balance, target }
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

    fn call(&mut self, request: Request<R>) -> Self::Future {
        let deadline = Deadline::of(request.headers());
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
