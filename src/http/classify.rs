//! Judges an instance by the status of its responses and by how their bodies end.

use std::any::Any;
use std::error::Error as StdError;
use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use http::response::Parts;
use http::{HeaderMap, Request, Response, StatusCode};
use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;

use super::error::{BodyError, CallError};
use super::extensions::{Answered, PinTo, Pins, Tried, Wishes, hints};
use super::retry_after::retry_after;
use super::socket::Lifetime;
use crate::balance::classify::{io_label, is_blameless};
use crate::balance::{Attempt, Classify, Failed, Outcome};
use crate::error::BoxError;
use crate::model::hints::Hints;
use crate::model::instance::InstanceId;
use crate::runtime::causes::chain;

/// Classifies HTTP responses.
///
/// | Result | Outcome |
/// |---|---|
/// | status below 500 | success |
/// | status 429, or 503 with a `Retry-After` | overloaded: it is given less to do, and not blamed |
/// | any other status from 500 | failure |
/// | a [`CallError`] whose HTTP/2 stream was [refused](CallError::is_refused) | overloaded |
/// | a [`CallError`] by a [`GOAWAY`](CallError::is_go_away) | neutral; failure, if that names an error |
/// | any other [`CallError`] whose request was not sent | unsent; neutral, if this process lacks a resource, or if the instance has another HTTP/2 connection |
/// | a [`CallError`] that is the caller's fault: the request's own body failed, or `https` without TLS | neutral |
/// | what a balancer below did not send, or tower's `LoadShed` refused, as in [`ClassifyResult`](crate::ClassifyResult) | neutral |
/// | any other error | failure |
///
/// Overloaded is an instance for as long as its `Retry-After` says, counted as 1 s to 60 s, else for the default of 1 s. A date
/// in there is counted from the `Date` of the response; without that, and if it is neither date nor number, it says nothing.
///
/// The latency is taken when the head of the response arrives. The instance's load counts the request until the body ends:
/// the outcome is told then. A body that breaks is a failure. One dropped before its end is cancelled, unless the status says
/// failure or overloaded: callers seldom read those bodies.
///
/// The classifier sends nothing again: that is for [`Resend`](super::Resend).
///
/// A request goes to another instance than those in its extension [`Tried`](super::Tried), while one is usable. With an
/// extension [`PinTo`](super::PinTo) it goes to that instance and no other.
///
/// A failure is [labelled](crate::Attempt::failure_labelled) by the status, such as `"503"`, or by what broke, such as
/// `"connection reset"`.
///
/// A [`CallError`] is recognized as the error itself, or anywhere in the sources of a [`BoxError`].
///
/// Which instance it was is told by [`answered_by`](super::answered_by) of the response, by [`Error::instance`](crate::Error::instance)
/// of an error, and by the fields of the caller's `tracing` span, see [`Balance`](crate::Balance#spans).
#[derive(Clone, Default)]
pub struct HttpClassifier {
    outcomes: Option<Arc<Outcomes>>,
    pins: Option<Pins>,
}

type Outcomes = dyn Fn(&Parts) -> Outcome + Send + Sync;

