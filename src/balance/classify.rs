use std::any::Any;
use std::error::Error as StdError;
use std::io;
use std::time::Duration;

#[cfg(feature = "tower-errors")]
use tower::load_shed::error::Overloaded;

use super::attempt::Attempt;
use crate::error::{BoxError, Error};
use crate::model::hints::Hints;
use crate::runtime::causes::chain;

/// Decides the outcome of a request for its instance, and what the caller gets.
///
/// [`begin`](Self::begin) sees the request before it is sent, and returns what the other two methods need to know of it.
/// [`hints`](Self::hints) can ask for another instance than those that failed before. [`classify`](Self::classify) is
/// called once per response of an instance's service. The method by which it ends the [`Attempt`] is the outcome. A
/// classifier that keeps the attempt, say in a streaming body, decides when the slot is free.
///
/// # Cancellation
///
/// If the caller drops the response before the instance answered, the context is dropped and `classify` is not called.
///
/// # Examples
///
/// A rule that depends on the request. `/events` is a long poll, which the server ends with a time-out when nothing
/// happened. That says nothing about the instance; for any other path it is a failure:
///
/// ```
/// use http::{Request, Response, StatusCode};
/// use rolecall::{Attempt, Classify, Failed};
///
/// #[derive(Clone, Copy)]
/// struct LongPolls;
///
/// impl<B, R, E> Classify<Request<B>, Response<R>, E> for LongPolls {
///     type Response = Response<R>;
///     /// Whether the request is a long poll.
///     type Context = bool;
///
///     fn begin(&self, request: &Request<B>) -> bool {
///         request.uri().path() == "/events"
///     }
///
///     fn classify(
///         &self,
///         is_long_poll: bool,
///         result: Result<Response<R>, E>,
///         attempt: Attempt,
///     ) -> Result<Response<R>, Failed<E>> {
///         match &result {
///             Ok(response) if response.status() == StatusCode::GATEWAY_TIMEOUT && is_long_poll => {
///                 attempt.neutral()
///             }
///             Ok(response) if response.status().is_server_error() => attempt.failure(),
///             Ok(_) => attempt.success(),
///             Err(_) => attempt.failure(),
///         }
///         result.map_err(Failed::sent)
///     }
/// }
/// ```
pub trait Classify<Req, Res, Err> {
    /// What the caller gets for a `Res`.
    type Response;

    /// What is remembered of the request until its response is classified. `()` if nothing is.
    type Context: Send + 'static;

    /// Makes the context of a request. Called once per request, before the first pick.
    fn begin(&self, request: &Req) -> Self::Context;

    /// What the request asks of a pick. Called before every pick of the request; [`Hints::none`] by default.
    fn hints<'c>(&self, context: &'c Self::Context) -> Hints<'c> {
        let _ = context;
        Hints::none()
    }

    /// Ends the attempt, or passes it on, and returns what the caller gets.
    ///
    /// # Errors
    ///
    /// The error for the caller, which becomes the source of a [`Call`](crate::ErrorKind::Call), and whether the instance may
    /// have seen the request.
    fn classify(
        &self,
        context: Self::Context,
        result: Result<Res, Err>,
        attempt: Attempt,
    ) -> Result<Self::Response, Failed<Err>>;
}

/// A failed request, as its classifier reports it: the error, and whether the instance may have seen the request.
///
/// A balancer below can still say that the request was not sent: see [`Error::was_sent`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct Failed<E> {
    /// The error for the caller.
    pub error: E,
    /// Whether the instance may have seen the request. If not, the request can be sent again safely, even if it is not
    /// idempotent.
    pub was_sent: bool,
}

impl<E> Failed<E> {
    /// The instance may have seen the request.
    pub fn sent(error: E) -> Self {
        Self {
            error,
            was_sent: true,
        }
    }

    /// The instance has certainly not seen the request.
    pub fn unsent(error: E) -> Self {
        Self {
            error,
            was_sent: false,
        }
    }
}

/// The default classifier: `Ok` is success, `Err` is failure.
///
/// Two errors are [neutral](Attempt::neutral), since the instance never had the request:
///
/// - an [`Error`] of a balancer below that [was not sent](Error::was_sent);
/// - the error of tower's `LoadShed`, with the feature `tower-errors`. **Without that feature a load shedder below the
///   balancer gets healthy instances ejected.**
///
/// They are recognized as the error itself, or anywhere in the sources of a [`BoxError`]. Put other layers that refuse
/// requests, such as tower's `Filter`, above the balancer. Below it they need a
/// [closure](crate::BalanceLayer::classify_fn) that knows their errors.
///
/// A failure is [labelled](Attempt::failure_labelled) by its I/O error, such as `"connection reset"`: the error itself, or
/// the first one in the sources of a [`BoxError`].
#[derive(Clone, Copy, Debug, Default)]
#[non_exhaustive]
pub struct ClassifyResult;

