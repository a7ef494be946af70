//! The errors that callers get.

pub(crate) mod census;
pub(crate) mod discovery;

use std::error::Error as StdError;
use std::fmt;
use std::io;
use std::slice;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use self::census::Census;
use crate::model::hints::PinFault;
use crate::model::instance::InstanceId;
use crate::model::target::Target;
use crate::runtime::causes::chain;

/// A boxed error of any type, as tower uses it.
pub type BoxError = Box<dyn StdError + Send + Sync>;

/// Why a call through a [`Balance`](crate::Balance) failed: the target, the instance, the kind and the cause.
///
/// # Examples
///
/// Find it below the errors of other layers:
///
/// ```
/// use std::error::Error as StdError;
///
/// fn retry_is_safe(error: &(dyn StdError + 'static)) -> bool {
///     rolecall::Error::find(error).is_some_and(|error| !error.was_sent())
/// }
/// ```
pub struct Error(Box<Inner>);

struct Inner {
    target: Target,
    instance: Option<InstanceId>,
    kind: ErrorKind,
    was_sent: AtomicBool,
    // Both are set late, when other layers may have wrapped this error already.
    /// The instance that did not act on the request before it was sent again without a retry.
    resent: OnceLock<InstanceId>,
    /// The instances of earlier attempts, in their order, that one included.
    tried: OnceLock<Vec<InstanceId>>,
    source: Option<BoxError>,
}

/// The kind of a failure.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum ErrorKind {
    /// Discovery has not answered with a set yet. The source is its last error, if there is one, or says why no driver runs.
    Unresolved,
    /// There are instances, but none is visible from the caller's boundary. The source names their boundaries.
    NotVisible,
    /// The role is known and has no instances.
    Empty,
    /// Instances are known, and none is usable. If no driver runs to dial them, the source says why.
    NoneUsable(Arc<Census>),
    /// All usable instances are at [`max_in_flight`](crate::ConfigBuilder::max_in_flight), or
    /// [`max_waiting`](crate::ConfigBuilder::max_waiting) calls wait already. In the second case the source says so.
    Saturated,
    /// The request is [pinned](crate::Hints::pin) to an instance that it cannot have, which
    /// [`instance`](Error::instance) names. It was not sent.
    Pinned(PinFault),
    /// The instance's service failed. Its error is the source.
    Call,
    /// A time limit passed before the answer: [`attempt_timeout`](crate::BalanceLayer::attempt_timeout), whose source is an
    /// [`io::Error`] of the kind `TimedOut`, or the caller's `grpc-timeout`. [`instance`](Error::instance) is set if an
    /// instance had the request.
    Deadline,
}

/// Why no driver runs, so that discovery is not watched and no instance is dialled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NoDriver {
    OutsideRuntime,
    NotPolled,
    Dropped,
    Ended,
}

impl fmt::Display for NoDriver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::OutsideRuntime => {
                "the balancer was used outside a running tokio runtime with timers"
            }
            Self::NotPolled => "the balancer's driver has not been polled",
            Self::Dropped => "the balancer's driver was dropped, and is not started again",
            Self::Ended => "the last clone of the balancer was dropped",
        })
    }
}

impl StdError for NoDriver {}

/// As many calls wait already as `max_waiting` allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TooManyWaiting(pub(crate) u32);

impl fmt::Display for TooManyWaiting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} calls wait already, which is max_waiting", self.0)
    }
}

impl StdError for TooManyWaiting {}

impl Error {
    pub(crate) fn refused(target: Target, kind: ErrorKind, source: Option<BoxError>) -> Self {
        Self(Box::new(Inner {
            target,
            instance: None,
            kind,
            was_sent: AtomicBool::new(false),
            resent: OnceLock::new(),
            tried: OnceLock::new(),
            source,
        }))
    }

    /// The request is pinned to an instance that it cannot have.
    pub(crate) fn pinned(
        target: Target,
        instance: InstanceId,
        fault: PinFault,
        source: Option<BoxError>,
    ) -> Self {
        let mut error = Self::refused(target, ErrorKind::Pinned(fault), source);
        error.0.instance = Some(instance);
        error
    }

    /// The attempt got no answer within its time limit.
    pub(crate) fn unanswered(target: Target, instance: InstanceId, limit: Duration) -> Self {
        let text = format!("no answer within {limit:?}, the attempt_timeout");
        let source = io::Error::new(io::ErrorKind::TimedOut, text);
        Self(Box::new(Inner {
            target,
            instance: Some(instance),
            kind: ErrorKind::Deadline,
            was_sent: AtomicBool::new(true),
            resent: OnceLock::new(),
            tried: OnceLock::new(),
            source: Some(source.into()),
        }))
    }

    pub(crate) fn call(
        target: Target,
        instance: InstanceId,
        was_sent: bool,
        source: BoxError,
    ) -> Self {
        Self(Box::new(Inner {
            target,
            instance: Some(instance),
            kind: ErrorKind::Call,
            was_sent: AtomicBool::new(was_sent),
            resent: OnceLock::new(),
            tried: OnceLock::new(),
            source: Some(source),
        }))
    }

    #[cfg(feature = "grpc")]
    pub(crate) fn deadline(
        target: Target,
        instance: Option<InstanceId>,
        source: Option<BoxError>,
    ) -> Self {
        Self(Box::new(Inner {
            target,
            was_sent: AtomicBool::new(instance.is_some()),
            instance,
            kind: ErrorKind::Deadline,
            resent: OnceLock::new(),
            tried: OnceLock::new(),
            source,
        }))
    }

