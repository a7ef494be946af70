//! Judges an instance by the gRPC status of its answers and by how their bodies end.

use std::fmt;
use std::sync::Arc;

use http::{HeaderMap, Request, Response};
use tonic::Code;

use super::code::{self, Head, Rules};
use super::details;
use super::origin;
use super::outcome::{Judgement, TrackedBody};
use crate::balance::{Attempt, Classify, Failed, Outcome};
use crate::http::classify::{failed, label};
use crate::http::extensions::{Answered, PinTo, Pins, Tried, hints};
use crate::model::hints::Hints;
use crate::model::instance::InstanceId;

/// Classifies gRPC answers.
///
/// | Status | Outcome |
/// |---|---|
/// | `Unknown`, `DeadlineExceeded`, `Internal`, `Unavailable`, `DataLoss` | failure |
/// | `ResourceExhausted` | overloaded: it is given less to do, and not blamed |
/// | any other | success |
///
/// | No status, but | Outcome |
/// |---|---|
/// | a body that ends without | that of `Unknown` |
/// | a body that breaks | failure; neutral, if the body of the request did |
/// | HTTP status 401 or 403 | success |
/// | HTTP status 429, or 503 with a `Retry-After` | overloaded, for as long as [`http::HttpClassifier`](crate::http::HttpClassifier) says |
/// | any other HTTP status, or other content than gRPC | failure: what answers there is not the service |
/// | an error | as with [`http::HttpClassifier`](crate::http::HttpClassifier) |
///
/// With a status that makes it overloaded an instance may say for how long, by `grpc-retry-pushback-ms`: 1 s to 60 s, else the
/// default of 1 s.
///
/// A failure is [labelled](crate::Attempt::failure_labelled) by the name of its status, such as `"Unavailable"`, or as with
/// [`http::HttpClassifier`](crate::http::HttpClassifier).
///
/// The latency is taken when the first message is there, or the status: that is with the head of the answer, or later if the
/// caller reads on and has to wait. The instance's load counts the call until the trailers, or the end of the body: the outcome
/// is told then. Dropped before that, it is cancelled, unless the head told the outcome; a caller that waited for a first
/// message after the head is no sign of an instance that does not answer, however long he did.
///
/// A call goes to another instance than those in its extension [`http::Tried`](crate::http::Tried), while one is usable. With
/// an extension [`http::PinTo`](crate::http::PinTo) it goes to that instance and no other.
///
/// The instance is noted in the response's extensions, as with [`http::HttpClassifier`](crate::http::HttpClassifier). A status
/// other than `Ok` gets its id as the metadata `rolecall-instance`, which is what [`failed_at`](super::failed_at) reads.
#[derive(Clone, Default)]
pub struct GrpcClassifier {
    rules: Rules,
    pins: Option<Pins>,
}

impl GrpcClassifier {
    /// The classifier of the tables above.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Judges by another function of the status than the first table.
    ///
    /// ```
    /// use rolecall::{Outcome, grpc::GrpcClassifier};
    /// use tonic::Code;
    ///
    /// // A service whose internal errors are its callers' doing.
    /// let classify = GrpcClassifier::by(|code| match code {
    ///     Code::Unavailable | Code::DataLoss => Outcome::Failure,
    ///     Code::ResourceExhausted => Outcome::Overloaded(None),
    ///     _ => Outcome::Success,
    /// });
    /// # let _ = classify;
    /// ```
    #[must_use]
    pub fn by(outcomes: impl Fn(Code) -> Outcome + Send + Sync + 'static) -> Self {
        Self {
            rules: Rules(Some(Arc::new(outcomes))),
            pins: None,
        }
    }

    /// Pins each call to the instance that `pins` finds in its metadata, which are the headers of the request. The extension
    /// [`http::PinTo`](crate::http::PinTo) comes first. `None` leaves the call free.
    ///
    /// ```
    /// use rolecall::{InstanceId, grpc::GrpcClassifier};
    ///
    /// let classify = GrpcClassifier::new().pin_by(|metadata| {
    ///     let id = metadata.get("x-instance")?.to_str().ok()?;
    ///     Some(InstanceId::from(id))
    /// });
    /// # let _ = classify;
    /// ```
    #[must_use]
    pub fn pin_by(
        mut self,
        pins: impl Fn(&HeaderMap) -> Option<InstanceId> + Send + Sync + 'static,
    ) -> Self {
        self.pins = Some(Arc::new(pins));
        self
    }
}

impl<R, B, E> Classify<Request<R>, Response<B>, E> for GrpcClassifier
where
    B: http_body::Body<Error: 'static>,
    E: 'static,
{
    type Response = Response<TrackedBody<B>>;
    /// The instances that had the call before, and the one that it is pinned to.
    type Context = (Tried, Option<InstanceId>);

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
            Ok(mut response) => {
                attempt.answered();
                Answered::note(response.extensions_mut(), &attempt, &tried);
                let known = match Head::of(&response) {
                    Head::Begun => None,
                    Head::Ended(code) => {
                        details::check(response.headers_mut());
                        origin::mark(response.headers_mut(), code, attempt.instance().id());
                        Some((
                            self.rules.outcome(code, response.headers()),
                            code::name(code),
                        ))
                    }
                    Head::Foreign(status) => {
                        let outcome = code::foreign_outcome(status, response.headers());
                        Some((outcome, label(status)))
                    }
                };
                let id = attempt.instance().id().clone();
                let judgement = Judgement::new(attempt, self.rules.clone(), known);
                Ok(response.map(|body| TrackedBody::new(body, id, judgement)))
            }
            Err(error) => Err(failed(attempt, error)),
        }
    }
}

impl fmt::Debug for GrpcClassifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GrpcClassifier").finish_non_exhaustive()
    }
}
