use std::fmt;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use tower_service::Service;

use super::attempt::Picked;
use super::classify::{Classify, ClassifyResult};
use super::control::Control;
use super::future::ResponseFuture;
use super::inner::Inner;
use super::waiting::{Waiting, end_lost};
use crate::error::{BoxError, Error};
use crate::fleet::Verdict;
use crate::model::target::Target;

/// Spreads requests over the instances of a [`Target`], each behind a service of its own.
///
/// Made by [`BalanceLayer`](crate::BalanceLayer). Clones share everything, and a clone costs one reference count. A request
/// takes no lock and allocates nothing, besides what the instance's service and its clone do. `&Balance` is a service too,
/// so that a shared or `static` balancer needs no clone. When the last clone is dropped and the last waiting call has ended,
/// the driver, its dials and its connections end.
///
/// # Readiness
///
/// [`poll_ready`](Service::poll_ready) is always ready and reserves nothing. [`call`](Service::call) picks an instance
/// for its request.
///
/// If no member is usable, the response waits. Once none has been usable for
/// [`unavailable_after`](crate::ConfigBuilder::unavailable_after), all calls fail at once. They yield to other tasks as
/// tokio's own resources do, so that a retry loop starves nobody. [`max_waiting`](crate::ConfigBuilder::max_waiting)
/// limits the calls that wait.
///
/// If the picked instance's service is not ready at once, a second one is polled too, and whichever is ready first gets
/// the request. A candidate that leaves the set, drains, is ejected or loses its connection is given up at once. If no
/// instance is usable then, the response waits as above. A caller that gives up during such a wait is no evidence
/// against any instance.
///
/// If a service fails in `poll_ready`, its connection counts as lost, and the request goes to another instance. The
/// connection stays if the cause is that this process has no file descriptors, local ports or memory left. The call then
/// picks again every 50 ms until it has waited for `unavailable_after`.
///
/// [`attempt_timeout`](crate::BalanceLayer::attempt_timeout) limits how long an instance may take to answer.
///
/// # Runtimes
///
/// The driver starts with [`layer`](tower_layer::Layer::layer) inside a tokio runtime with timers, otherwise with the
/// first call or wait that is polled inside one. The driver and all connections end with that runtime
/// ([`Event::DriverStopped`](crate::Event::DriverStopped)). The next call or wait that is polled inside a runtime starts
/// it again. Calls that wait in other runtimes are woken, and one of them starts it in its own. A new driver watches
/// discovery again and dials all known instances, and `unavailable_after` counts from its start. Ejections end when they
/// would have ended. So a `static` balancer works in any number of `#[tokio::test]`s. Outside a runtime, calls work
/// while a member is usable, and fail at once otherwise.
///
/// # Spans
///
/// Each attempt is recorded in the `tracing` span that is current when the response future is first polled. Of several
/// attempts the span keeps the last. Only fields that the span declares are recorded:
///
/// | Field | Value |
/// |---|---|
/// | `rolecall.instance` | the id of the instance that has the request |
/// | `rolecall.attempts` | how often the request was sent to an instance, this attempt included |
/// | `rolecall.waited_ms` | how long this attempt waited for an instance, in milliseconds |
///
/// ```
/// # let order = 1;
/// let span = tracing::info_span!(
///     "order",
///     order,
///     rolecall.instance = tracing::field::Empty,
///     rolecall.attempts = tracing::field::Empty,
///     rolecall.waited_ms = tracing::field::Empty,
/// );
/// ```
///
/// # Errors
///
/// [`Error::kind`] says why no instance was called, or is [`Call`](crate::ErrorKind::Call) with the error of the instance's
/// service as its source.
pub struct Balance<S, C = ClassifyResult> {
    inner: Arc<Inner<S, C>>,
}

impl<S, C> Balance<S, C> {
    pub(super) fn new(inner: Arc<Inner<S, C>>) -> Self {
        Self { inner }
    }

    /// The balanced target, with its boundary.
    pub fn target(&self) -> &Target {
        &self.inner.shared.target
    }

    /// The handle to observe and steer this balancer: status, events, ejection by hand, configuration.
    pub fn control(&self) -> &Control {
        &self.inner.control
    }

    #[inline]
    fn send<Req>(&self, request: Req) -> ResponseFuture<S, Req, C, C::Context>
    where
        S: Service<Req> + Clone + Send + Sync + 'static,
        S::Error: Into<BoxError>,
        C: Classify<Req, S::Response, S::Error> + Send + Sync + 'static,
    {
        let inner = &self.inner;
        let classifier = &inner.shared.classifier;
        let context = classifier.begin(&request);
        let hints = classifier.hints(&context);
        let mut picked = match Picked::pick(inner, hints) {
            Ok(picked) => picked,
            Err(why) if why.is_final() => {
                return ResponseFuture::failed(inner.refusal(&why, None));
            }
            Err(_) => {
                return match Waiting::new(Arc::clone(inner)) {
                    Ok(waiting) => ResponseFuture::waiting(waiting, request, context),
                    Err(error) => ResponseFuture::failed(error),
                };
            }
        };
        let mut service = picked.connected().service.clone();
        // Nearly every service is ready at once, and then the call needs no reference to the balancer. If this one is
        // not, the waiting call polls it again with a real waker.
        let ready = service.poll_ready(&mut Context::from_waker(Waker::noop()));
        if let Poll::Ready(Ok(())) = ready {
            let sending = hints.sending();
            inner.shared.count_sending(sending);
            return ResponseFuture::sent(picked, context, service.call(request), sending);
        }
        let waiting = Waiting::new(Arc::clone(inner));
        let waiting = match (waiting, ready) {
            (Ok(waiting), Poll::Ready(Err(error))) => waiting.after_loss(&mut picked, error.into()),
            (Ok(waiting), _) => waiting.with_candidate(picked, service),
            (Err(full), Poll::Ready(Err(error))) => {
                end_lost(&mut picked, &error.into());
                return ResponseFuture::failed(full);
            }
            (Err(full), _) => {
                picked.end(Verdict::Neutral);
                return ResponseFuture::failed(full);
            }
        };
        ResponseFuture::waiting(waiting, request, context)
    }
}

impl<S, C, Req> Service<Req> for Balance<S, C>
where
    S: Service<Req> + Clone + Send + Sync + 'static,
    S::Error: Into<BoxError>,
    C: Classify<Req, S::Response, S::Error> + Send + Sync + 'static,
{
    type Response = C::Response;
    type Error = Error;
    type Future = ResponseFuture<S, Req, C, C::Context>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Req) -> Self::Future {
        self.send(request)
    }
}

impl<S, C, Req> Service<Req> for &Balance<S, C>
where
    S: Service<Req> + Clone + Send + Sync + 'static,
    S::Error: Into<BoxError>,
    C: Classify<Req, S::Response, S::Error> + Send + Sync + 'static,
{
    type Response = C::Response;
    type Error = Error;
    type Future = ResponseFuture<S, Req, C, C::Context>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Req) -> Self::Future {
        self.send(request)
    }
}

impl<S, C> Clone for Balance<S, C> {
    fn clone(&self) -> Self {
        Self {
            inner: Arc::clone(&self.inner),
        }
    }
}

impl<S, C> fmt::Debug for Balance<S, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Balance")
            .field("target", self.target())
            .finish_non_exhaustive()
    }
}
