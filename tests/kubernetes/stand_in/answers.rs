//! Requests of the API and their answers.

use std::collections::{BTreeSet, HashMap};
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use futures::{StreamExt, stream};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::{Method, Request, Response, StatusCode};
use serde_json::{Value, json};
use tokio::time;

use super::store::{Key, Selection, plural};
use super::{Cut, Mode, Shared};

pub(crate) type Answer = Response<BoxBody<Bytes, io::Error>>;

/// How often a watch gets a bookmark.
const BOOKMARKS: Duration = Duration::from_secs(1);

const GARBAGE: &str = "{\"type\":\"ADDED\",\"object\":[]}\n";

pub(crate) async fn answer(shared: Arc<Shared>, request: Request<Incoming>) -> Answer {
    let mut mode = shared.mode.subscribe();
    // A stopped process goes on when it is continued.
    let mode = match mode.wait_for(|mode| *mode != Mode::Stopped).await {
        Ok(mode) => *mode,
        Err(_) => Mode::Serving,
    };
    let (head, body) = request.into_parts();
    let Ok(body) = body
        .collect()
        .await
        .map(http_body_util::Collected::to_bytes)
    else {
        return status(StatusCode::BAD_REQUEST, "BadRequest", "the body is cut off");
    };
    let path = head.uri.path().trim_matches('/').to_owned();
    let query = parameters(head.uri.query().unwrap_or_default());
    let parts: Vec<_> = path.split('/').collect();
    if mode == Mode::Garbage {
        return text(StatusCode::OK, "text/html", "<html>busy</html>".into());
    }
    // Core resources are under /api/v1, those of a group under /apis/group/version.
    let (group, version, resource) = match &*parts {
        ["api"] => return object(&json!({ "kind": "APIVersions", "versions": ["v1"] })),
        ["apis"] => return object(&groups()),
        ["api", version] => return object(&resources("", version)),
        ["apis", group, version] => return object(&resources(group, version)),
        ["version"] => {
            let version = json!({ "major": "1", "minor": "37", "gitVersion": "v1.37.0-stand-in" });
            return object(&version);
        }
        ["api", version, resource @ ..] => ("", *version, resource),
        ["apis", group, version, resource @ ..] => (*group, *version, resource),
        _ => return not_found(&path),
    };
    let (namespace, plural, name) = match resource {
        ["namespaces", namespace, plural] => (Some(*namespace), *plural, None),
        ["namespaces", namespace, plural, name] => (Some(*namespace), *plural, Some(*name)),
        [plural] => (None, *plural, None),
        _ => return not_found(&path),
    };
    let verb = match (&head.method, name) {
        (&Method::GET, None) if query.get("watch").is_some_and(|watch| is_true(watch)) => "watch",
        (&Method::GET, None) => "list",
        (&Method::GET, Some(_)) => "get",
        (&Method::POST, None) => "create",
        (&Method::PATCH | &Method::PUT, Some(_)) => "patch",
        (&Method::DELETE, Some(_)) => "delete",
        _ => {
            return status(
                StatusCode::METHOD_NOT_ALLOWED,
                "MethodNotAllowed",
                "no such verb",
            );
        }
    };
    let asked = (verb, (*plural).to_owned());
    shared.count(|counts| counts.asked.insert(asked));
    if mode == Mode::Forbidden {
        let of = if group.is_empty() { "" } else { "." };
        let place = namespace.unwrap_or_default();
        let message = format!(
            "{plural}{of}{group} is forbidden: User \"system:serviceaccount:shop:worker\" cannot {verb} resource \
             \"{plural}\" in API group \"{group}\" in the namespace \"{place}\""
        );
        return status(StatusCode::FORBIDDEN, "Forbidden", &message);
    }
    let selection = Selection {
        plural: (*plural).to_owned(),
        namespace: namespace.map(str::to_owned),
        labels: selector(&query, "labelSelector"),
        fields: selector(&query, "fieldSelector"),
    };
    let place = namespace.unwrap_or_default();
    match (verb, name) {
        ("watch", _) => watch(shared, selection, &query),
        ("list", _) => list(&shared, &selection, &query, group, version, mode),
        ("get", Some(name)) => match shared.store().get(plural, place, name) {
            Some(found) => object(&found),
            None => missing(plural, group, name),
        },
        ("create", _) => write(&shared, &body, place, StatusCode::CREATED, None),
        ("patch", Some(name)) => {
            let Some(before) = shared.store().get(plural, place, name) else {
                return missing(plural, group, name);
            };
            let before = (head.method == Method::PATCH).then_some(before);
            write(&shared, &body, place, StatusCode::OK, before)
        }
        ("delete", Some(name)) => {
            let gone = shared.store().delete(plural, place, name);
            shared.changed.send_replace(());
            match gone {
                Some(gone) => object(&gone),
                None => missing(plural, group, name),
            }
        }
        _ => not_found(&path),
    }
}

