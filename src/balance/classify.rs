use std::any::Any;
use std::error::Error as StdError;
use std::time::Duration;

#[cfg(feature = "tower-errors")]
use tower::load_shed::error::Overloaded;

use super::attempt::Attempt;
use crate::error::{BoxError, Error};
use crate::model::instance::InstanceId;
use crate::runtime::causes::chain;

/// Decides how a request ended, as far as the instance is to blame.
///
/// It is asked once for each answer of a member's service, and gets the [`Attempt`], whose end is the verdict. A
/// classifier that keeps the attempt, say in a streaming body, decides when the slot is free.
///
/// # Examples
///
/// A cache whose misses are errors, but nobody's fault:
///
/// ```
/// use rolecall::{Attempt, Classify};
/// # struct Miss;
///
/// #[derive(Clone, Copy)]
/// struct MissesAreFine;
///
/// impl<Req, Res> Classify<Req, Res, Miss> for MissesAreFine {
///     type Response = Res;
///
///     fn classify(&self, result: Result<Res, Miss>, attempt: Attempt) -> Result<Res, Miss> {
///         attempt.success();
///         result
///     }
/// }
/// ```
pub trait Classify<Req, Res, Err> {
    /// What callers get for a `Res`.
    type Response;

    /// Instances that the request had better not go to, since it was there before: a preference, not a rule.
    fn avoid<'a>(&self, request: &'a Req) -> &'a [InstanceId] {
        let _ = request;
        &[]
    }

    /// The request, if the error of one that [was not sent](Attempt::unsent) has it: then it goes to another instance, and the
    /// caller is not told of the error. `None` by default.
    ///
    /// It is asked after [`classify`](Self::classify) ended the attempt as unsent. How often one request may come back is for
    /// the services or for this to limit.
    fn take_back(&self, error: &mut Err) -> Option<Req> {
        let _ = error;
        None
    }

    /// Ends the attempt, or passes it on, and says what the caller gets.
    ///
    /// # Errors
    ///
    /// The error that the caller shall get, as the source of a [`Call`](crate::ErrorKind::Call).
    fn classify(&self, result: Result<Res, Err>, attempt: Attempt) -> Result<Self::Response, Err>;
}

/// The default classifier: `Ok` is success, `Err` is failure.
///
/// Two errors are [neutral](Attempt::neutral), since the instance never had the request:
///
/// - an [`Error`] of a balancer below that [was not sent](Error::was_sent);
/// - what tower's `LoadShed` refuses, with the feature `tower-errors`. **Without that feature a load shedder below the balancer
///   gets healthy instances ejected.**
///
/// They are recognized as the error itself, or anywhere in the sources of a [`BoxError`]. Other layers that refuse requests, such
/// as tower's `Filter`, are better put above the balancer; below it they need a [closure](crate::BalanceLayer::classify_fn)
/// that knows their errors.
#[derive(Clone, Copy, Debug, Default)]
#[non_exhaustive]
pub struct ClassifyResult;

impl<Req, Res, Err: 'static> Classify<Req, Res, Err> for ClassifyResult {
    type Response = Res;

    fn classify(&self, result: Result<Res, Err>, attempt: Attempt) -> Result<Res, Err> {
        match &result {
            Ok(_) => attempt.success(),
            Err(error) if is_blameless(error) => attempt.neutral(),
            Err(_) => attempt.failure(),
        }
        result
    }
}

/// Whether an error tells that the instance whose service gave it never had the request: as the error itself, or anywhere in
/// the sources of a [`BoxError`].
pub(crate) fn is_blameless(error: &dyn Any) -> bool {
    as_error(error).is_some_and(|error| {
        let below = Error::find(error);
        below.is_some_and(|below| !below.was_sent()) || chain(error).any(is_shed)
    })
}

/// An error of one of the types that are looked at, whatever service it is of.
fn as_error(error: &dyn Any) -> Option<&(dyn StdError + 'static)> {
    if let Some(error) = error.downcast_ref::<BoxError>() {
        return Some(&**error);
    }
    #[cfg(feature = "tower-errors")]
    if let Some(error) = error.downcast_ref::<Overloaded>() {
        return Some(error);
    }
    error.downcast_ref::<Error>().map(|error| error as _)
}

#[cfg(feature = "tower-errors")]
fn is_shed(error: &(dyn StdError + 'static)) -> bool {
    error.is::<Overloaded>()
}

#[cfg(not(feature = "tower-errors"))]
fn is_shed(_: &(dyn StdError + 'static)) -> bool {
    false
}

/// How a request ended, as far as the instance is to blame.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Outcome {
    /// Answered well.
    Success,
    /// Answered badly.
    Failure,
    /// Says nothing about the instance.
    Neutral,
    /// Never left: the connection is lost and is dialled again.
    Unsent,
    /// The instance has too much to do: its load rises for that long (default 1 s, at most 60 s).
    Overloaded(Option<Duration>),
}

/// A classifier by a closure, see [`BalanceLayer::classify_fn`](crate::BalanceLayer::classify_fn).
#[derive(Clone, Copy, Debug)]
pub struct ClassifyFn<F>(pub(super) F);

impl<F, Req, Res, Err> Classify<Req, Res, Err> for ClassifyFn<F>
where
    F: Fn(&Result<Res, Err>) -> Outcome,
{
    type Response = Res;

    fn classify(&self, result: Result<Res, Err>, attempt: Attempt) -> Result<Res, Err> {
        attempt.end((self.0)(&result));
        result
    }
}
