use std::fmt;
use std::future::Future;
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;
use tower_layer::Layer;
use tower_service::Service;

use super::balance::Balance;
use super::check::{Check, NoCheck};
use super::classify::{ClassifyFn, ClassifyResult, Outcome};
use super::driver::Driver;
use super::inner::{Connected, Inner};
use super::shared::Shared;
use crate::discovery::Discovery;
use crate::discovery::view::View;
use crate::error::BoxError;
use crate::fleet::{BalanceConfig, Fleet};
use crate::model::instance::Instance;
use crate::model::name::Boundary;
use crate::model::target::{Target, TargetError};
use crate::runtime::{clock, random};

/// Builds a [`Balance`] of a [`Target`] from a connector.
///
/// The connector is any `Service<Instance>`. Its response is the service of one instance. The connector's `poll_ready` and
/// `call` run in the driver and must not block; the future of each dial is a task of its own.
///
/// # The service of an instance
///
/// It is `Clone + Send + Sync`, and is cloned for each request. TLS, limits, timeouts and other middleware for one instance
/// are layered onto it. The clone is the largest cost of a balanced call that is not the call itself: an `Arc` inside costs
/// one reference count, tower's `Buffer` several, and a box (`BoxCloneSyncService`) one allocation.
///
/// - A service that is not `Clone` goes behind tower's `Buffer`, one per instance.
/// - A boxed service that is not `Sync` (`BoxCloneService`) becomes a `BoxCloneSyncService`, if what it boxes is `Sync`.
///   Otherwise it goes behind a `Buffer` too.
///
/// Both are bounds of [`Layer`], so the compiler reports a mistake there and not at the first call:
///
/// ```compile_fail,E0277
/// # use rolecall::{BalanceLayer, BoxError, Instance, List};
/// # use tower::{Layer, Service, service_fn, util::BoxService};
/// # async fn connect(_: Instance) -> Result<BoxService<String, String, BoxError>, BoxError> { Err("refused".into()) }
/// # fn balance(list: List) -> Result<(), BoxError> {
/// // error: the trait bound `BoxService<String, String, ..>: Clone` is not satisfied
/// let balance = BalanceLayer::new(list, "worker:lines")?.layer(service_fn(connect));
/// # drop(balance);
/// # Ok(())
/// # }
/// ```
///
/// ```
/// # use rolecall::{BalanceLayer, BoxError, Instance, List};
/// # use tower::{Layer, Service, ServiceExt, buffer::Buffer, service_fn, util::BoxService};
/// # async fn connect(_: Instance) -> Result<BoxService<String, String, BoxError>, BoxError> { Err("refused".into()) }
/// # fn balance(list: List) -> Result<(), BoxError> {
/// let connector = service_fn(|instance| async move {
///     let service = connect(instance).await?;
///     Ok::<_, BoxError>(Buffer::new(service, 64))
/// });
/// let balance = BalanceLayer::new(list, "worker:lines")?.layer(connector);
/// # drop(balance);
/// # Ok(())
/// # }
/// ```
///
/// Middleware below the balancer that rejects requests gets its instance ejected, since an `Err` is a failure. With the
/// feature `tower-errors` the errors of tower's `LoadShed` do not count: see [`ClassifyResult`].
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
///         let address = instance.address().clone();
///         let answer = service_fn(move |name: &str| {
///             let answer = format!("hello {name}, this is {address}");
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
pub struct BalanceLayer<C = ClassifyResult, K = NoCheck> {
    discovery: Arc<dyn Discovery>,
    boundary: Boundary,
    target: Target,
    config: BalanceConfig,
    classifier: Arc<C>,
    attempt_timeout: Option<Duration>,
    check: K,
}

/// The range of [`BalanceLayer::attempt_timeout`].
const ATTEMPT_TIMEOUT: RangeInclusive<Duration> =
    Duration::from_millis(1)..=Duration::from_secs(60 * 60);

impl BalanceLayer {
    /// Balances what `discovery` says of `target`: `"role:endpoint"` or `"boundary/role:endpoint"`.
    ///
    /// Without a boundary, the one that [asks](Self::boundary) is meant.
    ///
    /// # Errors
    ///
    /// `target` is not of the form `role:endpoint` or `boundary/role:endpoint`.
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
            check: NoCheck,
        })
    }
}

impl<C, K> BalanceLayer<C, K> {
    /// Sets the boundary that asks. Default `default`.
    ///
    /// A target without a boundary means this one. Instances whose [`Visibility`](crate::Visibility) does not allow it
    /// are absent. If instances exist and none is visible, calls fail with [`NotVisible`](crate::ErrorKind::NotVisible).
    #[must_use]
    pub fn boundary(mut self, boundary: Boundary) -> Self {
        self.boundary = boundary;
        self
    }