fn list(
    shared: &Shared,
    selection: &Selection,
    query: &HashMap<String, String>,
    group: &str,
    version: &str,
    mode: Mode,
) -> Answer {
    shared.count(|counts| counts.lists += 1);
    let limit = query.get("limit").and_then(|limit| limit.parse().ok());
    let from: Option<Key> = query
        .get("continue")
        .and_then(|token| serde_json::from_str(token).ok());
    let store = shared.store();
    let limit = limit.filter(|limit| *limit > 0).unwrap_or(usize::MAX);
    let (mut items, more) = store.list(selection, from.as_ref(), limit);
    if mode == Mode::Empty {
        items.clear();
    }
    let kind = items
        .first()
        .map_or("", |item| item["kind"].as_str().unwrap_or_default());
    let kind = if kind.is_empty() {
        kind_of(&selection.plural)
    } else {
        kind
    };
    let group_version = if group.is_empty() {
        version.to_owned()
    } else {
        format!("{group}/{version}")
    };
    let mut metadata = json!({ "resourceVersion": store.version.to_string() });
    if let Some(more) = more {
        metadata["continue"] = json!(more).to_string().into();
    }
    object(&json!({
        "apiVersion": group_version,
        "kind": format!("{kind}List"),
        "metadata": metadata,
        "items": items,
    }))
}

/// Counts a watch while it is open.
struct OpenWatch(Arc<Shared>);

impl Drop for OpenWatch {
    fn drop(&mut self) {
        self.0.count(|counts| counts.open_watches -= 1);
    }
}

/// What a watch has sent and is to send.
struct Watching {
    open: OpenWatch,
    selection: Selection,
    after: u64,
    ends: time::Instant,
    bookmark: Option<time::Instant>,
    cut: tokio::sync::watch::Receiver<(u64, Cut)>,
    changed: tokio::sync::watch::Receiver<()>,
    silence: tokio::sync::watch::Receiver<u64>,
    is_over: bool,
}

fn watch(shared: Arc<Shared>, selection: Selection, query: &HashMap<String, String>) -> Answer {
    shared.count(|counts| {
        counts.watches += 1;
        counts.open_watches += 1;
    });
    let number = |name: &str| query.get(name).and_then(|value| value.parse::<u64>().ok());
    let seconds = number("timeoutSeconds").unwrap_or(1800);
    let wants_bookmarks = query
        .get("allowWatchBookmarks")
        .is_some_and(|value| is_true(value));
    let now = time::Instant::now();
    let watching = Watching {
        selection,
        after: number("resourceVersion").unwrap_or_default(),
        ends: now + Duration::from_secs(seconds),
        bookmark: wants_bookmarks.then(|| now + BOOKMARKS),
        cut: shared.cut.subscribe(),
        changed: shared.changed.subscribe(),
        silence: shared.silence.subscribe(),
        is_over: false,
        open: OpenWatch(shared),
    };
    let lines = stream::unfold(watching, |mut watching| async move {
        let lines = watching.next().await?;
        Some((lines, watching))
    });
    let frames = lines.map(|lines| lines.map(|text| Frame::data(Bytes::from(text))));
    let mut answer = Response::new(BodyExt::boxed(StreamBody::new(Box::pin(frames))));
    let json = hyper::header::HeaderValue::from_static("application/json");
    answer
        .headers_mut()
        .insert(hyper::header::CONTENT_TYPE, json);
    answer
}

