//! Errors as texts in the JSON of events.

use std::sync::Arc;

use serde::Serializer;

use super::dial::DialError;
use crate::error::discovery::DiscoveryError;
use crate::model::instance::InstanceError;

pub(super) fn dial<S: Serializer>(
    error: &Arc<DialError>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    serializer.collect_str(error)
}

pub(super) fn instance<S: Serializer>(
    error: &InstanceError,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    serializer.collect_str(error)
}

pub(super) fn discovery<S: Serializer>(
    error: &DiscoveryError,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&error.with_causes())
}
