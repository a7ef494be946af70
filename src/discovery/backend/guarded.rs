//! A foreign stream of answers, made safe to poll.

use std::future::pending;
use std::panic::AssertUnwindSafe;

use futures_util::{StreamExt, stream};

use crate::discovery::BoxStream;
use crate::error::discovery::{DiscoveryError, DiscoveryErrorKind};
use crate::model::instance::InstanceSet;
use crate::runtime::panic::{Panicked, caught};

type Answer = Result<InstanceSet, DiscoveryError>;

/// The next answer; waits for ever where there is no stream.
pub(in crate::discovery) async fn next_of(
    answers: &mut Option<BoxStream<'static, Answer>>,
) -> Option<Answer> {
    match answers {
        Some(answers) => answers.next().await,
        None => pending().await,
    }
}

/// Whether an error says that a source has no such list, and never will have.
pub(in crate::discovery) fn is_unsupported(error: &DiscoveryError) -> bool {
    error.kind() == DiscoveryErrorKind::Unsupported
}

/// Opens a stream. A panic of `open` or of the stream is its last answer, an error.
pub(in crate::discovery) fn guarded(
    open: impl FnOnce() -> BoxStream<'static, Answer>,
) -> BoxStream<'static, Answer> {
    match caught(open) {
        Ok(answers) => Box::pin(AssertUnwindSafe(answers).catch_unwind().map(|polled| {
            polled.unwrap_or_else(|panic| {
                let panic = Panicked::new(panic);
                Err(DiscoveryError::backend("watching", panic))
            })
        })),
        Err(panic) => Box::pin(stream::iter([Err(DiscoveryError::backend(
            "watching", panic,
        ))])),
    }
}
