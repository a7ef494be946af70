use std::fmt;
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;
use tower_layer::Layer;
use tower_service::Service;

use super::balance::Balance;
use super::classify::{ClassifyFn, ClassifyResult};
use super::driver::Driver;
use super::hub::{Connected, Hub};
use crate::balance::Outcome;
use crate::discovery::Discovery;
use crate::discovery::view::View;
use crate::error::BoxError;
use crate::fleet::{BalanceConfig, Fleet};
use crate::model::instance::Instance;
use crate::model::name::Boundary;
use crate::model::target::{Target, TargetError};
use crate::runtime::{clock, random};

/// Balances a [`Target`] over whatever a connector makes of its instances.
///
/// The connector is any `Service<Instance>`; its response is the service of one instance, cloned for each request. Its
/// `poll_ready` and `call` run in the driver and must not block; the future of each dial is a task of its own. TLS,
/// limits, timeouts and other middleware for one instance are layered onto that response. What is not `Clone` goes
/// behind tower's `Buffer`, one for each instance.
///
/// Middleware there that refuses requests by itself makes its instance look bad: an `Err` is a failure. Of tower's,
/// `LoadShed` is recognized with the feature `tower-errors`; see [`ClassifyResult`].
///
/// # Examples
///
/// ```
/// use rolecall::{BalanceLayer, Instance, List};
/// use std::convert::Infallible;
/// use tower::{Layer, Service, service_fn};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let list = List::from_addrs(["127.0.0.1:8001".parse()?, "127.0.0.1:8002".parse()?])?;
/// let mut balance = BalanceLayer::new(list, "worker:http")?.layer(service_fn(
///     |instance: Instance| async move {
///         let addr = instance.addr();
///         let answer = service_fn(move |name: &str| {
///             let answer = format!("hello {name}, this is {addr}");
///             async { Ok::<_, Infallible>(answer) }
///         });
///         Ok::<_, Infallible>(answer)
///     },
/// ));
/// let answer = balance.call("you").await?;
/// assert!(answer.starts_with("hello you, this is 127.0.0.1:800"));
/// # Ok(())
/// # }
/// ```
pub struct BalanceLayer<C = ClassifyResult> {
    discovery: Arc<dyn Discovery>,
    boundary: Boundary,
    target: Target,
    config: BalanceConfig,
    classifier: Arc<C>,
    attempt_timeout: Option<Duration>,
}

/// The range of [`BalanceLayer::attempt_timeout`].
const ATTEMPT_TIMEOUT: RangeInclusive<Duration> =
    Duration::from_millis(1)..=Duration::from_secs(60 * 60);

impl BalanceLayer {
    /// Balances what `discovery` says of `target`: `"role:endpoint"` or `"boundary/role:endpoint"`.
    ///
    /// Without a boundary it is the one that [asks](Self::boundary).
    ///
    /// # Errors
    ///
    /// `target` is not written as one.
    pub fn new<T>(discovery: impl Discovery, target: T) -> Result<Self, TargetError>
    where
        T: TryInto<Target>,
        T::Error: Into<TargetError>,
    {
        let target = target.try_into().map_err(Into::into)?;
        Ok(Self {
            discovery: Arc::new(discovery),
            boundary: Boundary::default(),
            target,
            config: BalanceConfig::default(),
            classifier: Arc::default(),
            attempt_timeout: None,
        })
    }
}

impl<C> BalanceLayer<C> {
    /// Sets the boundary that asks. Default `default`.
    ///
    /// A target without a boundary means this one. Instances whose [`Visibility`](crate::Visibility) does not allow it are
    /// absent; if none is visible of at least one, calls fail with
    /// [`NotVisible`](crate::ErrorKind::NotVisible).
    #[must_use]
    pub fn boundary(mut self, boundary: Boundary) -> Self {
        self.boundary = boundary;
        self
    }

    /// Follows another configuration than the default one.
    #[must_use]
    pub fn config(mut self, config: BalanceConfig) -> Self {
        self.config = config;
        self
    }

    /// Judges answers by another rule than `Ok` and `Err`.
    #[must_use]
    pub fn classify<C2>(self, classifier: C2) -> BalanceLayer<C2> {
        BalanceLayer {
            discovery: self.discovery,
            boundary: self.boundary,
            target: self.target,
            config: self.config,
            classifier: Arc::new(classifier),
            attempt_timeout: self.attempt_timeout,
        }
    }