impl<Req, Res, Err: 'static> Classify<Req, Res, Err> for ClassifyResult {
    type Response = Res;
    type Context = ();

    fn begin(&self, _: &Req) {}

    fn classify(
        &self,
        (): (),
        result: Result<Res, Err>,
        attempt: Attempt,
    ) -> Result<Res, Failed<Err>> {
        match &result {
            Ok(_) => attempt.success(),
            Err(error) if is_blameless(error) => attempt.neutral(),
            Err(error) => Outcome::Failure.end(attempt, label(error)),
        }
        result.map_err(Failed::sent)
    }
}

/// Whether an error says that the instance never had the request: as the error itself, or anywhere in the sources of a
/// [`BoxError`].
pub(crate) fn is_blameless(error: &dyn Any) -> bool {
    as_error(error).is_some_and(|error| {
        let below = Error::find(error);
        below.is_some_and(|below| !below.was_sent()) || chain(error).any(is_shed)
    })
}

/// The error, if it is of one of the types that are examined.
fn as_error(error: &dyn Any) -> Option<&(dyn StdError + 'static)> {
    if let Some(error) = error.downcast_ref::<BoxError>() {
        return Some(&**error);
    }
    #[cfg(feature = "tower-errors")]
    if let Some(error) = error.downcast_ref::<Overloaded>() {
        return Some(error);
    }
    if let Some(error) = error.downcast_ref::<io::Error>() {
        return Some(error);
    }
    error.downcast_ref::<Error>().map(|error| error as _)
}

/// The label of a failed request: the name of its first I/O error.
fn label(error: &dyn Any) -> Option<&'static str> {
    as_error(error).and_then(io_label)
}

/// The name of the first I/O error in a chain.
pub(crate) fn io_label(error: &(dyn StdError + 'static)) -> Option<&'static str> {
    let error = chain(error).find_map(|error| error.downcast_ref::<io::Error>())?;
    Some(match error.kind() {
        io::ErrorKind::BrokenPipe => "broken pipe",
        io::ErrorKind::ConnectionAborted => "connection aborted",
        io::ErrorKind::ConnectionRefused => "connection refused",
        io::ErrorKind::ConnectionReset => "connection reset",
        io::ErrorKind::HostUnreachable | io::ErrorKind::NetworkUnreachable => "unreachable",
        io::ErrorKind::TimedOut => "timed out",
        io::ErrorKind::UnexpectedEof => "connection closed",
        _ => return None,
    })
}

#[cfg(feature = "tower-errors")]
fn is_shed(error: &(dyn StdError + 'static)) -> bool {
    error.is::<Overloaded>()
}

#[cfg(not(feature = "tower-errors"))]
fn is_shed(_: &(dyn StdError + 'static)) -> bool {
    false
}

/// What a request says about its instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Outcome {
    /// The instance answered well.
    Success,
    /// The instance failed.
    Failure,
    /// The outcome says nothing about the instance.
    Neutral,
    /// The request was not sent, because the connection is lost. It is dialled again.
    Unsent,
    /// The instance is overloaded: its load rises for that long (default 1 s, at most 60 s).
    Overloaded(Option<Duration>),
}

impl Outcome {
    /// Ends an attempt with this outcome. `label` is that of a failure.
    pub(crate) fn end(self, attempt: Attempt, label: Option<&'static str>) {
        match self {
            Self::Success => attempt.success(),
            Self::Failure => match label {
                Some(label) => attempt.failure_labelled(label),
                None => attempt.failure(),
            },
            Self::Neutral => attempt.neutral(),
            Self::Unsent => attempt.unsent(),
            Self::Overloaded(duration) => attempt.overloaded(duration),
        }
    }
}

/// A classifier made of a closure, see [`BalanceLayer::classify_fn`](crate::BalanceLayer::classify_fn).
#[derive(Clone, Copy, Debug)]
pub struct ClassifyFn<F>(pub(super) F);

impl<F, Req, Res, Err> Classify<Req, Res, Err> for ClassifyFn<F>
where
    F: Fn(&Result<Res, Err>) -> Outcome,
{
    type Response = Res;
    type Context = ();

    fn begin(&self, _: &Req) {}

    fn classify(
        &self,
        (): (),
        result: Result<Res, Err>,
        attempt: Attempt,
    ) -> Result<Res, Failed<Err>> {
        let outcome = (self.0)(&result);
        outcome.end(attempt, None);
        result.map_err(|error| match outcome {
            Outcome::Unsent => Failed::unsent(error),
            _ => Failed::sent(error),
        })
    }
}