impl Watching {
    /// The next lines; an error breaks the connection.
    async fn next(&mut self) -> Option<Result<String, io::Error>> {
        if self.is_over {
            return None;
        }
        loop {
            if self
                .silence
                .has_changed()
                .is_ok_and(|has_changed| has_changed)
            {
                std::future::pending::<()>().await;
            }
            // Before any news, so that what comes after the cut is left to the next watch.
            if self.cut.has_changed().is_ok_and(|has_changed| has_changed) {
                self.is_over = true;
                let (_, how) = *self.cut.borrow_and_update();
                return match how {
                    Cut::Properly => None,
                    Cut::Broken => Some(Err(io::ErrorKind::BrokenPipe.into())),
                };
            }
            self.changed.mark_unchanged();
            if self.open.0.garbage_due.swap(false, Ordering::Relaxed) {
                self.is_over = true;
                return Some(Ok(GARBAGE.into()));
            }
            let mode = *self.open.0.mode.borrow();
            let (events, version) = {
                let store = self.open.0.store();
                (store.events(&self.selection, self.after), store.version)
            };
            match (mode, events) {
                (Mode::Stopped, _) => {}
                (Mode::Garbage, _) => {
                    self.is_over = true;
                    return Some(Ok(GARBAGE.into()));
                }
                (_, None) => {
                    self.is_over = true;
                    let error = failure(StatusCode::GONE, "Expired", "too old resource version");
                    return Some(Ok(format!(
                        "{}\n",
                        json!({ "type": "ERROR", "object": error })
                    )));
                }
                (_, Some(events)) => {
                    self.after = self.after.max(version);
                    if !events.is_empty() {
                        let lines = events.iter().map(|event| format!("{event}\n"));
                        return Some(Ok(lines.collect()));
                    }
                }
            }
            let bookmark = async {
                match self.bookmark {
                    Some(at) => time::sleep_until(at).await,
                    None => std::future::pending().await,
                }
            };
            let mut modes = self.open.0.mode.subscribe();
            tokio::select! {
                _ = self.changed.changed() => {}
                _ = modes.changed() => {}
                () = rung(self.silence.clone()) => {}
                () = rung(self.cut.clone()) => {}
                () = time::sleep_until(self.ends), if mode != Mode::Stopped => return None,
                () = bookmark, if mode != Mode::Stopped => {
                    self.bookmark = Some(time::Instant::now() + BOOKMARKS);
                    let kind = kind_of(&self.selection.plural);
                    let version = self.after.to_string();
                    let bookmark = json!({ "type": "BOOKMARK", "object": {
                        "kind": kind, "apiVersion": "v1", "metadata": { "resourceVersion": version },
                    }});
                    return Some(Ok(format!("{bookmark}\n")));
                }
            }
        }
    }
}

/// Waits for news and leaves it unseen.
async fn rung<T>(mut bell: tokio::sync::watch::Receiver<T>) {
    let _ = bell.changed().await;
}

/// Writes an object, or with `before` what a merge patch makes of it.
fn write(
    shared: &Shared,
    body: &[u8],
    namespace: &str,
    code: StatusCode,
    before: Option<Value>,
) -> Answer {
    let Ok(sent) = serde_json::from_slice::<Value>(body) else {
        return status(
            StatusCode::BAD_REQUEST,
            "BadRequest",
            "the body is not JSON",
        );
    };
    let mut written = match before {
        Some(mut before) => {
            merge(&mut before, &sent);
            before
        }
        None => sent,
    };
    written["metadata"]["namespace"] = namespace.into();
    let stored = shared.store().put(written);
    shared.changed.send_replace(());
    text(code, "application/json", stored.to_string())
}

fn merge(into: &mut Value, patch: &Value) {
    let (Value::Object(into), Value::Object(patch)) = (&mut *into, patch) else {
        *into = patch.clone();
        return;
    };
    for (key, value) in patch {
        if value.is_null() {
            into.remove(key);
        } else if !key.starts_with('$') {
            merge(into.entry(key.clone()).or_insert(Value::Null), value);
        }
    }
}

const KINDS: &[(&str, &str, &str)] = &[
    ("", "v1", "Pod"),
    ("", "v1", "Service"),
    ("", "v1", "Event"),
    ("", "v1", "ServiceAccount"),
    ("apps", "v1", "Deployment"),
    ("discovery.k8s.io", "v1", "EndpointSlice"),
    ("rbac.authorization.k8s.io", "v1", "Role"),
    ("rbac.authorization.k8s.io", "v1", "RoleBinding"),
];