    /// Replaces the default configuration.
    #[must_use]
    pub fn config(mut self, config: BalanceConfig) -> Self {
        self.config = config;
        self
    }

    /// Replaces the rule that `Ok` is success and `Err` is failure.
    #[must_use]
    pub fn classify<C2>(self, classifier: C2) -> BalanceLayer<C2, K> {
        BalanceLayer {
            discovery: self.discovery,
            boundary: self.boundary,
            target: self.target,
            config: self.config,
            classifier: Arc::new(classifier),
            attempt_timeout: self.attempt_timeout,
            check: self.check,
        }
    }

    /// Replaces that rule by a function, which sees only the result.
    ///
    /// # Examples
    ///
    /// If the error is a box and calls are spawned, pass a named function. For a closure the compiler infers a single
    /// lifetime, and reports that the implementation is not general enough.
    ///
    /// ```
    /// use rolecall::{BalanceLayer, Instance, Outcome, Registry};
    /// use tower::{BoxError, Layer, Service, ServiceExt, service_fn};
    ///
    /// fn outcome(result: &Result<String, BoxError>) -> Outcome {
    ///     match result {
    ///         Err(error) if error.is::<std::io::Error>() => Outcome::Failure,
    ///         _ => Outcome::Success,
    ///     }
    /// }
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), BoxError> {
    /// let connector = service_fn(|instance: Instance| async move {
    ///     let id = instance.id().to_string();
    ///     let answer = move |ask: String| std::future::ready(Ok::<_, BoxError>(format!("{ask} {id}")));
    ///     Ok::<_, BoxError>(service_fn(answer))
    /// });
    /// # let registry = Registry::new();
    /// # let worker = rolecall::Registration::new("worker").endpoint("lines", ([127, 0, 0, 1], 1));
    /// # let _lease = rolecall::Registrar::register(&registry, worker).await?;
    /// let mut balance = BalanceLayer::new(registry, "worker:lines")?
    ///     .classify_fn(outcome)
    ///     .layer(connector);
    /// let call = tokio::spawn(async move { balance.ready().await?.call("hello".to_owned()).await });
    /// assert!(call.await??.starts_with("hello"));
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn classify_fn<F, Res, Err>(self, classify: F) -> BalanceLayer<ClassifyFn<F>, K>
    where
        F: Fn(&Result<Res, Err>) -> Outcome,
    {
        self.classify(ClassifyFn(classify))
    }

    /// Ends an attempt that has no answer after `timeout`, which is clamped to 1 ms to 1 h. Default: none.
    ///
    /// Set it, unless every caller gives up by itself. An instance that accepts requests and never answers reports no error,
    /// and no rule can see it while its callers wait. With a time limit each of them counts as a failure, and the instance is
    /// ejected as [unresponsive](crate::EjectionReason::Unresponsive). Choose a time that no healthy instance needs, since
    /// every longer answer is a failure.
    ///
    /// The time starts when the response is first polled after an instance's service got the request. It ends when the
    /// future of that service is ready: for HTTP with the head of the response. The wait for an instance does not count,
    /// and neither does a body. When the time has passed, the service's future is dropped, and the caller gets an
    /// [`Error`](crate::Error) of the kind [`Deadline`](crate::ErrorKind::Deadline), which names the instance and [was
    /// sent](crate::Error::was_sent). The classifier is not called.
    ///
    /// A response that is ready at the first poll costs nothing. Any other costs an allocation and a tokio timer.
    #[must_use]
    pub fn attempt_timeout(mut self, timeout: Duration) -> Self {
        self.attempt_timeout =
            Some(timeout.clamp(*ATTEMPT_TIMEOUT.start(), *ATTEMPT_TIMEOUT.end()));
        self
    }

    /// Checks instances by `check` instead of trying them with a caller's request. Default: no check.
    ///
    /// It gets the service of an instance, as the connector made it, and the instance. `Ok` is a success. A panic is a
    /// failure, and so is no outcome within [`connect_timeout`](crate::ConfigBuilder::connect_timeout). It runs in a task of
    /// its own, in these cases:
    ///
    /// - On each new connection, before the first request (*warm-up*). If it fails, the instance is used all the same, and
    ///   [`Event::WarmUpFailed`](crate::Event::WarmUpFailed) says so: a balancer whose checks are at fault still works.
    /// - Before each trial: of a member whose ejection is over, and of a suspect. While the check fails, no request is lost to
    ///   the instance; each failure counts as a failed trial. If it succeeds, the next request is the trial, so an instance
    ///   whose check lies costs at most one request for each return.
    ///
    /// A check ejects no member in play that is not a suspect, and never more members than the cap allows. Its latency says nothing
    /// about load. Without ejection only the warm-up is left.
    ///
    /// ```
    /// use rolecall::{BalanceLayer, BoxError, Instance, Registry, connect};
    /// use tower::{Layer, ServiceExt, service_fn, util::BoxCloneSyncService};
    ///
    /// type Line = BoxCloneSyncService<String, String, BoxError>;
    ///
    /// async fn ping(service: Line, _: Instance) -> Result<(), BoxError> {
    ///     match service.oneshot("ping".to_owned()).await?.as_str() {
    ///         "pong" => Ok(()),
    ///         other => Err(format!("expected pong, found {other}").into()),
    ///     }
    /// }
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), BoxError> {
    /// let connector = connect::per_instance(|_: &Instance| {
    ///     Line::new(service_fn(async |_| Ok::<_, BoxError>("pong".to_owned())))
    /// });
    /// let balance = BalanceLayer::new(Registry::new(), "worker:lines")?
    ///     .check(ping)
    ///     .layer(connector);
    /// # drop(balance);
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn check<S, F, Fut, E>(self, check: F) -> BalanceLayer<C, Check<S>>
    where
        S: Clone,
        F: Fn(S, Instance) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<(), E>> + Send + 'static,
        E: Into<BoxError>,
    {
        self.with_check(Check::new(check))
    }

    pub(crate) fn with_check<K2>(self, check: K2) -> BalanceLayer<C, K2> {
        BalanceLayer {
            discovery: self.discovery,
            boundary: self.boundary,
            target: self.target,
            config: self.config,
            classifier: self.classifier,
            attempt_timeout: self.attempt_timeout,
            check,
        }
    }

    /// Returns the balancer and its driver, for programs that spawn tasks by themselves.
    ///
    /// Until the driver is polled, the balancer knows no instance. Once it is dropped, it is not started again, and all calls
    /// fail at once.
    pub fn pair<M, S>(&self, connector: M) -> (Balance<S, C>, Driver)
    where
        M: Service<Instance, Response = S> + Send + 'static,
        M::Future: Send + 'static,
        M::Error: Into<BoxError>,
        S: Clone + Send + Sync + 'static,
        C: Send + Sync + 'static,
        K: Clone + Into<Option<Check<S>>>,
    {
        let (inner, driver) = self.parts(connector);
        (Balance::new(inner), driver)
    }

    fn parts<M, S>(&self, connector: M) -> (Arc<Inner<S, C>>, Driver)
    where
        M: Service<Instance, Response = S> + Send + 'static,
        M::Future: Send + 'static,
        M::Error: Into<BoxError>,
        S: Send + Sync + 'static,
        C: Send + Sync + 'static,
        K: Clone + Into<Option<Check<S>>>,
    {
        let now = clock::now();
        let fleet = Fleet::<Connected<S, C>>::new(self.config.clone(), random::seed(), now);
        let check = self.check.clone().into();
        if check.is_some() {
            fleet.use_checks(now);
        }
        let fleet = Arc::new(fleet);
        let view = View::new(Arc::clone(&self.discovery), self.boundary.clone());
        let target = view.resolved(&self.target);
        let classifier = Arc::clone(&self.classifier);
        let shared = Shared::new(target, classifier, self.attempt_timeout, &self.config);
        let (alive, ended) = oneshot::channel();
        let inner = Inner::new(fleet, Arc::new(shared), alive);
        let driver = Driver::new(&inner, view, connector, check, ended);
        (inner, driver)
    }
}

