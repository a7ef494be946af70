//! The connection that all watches and leases of an `Etcd` share.

use std::error::Error as StdError;
use std::fmt;
use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use etcd_client::{Client, ConnectOptions};
use futures_util::FutureExt;
use futures_util::future::{Shared, WeakShared};
use rand::RngExt;
use tokio::sync::Semaphore;
use tokio::time;

use crate::discovery::BoxFuture;
use crate::runtime::random::with_rng;

/// For one request, after it has its turn.
pub(super) const REQUEST: Duration = Duration::from_secs(5);
/// Requests that are sent at once: a server that is asked more answers none of them earlier.
const MOST_AT_ONCE: usize = 64;
/// Of a list or a part of a watch: 100 000 instances with 2 KiB each.
pub(super) const LARGEST_ANSWER: usize = 256 << 20;
/// The gRPC code of what is no answer of a server.
const UNKNOWN: i32 = 2;
/// The gRPC code of a server that cannot serve now, as one without a leader.
const UNAVAILABLE: i32 = 14;

pub(super) struct Connection {
    endpoints: Vec<String>,
    options: ConnectOptions,
    current: Mutex<Current>,
    turns: Semaphore,
}

/// A client, or the attempt to make one. Whoever waits for it drives it, so nobody waits for a task that does not run.
type Connecting = Shared<BoxFuture<'static, Result<Client, RequestError>>>;

struct Current {
    /// The endpoint that is used, counted up at each change.
    endpoint: usize,
    /// Kept by those who use it. It belongs to the runtime that made it.
    client: Option<WeakShared<BoxFuture<'static, Result<Client, RequestError>>>>,
}

impl Connection {
    pub(super) fn new(endpoints: Vec<String>, options: ConnectOptions) -> Arc<Self> {
        // A server takes pings 5 s apart or more, and only while a stream is open; more often is an attack to it.
        let options = options
            .with_connect_timeout(Duration::from_secs(2))
            .with_keep_alive(Duration::from_secs(6), Duration::from_secs(3))
            .with_keep_alive_while_idle(false)
            .with_require_leader(true)
            .with_auto_token_refresh(true);
        let endpoint = with_rng(|rng| rng.random_range(0..endpoints.len().max(1)));
        Arc::new(Self {
            endpoints,
            options,
            current: Mutex::new(Current {
                endpoint,
                client: None,
            }),
            turns: Semaphore::new(MOST_AT_ONCE),
        })
    }

    /// The part of `time` in which one endpoint has to answer, so that each has its turn.
    pub(super) fn share_of(&self, time: Duration) -> Duration {
        let endpoints = u32::try_from(self.endpoints.len()).unwrap_or(u32::MAX);
        time / endpoints.max(1)
    }

    fn current(&self) -> std::sync::MutexGuard<'_, Current> {
        // No foreign code runs under the lock, so it is whole if it is poisoned.
        self.current.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The client in use, or a new one, and whether it is new.
    fn client(&self) -> (Connecting, bool) {
        let mut current = self.current();
        let used = current.client.as_ref().and_then(WeakShared::upgrade);
        if let Some(used) = used {
            return (used, false);
        }
        let endpoint = current.endpoint % self.endpoints.len().max(1);
        let endpoint = self.endpoints.get(endpoint).cloned();
        let (options, limit) = (self.options.clone(), self.share_of(REQUEST));
        let connecting: BoxFuture<'static, _> = Box::pin(async move {
            // It dials when it is first used, but asks for a token at once if there is a user.
            let client = Client::connect(endpoint.as_slice(), Some(options));
            match time::timeout(limit, client).await {
                Ok(client) => Ok(client?),
                Err(_) => Err(RequestError::Silent(limit)),
            }
        });
        let connecting = connecting.shared();
        current.client = connecting.downgrade();
        (connecting, true)
    }

    /// Whoever comes next connects anew, to the next endpoint.
    fn forget(&self, client: &Connecting) {
        let mut current = self.current();
        let used = current.client.as_ref().and_then(WeakShared::upgrade);
        if used.is_some_and(|used| used.ptr_eq(client)) {
            current.client = None;
            current.endpoint = current.endpoint.wrapping_add(1);
        }
    }
}