    /// Puts an error between this one and its cause.
    #[cfg(feature = "grpc")]
    pub(crate) fn wrap_source(
        mut self,
        wrap: impl FnOnce(&Self, Option<BoxError>) -> BoxError,
    ) -> Self {
        let source = self.0.source.take();
        self.0.source = Some(wrap(&self, source));
        self
    }

    /// Records the instance that had the request before it was sent again. Only the first call counts.
    #[cfg(feature = "http")]
    pub(crate) fn note_resent(&self, instance: &InstanceId) {
        self.0.resent.get_or_init(|| instance.clone());
    }

    /// The instance that had the request before it was sent again without a retry.
    #[cfg(feature = "retry")]
    pub(crate) fn resent(&self) -> Option<&InstanceId> {
        self.0.resent.get()
    }

    /// Records the instances of earlier attempts, in their order. Only the first call counts.
    #[cfg(feature = "retry")]
    pub(crate) fn note_tried(&self, tried: &[InstanceId], was_sent: bool) {
        self.0.tried.get_or_init(|| tried.to_vec());
        self.0.was_sent.fetch_or(was_sent, Relaxed);
    }

    /// The target of the call.
    pub fn target(&self) -> &Target {
        &self.0.target
    }

    /// The instance that the request was sent to, or was picked for.
    pub fn instance(&self) -> Option<&InstanceId> {
        self.0.instance.as_ref()
    }

    /// The instances of earlier attempts, if `http::Resend` or `retry::Retry` sent the request again. That of the last attempt
    /// is [`instance`](Error::instance).
    pub fn tried(&self) -> &[InstanceId] {
        match (self.0.tried.get(), self.0.resent.get()) {
            (Some(tried), _) => tried,
            (None, Some(resent)) => slice::from_ref(resent),
            (None, None) => &[],
        }
    }

    /// The kind of failure.
    pub fn kind(&self) -> &ErrorKind {
        &self.0.kind
    }

    /// Whether an instance may have seen the request. If not, the request can be sent again safely, even if it is not
    /// idempotent.
    ///
    /// If the error of the instance's service is an `Error` of another balancer, boxed or not, its `was_sent` counts. Errors
    /// further down the causes do not count: a service that calls two others may have done half of its work.
    pub fn was_sent(&self) -> bool {
        self.0.was_sent.load(Relaxed)
    }

    /// The cause itself: for [`ErrorKind::Call`] the error of the instance's service.
    pub fn into_source(self) -> Option<BoxError> {
        self.0.source
    }

    /// Finds the first `Error` in a chain of causes, below whatever other layers wrapped it in.
    ///
    /// Looks at `error` and at most 31 causes.
    pub fn find<'a>(error: &'a (dyn StdError + 'static)) -> Option<&'a Self> {
        chain(error).find_map(|error| error.downcast_ref())
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let target = &self.0.target;
        let source = self.0.source.as_deref();
        let driver = match source.is_some_and(|source| source.is::<NoDriver>()) {
            true => ", and no driver runs",
            false => "",
        };
        let told = match (&self.0.kind, &self.0.instance) {
            (ErrorKind::Unresolved, _) if !driver.is_empty() => {
                write!(f, "{target}: no driver runs that would ask discovery")
            }
            (ErrorKind::Unresolved, _) if self.0.source.is_some() => {
                write!(f, "{target}: discovery failed, and has no set yet")
            }
            (ErrorKind::Unresolved, _) => write!(f, "{target}: discovery has not answered yet"),
            (ErrorKind::NotVisible, _) => write!(f, "{target}: not visible from here"),
            (ErrorKind::Empty, _) => write!(f, "{target}: no instance is announced{driver}"),
            (ErrorKind::NoneUsable(census), _) => {
                write!(f, "{target}: no instance is usable ({census}){driver}")
            }
            (ErrorKind::Saturated, _)
                if source.is_some_and(|source| source.is::<TooManyWaiting>()) =>
            {
                write!(f, "{target}: too many calls wait for an instance")
            }
            (ErrorKind::Saturated, _) => {
                write!(f, "{target}: all usable instances are at max_in_flight")
            }
            (ErrorKind::Pinned(fault), Some(instance)) => {
                write!(
                    f,
                    "{target}: pinned to instance {instance}, which {fault}{driver}"
                )
            }
            (ErrorKind::Pinned(fault), None) => {
                write!(f, "{target}: pinned to an instance that {fault}{driver}")
            }
            (ErrorKind::Call, Some(instance)) if self.was_sent() => {
                write!(f, "{target}: call to instance {instance} failed")
            }
            (ErrorKind::Call, Some(instance)) => {
                write!(f, "{target}: call to instance {instance} was not sent")
            }
            (ErrorKind::Call, None) => write!(f, "{target}: call failed"),
            (ErrorKind::Deadline, Some(instance)) => {
                write!(
                    f,
                    "{target}: time ran out while instance {instance} had the call"
                )
            }
            (ErrorKind::Deadline, None) => {
                write!(f, "{target}: time ran out before an instance had the call")
            }
        };
        told?;
        for (position, id) in self.tried().iter().enumerate() {
            write!(f, "{}{id}", if position == 0 { ", after " } else { ", " })?;
        }
        Ok(())
    }
}

/// One line with all causes, as other libraries print errors. A cause that repeats the text before it is left out.
impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = self.to_string();
        for cause in chain(self).skip(1) {
            let cause = cause.to_string();
            if !text.contains(&cause) {
                text.push_str(": ");
                text.push_str(&cause);
            }
        }
        write!(f, "Error({text})")
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.0.source.as_deref().map(|source| source as _)
    }
}
