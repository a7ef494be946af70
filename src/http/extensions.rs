//! What requests and responses carry as extensions: which instances had a request before, which one it must go to, and which
//! one answered.

use std::sync::Arc;
use std::time::Duration;

use http::{Extensions, HeaderMap, Request, Response};

use crate::balance::Attempt;
use crate::model::hints::{Hints, Sending};
use crate::model::instance::InstanceId;

/// Instances that a request had better not go to, since it was there before: an extension of [`http::Request`].
///
/// [`HttpClassifier`](super::HttpClassifier) and that of `grpc` [avoid](crate::Hints::avoid) them while another one is
/// usable. [`Resend`](super::Resend) and the feature `retry` write it, and leave it in the extensions of the response too. So
/// may a retry loop of your own, or a caller that wants a second opinion:
///
/// ```
/// use rolecall::http::{Tried, answered_by};
/// # fn again(response: http::Response<()>, mut request: http::Request<()>) -> http::Request<()> {
/// let mut tried = Tried::default();
/// tried.extend(answered_by(&response).cloned());
/// request.extensions_mut().insert(tried);
/// # request
/// # }
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tried {
    instances: Vec<InstanceId>,
    attempts: usize,
    /// Whether the request is sent again by the free resend, not by a retry.
    is_resend: bool,
}

impl Tried {
    /// Of a request that was not sent before it is empty, and allocates nothing.
    pub(crate) fn of<B>(request: &Request<B>) -> Self {
        request.extensions().get().cloned().unwrap_or_default()
    }

    /// Counts an attempt of a request that is sent again, and makes the request avoid its instance, if that is known.
    pub(crate) fn add<B>(request: &mut Request<B>, id: Option<&InstanceId>, is_resend: bool) {
        let tried = request.extensions_mut().get_or_insert_default::<Self>();
        match id {
            Some(id) => tried.extend([id.clone()]),
            None => tried.attempts += 1,
        }
        tried.is_resend = is_resend;
    }

    /// Names the instance that had a request before, in its response.
    pub(super) fn note<B>(response: &mut Response<B>, id: InstanceId) {
        let mut tried = Self::default();
        tried.extend([id]);
        response.extensions_mut().insert(tried);
    }

    /// The instances, the first one tried first.
    #[must_use]
    pub fn instances(&self) -> &[InstanceId] {
        &self.instances
    }

    /// How many attempts there were, several with one instance included.
    pub(crate) fn attempts(&self) -> usize {
        self.attempts
    }

    /// What a pick for the request needs to know of these attempts.
    pub(crate) fn hints(&self) -> Hints<'_> {
        let earlier_attempts = u32::try_from(self.attempts).unwrap_or(u32::MAX);
        let sending = match self.attempts {
            0 => Sending::First,
            _ if self.is_resend => Sending::Resend { earlier_attempts },
            _ => Sending::Retry { earlier_attempts },
        };
        Hints::avoid(&self.instances).for_sending(sending)
    }
}

impl Extend<InstanceId> for Tried {
    /// Adds an attempt with each of these instances. Those that are there already are not repeated.
    fn extend<I: IntoIterator<Item = InstanceId>>(&mut self, instances: I) {
        self.is_resend = false;
        for id in instances {
            self.attempts += 1;
            if !self.instances.contains(&id) {
                self.instances.push(id);
            }
        }
    }
}

/// Pins a request to one instance: an extension of [`http::Request`], or of `tonic::Request`.
///
/// [`HttpClassifier`](super::HttpClassifier) and that of `grpc` [pin](crate::Hints::pin) the request to it. A request that is
/// sent again stays pinned. [`answered_by`](super::answered_by) says which instance to keep.
///
/// ```
/// use rolecall::http::{PinTo, answered_by};
/// # fn follow(first: http::Response<()>, mut request: http::Request<()>) -> http::Request<()> {
/// if let Some(id) = answered_by(&first) {
///     request.extensions_mut().insert(PinTo(id.clone()));
/// }
/// # request
/// # }
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PinTo(pub InstanceId);

/// The instances that a request had better not go to, and the one that it must go to.
pub(crate) type Wishes = (Tried, Option<InstanceId>);

/// Finds the instance in the headers of a request.
pub(crate) type Pins = Arc<dyn Fn(&HeaderMap) -> Option<InstanceId> + Send + Sync>;

impl PinTo {
    /// The instance that a request must go to: as marked, else as `pins` finds in its headers.
    pub(crate) fn of<B>(request: &Request<B>, pins: Option<&Pins>) -> Option<InstanceId> {
        let marked = request.extensions().get().map(|Self(id)| id.clone());
        marked.or_else(|| pins.and_then(|pins| pins(request.headers())))
    }
}

/// What a request asks of a pick.
pub(crate) fn hints<'c>(tried: &'c Tried, pin: &'c Option<InstanceId>) -> Hints<'c> {
    tried.hints().pinned_to(pin.as_ref())
}

/// Which instance gave a response, and what it took: an extension of the responses that
/// [`HttpClassifier`](super::HttpClassifier) or that of `grpc` classified.
///
/// ```
/// # fn log(response: http::Response<()>) {
/// if let Some(answered) = response.extensions().get::<rolecall::http::Answered>() {
///     println!("{} after {} attempts", answered.instance, answered.attempts);
/// }
/// # }
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Answered {
    /// The instance that gave the response.
    pub instance: InstanceId,
    /// How often the request was given to an instance, this time included: 1 unless it was sent again.
    pub attempts: usize,
    /// How long the last attempt waited for an instance that is usable and ready. Zero if one was there at once.
    pub waited: Duration,
}

impl Answered {
    /// Leaves it in a response.
    pub(crate) fn note(extensions: &mut Extensions, attempt: &Attempt, tried: &Tried) {
        extensions.insert(Self {
            instance: attempt.instance().id().clone(),
            attempts: tried.attempts() + 1,
            waited: attempt.waited(),
        });
    }
}

/// The instance that gave a response, if [`HttpClassifier`](super::HttpClassifier) classified it.
#[must_use]
pub fn answered_by<B>(response: &Response<B>) -> Option<&InstanceId> {
    instance_of(response.extensions())
}

pub(crate) fn instance_of(extensions: &Extensions) -> Option<&InstanceId> {
    extensions
        .get()
        .map(|answered: &Answered| &answered.instance)
}
