//! A small catalog server: records with a time to live, and a list that can be waited for.

use std::collections::BTreeMap;
use std::net::TcpListener;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use axum::extract::{RawQuery, State};
use axum::http::{HeaderMap, StatusCode};
use axum::routing::get;
use serde_json::Value;
use tokio::runtime::Builder;
use tokio::sync::{oneshot, watch};
use tokio::time::{self, Instant};

/// Many times what a renewal takes on a machine that is busy with something else.
pub(crate) const TIME_TO_LIVE: Duration = Duration::from_secs(5);
const LONG_POLL: Duration = Duration::from_secs(10);

/// Runs on a thread of its own until it is dropped.
pub(crate) struct Server {
    url: String,
    catalog: Arc<Catalog>,
    _end: oneshot::Sender<()>,
}

struct Catalog {
    records: Mutex<BTreeMap<String, Stored>>,
    /// The version of the list, and whether the server answers.
    state: watch::Sender<(u64, bool)>,
}

struct Stored {
    text: String,
    session: String,
    expires: Instant,
}

impl Server {
    pub(crate) fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let catalog = Arc::new(Catalog {
            records: Mutex::default(),
            state: watch::Sender::new((1, false)),
        });
        let (end, is_over) = oneshot::channel::<()>();
        let served = Arc::clone(&catalog);
        thread::spawn(move || {
            let runtime = Builder::new_current_thread().enable_all().build().unwrap();
            runtime.spawn(expire(Arc::clone(&served)));
            runtime.spawn(async move {
                listener.set_nonblocking(true).unwrap();
                let listener = tokio::net::TcpListener::from_std(listener).unwrap();
                let records = get(list).put(put).delete(delete);
                let router = axum::Router::new().route("/records", records);
                axum::serve(listener, router.with_state(served))
                    .await
                    .unwrap();
            });
            let _ = runtime.block_on(is_over);
        });
        Self {
            url,
            catalog,
            _end: end,
        }
    }

    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    /// A broken server answers nothing but 503, and loses nothing.
    pub(crate) fn set_broken(&self, is_broken: bool) {
        let until = expiry();
        let mut records = self.catalog.records.lock().unwrap();
        records
            .values_mut()
            .for_each(|stored| stored.expires = until);
        drop(records);
        self.catalog.state.send_modify(|state| state.1 = is_broken);
    }

    /// Puts in what is no record.
    pub(crate) fn spoil(&self) {
        let expires = expiry() + Duration::from_secs(3600);
        for (number, text) in ["\u{1b}[31m", "{\"rolecall\":1,", "{}"].iter().enumerate() {
            let (text, session) = ((*text).to_owned(), String::new());
            let stored = Stored {
                text,
                session,
                expires,
            };
            self.catalog
                .records
                .lock()
                .unwrap()
                .insert(format!("bad {number}"), stored);
        }
        self.catalog.change();
    }
}

#[expect(clippy::disallowed_methods, reason = "a server has a clock")]
fn expiry() -> Instant {
    Instant::now() + TIME_TO_LIVE
}

async fn expire(catalog: Arc<Catalog>) {
    loop {
        time::sleep(Duration::from_millis(50)).await;
        if catalog.state.borrow().1 {
            continue;
        }
        let now = expiry() - TIME_TO_LIVE;
        let is_changed = {
            let mut records = catalog.records.lock().unwrap();
            let before = records.len();
            records.retain(|_, stored| stored.expires > now);
            before != records.len()
        };
        if is_changed {
            catalog.change();
        }
    }
}

impl Catalog {
    fn change(&self) {
        self.state.send_modify(|state| state.0 += 1);
    }

    fn is_broken(&self) -> bool {
        self.state.borrow().1
    }
}

async fn list(
    State(catalog): State<Arc<Catalog>>,
    RawQuery(query): RawQuery,
) -> Result<String, StatusCode> {
    let query = query.unwrap_or_default();
    let known = query
        .strip_prefix("newer_than=")
        .and_then(|known| known.parse().ok());
    let known: u64 = known.ok_or(StatusCode::BAD_REQUEST)?;
    let mut state = catalog.state.subscribe();
    let newer = state.wait_for(|(version, is_broken)| *version > known || *is_broken);
    let _ = time::timeout(LONG_POLL, newer).await;
    if catalog.is_broken() {
        return Err(StatusCode::SERVICE_UNAVAILABLE);
    }
    let version = catalog.state.borrow().0;
    let records = catalog.records.lock().unwrap();
    let lines = records.values().map(|stored| format!("{}\n", stored.text));
    Ok(format!("{version}\n{}", lines.collect::<String>()))
}

/// The key of a record, and the session that writes.
fn read(headers: &HeaderMap, text: &str) -> Result<(String, String), StatusCode> {
    let json: Value = serde_json::from_str(text).map_err(|_| StatusCode::BAD_REQUEST)?;
    let key = ["boundary", "role", "id"]
        .map(|field| json[field].to_string())
        .join("/");
    let session = headers
        .get("session")
        .and_then(|session| session.to_str().ok());
    Ok((key, session.ok_or(StatusCode::BAD_REQUEST)?.to_owned()))
}

async fn put(
    State(catalog): State<Arc<Catalog>>,
    headers: HeaderMap,
    text: String,
) -> Result<(), StatusCode> {
    if catalog.is_broken() {
        return Err(StatusCode::SERVICE_UNAVAILABLE);
    }
    let (key, session) = read(&headers, &text)?;
    let is_news = {
        let mut records = catalog.records.lock().unwrap();
        let there = records.get(&key);
        if there.is_some_and(|there| there.session != session) {
            return Err(StatusCode::CONFLICT);
        }
        let is_news = there.is_none_or(|there| there.text != text);
        let expires = expiry();
        records.insert(
            key,
            Stored {
                text,
                session,
                expires,
            },
        );
        is_news
    };
    if is_news {
        catalog.change();
    }
    Ok(())
}

async fn delete(
    State(catalog): State<Arc<Catalog>>,
    headers: HeaderMap,
    text: String,
) -> Result<(), StatusCode> {
    if catalog.is_broken() {
        return Err(StatusCode::SERVICE_UNAVAILABLE);
    }
    let (key, session) = read(&headers, &text)?;
    let mut records = catalog.records.lock().unwrap();
    if records
        .get(&key)
        .is_some_and(|there| there.session == session)
    {
        records.remove(&key);
        drop(records);
        catalog.change();
    }
    Ok(())
}