/// One user of the connection, which stays open while it has any.
pub(super) struct Session {
    connection: Arc<Connection>,
    client: Option<Connecting>,
    timeout: Duration,
}

impl Session {
    /// `timeout` is for one attempt of a request.
    pub(super) fn new(connection: &Arc<Connection>, timeout: Duration) -> Self {
        Self {
            connection: Arc::clone(connection),
            client: None,
            timeout: timeout.min(REQUEST),
        }
    }

    pub(super) fn set_timeout(&mut self, timeout: Duration) {
        self.timeout = timeout.min(REQUEST);
    }

    /// Sends a request. After an error the next one uses a new connection: nobody knows whether the old one's runtime,
    /// token or server is still there. If the connection is lost, or nothing comes in time, the request is sent again over a
    /// new connection, to each endpoint at most once. So it must do no harm twice.
    ///
    /// # Errors
    ///
    /// That of the server, or of the last attempt.
    pub(super) async fn request<T, F>(
        &mut self,
        send: impl Fn(Client) -> F,
    ) -> Result<T, RequestError>
    where
        F: Future<Output = Result<T, etcd_client::Error>>,
    {
        // The semaphore is never closed.
        let _turn = self.connection.turns.acquire().await.ok();
        let mut untried = self.connection.endpoints.len();
        loop {
            let (client, is_new) = match self.client.clone() {
                Some(client) => (client, false),
                None => self.connection.client(),
            };
            self.client = Some(client.clone());
            untried = untried.saturating_sub(usize::from(is_new));
            let connected = client.clone();
            let answer = time::timeout(self.timeout, async { Ok(send(connected.await?).await?) });
            match answer
                .await
                .unwrap_or(Err(RequestError::Silent(self.timeout)))
            {
                Ok(answer) => return Ok(answer),
                // A token may take longer than this request has. The next one waits on: to ask for another token each time
                // would never end.
                Err(error) if client.peek().is_none() => return Err(error),
                Err(error) => {
                    self.client = None;
                    self.connection.forget(&client);
                    if untried == 0 || !error.is_of_connection() {
                        return Err(error);
                    }
                }
            }
        }
    }
}

/// Why etcd did not do what it was asked.
#[derive(Clone, Debug)]
pub(super) enum RequestError {
    Etcd(Arc<etcd_client::Error>),
    /// No answer came for so long.
    Silent(Duration),
    /// The server ended a watch, for this reason.
    Cancelled(String),
    Ended,
}

impl RequestError {
    /// Whether another connection may do better: the connection failed, and not the server, or this server has no leader.
    /// etcd gives its own errors a code, and they have no source.
    fn is_of_connection(&self) -> bool {
        match self {
            Self::Etcd(error) => match &**error {
                etcd_client::Error::GRpcStatus(status) => {
                    let code = i32::from(status.code());
                    code == UNKNOWN || code == UNAVAILABLE || status.source().is_some()
                }
                etcd_client::Error::TransportError(_) => true,
                _ => false,
            },
            Self::Silent(_) => true,
            Self::Cancelled(_) | Self::Ended => false,
        }
    }
}

impl fmt::Display for RequestError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Etcd(error) => error.fmt(f),
            Self::Silent(time) => write!(f, "no answer from etcd for {time:?}"),
            Self::Cancelled(why) => write!(f, "the watch was cancelled: {why}"),
            Self::Ended => f.write_str("the watch was closed by the server"),
        }
    }
}

impl StdError for RequestError {}

impl From<etcd_client::Error> for RequestError {
    fn from(error: etcd_client::Error) -> Self {
        Self::Etcd(Arc::new(error))
    }
}
