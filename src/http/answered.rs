//! Which instance answered, as an extension of the response.

use std::time::Duration;

use http::{Extensions, Response};

use super::tried::Tried;
use crate::balance::Attempt;
use crate::model::instance::InstanceId;

/// Leaves a note in a response.
pub(crate) fn note(extensions: &mut Extensions, attempt: &Attempt, tried: &Tried) {
    extensions.insert(Answered {
        instance: attempt.instance().id().clone(),
        attempts: tried.attempts() + 1,
        waited: attempt.waited(),
    });
}

/// Which instance gave a response, and what it took: an extension of the responses that
/// [`HttpClassifier`](super::HttpClassifier) or that of `grpc` classified.
///
/// ```
/// # fn log(response: http::Response<()>) {
/// if let Some(answered) = response.extensions().get::<rolecall::http::Answered>() {
///     println!("{} after {} attempts", answered.instance, answered.attempts);
/// }
/// # }
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Answered {
    /// The instance that gave the response.
    pub instance: InstanceId,
    /// How often the request was given to an instance, this time included: 1 unless it was sent again.
    pub attempts: usize,
    /// How long the last attempt waited for an instance that is usable and ready. Zero if one was there at once.
    pub waited: Duration,
}

/// The instance that gave a response, if [`HttpClassifier`](super::HttpClassifier) classified it.
#[must_use]
pub fn answered_by<B>(response: &Response<B>) -> Option<&InstanceId> {
    noted(response.extensions())
}

pub(crate) fn noted(extensions: &Extensions) -> Option<&InstanceId> {
    extensions
        .get()
        .map(|answered: &Answered| &answered.instance)
}