fn kind_of(wanted: &str) -> &'static str {
    let kind = KINDS.iter().find(|(_, _, kind)| plural(kind) == wanted);
    kind.map_or("", |(_, _, kind)| kind)
}

fn groups() -> Value {
    let names: BTreeSet<_> = KINDS.iter().map(|kind| (kind.0, kind.1)).collect();
    let groups = names.into_iter().filter(|(group, _)| !group.is_empty());
    let groups = groups.map(|(group, version)| {
        let version = json!({ "groupVersion": format!("{group}/{version}"), "version": version });
        json!({ "name": group, "versions": [version], "preferredVersion": version })
    });
    json!({ "kind": "APIGroupList", "apiVersion": "v1", "groups": groups.collect::<Vec<_>>() })
}

fn resources(group: &str, version: &str) -> Value {
    let kinds = KINDS
        .iter()
        .filter(|kind| (kind.0, kind.1) == (group, version));
    let resources: Vec<_> = kinds
        .map(|(_, _, kind)| {
            json!({
                "name": plural(kind), "singularName": kind.to_lowercase(), "namespaced": true, "kind": kind,
                "verbs": ["create", "delete", "get", "list", "patch", "update", "watch"],
            })
        })
        .collect();
    let group_version = if group.is_empty() {
        version.to_owned()
    } else {
        format!("{group}/{version}")
    };
    json!({
        "kind": "APIResourceList", "apiVersion": "v1", "groupVersion": group_version, "resources": resources,
    })
}

fn failure(code: StatusCode, reason: &str, message: &str) -> Value {
    json!({
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
        "message": message, "reason": reason, "code": code.as_u16(),
    })
}

fn status(code: StatusCode, reason: &str, message: &str) -> Answer {
    text(
        code,
        "application/json",
        failure(code, reason, message).to_string(),
    )
}

fn missing(plural: &str, group: &str, name: &str) -> Answer {
    let of = if group.is_empty() { "" } else { "." };
    let message = format!("{plural}{of}{group} \"{name}\" not found");
    status(StatusCode::NOT_FOUND, "NotFound", &message)
}

fn not_found(path: &str) -> Answer {
    let message = format!("the server could not find the requested resource: {path}");
    status(StatusCode::NOT_FOUND, "NotFound", &message)
}

fn object(object: &Value) -> Answer {
    text(StatusCode::OK, "application/json", object.to_string())
}

fn text(code: StatusCode, kind: &'static str, text: String) -> Answer {
    let body = Full::new(Bytes::from(text)).map_err(|never| match never {});
    let mut answer = Response::new(BodyExt::boxed(body));
    *answer.status_mut() = code;
    let kind = hyper::header::HeaderValue::from_static(kind);
    answer
        .headers_mut()
        .insert(hyper::header::CONTENT_TYPE, kind);
    answer
}

fn is_true(text: &str) -> bool {
    text == "true" || text == "1"
}

fn parameters(query: &str) -> HashMap<String, String> {
    let pairs = query.split('&').filter_map(|pair| pair.split_once('='));
    pairs
        .map(|(key, value)| (decoded(key), decoded(value)))
        .collect()
}

/// `a=b,c=d`, also written `a==b`.
fn selector(query: &HashMap<String, String>, name: &str) -> Vec<(String, String)> {
    let text = query.get(name).map_or("", String::as_str);
    let terms = text.split(',').filter_map(|term| term.split_once('='));
    terms
        .map(|(key, value)| (key.to_owned(), value.trim_start_matches('=').to_owned()))
        .collect()
}

fn decoded(text: &str) -> String {
    let mut bytes = text.bytes();
    let mut decoded = Vec::new();
    while let Some(byte) = bytes.next() {
        decoded.push(match byte {
            b'+' => b' ',
            b'%' => {
                let digits: Vec<u8> = bytes.by_ref().take(2).collect();
                let digits = std::str::from_utf8(&digits).unwrap_or_default();
                u8::from_str_radix(digits, 16).unwrap_or(b'?')
            }
            byte => byte,
        });
    }
    String::from_utf8_lossy(&decoded).into_owned()
}