impl<M, S, C, K> Layer<M> for BalanceLayer<C, K>
where
    M: Service<Instance, Response = S> + Send + 'static,
    M::Future: Send + 'static,
    M::Error: Into<BoxError>,
    S: Clone + Send + Sync + 'static,
    C: Send + Sync + 'static,
    K: Clone + Into<Option<Check<S>>>,
{
    type Service = Balance<S, C>;

    /// Builds a balancer with a watch, dials and connections of its own.
    ///
    /// Inside a tokio runtime with timers it spawns the driver; else the first call inside one does. The driver starts again
    /// in another runtime when its own has ended.
    fn layer(&self, connector: M) -> Balance<S, C> {
        let (inner, driver) = self.parts(connector);
        inner.keep_driver(Box::pin(driver.restarting()));
        inner.start_driver();
        Balance::new(inner)
    }
}

impl<C, K: Clone> Clone for BalanceLayer<C, K> {
    fn clone(&self) -> Self {
        Self {
            discovery: Arc::clone(&self.discovery),
            boundary: self.boundary.clone(),
            target: self.target.clone(),
            config: self.config.clone(),
            classifier: Arc::clone(&self.classifier),
            attempt_timeout: self.attempt_timeout,
            check: self.check.clone(),
        }
    }
}

impl<C, K> fmt::Debug for BalanceLayer<C, K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BalanceLayer")
            .field("boundary", &self.boundary)
            .field("target", &self.target)
            .field("config", &self.config)
            .field("attempt_timeout", &self.attempt_timeout)
            .finish_non_exhaustive()
    }
}
