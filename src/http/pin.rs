//! Which instance a request must go to.

use std::sync::Arc;

use http::{HeaderMap, Request};

use super::tried::Tried;
use crate::model::hints::Hints;
use crate::model::instance::InstanceId;

/// Pins a request to one instance: an extension of [`http::Request`], or of `tonic::Request`.
///
/// [`HttpClassifier`](super::HttpClassifier) and that of `grpc` [pin](crate::Hints::pin) the request to it. A request that is
/// sent again stays pinned. [`answered_by`](super::answered_by) says which instance to keep.
///
/// ```
/// use rolecall::http::{PinTo, answered_by};
/// # fn follow(first: http::Response<()>, mut request: http::Request<()>) -> http::Request<()> {
/// if let Some(id) = answered_by(&first) {
///     request.extensions_mut().insert(PinTo(id.clone()));
/// }
/// # request
/// # }
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PinTo(pub InstanceId);

/// The instances that a request had better not go to, and the one that it must go to.
pub(crate) type Wishes = (Tried, Option<InstanceId>);

/// Finds the instance in the headers of a request.
pub(crate) type Pins = Arc<dyn Fn(&HeaderMap) -> Option<InstanceId> + Send + Sync>;

/// The instance that a request must go to: as marked, else as `pins` finds in its headers.
pub(crate) fn of<B>(request: &Request<B>, pins: Option<&Pins>) -> Option<InstanceId> {
    let marked = request.extensions().get().map(|PinTo(id)| id.clone());
    marked.or_else(|| pins.and_then(|pins| pins(request.headers())))
}

/// What a request asks of a pick.
pub(crate) fn hints<'c>(tried: &'c Tried, pin: &'c Option<InstanceId>) -> Hints<'c> {
    tried.hints().pinned_to(pin.as_ref())
}
