//! The service.

use std::convert::Infallible;
use std::fmt;
use std::future::{Future, ready};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use http::{Method, Request, Response, StatusCode, header::HeaderValue, header::RETRY_AFTER};
use http_body::Body;
use serde::Serialize;
use tower_service::Service;

use super::body::ConsoleBody;
use super::controls::{self, Action};
use super::page::page;
use super::parameters::parameter;
use super::recorder::{Recorder, Watched};
use super::response::{EVENTS, JSON, not_allowed, response, text};
use super::stream;
use super::view::View;
use crate::balance::control::Control;
use crate::explain::Explanation;
use crate::status::Status;

/// Shows balancers over HTTP: a tower service to mount on an admin port. The [module](crate::console) says what it serves.
///
/// It does not keep the balancers alive. A clone costs one reference count and shows the same.
#[derive(Clone)]
pub struct Console {
    recorder: Arc<Recorder>,
    token: Option<Arc<str>>,
}

impl Console {
    /// A console without balancers.
    #[must_use]
    pub fn new() -> Self {
        Self {
            recorder: Arc::new(Recorder::new(Vec::new())),
            token: None,
        }
    }

    /// Shows a balancer under a name. A name that is there already gets this balancer instead.
    ///
    /// The balancer keeps its last 1024 events from now on, so that whoever opens the page sees what led to a fault.
    #[must_use]
    pub fn add(self, name: impl Into<String>, control: &Control) -> Self {
        let name: Arc<str> = name.into().into();
        let others = self.recorder.targets().iter();
        let others = others.filter(|watched| watched.name != name);
        let others = others.map(|watched| (watched.name.clone(), watched.control.clone()));
        let all = others.chain([(name.clone(), control.clone())]);
        let watched = all.map(|(name, control)| Watched::new(name, control));
        Self {
            recorder: Arc::new(Recorder::new(watched.collect())),
            ..self
        }
    }

    /// Allows whoever has the token to eject and restore instances, and to switch the rules between ejecting and
    /// [only reporting](crate::OutlierBuilder::shadow). By default nobody may.
    ///
    /// | Path | Form |
    /// |---|---|
    /// | `POST /eject` | `target=jobs&id=pay-1&seconds=60`, at most a day |
    /// | `POST /restore` | `target=jobs&id=pay-1` |
    /// | `POST /shadow` | `target=jobs&shadow=on`, or `off` |
    ///
    /// The token comes as `Authorization: Bearer …`, or as the field `token`, which the page sends. It is compared in constant
    /// time, and an empty one admits nobody. Take at least 16 random bytes: attempts are not counted. The console itself
    /// speaks no TLS.
    ///
    /// Requests of other sites are refused: those with an `Origin` that is not the `Host`, or a `Sec-Fetch-Site` that is not
    /// `same-origin`. A proxy in between has to keep `Host`. A form has at most 4 kB, and must come within 10 s.
    ///
    /// ```text
    /// curl -H "Authorization: Bearer $TOKEN" -d 'target=jobs&id=pay-1&seconds=60' http://127.0.0.1:9000/console/eject
    /// ```
    #[must_use]
    pub fn with_controls(self, token: impl Into<String>) -> Self {
        let token = Some(token.into().into());
        Self { token, ..self }
    }

    fn answer<B>(&self, request: Request<B>) -> ConsoleFuture
    where
        B: Body + Send + 'static,
    {
        let (head, body) = request.into_parts();
        let query = head.uri.query().unwrap_or_default();
        let read = match route(head.uri.path(), query) {
            Some(Route::Control(action)) if let Some(token) = self.token.clone() => {
                if head.method != Method::POST {
                    return ConsoleFuture::of(not_allowed("POST"));
                }
                let recorder = Arc::clone(&self.recorder);
                return ConsoleFuture(Box::pin(async move {
                    controls::act(&recorder, &token, action, (head, body)).await
                }));
            }
            Some(Route::Control(_)) | None => {
                return ConsoleFuture::of(text(StatusCode::NOT_FOUND, "no such path"));
            }
            Some(Route::Read(read)) => read,
        };
        drop(body);
        if head.method != Method::GET && head.method != Method::HEAD {
            return ConsoleFuture::of(not_allowed("GET, HEAD"));
        }
        let is_head = head.method == Method::HEAD;
        let answer = match read {
            Read::Page => {
                self.recorder.look();
                page(&self.recorder, &self.view(query))
            }
            Read::Status => self.status(),
            Read::Events if is_head => {
                response(StatusCode::OK, EVENTS, ConsoleBody::whole(Vec::new()))
            }
            Read::Events => self.events(query),
        };
        ConsoleFuture::of(if is_head {
            without_body(answer)
        } else {
            answer
        })
    }

