use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use http::{Request, Response};
use tower::retry::Policy;
use tower::retry::budget::{Budget, TpsBudget};

use super::body::TryClone;
use super::ending::{self, Ending, Resent};
use super::mark::{self, Deadline};
use super::wait::{Backoff, Wait};
use crate::http::Tried;
use crate::http::resend::{self, ours};
use crate::runtime::clock;

/// A policy for [`tower::retry`] that retries on another instance while one is usable, if that is safe.
///
/// The [module](super) lists what is retried. Clones share the budget.
///
/// # Defaults
///
/// - [`attempts`](Self::attempts): 3
/// - [`idempotent_methods`](Self::idempotent_methods): off, only what is marked by [`Idempotent`](super::Idempotent)
/// - [`budget`](Self::budget): tower's [`TpsBudget::default`]: 20 % of the requests answered in the last 5 to 10 s, plus 10 to
///   20 a second. tower documents 10 s and 10 a second, but under steady use it skips slots
/// - [`backoff`](Self::backoff): 25 ms, doubled each time up to 250 ms, plus a random part of the same size
#[derive(Clone)]
pub struct Retry {
    attempts: u32,
    by_method: bool,
    budget: Arc<dyn Budget + Send + Sync>,
    backoff: Backoff,
    session: Session,
}

/// One request's attempts: tower clones the policy for each request.
#[derive(Debug, Clone, Default)]
struct Session {
    is_begun: bool,
    /// How often the request was sent, not counting the free resend.
    attempts: u32,
    /// Whether an instance may have seen the request.
    was_sent: bool,
    /// Whether the one free resend was used, here or by a `Resend` below.
    was_resent: bool,
    deadline: Option<Instant>,
}

impl Retry {
    /// A policy with the defaults above and a budget of its own.
    #[must_use]
    pub fn new() -> Self {
        Self {
            attempts: 3,
            by_method: false,
            budget: Arc::new(TpsBudget::default()),
            backoff: Backoff::new(Duration::from_millis(25), Duration::from_millis(250)),
            session: Session::default(),
        }
    }

    /// Sets how often a request is sent at most. The first attempt counts, the one free resend does not. Zero counts as one.
    #[must_use]
    pub fn attempts(mut self, attempts: u32) -> Self {
        self.attempts = attempts;
        self
    }

    /// Treats `GET`, `HEAD`, `OPTIONS`, `TRACE`, `PUT` and `DELETE` as idempotent, unless a request is marked otherwise.
    #[must_use]
    pub fn idempotent_methods(mut self) -> Self {
        self.by_method = true;
        self
    }

    /// Sets the budget, which limits the load that retries add. Only the free resend is exempt.
    #[must_use]
    pub fn budget(mut self, budget: impl Budget + Send + Sync + 'static) -> Self {
        self.budget = Arc::new(budget);
        self
    }

    /// Sets the pause before a retry: `min` plus a random part of the same size, doubled each time up to `max`. The free resend
    /// does not wait.
    ///
    /// All durations are accepted: `max` is raised to 1 ms, and `min` lowered to `max`.
    #[must_use]
    pub fn backoff(mut self, min: Duration, max: Duration) -> Self {
        self.backoff = Backoff::new(min, max);
        self
    }

    /// When the next attempt begins, if there is to be one.
    fn next<B, R, E>(
        &mut self,
        ending: Ending,
        request: &Request<B>,
        result: &Result<Response<R>, E>,
        now: Instant,
    ) -> Option<Wait> {
        let is_free = ending == Ending::Unsent { free: true } && !self.session.was_resent;
        let wait = match ending {
            Ending::Answered => {
                self.budget.deposit();
                return None;
            }
            Ending::Final => return None,
            Ending::Unsent { .. } if is_free => Wait::NONE,
            _ if self.session.attempts >= self.attempts => return None,
            Ending::Unsent { .. } => self.backoff.next()?,
            Ending::Failed if mark::is_idempotent(request, self.by_method) => {
                self.after_failure(request, result, now)?
            }
            Ending::Failed => return None,
        };
        let deadline = self.session.deadline;
        if deadline.is_some_and(|deadline| wait.ends(now) >= deadline) {
            return None;
        }
        if is_free {
            self.session.was_resent = true;
            self.session.attempts -= 1;
            return Some(wait);
        }
        self.budget.withdraw().then_some(wait)
    }

