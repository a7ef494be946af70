//! A stream of discovery's sets, made safe to poll.

use std::task::{Context, Poll};

use futures_util::{StreamExt, stream};

use crate::discovery::BoxStream;
use crate::error::discovery::DiscoveryError;
use crate::model::instance::InstanceSet;
use crate::runtime::panic::caught;

type Answer = Result<InstanceSet, DiscoveryError>;

/// The most instances that one set may have. A larger set is a mistake or an attack, and changes nothing.
const MAX_INSTANCES: usize = 100_000;

/// A watch of discovery. A panic in its stream becomes an error, and ends it.
pub(crate) struct Watch(BoxStream<'static, Answer>);

impl Watch {
    /// Opens the stream. A panic of `open` is the stream's only answer.
    pub(crate) fn open(open: impl FnOnce() -> BoxStream<'static, Answer>) -> Self {
        let answers = caught(open).unwrap_or_else(|panic| {
            let error = DiscoveryError::backend("watching", panic);
            Box::pin(stream::iter([Err(error)]))
        });
        Self(answers)
    }

    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Answer>> {
        let polled = caught(|| self.0.poll_next_unpin(cx)).unwrap_or_else(|panic| {
            self.0 = Box::pin(stream::empty());
            Poll::Ready(Some(Err(DiscoveryError::backend("watching", panic))))
        });
        polled.map(|answer| answer.map(bounded))
    }
}

fn bounded(answer: Answer) -> Answer {
    let set = answer?;
    if set.len() > MAX_INSTANCES {
        let problem = format!(
            "{} instances in one answer, at most {MAX_INSTANCES}",
            set.len()
        );
        return Err(DiscoveryError::backend("taking an answer", problem));
    }
    Ok(set)
}
