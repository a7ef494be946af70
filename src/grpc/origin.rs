//! Which instance a call was with, for clients that see no HTTP.

use http::header::{HeaderMap, HeaderName, HeaderValue};
use tonic::{Code, Status};

use crate::error::Error;
use crate::http::extensions::instance_of;
use crate::model::instance::InstanceId;

/// All that tonic keeps of an answer whose status is not `Ok` is its headers.
const INSTANCE: HeaderName = HeaderName::from_static("rolecall-instance");

/// Leaves the instance's id with a status that is not `Ok`; in place of the id of another one, if the instance passes on
/// what it was answered itself.
pub(super) fn mark(headers: &mut HeaderMap, code: Code, id: &InstanceId) {
    if code == Code::Ok {
        return;
    }
    match HeaderValue::from_str(id.as_str()) {
        Ok(id) => drop(headers.insert(INSTANCE, id)),
        Err(_) => drop(headers.remove(INSTANCE)),
    }
}

/// The instance that answered, if a [`Channel`](super::Channel) or [`GrpcClassifier`](super::GrpcClassifier) was asked.
///
/// ```
/// # fn log(response: tonic::Response<()>) {
/// if let Some(id) = rolecall::grpc::answered_by(&response) {
///     println!("{id} answered");
/// }
/// # }
/// ```
#[must_use]
pub fn answered_by<T>(response: &tonic::Response<T>) -> Option<&InstanceId> {
    instance_of(response.extensions())
}

/// The instance whose status this is, or that the call was with when it failed.
///
/// `None` if no instance had the call, and for the status of another client.
#[must_use]
pub fn failed_at(status: &Status) -> Option<InstanceId> {
    if let Some(error) = Error::find(status) {
        return error.instance().cloned();
    }
    let id = status.metadata().get(INSTANCE.as_str())?;
    Some(InstanceId::from(id.to_str().ok()?))
}