    /// Judges answers by a closure.
    #[must_use]
    pub fn classify_fn<F, Res, Err>(self, classify: F) -> BalanceLayer<ClassifyFn<F>>
    where
        F: Fn(&Result<Res, Err>) -> Outcome,
    {
        self.classify(ClassifyFn(classify))
    }

    /// Ends an attempt that got no answer within `timeout`. Off by default; 1 ms to 1 h, and what is outside counts as the
    /// nearer of the two.
    ///
    /// Set it, unless every caller gives up by itself: an instance that accepts requests and never answers reports no error,
    /// and no rule can see it while its callers wait. With it each of them counts as a failure, and the instance is ejected as
    /// [unresponsive](crate::EjectionReason::Unresponsive). Choose a time that no healthy instance needs: whatever takes
    /// longer is a failure.
    ///
    /// The time begins when the response is first polled after an instance's service got the request, and ends when that
    /// service's future is done: for HTTP with the head of the response. So neither the wait for an instance counts, nor a
    /// body. When it is over the service's future is dropped, and the caller gets an [`Error`](crate::Error) of the kind
    /// [`Deadline`](crate::ErrorKind::Deadline), which names the instance and [was sent](crate::Error::was_sent). The
    /// classifier is not asked.
    ///
    /// A response that is there at the first poll costs nothing; any other one costs an allocation and a timer of tokio's.
    #[must_use]
    pub fn attempt_timeout(mut self, timeout: Duration) -> Self {
        self.attempt_timeout =
            Some(timeout.clamp(*ATTEMPT_TIMEOUT.start(), *ATTEMPT_TIMEOUT.end()));
        self
    }

    /// The balancer, and the driver that feeds it, for those who spawn by themselves. Until the driver is polled, the
    /// balancer knows nobody. Once it is dropped, it is not started again, and all calls fail at once.
    pub fn pair<M, S>(&self, connector: M) -> (Balance<S, C>, Driver)
    where
        M: Service<Instance, Response = S> + Send + 'static,
        M::Future: Send + 'static,
        M::Error: Into<BoxError>,
        S: Send + Sync + 'static,
        C: Send + Sync + 'static,
    {
        let now = clock::now();
        let fleet = Fleet::<Connected<S, C>>::new(self.config.clone(), random::seed(), now);
        let fleet = Arc::new(fleet);
        let view = View::new(Arc::clone(&self.discovery), self.boundary.clone());
        let target = view.resolved(&self.target);
        let classifier = Arc::clone(&self.classifier);
        let hub = Arc::new(Hub::new(target, classifier, self.attempt_timeout));
        let (alive, ended) = oneshot::channel();
        let driver = Driver::new(Arc::clone(&fleet), Arc::clone(&hub), view, connector, ended);
        (Balance::new(fleet, hub, alive), driver)
    }
}

impl<M, S, C> Layer<M> for BalanceLayer<C>
where
    M: Service<Instance, Response = S> + Send + 'static,
    M::Future: Send + 'static,
    M::Error: Into<BoxError>,
    S: Send + Sync + 'static,
    C: Send + Sync + 'static,
{
    type Service = Balance<S, C>;

    /// Spawns the driver, a task, if called inside a tokio runtime with timers; else the first call inside one does. It
    /// starts again in another runtime when its own has ended. Each call makes a balancer of its own, with a watch, dials
    /// and connections of its own.
    fn layer(&self, connector: M) -> Balance<S, C> {
        let (balance, driver) = self.pair(connector);
        balance.start(driver.restarting());
        balance
    }
}

impl<C> Clone for BalanceLayer<C> {
    fn clone(&self) -> Self {
        Self {
            discovery: Arc::clone(&self.discovery),
            boundary: self.boundary.clone(),
            target: self.target.clone(),
            config: self.config.clone(),
            classifier: Arc::clone(&self.classifier),
            attempt_timeout: self.attempt_timeout,
        }
    }
}

impl<C> fmt::Debug for BalanceLayer<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BalanceLayer")
            .field("boundary", &self.boundary)
            .field("target", &self.target)
            .field("config", &self.config)
            .field("attempt_timeout", &self.attempt_timeout)
            .finish_non_exhaustive()
    }
}
