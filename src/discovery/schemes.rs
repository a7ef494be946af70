use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use super::Backend;
use crate::error::BoxError;

type Make = dyn Fn(&str) -> Result<Arc<dyn Backend>, BoxError> + Send + Sync;

/// The schemes of discovery URIs that a program knows: those of this crate, and its own.
///
/// Taken by [`from_uri_with`](super::from_uri_with) and by `Worker::from_env_with` (feature `worker`). Cheap to clone.
///
/// # Examples
///
/// ```
/// use std::sync::Arc;
/// use rolecall::Registry;
/// use rolecall::discovery::{Schemes, UriError, from_uri_with};
///
/// // A backend of your own would be made of the rest of the URI.
/// let schemes = Schemes::default().with("consul", |uri| match uri.strip_prefix("consul://") {
///     Some(host) if !host.is_empty() => Ok(Registry::new()),
///     _ => Err("expected consul://HOST:PORT"),
/// });
/// let backend = from_uri_with("consul://127.0.0.1:8500", &schemes)?;
/// # Ok::<(), UriError>(())
/// ```
#[derive(Clone, Default)]
pub struct Schemes {
    others: BTreeMap<String, Arc<Make>>,
}

impl Schemes {
    /// Adds a scheme: `make` turns a whole URI that begins with it and a colon into a backend. It replaces a scheme of this
    /// crate that has the same name. Names are compared as they are written.
    ///
    /// An error of `make` is the source of the [`UriError`](super::UriError), which names scheme and URI.
    #[must_use]
    pub fn with<B, E>(
        mut self,
        scheme: impl Into<String>,
        make: impl Fn(&str) -> Result<B, E> + Send + Sync + 'static,
    ) -> Self
    where
        B: Backend,
        E: Into<BoxError>,
    {
        let make = move |uri: &str| match make(uri) {
            Ok(backend) => Ok(Arc::new(backend) as Arc<dyn Backend>),
            Err(error) => Err(error.into()),
        };
        self.others.insert(scheme.into(), Arc::new(make));
        self
    }

    /// The names that were added.
    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.others.keys().map(String::as_str)
    }

    /// The backend of a URI whose scheme was added.
    pub(super) fn make(
        &self,
        scheme: &str,
        uri: &str,
    ) -> Option<Result<Arc<dyn Backend>, BoxError>> {
        self.others.get(scheme).map(|make| make(uri))
    }
}

impl fmt::Debug for Schemes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = self.names().collect::<Vec<_>>();
        f.debug_struct("Schemes").field("others", &names).finish()
    }
}
