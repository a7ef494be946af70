//! Checks of an instance by something else than a caller's request.

use std::fmt;
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use tokio::time::timeout;

use crate::error::BoxError;
use crate::model::instance::Instance;
use crate::runtime::panic::{Panicked, caught};

/// What a [`BalanceLayer`](crate::BalanceLayer) without a check has in its place.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoCheck;

/// A check of an instance through its service, see [`BalanceLayer::check`](crate::BalanceLayer::check).
///
/// A clone costs one reference count.
pub struct Check<S>(Arc<Begin<S>>);

type Begin<S> = dyn Fn(&S, Instance) -> BoxFuture<'static, Result<(), BoxError>> + Send + Sync;

impl<S> Check<S> {
    pub(crate) fn new<F, Fut, E>(check: F) -> Self
    where
        S: Clone,
        F: Fn(S, Instance) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<(), E>> + Send + 'static,
        E: Into<BoxError>,
    {
        Self(Arc::new(move |service: &S, instance| {
            let checking = check(service.clone(), instance);
            Box::pin(async move { checking.await.map_err(Into::into) })
        }))
    }

    /// Runs the check. A panic fails it, and so does the end of `patience`.
    pub(super) fn run(
        &self,
        service: &S,
        instance: Instance,
        patience: Duration,
    ) -> BoxFuture<'static, Result<(), BoxError>> {
        let begun = caught(|| (self.0)(service, instance));
        // All foreign values are used and dropped inside, where a panic is caught.
        let outcome = AssertUnwindSafe(async move {
            match timeout(patience, begun?).await {
                Ok(result) => result,
                Err(_) => Err(format!("no outcome within {patience:?}").into()),
            }
        });
        Box::pin(async move {
            let outcome = outcome.catch_unwind().await;
            outcome.unwrap_or_else(|panic| Err(Panicked::new(panic).into()))
        })
    }
}

impl<S> From<NoCheck> for Option<Check<S>> {
    fn from(NoCheck: NoCheck) -> Self {
        None
    }
}

impl<S> Clone for Check<S> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<S> fmt::Debug for Check<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Check").finish_non_exhaustive()
    }
}
