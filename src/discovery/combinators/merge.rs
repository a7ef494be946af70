use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::{FutureExt, StreamExt, stream};

use crate::discovery::backend::{guarded, is_unsupported};
use crate::discovery::{BoxStream, Discovery};
use crate::error::discovery::{DiscoveryError, DiscoveryErrorKind};
use crate::model::instance::InstanceSet;
use crate::model::name::Boundary;
use crate::model::target::Target;
use crate::runtime::clock;
use crate::runtime::timer::{self, Timer};

type Answer = Result<InstanceSet, DiscoveryError>;

/// The discovery that [`DiscoveryExt::merge`](crate::DiscoveryExt::merge) makes.
#[derive(Clone, Debug)]
pub struct Merge<A, B> {
    left: A,
    right: B,
}

/// The first set waits that long for a side that says nothing.
const PATIENCE: Duration = Duration::from_secs(1);

/// Sets taken of one side in one go: a side that is always ready must not starve the other.
const SETS_AT_ONCE: usize = 64;

impl<A: Discovery, B: Discovery> Merge<A, B> {
    pub(super) fn new(left: A, right: B) -> Self {
        Self { left, right }
    }
}

impl<A: Discovery, B: Discovery> Discovery for Merge<A, B> {
    fn watch(&self, target: &Target) -> BoxStream<'static, Answer> {
        let left = guarded(|| self.left.watch(target));
        merged(left, guarded(|| self.right.watch(target)))
    }

    fn peers(&self, boundary: &Boundary) -> BoxStream<'static, Answer> {
        let left = guarded(|| self.left.peers(boundary));
        merged(left, guarded(|| self.right.peers(boundary)))
    }

    fn refresh(&self, target: &Target) {
        self.left.refresh(target);
        self.right.refresh(target);
    }
}

fn merged(
    left: BoxStream<'static, Answer>,
    right: BoxStream<'static, Answer>,
) -> BoxStream<'static, Answer> {
    let mut merged = Merged {
        left: Side::new(left),
        right: Side::new(right),
        wait: Wait::NotBegun,
        is_news: false,
    };
    Box::pin(stream::poll_fn(move |cx| merged.poll(cx)))
}

struct Merged {
    left: Side,
    right: Side,
    wait: Wait,
    /// Whether a side gave a set since the last merged one.
    is_news: bool,
}

/// The wait for a side that has said nothing.
enum Wait {
    NotBegun,
    /// Without a timer where the runtime has none.
    Until(Option<Pin<Box<Timer>>>),
    Over,
}

struct Side {
    /// `None` after its end.
    answers: Option<BoxStream<'static, Answer>>,
    set: Option<InstanceSet>,
    /// An error to be reported.
    error: Option<DiscoveryError>,
    /// That the role or the endpoint is unknown: reported only if the other side has no set either.
    unknown: Option<DiscoveryError>,
    /// That it has no such list: reported only if the other side has none either.
    lacks: Option<DiscoveryError>,
    has_answered: bool,
}

impl Merged {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Answer>> {
        self.is_news |= self.left.poll(cx);
        self.is_news |= self.right.poll(cx);
        self.poll_wait(cx);
        let is_waiting = !matches!(self.wait, Wait::Over);
        if !is_waiting && self.is_news {
            self.is_news = false;
            if let Some(set) = self.set() {
                return Poll::Ready(Some(Ok(set)));
            }
        }
        if let Some(error) = self.left.error.take().or_else(|| self.right.error.take()) {
            // There may be more behind it.
            return Poll::Ready(Some(Err(error)));
        }
        if is_waiting {
            return Poll::Pending;
        }
        let unknown = self.left.unknown.take();
        if let Some(error) = unknown.or_else(|| self.right.unknown.take())
            && self.set().is_none()
        {
            // One report for both.
            self.right.unknown = None;
            return Poll::Ready(Some(Err(error)));
        }
        if self.left.answers.is_none() && self.right.answers.is_none() {
            // One report for both.
            let lacks = self.right.lacks.take().and(self.left.lacks.take());
            return Poll::Ready(lacks.map(Err));
        }
        Poll::Pending
    }

    fn poll_wait(&mut self, cx: &mut Context<'_>) {
        if matches!(self.wait, Wait::NotBegun) {
            self.wait = Wait::Until(timer::sleep_until(clock::now() + PATIENCE));
        }
        if let Wait::Until(timer) = &mut self.wait {
            let is_over = timer.as_mut().is_some_and(|t| t.poll_unpin(cx).is_ready());
            if is_over || self.left.has_answered && self.right.has_answered {
                self.wait = Wait::Over;
            }
        }
    }

    fn set(&self) -> Option<InstanceSet> {
        match (&self.left.set, &self.right.set) {
            (Some(left), Some(right)) => Some(left.merged(right)),
            (Some(one), None) if self.right.lacks.is_some() => Some(one.clone()),
            (None, Some(one)) if self.left.lacks.is_some() => Some(one.clone()),
            (Some(one), None) | (None, Some(one)) => Some(one.merged(&InstanceSet::empty())),
            (None, None) => None,
        }
    }
}

impl Side {
    fn new(answers: BoxStream<'static, Answer>) -> Self {
        Self {
            answers: Some(answers),
            set: None,
            error: None,
            unknown: None,
            lacks: None,
            has_answered: false,
        }
    }

    /// Takes its sets up to an error, which is reported after them; whether there was one.
    fn poll(&mut self, cx: &mut Context<'_>) -> bool {
        let mut is_news = false;
        for _ in 0..SETS_AT_ONCE {
            // It is told before anything newer is taken.
            if self.error.is_some() {
                return is_news;
            }
            let Some(answers) = &mut self.answers else {
                return is_news;
            };
            let Poll::Ready(answer) = answers.poll_next_unpin(cx) else {
                return is_news;
            };
            self.has_answered = true;
            match answer {
                Some(Ok(set)) => {
                    self.set = Some(set);
                    self.unknown = None;
                    is_news = true;
                }
                Some(Err(error)) if is_unknown(&error) => self.unknown = Some(error),
                Some(Err(error)) if is_unsupported(&error) => {
                    self.lacks = Some(error);
                    self.answers = None;
                }
                Some(Err(error)) => self.error = Some(error),
                None => self.answers = None,
            }
        }
        cx.waker().wake_by_ref();
        is_news
    }
}

fn is_unknown(error: &DiscoveryError) -> bool {
    matches!(
        error.kind(),
        DiscoveryErrorKind::UnknownRole | DiscoveryErrorKind::UnknownEndpoint
    )
}