    #[cfg(feature = "grpc")]
    fn after_failure<B, R, E>(
        &mut self,
        request: &Request<B>,
        result: &Result<Response<R>, E>,
        now: Instant,
    ) -> Option<Wait> {
        use super::grpc::{Pushback, is_call, pushback};

        let response = result.as_ref().ok().filter(|_| is_call(request.headers()));
        let asked = response.map(|response| pushback(response.headers()));
        match asked.unwrap_or(Pushback::None) {
            Pushback::None => self.backoff.next(),
            Pushback::After(duration) => Wait::of(duration, now),
            Pushback::Never => None,
        }
    }

    #[cfg(not(feature = "grpc"))]
    fn after_failure<B, R, E>(
        &mut self,
        _: &Request<B>,
        _: &Result<Response<R>, E>,
        _: Instant,
    ) -> Option<Wait> {
        self.backoff.next()
    }

    fn deadline<B>(request: &Request<B>) -> Option<Instant> {
        let marked = Deadline::of(request);
        #[cfg(feature = "grpc")]
        let marked = {
            let headers = request.headers();
            let limit = super::grpc::is_call(headers)
                .then(|| super::grpc::deadline(headers, clock::now()))
                .flatten();
            marked.into_iter().chain(limit).min()
        };
        marked
    }
}

impl<B, R, E> Policy<Request<B>, Response<R>, E> for Retry
where
    B: TryClone,
    E: 'static,
{
    type Future = Wait;

    fn retry(
        &mut self,
        request: &mut Request<B>,
        result: &mut Result<Response<R>, E>,
    ) -> Option<Wait> {
        let now = clock::now();
        self.session.attempts = self.session.attempts.saturating_add(1);
        let (ending, instance) = ending::of(result);
        match ending::resent(result) {
            Resent::No => {}
            Resent::From(id) => {
                self.session.was_resent = true;
                Tried::add(request, Some(&id), true);
            }
            Resent::Unknown => self.session.was_resent = true,
        }
        let was_resent = self.session.was_resent;
        let wait = self.next(ending, request, result, now);
        let Some(wait) = wait.filter(|_| request.body_mut().restart()) else {
            self.tell(request, result);
            return None;
        };
        self.session.was_sent |= matches!(ending, Ending::Failed);
        let is_resend = self.session.was_resent && !was_resent;
        Tried::add(request, instance.as_ref(), is_resend);
        if self.session.was_resent {
            request.extensions_mut().insert(resend::Resent);
        }
        #[cfg(feature = "grpc")]
        if super::grpc::is_call(request.headers()) {
            let deadline = self.session.deadline;
            let left = deadline.map(|at| at.saturating_duration_since(wait.ends(now)));
            super::grpc::prepare(request.headers_mut(), self.session.attempts, left);
        }
        Some(wait)
    }

    fn clone_request(&mut self, request: &Request<B>) -> Option<Request<B>> {
        if !self.session.is_begun {
            self.session.is_begun = true;
            self.session.deadline = Self::deadline(request);
        }
        let mut clone = Request::new(request.body().try_clone()?);
        *clone.method_mut() = request.method().clone();
        *clone.uri_mut() = request.uri().clone();
        *clone.version_mut() = request.version();
        *clone.headers_mut() = request.headers().clone();
        *clone.extensions_mut() = request.extensions().clone();
        Some(clone)
    }
}

impl Retry {
    /// Tells the caller which instances were tried before the last one.
    fn tell<B, R, E: 'static>(&self, request: &Request<B>, result: &mut Result<Response<R>, E>) {
        let before = request.extensions().get::<Tried>();
        if self.session.attempts < 2 && !self.session.was_resent {
            return;
        }
        match result {
            Ok(response) => {
                drop(
                    response
                        .extensions_mut()
                        .insert(before.cloned().unwrap_or_default()),
                );
            }
            Err(error) => {
                if let Some(error) = ours(error) {
                    error.note_tried(Tried::of(request).instances(), self.session.was_sent);
                }
            }
        }
    }
}

impl Default for Retry {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Retry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Retry")
            .field("attempts", &self.attempts)
            .field("by_method", &self.by_method)
            .field("backoff", &self.backoff)
            .finish_non_exhaustive()
    }
}
