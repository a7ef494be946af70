//! Sends a request once more that no instance acted on.

use std::any::Any;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use http::request::Parts;
use http::{Request, Response};
use http_body::Body;
use pin_project_lite::pin_project;
use tower_layer::Layer;
use tower_service::Service;

use super::error::CallError;
use super::extensions::Tried;
use super::replay::ReplayBody;
use crate::error::{BoxError, Error, ErrorKind};
use crate::model::instance::InstanceId;

/// Sends a request once more if no instance acted on it: a layer for a [`Balance`](crate::Balance) over HTTP.
///
/// It acts on an [`Error`] of the kind [`Call`](ErrorKind::Call) that [was not sent](Error::was_sent): the connection had ended,
/// the instance refused the HTTP/2 stream (`REFUSED_STREAM`), or it left the request out when it closed the connection
/// (`GOAWAY`). The request goes to another instance if one is usable, else to the same one. It is sent again at once, without
/// backoff or budget, but only one time; then the error goes to the caller. [`Error::tried`], or the extension
/// [`Tried`](super::Tried) of the response, names the instance that did not act on it.
///
/// It sends nothing again if the request is at fault, if this process lacked a resource, such as file descriptors, if a
/// `GOAWAY` names an error, or if the body is not [replayable](ReplayBody::is_replayable) any more.
/// [`retry::Retry`](crate::retry) above it uses the one free resend too, and no second one.
///
/// ```
/// use http_body_util::Empty;
/// use rolecall::http::{Connector, HttpClassifier, ReplayBody, ResendLayer};
/// use rolecall::{BalanceLayer, Registry};
/// use tower::{Service, ServiceBuilder};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), rolecall::TargetError> {
/// let client = ServiceBuilder::new()
///     .layer(ResendLayer::new())
///     .layer(BalanceLayer::new(Registry::new(), "worker:http")?.classify(HttpClassifier::new()))
///     .service(Connector::<ReplayBody>::new().http2());
/// # fn is_client<T: Service<http::Request<Empty<bytes::Bytes>>>>(_: T) {}
/// # is_client(client);
/// # Ok(())
/// # }
/// ```
///
/// # Defaults
///
/// - [`enabled`](Self::enabled): true
///
/// # Cost
///
/// A clone of the request's head and of the service below, and what a [`ReplayBody`] costs.
#[derive(Debug, Clone, Copy)]
pub struct ResendLayer {
    is_enabled: bool,
}

impl ResendLayer {
    /// A layer that sends again.
    #[must_use]
    pub fn new() -> Self {
        Self { is_enabled: true }
    }

    /// Whether it sends anything again. If not, heads are not cloned and bodies not kept.
    #[must_use]
    pub fn enabled(mut self, enabled: bool) -> Self {
        self.is_enabled = enabled;
        self
    }
}

impl Default for ResendLayer {
    fn default() -> Self {
        Self::new()
    }
}

impl<S> Layer<S> for ResendLayer {
    type Service = Resend<S>;

    fn layer(&self, inner: S) -> Resend<S> {
        Resend {
            inner,
            is_enabled: self.is_enabled,
        }
    }
}

/// What [`ResendLayer`] makes.
#[derive(Debug, Clone)]
pub struct Resend<S> {
    inner: S,
    is_enabled: bool,
}

impl<S> Resend<S> {
    /// The service below, such as a [`Balance`](crate::Balance).
    pub fn get_ref(&self) -> &S {
        &self.inner
    }
}

/// Marks a request whose one free resend was used: an extension.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Resent;

impl<S, B, R> Service<Request<B>> for Resend<S>
where
    S: Service<Request<ReplayBody>, Response = Response<R>, Error: 'static> + Clone,
    B: Body<Error: Into<BoxError>> + Send + Unpin + 'static,
{
    type Response = Response<R>;
    type Error = S::Error;
    type Future = ResendFuture<S::Future, S>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let (head, body) = request.into_parts();
        let body = ReplayBody::new(body);
        let is_used = head.extensions.get::<Resent>().is_some();
        let spare = (self.is_enabled && !is_used)
            .then(|| body.replay())
            .flatten();
        let state = spare.map_or(State::Final, |body| {
            // A clone stays, so that the service that was asked for readiness is called.
            let service = self.inner.clone();
            let head = head.clone();
            State::First {
                service,
                head,
                body,
            }
        });
        let call = self.inner.call(Request::from_parts(head, body));
        ResendFuture { call, state }
    }
}

