//! Connectors for services that need no dial, and what opens connections for those that do.
//!
//! A connector is any `Service<Instance>`, usually a plain
//! [`service_fn`](https://docs.rs/tower/latest/tower/fn.service_fn.html). [`per_instance`] and [`retarget`] are for
//! clients that dial by themselves, or do not dial. For all others `dial` (feature `net`) opens a connection.

use std::convert::Infallible;
use std::fmt;
use std::future::{Ready, ready};
use std::task::{Context, Poll};

use tower_service::Service;

#[cfg(feature = "net")]
pub use super::socket::{Socket, SocketError, dial};
use crate::model::instance::Instance;

/// Makes the service of each instance with a function, without a dial.
///
/// ```
/// use rolecall::{Instance, connect};
/// use tower::service_fn;
///
/// let connector = connect::per_instance(|instance: &Instance| {
///     let address = instance.address().clone();
///     service_fn(move |request: String| async move {
///         Ok::<_, std::convert::Infallible>(format!("{request} to {address}"))
///     })
/// });
/// # fn is_connector<M: tower::Service<Instance>>(_: M) {}
/// # is_connector(connector);
/// ```
pub fn per_instance<F, S>(make: F) -> PerInstance<F>
where
    F: FnMut(&Instance) -> S,
{
    PerInstance(make)
}

/// Rewrites each request of one shared client for the picked instance. Made for clients with a pool of their own, such as
/// reqwest or a pooled hyper client.
///
/// Such a client hides lost connections and reports them from `call`. If its error says that nothing was sent, the
/// classifier should end the attempt as [`unsent`](crate::Attempt::unsent).
///
/// ```
/// use rolecall::{Instance, connect};
/// use tower::service_fn;
///
/// let client = service_fn(|request: String| async move { Ok::<_, std::io::Error>(request) });
/// let connector = connect::retarget(client, |instance: &Instance, path: &str| {
///     format!("http://{}{path}", instance.address())
/// });
/// # fn is_connector<M: tower::Service<Instance>>(_: M) {}
/// # is_connector(connector);
/// ```
pub fn retarget<S, F, Req, Out>(client: S, point: F) -> Retarget<S, F>
where
    F: Fn(&Instance, Req) -> Out + Clone,
    S: Service<Out> + Clone,
{
    Retarget { client, point }
}

/// The connector of [`per_instance`].
#[derive(Clone, Copy)]
pub struct PerInstance<F>(F);

/// The connector of [`retarget`].
#[derive(Clone, Copy)]
pub struct Retarget<S, F> {
    client: S,
    point: F,
}

/// One instance's view of a shared client, made by [`retarget`].
#[derive(Clone)]
pub struct Retargeted<S, F> {
    client: S,
    point: F,
    instance: Instance,
}

impl<F, S> Service<Instance> for PerInstance<F>
where
    F: FnMut(&Instance) -> S,
{
    type Response = S;
    type Error = Infallible;
    type Future = Ready<Result<S, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, instance: Instance) -> Self::Future {
        ready(Ok((self.0)(&instance)))
    }
}

impl<S: Clone, F: Clone> Service<Instance> for Retarget<S, F> {
    type Response = Retargeted<S, F>;
    type Error = Infallible;
    type Future = Ready<Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, instance: Instance) -> Self::Future {
        ready(Ok(Retargeted {
            client: self.client.clone(),
            point: self.point.clone(),
            instance,
        }))
    }
}

impl<S, F, Req, Out> Service<Req> for Retargeted<S, F>
where
    F: Fn(&Instance, Req) -> Out,
    S: Service<Out>,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.client.poll_ready(cx)
    }

    fn call(&mut self, request: Req) -> S::Future {
        self.client.call((self.point)(&self.instance, request))
    }
}

impl<F> fmt::Debug for PerInstance<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PerInstance").finish_non_exhaustive()
    }
}

impl<S: fmt::Debug, F> fmt::Debug for Retarget<S, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Retarget")
            .field("client", &self.client)
            .finish_non_exhaustive()
    }
}

impl<S: fmt::Debug, F> fmt::Debug for Retargeted<S, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Retargeted")
            .field("client", &self.client)
            .field("instance", &self.instance)
            .finish_non_exhaustive()
    }
}
