//! The handle by which a program observes and steers a balancer.

use std::fmt;
use std::pin::pin;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use futures_core::Stream;
use futures_util::future::{Either, select};
use futures_util::stream;
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::{Notify, broadcast};

use crate::error::{Error, ErrorKind, NoDriver};
use crate::event::Event;
use crate::explain::Explanation;
use crate::fleet::BalanceConfig;
use crate::model::instance::InstanceId;
use crate::model::target::Target;
use crate::runtime::{clock, timer};
use crate::status::Status;

/// A longer wait is cut to this one, since tokio's timer cannot hold a later instant.
const MAX_WAIT: Duration = Duration::from_secs(30 * 365 * 24 * 3600);

/// Observes and steers a balancer while it runs: status, events, ejection by hand, configuration.
///
/// [`Balance::control`](crate::Balance::control) and `grpc::Channel::control` return it. It has no type parameters, so one
/// list can hold the handles of all balancers of a program. A clone costs two reference counts.
///
/// # Lifetime
///
/// A `Control` does not keep its balancer alive. Once the last clone of the balancer is gone and its last waiting call has
/// ended, the driver stops and all connections close. From then on [`status`](Self::status) has no members,
/// [`events`](Self::events) ends, [`wait_usable`](Self::wait_usable) fails at once, [`eject`](Self::eject) and
/// [`restore`](Self::restore) return `false`, and [`reconfigure`](Self::reconfigure) has no effect.
///
/// # Examples
///
/// ```
/// use rolecall::{BalanceLayer, Instance, List, connect};
/// use std::time::Duration;
/// use tower::{Layer, service_fn};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let list = List::from_addrs(["127.0.0.1:8001".parse()?])?;
/// let connector = connect::per_instance(|_: &Instance| {
///     service_fn(|request: u32| async move { Ok::<_, std::io::Error>(request) })
/// });
/// let balance = BalanceLayer::new(list, "worker:http")?.layer(connector);
///
/// let control = balance.control().clone();
/// control.wait_usable(Duration::from_secs(1)).await?;
/// assert_eq!(control.status().usable, 1);
///
/// drop(balance);
/// assert!(control.status().members.is_empty());
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Control {
    target: Arc<Target>,
    balancer: Weak<dyn Controlled>,
}

/// What a [`Control`] needs of a balancer, whatever the types of its services.
pub(super) trait Controlled: Send + Sync {
    fn status(&self) -> Status;

    fn subscribe(&self) -> broadcast::Receiver<(Instant, Event)>;

    fn is_usable(&self) -> bool;

    /// Wakes up whenever a member may have become usable.
    fn look_again(&self) -> &Notify;

    /// Returns whether a driver runs, or is about to.
    fn start_driver(&self) -> bool;

    /// Why no member is usable.
    fn check_usable(&self) -> Result<(), Error>;

    fn eject(&self, id: &InstanceId, time: Duration) -> bool;

    fn restore(&self, id: &InstanceId) -> bool;

    fn config(&self) -> BalanceConfig;

    fn reconfigure(&self, config: BalanceConfig);

    /// How many calls wait.
    #[cfg(feature = "metrics")]
    fn waiting(&self) -> u32;

    /// Samples requests from now on. Returns whether none was sampled before.
    #[cfg(feature = "metrics")]
    fn sample(&self, samples: super::samples::Samples) -> bool;
}

impl Control {
    pub(super) fn new(target: Target, balancer: Weak<dyn Controlled>) -> Self {
        let target = Arc::new(target);
        Self { target, balancer }
    }

    /// The balanced target, with its boundary.
    pub fn target(&self) -> &Target {
        &self.target
    }

    /// A copy of the balancer's state.
    ///
    /// It takes the lock that membership changes take, for a time proportional to the number of members.
    pub fn status(&self) -> Status {
        match self.balancer.upgrade() {
            Some(balancer) => balancer.status(),
            None => Status::ended(Target::clone(&self.target)),
        }
    }

    /// Says in words why each member gets the share of requests that it gets, and what affects all of them.
    ///
    /// Costs as much as [`status`](Self::status), and nothing while nobody asks.
    pub fn explain(&self) -> Explanation {
        self.status().explain()
    }