impl HttpClassifier {
    /// The classifier of the table above.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Judges responses by another function of their head than the first three rows of the table.
    ///
    /// ```
    /// use http_body_util::Empty;
    /// use rolecall::http::{HttpClassifier, Connector};
    /// use rolecall::{BalanceLayer, Outcome, Registry};
    /// use tower::Layer;
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), rolecall::TargetError> {
    /// // An instance that knows of nothing has lost its data. One that has not implemented something is well.
    /// let usual = HttpClassifier::new();
    /// let classify = HttpClassifier::by(move |head| match head.status.as_u16() {
    ///     404 => Outcome::Failure,
    ///     501 => Outcome::Success,
    ///     _ => usual.outcome(head),
    /// });
    /// let client = BalanceLayer::new(Registry::new(), "worker:http")?
    ///     .classify(classify)
    ///     .layer(Connector::<Empty<bytes::Bytes>>::new());
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn by(outcomes: impl Fn(&Parts) -> Outcome + Send + Sync + 'static) -> Self {
        Self {
            outcomes: Some(Arc::new(outcomes)),
            pins: None,
        }
    }

    /// Pins each request to the instance that `pins` finds in its headers. The extension [`PinTo`](super::PinTo) comes
    /// first. `None` leaves the request free.
    ///
    /// ```
    /// use http::{HeaderMap, header::COOKIE};
    /// use rolecall::http::{Client, HttpClassifier};
    /// use rolecall::{InstanceId, Registry};
    ///
    /// /// The instance in the cookie `instance`.
    /// fn instance(headers: &HeaderMap) -> Option<InstanceId> {
    ///     let cookies = headers.get_all(COOKIE).iter().filter_map(|value| value.to_str().ok());
    ///     let mut cookies = cookies.flat_map(|value| value.split("; "));
    ///     cookies.find_map(|cookie| cookie.strip_prefix("instance=")).map(InstanceId::from)
    /// }
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), rolecall::TargetError> {
    /// let client: Client = Client::builder(Registry::new(), "worker:http")
    ///     .classify(HttpClassifier::new().pin_by(instance))
    ///     .build()?;
    /// # drop(client);
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn pin_by(
        mut self,
        pins: impl Fn(&HeaderMap) -> Option<InstanceId> + Send + Sync + 'static,
    ) -> Self {
        self.pins = Some(Arc::new(pins));
        self
    }

    /// What it makes of the head of a response.
    #[must_use]
    pub fn outcome(&self, head: &Parts) -> Outcome {
        match &self.outcomes {
            Some(outcomes) => outcomes(head),
            None => outcome(head.status, &head.headers),
        }
    }
}

impl<R, B, E> Classify<Request<R>, Response<B>, E> for HttpClassifier
where
    B: Body,
    E: 'static,
{
    type Response = Response<TrackedBody<B>>;
    /// The instances that had the request before, and the one that it is pinned to.
    type Context = Wishes;

    fn begin(&self, request: &Request<R>) -> Self::Context {
        (Tried::of(request), PinTo::of(request, self.pins.as_ref()))
    }

    fn hints<'c>(&self, (tried, pin): &'c Self::Context) -> Hints<'c> {
        hints(tried, pin)
    }

    fn classify(
        &self,
        (tried, _): Self::Context,
        result: Result<Response<B>, E>,
        mut attempt: Attempt,
    ) -> Result<Self::Response, Failed<E>> {
        match result {
            Ok(response) => {
                attempt.answered();
                let (mut head, body) = response.into_parts();
                let outcome = self.outcome(&head);
                Answered::note(&mut head.extensions, &attempt, &tried);
                let judgement = Judgement::new(attempt, outcome, head.status);
                let body = match head.extensions.remove::<Lifetime>() {
                    // The connection is the caller's from now on, and load of the instance until it is closed.
                    Some(lifetime) => {
                        lifetime.keep(judgement);
                        TrackedBody::untracked(body)
                    }
                    None => TrackedBody::new(body, judgement),
                };
                Ok(Response::from_parts(head, body))
            }
            Err(error) => Err(failed(attempt, error)),
        }
    }
}

/// The default outcome of a response.
pub(crate) fn outcome(status: StatusCode, headers: &HeaderMap) -> Outcome {
    let wait = || retry_after(headers);
    match status {
        StatusCode::TOO_MANY_REQUESTS => Outcome::Overloaded(wait()),
        StatusCode::SERVICE_UNAVAILABLE => match wait() {
            Some(wait) => Outcome::Overloaded(Some(wait)),
            None => Outcome::Failure,
        },
        status if status.as_u16() >= 500 => Outcome::Failure,
        _ => Outcome::Success,
    }
}

