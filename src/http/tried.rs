//! Which instances had a request before.

use http::{Request, Response};

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

/// Of a request that was not sent before it is empty, and allocates nothing.
pub(crate) fn of<B>(request: &Request<B>) -> Tried {
    request.extensions().get().cloned().unwrap_or_default()
}

/// Counts an attempt of a request that is sent again, and makes the request avoid its instance, if that is known.
pub(crate) fn add<B>(request: &mut Request<B>, id: Option<&InstanceId>, is_resend: bool) {
    let tried = request.extensions_mut().get_or_insert_default::<Tried>();
    match id {
        Some(id) => tried.extend([id.clone()]),
        None => tried.attempts += 1,
    }
    tried.is_resend = is_resend;
}

/// Names the instance that had a request before, in its response.
pub(super) fn note<B>(response: &mut Response<B>, id: InstanceId) {
    let mut tried = Tried::default();
    tried.extend([id]);
    response.extensions_mut().insert(tried);
}