    /// A stream of all events from now on.
    ///
    /// A reader that falls more than 1024 events behind gets the number of events it [missed](Event::Missed). The stream
    /// ends with the balancer and its last call. The first call allocates 112 KiB, which stay until the balancer ends.
    pub fn events(&self) -> impl Stream<Item = Event> + Send + Unpin + use<> {
        Box::pin(stream::unfold(
            self.subscribe(),
            async |mut events| match events.recv().await {
                Ok((_, event)) => Some((event, events)),
                Err(RecvError::Lagged(count)) => Some((Event::Missed { count }, events)),
                Err(RecvError::Closed) => None,
            },
        ))
    }

    /// The same with the time of each event, and without waiting for the next one.
    pub(crate) fn subscribe(&self) -> broadcast::Receiver<(Instant, Event)> {
        match self.balancer.upgrade() {
            Some(balancer) => balancer.subscribe(),
            None => broadcast::channel(1).1,
        }
    }

    /// Waits at most `timeout` until a member is usable. The balancer stays alive meanwhile.
    ///
    /// # Errors
    ///
    /// The reason why no member is usable, when `timeout` has passed. Fails at once outside a tokio runtime with timers, if
    /// the driver of a [`pair`](crate::BalanceLayer::pair) was dropped, and if the balancer has ended.
    ///
    /// # Cancellation
    ///
    /// Safe: dropping the future has no effect.
    pub async fn wait_usable(&self, timeout: Duration) -> Result<(), Error> {
        let Some(balancer) = self.balancer.upgrade() else {
            let target = Target::clone(&self.target);
            let source = Some(NoDriver::Ended.into());
            return Err(Error::refused(target, ErrorKind::Unresolved, source));
        };
        let until = clock::now().checked_add(timeout.min(MAX_WAIT));
        let mut over = until.and_then(timer::sleep_until);
        loop {
            let mut changed = pin!(balancer.look_again().notified());
            changed.as_mut().enable();
            if balancer.is_usable() {
                return Ok(());
            }
            let Some(over) = over.as_mut().filter(|_| balancer.start_driver()) else {
                break;
            };
            if let Either::Right(_) = select(changed, over).await {
                break;
            }
        }
        balancer.check_usable()
    }

    /// Ejects an instance for `time`, whatever the rules and their cap say. Returns whether the instance is known.
    ///
    /// The ejection counts towards the cap of the rules. An instance that is already ejected stays so for `time` from
    /// now on. If no other member is in play, it is picked anyway. When `time` is over, a trial decides whether
    /// the instance returns. The trial comes at once if the instance leaves and comes back, or changes its address.
    /// While no driver runs, the ejection is kept, and its end waits for the next driver.
    pub fn eject(&self, id: &InstanceId, time: Duration) -> bool {
        let balancer = self.balancer.upgrade();
        balancer.is_some_and(|balancer| balancer.eject(id, time))
    }

    /// Ends an ejection without a trial. Returns whether the instance was ejected or on probation.
    ///
    /// The instance returns by slow start.
    pub fn restore(&self, id: &InstanceId) -> bool {
        let balancer = self.balancer.upgrade();
        balancer.is_some_and(|balancer| balancer.restore(id))
    }

    /// The configuration in force; `None` once the balancer has ended.
    ///
    /// [`to_builder`](BalanceConfig::to_builder) makes another one of it, for [`reconfigure`](Self::reconfigure).
    pub fn config(&self) -> Option<BalanceConfig> {
        Some(self.balancer.upgrade()?.config())
    }

    /// Replaces the configuration for all clones of the balancer, and for calls that already wait.
    pub fn reconfigure(&self, config: BalanceConfig) {
        if let Some(balancer) = self.balancer.upgrade() {
            balancer.reconfigure(config);
        }
    }
}

#[cfg(feature = "metrics")]
impl Control {
    /// How many calls wait; `None` once the balancer has ended.
    pub(crate) fn waiting(&self) -> Option<u32> {
        Some(self.balancer.upgrade()?.waiting())
    }

    /// Samples requests from now on. Returns whether none was sampled before.
    pub(crate) fn sample(&self, samples: super::samples::Samples) -> bool {
        let balancer = self.balancer.upgrade();
        balancer.is_some_and(|balancer| balancer.sample(samples))
    }
}

impl fmt::Debug for Control {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Control")
            .field("target", &self.target)
            .finish_non_exhaustive()
    }
}