/// The label of a connection that closed before the response, which hyper reports without an I/O error.
fn closed_label(error: &(dyn StdError + 'static)) -> Option<&'static str> {
    let mut errors = chain(error).filter_map(|error| error.downcast_ref::<hyper::Error>());
    let is_closed = errors.any(hyper::Error::is_incomplete_message);
    is_closed.then_some("connection closed")
}

/// Ends the attempt of a request that got no response.
pub(crate) fn failed<E: 'static>(attempt: Attempt, error: E) -> Failed<E> {
    let any: &dyn Any = &error;
    let found = match any.downcast_ref::<BoxError>() {
        Some(boxed) => CallError::find(&**boxed),
        None => any.downcast_ref::<CallError>(),
    };
    if is_blameless(any) {
        attempt.neutral();
        return Failed::sent(error);
    }
    match found {
        Some(found) if found.is_callers() && !found.was_sent() => {
            attempt.neutral();
            return Failed::unsent(error);
        }
        Some(found) if !found.was_sent() => {
            if found.is_refused() {
                attempt.overloaded(None);
            } else if found.is_go_away_with_error() {
                attempt.failure_labelled("GOAWAY");
            } else if found.is_go_away() || found.is_loss_of_one() || found.is_local_fault() {
                // The instance's service dials the next connection by itself, and knows if it cannot. A fault of this process
                // is no reason to give up a connection.
                attempt.neutral();
            } else {
                attempt.unsent();
            }
            return Failed::unsent(error);
        }
        Some(found) if found.is_callers() => attempt.neutral(),
        Some(found) => {
            let label = io_label(found).or_else(|| closed_label(found));
            let label = label.unwrap_or("no response");
            attempt.failure_labelled(label);
        }
        None => attempt.failure(),
    }
    Failed::sent(error)
}

impl fmt::Debug for HttpClassifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HttpClassifier").finish_non_exhaustive()
    }
}

pin_project! {
    /// A response body that tells the balancer how it ended; see [`HttpClassifier`](super::HttpClassifier).
    ///
    /// # Cancellation
    ///
    /// Dropped before its end it frees the slot of its instance.
    #[derive(Debug)]
    pub struct TrackedBody<B> {
        #[pin]
        body: B,
        judgement: Option<Judgement>,
    }
}

impl<B: Body> TrackedBody<B> {
    pub(super) fn new(body: B, mut judgement: Judgement) -> Self {
        if body.is_end_stream() {
            judgement.end();
        }
        let judgement = Some(judgement);
        Self { body, judgement }
    }

    /// A body whose attempt is judged elsewhere.
    pub(super) fn untracked(body: B) -> Self {
        let judgement = None;
        Self { body, judgement }
    }
}

impl<B: Body<Error: 'static>> Body for TrackedBody<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        let mut this = self.project();
        let frame = ready!(this.body.as_mut().poll_frame(cx));
        if let Some(judgement) = this.judgement {
            match &frame {
                Some(Err(error)) => judgement.broken(error),
                Some(Ok(_)) if !this.body.is_end_stream() => {}
                Some(Ok(_)) | None => judgement.end(),
            }
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// An attempt whose head was answered, and the outcome it comes to unless its body breaks.
#[derive(Debug)]
pub(super) struct Judgement {
    attempt: Option<Attempt>,
    outcome: Outcome,
    status: StatusCode,
}

impl Judgement {
    pub(super) fn new(attempt: Attempt, outcome: Outcome, status: StatusCode) -> Self {
        Self {
            attempt: Some(attempt),
            outcome,
            status,
        }
    }

    fn end(&mut self) {
        if let Some(attempt) = self.attempt.take() {
            self.outcome.end(attempt, Some(label(self.status)));
        }
    }

    fn broken(&mut self, error: &dyn Any) {
        if let Some(attempt) = self.attempt.take() {
            match error.downcast_ref() {
                Some(error) if BodyError::is_callers(error) => attempt.neutral(),
                _ => attempt.failure_labelled("response body broken"),
            }
        }
    }
}

impl Drop for Judgement {
    /// A bad status is known without the body, and callers seldom read it to the end.
    fn drop(&mut self) {
        if !matches!(self.outcome, Outcome::Success) {
            self.end();
        }
    }
}

/// All three-digit numbers from 100 on, one after the other.
const NUMBERS: [u8; 2700] = {
    let mut numbers = [0; 2700];
    let mut at = 0;
    while at < 900 {
        let number = 100 + at;
        numbers[3 * at] = b'0' + (number / 100) as u8;
        numbers[3 * at + 1] = b'0' + (number / 10 % 10) as u8;
        numbers[3 * at + 2] = b'0' + (number % 10) as u8;
        at += 1;
    }
    numbers
};

/// The label of a failure by status: its number.
pub(crate) fn label(status: StatusCode) -> &'static str {
    let at = 3 * usize::from(status.as_u16()).saturating_sub(100);
    let number = NUMBERS.get(at..at + 3);
    let number = number.and_then(|number| std::str::from_utf8(number).ok());
    number.unwrap_or("status")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_status_is_labelled_by_its_number() {
        for number in 100..=999_u16 {
            let status = StatusCode::from_u16(number).unwrap();
            assert_eq!(label(status), number.to_string());
        }
    }
}
