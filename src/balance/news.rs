use std::task::{Context, Poll};

use futures_util::{StreamExt, stream};

use crate::discovery::BoxStream;
use crate::error::discovery::DiscoveryError;
use crate::model::instance::InstanceSet;
use crate::runtime::panic::caught;

type Answer = Result<InstanceSet, DiscoveryError>;

/// Instances of one answer that are followed: a larger one is a mistake or an attack, and changes nothing.
const MOST: usize = 100_000;

/// Discovery's answers. Foreign code: a panic in it is the end of its news.
pub(crate) struct News(BoxStream<'static, Answer>);

impl News {
    /// What the stream that `watch` makes has to say.
    pub(crate) fn of(watch: impl FnOnce() -> BoxStream<'static, Answer>) -> Self {
        let answers = caught(watch).unwrap_or_else(|panic| {
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
    if set.len() > MOST {
        let problem = format!("{} instances in one answer, at most {MOST}", set.len());
        return Err(DiscoveryError::backend("taking an answer", problem));
    }
    Ok(set)
}