pin_project! {
    /// The response of a [`Resend`].
    ///
    /// # Cancellation
    ///
    /// Dropping it drops the call, and sends nothing again.
    #[must_use = "futures do nothing unless polled"]
    pub struct ResendFuture<F, S> {
        #[pin]
        call: F,
        state: State<S>,
    }
}

enum State<S> {
    /// The call may be made once more, with what is kept here.
    First {
        service: S,
        head: Parts,
        body: ReplayBody,
    },
    /// The request waits until the service is ready for it once more.
    Unready {
        service: S,
        request: Option<Request<ReplayBody>>,
        tried: InstanceId,
    },
    /// The request was with this instance before.
    Again(InstanceId),
    Final,
}

impl<F, S> ResendFuture<F, S> {
    /// The call that was made last.
    #[cfg(feature = "grpc")]
    pub(crate) fn call(&self) -> &F {
        &self.call
    }
}

impl<F, S, R> Future for ResendFuture<F, S>
where
    F: Future<Output = Result<Response<R>, S::Error>>,
    S: Service<Request<ReplayBody>, Response = Response<R>, Error: 'static, Future = F>,
{
    type Output = Result<Response<R>, S::Error>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        loop {
            if let State::Unready {
                service,
                request,
                tried,
            } = this.state
            {
                if let Err(error) = ready!(service.poll_ready(cx)) {
                    note(&error, tried);
                    *this.state = State::Final;
                    return Poll::Ready(Err(error));
                }
                let tried = tried.clone();
                if let Some(request) = request.take() {
                    this.call.set(service.call(request));
                }
                *this.state = State::Again(tried);
            }
            let mut result = ready!(this.call.as_mut().poll(cx));
            match std::mem::replace(this.state, State::Final) {
                State::First {
                    service,
                    head,
                    mut body,
                } => {
                    let unsent = result.as_ref().err().and_then(|error| unsent(error));
                    if let Some(error) = unsent
                        && let Some(instance) = error.instance()
                        && is_free(error)
                        && body.take_over()
                    {
                        let mut request = Request::from_parts(head, body);
                        request.extensions_mut().insert(Resent);
                        Tried::add(&mut request, Some(instance), true);
                        *this.state = State::Unready {
                            service,
                            request: Some(request),
                            tried: instance.clone(),
                        };
                        continue;
                    }
                }
                State::Again(tried) => match &mut result {
                    Ok(response) => Tried::note(response, tried),
                    Err(error) => note(error, &tried),
                },
                State::Unready { .. } | State::Final => {}
            }
            return Poll::Ready(result);
        }
    }
}

/// Names the instance that did not act on the request, in the error of the resend.
fn note(error: &dyn Any, tried: &InstanceId) {
    if let Some(error) = ours(error) {
        error.note_resent(tried);
    }
}

/// The error of an instance that did not act on the request.
fn unsent(error: &dyn Any) -> Option<&Error> {
    ours(error).filter(|error| matches!(error.kind(), ErrorKind::Call) && !error.was_sent())
}

/// Whether a request with this error, which was not sent, is sent again without budget and backoff.
pub(crate) fn is_free(error: &Error) -> bool {
    let call = CallError::find(error);
    call.is_none_or(|call| {
        !call.is_callers() && !call.is_local_fault() && !call.is_go_away_with_error()
    })
}

/// Our error, below what other layers put round it, if the outermost is a box.
pub(crate) fn ours(error: &dyn Any) -> Option<&Error> {
    match error.downcast_ref::<BoxError>() {
        Some(boxed) => Error::find(&**boxed),
        None => error.downcast_ref(),
    }
}

impl<F, S> fmt::Debug for ResendFuture<F, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResendFuture").finish_non_exhaustive()
    }
}
