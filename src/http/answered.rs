//! Which instance answered: told to the caller with the response, and to the caller's span.

use http::{Extensions, Response};
use tracing::Span;

use crate::balance::Attempt;
use crate::model::instance::InstanceId;

/// Fills the field `rolecall.instance` of the current span, where that has one.
pub(crate) fn record(attempt: &Attempt) {
    Span::current().record("rolecall.instance", attempt.instance().id().as_str());
}

/// Leaves a note in a response.
pub(crate) fn note(extensions: &mut Extensions, attempt: &Attempt) {
    extensions.insert(AnsweredBy(attempt.instance().id().clone()));
}

#[derive(Debug, Clone)]
struct AnsweredBy(InstanceId);

/// The instance that gave a response, if [`ClassifyStatus`](super::ClassifyStatus) classified it.
#[must_use]
pub fn answered_by<B>(response: &Response<B>) -> Option<&InstanceId> {
    noted(response.extensions())
}

pub(crate) fn noted(extensions: &Extensions) -> Option<&InstanceId> {
    extensions.get().map(|AnsweredBy(id)| id)
}
