use std::time::Duration;

use super::attempt::Attempt;
use crate::InstanceId;

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
#[derive(Clone, Copy, Debug, Default)]
#[non_exhaustive]
pub struct ClassifyResult;

impl<Req, Res, Err> Classify<Req, Res, Err> for ClassifyResult {
    type Response = Res;

    fn classify(&self, result: Result<Res, Err>, attempt: Attempt) -> Result<Res, Err> {
        match result {
            Ok(_) => attempt.success(),
            Err(_) => attempt.failure(),
        }
        result
    }
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
