//! The connection that all watches and leases of an `Etcd` share.

use std::error::Error as StdError;
use std::fmt;
use std::future::Future;
use std::sync::{Arc, Weak};
use std::time::Duration;

use etcd_client::{Client, ConnectOptions};
use tokio::sync::{Mutex, Semaphore};
use tokio::time;

/// For one request, after it has its turn.
const REQUEST: Duration = Duration::from_secs(5);
/// Requests that are sent at once: a server that is asked more answers none of them earlier.
const MOST_AT_ONCE: usize = 64;
/// Of a list or a part of a watch: 100 000 instances with 2 KiB each.
pub(super) const LARGEST_ANSWER: usize = 256 << 20;
/// The gRPC code of what is no answer of a server.
const UNKNOWN: i32 = 2;

pub(super) struct Connection {
    endpoints: Vec<String>,
    options: ConnectOptions,
    /// The client in use, while anybody uses it. It belongs to the runtime that made it.
    client: Mutex<Weak<Client>>,
    turns: Semaphore,
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
        Arc::new(Self {
            endpoints,
            options,
            client: Mutex::default(),
            turns: Semaphore::new(MOST_AT_ONCE),
        })
    }

    /// The client in use, or a new one, and whether it is new.
    async fn client(&self) -> Result<(Arc<Client>, bool), RequestError> {
        let mut shared = self.client.lock().await;
        if let Some(client) = shared.upgrade() {
            return Ok((client, false));
        }
        // It dials when it is first used, but asks for a token at once if there is a user.
        let client = Client::connect(&self.endpoints, Some(self.options.clone()));
        let client = Arc::new(answered(client).await?);
        *shared = Arc::downgrade(&client);
        Ok((client, true))
    }

    /// Whoever comes next connects anew.
    async fn forget(&self, client: &Arc<Client>) {
        let mut shared = self.client.lock().await;
        if std::ptr::eq(shared.as_ptr(), Arc::as_ptr(client)) {
            *shared = Weak::new();
        }
    }
}

/// One user of the connection, which stays open while it has any.
pub(super) struct Session {
    connection: Arc<Connection>,
    client: Option<Arc<Client>>,
}

impl Session {
    pub(super) fn new(connection: &Arc<Connection>) -> Self {
        Self {
            connection: Arc::clone(connection),
            client: None,
        }
    }

    /// Sends a request. After an error the next one uses a new connection: nobody knows whether the old one's runtime,
    /// token or server is still there. If a connection that was used before is lost, the request is sent once more, so it
    /// must do no harm twice.
    ///
    /// # Errors
    ///
    /// That of the server, or that it does not answer within 5 s.
    pub(super) async fn request<T, F>(
        &mut self,
        send: impl Fn(Client) -> F,
    ) -> Result<T, RequestError>
    where
        F: Future<Output = Result<T, etcd_client::Error>>,
    {
        // The semaphore is never closed.
        let _turn = self.connection.turns.acquire().await.ok();
        loop {
            let (client, is_new) = match self.client.take() {
                Some(client) => (client, false),
                None => self.connection.client().await?,
            };
            match answered(send(Client::clone(&client))).await {
                Ok(answer) => {
                    self.client = Some(client);
                    return Ok(answer);
                }
                Err(error) => {
                    self.connection.forget(&client).await;
                    if is_new || !error.is_lost_connection() {
                        return Err(error);
                    }
                }
            }
        }
    }
}

async fn answered<T>(
    request: impl Future<Output = Result<T, etcd_client::Error>>,
) -> Result<T, RequestError> {
    match time::timeout(REQUEST, request).await {
        Ok(answer) => answer.map_err(RequestError::Etcd),
        Err(_) => Err(RequestError::Silent),
    }
}

/// Why etcd did not do what it was asked.
#[derive(Debug)]
pub(super) enum RequestError {
    Etcd(etcd_client::Error),
    Silent,
    /// The server ended a watch, for this reason.
    Cancelled(String),
    Ended,
}

impl RequestError {
    /// Whether the connection failed, and not the server: etcd gives its own errors a code, and they have no source.
    fn is_lost_connection(&self) -> bool {
        match self {
            Self::Etcd(etcd_client::Error::GRpcStatus(status)) => {
                i32::from(status.code()) == UNKNOWN || status.source().is_some()
            }
            Self::Etcd(etcd_client::Error::TransportError(_)) => true,
            _ => false,
        }
    }
}

impl fmt::Display for RequestError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Etcd(error) => error.fmt(f),
            Self::Silent => write!(f, "no answer from etcd for {REQUEST:?}"),
            Self::Cancelled(why) => write!(f, "the watch was cancelled: {why}"),
            Self::Ended => f.write_str("the watch was closed by the server"),
        }
    }
}

impl StdError for RequestError {}

impl From<etcd_client::Error> for RequestError {
    fn from(error: etcd_client::Error) -> Self {
        Self::Etcd(error)
    }
}
