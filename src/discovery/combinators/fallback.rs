use std::pin::pin;

use futures_util::future::{Either, select};
use futures_util::stream;

use crate::discovery::backend::{guarded, is_unsupported, next_of};
use crate::discovery::{BoxStream, Discovery};
use crate::error::discovery::DiscoveryError;
use crate::model::instance::InstanceSet;
use crate::model::name::Boundary;
use crate::model::target::Target;

type Answer = Result<InstanceSet, DiscoveryError>;

/// The discovery that [`DiscoveryExt::or`](crate::DiscoveryExt::or) makes.
#[derive(Clone, Debug)]
pub struct Or<A, B> {
    first: A,
    other: B,
}

impl<A: Discovery, B: Discovery> Or<A, B> {
    pub(super) fn new(first: A, other: B) -> Self {
        Self { first, other }
    }
}

impl<A: Discovery, B: Discovery> Discovery for Or<A, B> {
    fn watch(&self, target: &Target) -> BoxStream<'static, Answer> {
        let first = guarded(|| self.first.watch(target));
        Sources::new(first, guarded(|| self.other.watch(target))).into_stream()
    }

    fn peers(&self, boundary: &Boundary) -> BoxStream<'static, Answer> {
        let first = guarded(|| self.first.peers(boundary));
        Sources::new(first, guarded(|| self.other.peers(boundary))).into_stream()
    }

    fn refresh(&self, target: &Target) {
        self.first.refresh(target);
        self.other.refresh(target);
    }
}

/// Both are `None` once they are not used any more.
struct Sources {
    first: Option<BoxStream<'static, Answer>>,
    other: Option<BoxStream<'static, Answer>>,
    /// What each said that has no such list: told only if neither has one.
    lacks: [Option<DiscoveryError>; 2],
}

impl Sources {
    fn new(first: BoxStream<'static, Answer>, other: BoxStream<'static, Answer>) -> Self {
        let (first, other) = (Some(first), Some(other));
        let lacks = [None, None];
        Self {
            first,
            other,
            lacks,
        }
    }

    fn into_stream(self) -> BoxStream<'static, Answer> {
        Box::pin(stream::unfold(self, |mut sources| async move {
            let answer = sources.next().await?;
            Some((answer, sources))
        }))
    }

    async fn next(&mut self) -> Option<Answer> {
        while self.first.is_some() || self.other.is_some() {
            let answer = {
                let first = pin!(next_of(&mut self.first));
                let other = pin!(next_of(&mut self.other));
                // Of two answers that are ready, the first discovery's comes first.
                match select(first, other).await {
                    Either::Left((answer, _)) => Either::Left(answer),
                    Either::Right((answer, _)) => Either::Right(answer),
                }
            };
            match answer {
                Either::Left(Some(Err(error))) if is_unsupported(&error) => {
                    self.lacks[0] = Some(error);
                    self.first = None;
                }
                Either::Right(Some(Err(error))) if is_unsupported(&error) => {
                    self.lacks[1] = Some(error);
                    self.other = None;
                }
                Either::Left(Some(answer)) => {
                    if answer.is_ok() {
                        self.other = None;
                    }
                    return Some(answer);
                }
                Either::Left(None) => self.first = None,
                // In place of one that has no such list it stands in for nobody.
                Either::Right(Some(answer)) if self.lacks[0].is_some() => return Some(answer),
                Either::Right(Some(answer)) => {
                    return Some(answer.map(|set| {
                        let age = set.provisional_age().unwrap_or_default();
                        set.provisional(age)
                    }));
                }
                Either::Right(None) => self.other = None,
            }
        }
        match &mut self.lacks {
            [first, Some(_)] => first.take().map(Err),
            _ => None,
        }
    }
}
