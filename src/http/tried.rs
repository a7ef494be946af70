//! Which instances had a request before.

use http::{Request, Response};

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
}

impl Extend<InstanceId> for Tried {
    /// Adds an attempt with each of these instances. Those that are there already are not repeated.
    fn extend<I: IntoIterator<Item = InstanceId>>(&mut self, instances: I) {
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

/// Makes a request avoid one more instance.
pub(crate) fn add<B>(request: &mut Request<B>, id: &InstanceId) {
    let tried = request.extensions_mut().get_or_insert_default::<Tried>();
    tried.extend([id.clone()]);
}

/// Names the instance that had a request before, in its response.
pub(super) fn note<B>(response: &mut Response<B>, id: InstanceId) {
    let mut tried = Tried::default();
    tried.extend([id]);
    response.extensions_mut().insert(tried);
}