    fn view(&self, query: &str) -> View {
        View {
            target: parameter(query, "target"),
            is_whole: parameter(query, "all").is_some(),
            has_controls: self.token.is_some(),
        }
    }

    fn events(&self, query: &str) -> Response<ConsoleBody> {
        let sees_pages = parameter(query, "view").is_some();
        let Some(viewer) = self.recorder.follow(sees_pages) else {
            let mut full = text(
                StatusCode::SERVICE_UNAVAILABLE,
                "too many connections follow events",
            );
            let after = HeaderValue::from_static("10");
            full.headers_mut().insert(RETRY_AFTER, after);
            return full;
        };
        let body = if sees_pages {
            self.recorder.look();
            ConsoleBody::events(stream::pages(viewer, self.view(query)))
        } else {
            ConsoleBody::events(stream::events(viewer))
        };
        response(StatusCode::OK, EVENTS, body)
    }

    fn status(&self) -> Response<ConsoleBody> {
        #[derive(Serialize)]
        struct Whole<'a> {
            targets: Vec<Target<'a>>,
        }

        #[derive(Serialize)]
        struct Target<'a> {
            name: &'a str,
            status: Status,
            explanation: Explanation,
            text: String,
        }

        let target = |watched: &'_ Watched| {
            let status = watched.control.status();
            let explanation = status.explain();
            (status, explanation)
        };
        let targets = self.recorder.targets().iter().map(|watched| {
            let (status, explanation) = target(watched);
            Target {
                name: &watched.name,
                text: explanation.to_string(),
                status,
                explanation,
            }
        });
        let whole = Whole {
            targets: targets.collect(),
        };
        match serde_json::to_vec(&whole) {
            Ok(json) => response(StatusCode::OK, JSON, ConsoleBody::whole(json)),
            Err(error) => text(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()),
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Route {
    Read(Read),
    Control(Action),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Read {
    Page,
    Status,
    Events,
}

/// The page itself asks by `?at=events`: a relative link with a path would depend on whether the prefix that the console is
/// mounted under ends with a slash.
fn route(path: &str, query: &str) -> Option<Route> {
    let path = path.strip_prefix('/').unwrap_or(path);
    let at = parameter(query, "at").filter(|_| path.is_empty());
    Some(match at.as_deref().unwrap_or(path) {
        "" => Route::Read(Read::Page),
        "status.json" => Route::Read(Read::Status),
        "events" => Route::Read(Read::Events),
        "eject" => Route::Control(Action::Eject),
        "restore" => Route::Control(Action::Restore),
        "shadow" => Route::Control(Action::Shadow),
        _ => return None,
    })
}

/// The same head, which says how long the body would be.
fn without_body(answer: Response<ConsoleBody>) -> Response<ConsoleBody> {
    let length = answer.body().size_hint().exact();
    let mut answer = answer.map(|_| ConsoleBody::whole(Vec::new()));
    let events = HeaderValue::from_static(EVENTS);
    let is_endless = answer.headers().get(http::header::CONTENT_TYPE) == Some(&events);
    if let Some(length) = length.filter(|_| !is_endless) {
        let headers = answer.headers_mut();
        headers.insert(http::header::CONTENT_LENGTH, length.into());
    }
    answer
}

impl<B> Service<Request<B>> for Console
where
    B: Body + Send + 'static,
{
    type Response = Response<ConsoleBody>;
    type Error = Infallible;
    type Future = ConsoleFuture;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> ConsoleFuture {
        self.answer(request)
    }
}

/// The response of a [`Console`].
///
/// # Cancellation
///
/// A control that was not read yet has no effect if this is dropped.
pub struct ConsoleFuture(Pin<Box<dyn Future<Output = Response<ConsoleBody>> + Send>>);

impl ConsoleFuture {
    fn of(response: Response<ConsoleBody>) -> Self {
        Self(Box::pin(ready(response)))
    }
}

impl Future for ConsoleFuture {
    type Output = Result<Response<ConsoleBody>, Infallible>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.0.as_mut().poll(cx).map(Ok)
    }
}

impl fmt::Debug for ConsoleFuture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ConsoleFuture").finish_non_exhaustive()
    }
}

impl Default for Console {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Console {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = self.recorder.targets().iter().map(|watched| &watched.name);
        f.debug_struct("Console")
            .field("targets", &names.collect::<Vec<_>>())
            .field("has_controls", &self.token.is_some())
            .finish_non_exhaustive()
    }
}
