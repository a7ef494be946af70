//! Lists a resource of a namespace, and then watches it.

use std::error::Error as StdError;
use std::fmt::{self, Debug};
use std::future::Future;
use std::time::{Duration, Instant};

use futures_core::Stream;
use futures_util::{StreamExt, stream};
use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::serde::de::DeserializeOwned;
use kube::api::{Api, ListParams, WatchEvent, WatchParams};
use kube::{Client, Config, Resource, ResourceExt};
use rand::RngExt;
use tokio::{task, time};

use crate::discovery::BoxStream;
use crate::runtime::clock::now;
use crate::runtime::random::with_rng;

/// Bounds a list, and the start of a watch.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);

/// What a server may be late with the end of a watch.
const WATCH_MARGIN: Duration = Duration::from_secs(5);

/// A watch that ends sooner is a failure, so that it is not opened again without a pause.
const SHORTEST_WATCH: Duration = Duration::from_secs(1);

/// A server that ends gracefully ends the watches of all clients at once. Their new lists are spread over this time.
const LIST_SPREAD: Duration = Duration::from_secs(1);

const MOST_IN_PAGE: u32 = 500;
const GONE: u16 = 410;
const FORBIDDEN: u16 = 403;

/// How a cluster is reached.
#[derive(Clone)]
pub(super) struct Cluster {
    access: Access,
    watch_timeout: Duration,
}

#[derive(Clone)]
pub(super) enum Access {
    Inferred,
    Config(Box<Config>),
    Client(Client),
}

impl Cluster {
    pub(super) fn of(access: Access) -> Self {
        Self {
            access,
            watch_timeout: Duration::from_secs(60),
        }
    }

    pub(super) fn set_watch_timeout(&mut self, timeout: Duration) {
        self.watch_timeout = timeout.clamp(Duration::from_secs(5), Duration::from_secs(290));
    }

    /// A client of this runtime: a client ends with the one it was made in.
    async fn client(&self) -> Result<Client, kube::Error> {
        let mut config = match &self.access {
            Access::Client(client) => return Ok(client.clone()),
            Access::Config(config) => (**config).clone(),
            Access::Inferred => Config::infer().await.map_err(kube::Error::InferConfig)?,
        };
        // Failures are told, and the mirror makes the pauses.
        config.default_retry = false;
        config.connect_timeout = Some(REQUEST_TIMEOUT);
        Client::try_from(config)
    }
}

/// Objects of one namespace.
#[derive(Clone)]
pub(super) struct Query {
    cluster: Cluster,
    namespace: String,
    pub(super) labels: Option<String>,
    pub(super) fields: Option<&'static str>,
}

/// What a watched resource tells.
#[derive(Debug)]
pub(super) enum ResourceEvent<K> {
    /// The whole list.
    Listed(Vec<K>),
    Applied(K),
    Deleted(K),
}

impl Query {
    pub(super) fn new(cluster: &Cluster, namespace: &str) -> Self {
        Self {
            cluster: cluster.clone(),
            namespace: namespace.to_owned(),
            labels: None,
            fields: None,
        }
    }

    /// The whole list, and then what changes. It begins with a list again after every error, because a server that failed
    /// may have lost data, and never ends.
    pub(super) fn watch<K>(
        &self,
    ) -> impl Stream<Item = Result<ResourceEvent<K>, RequestError>> + Send + use<K>
    where
        K: Watched,
    {
        let watcher = Watcher {
            query: self.clone(),
            position: None,
            has_failed: false,
        };
        stream::unfold(watcher, |mut watcher| async move {
            let event = watcher.next().await;
            watcher.has_failed = event.is_err();
            Some((event, watcher))
        })
    }

    fn error<K: Watched>(
        &self,
        verb: &'static str,
        cause: impl Into<Box<dyn StdError + Send + Sync>>,
    ) -> RequestError {
        RequestError {
            verb,
            resource: K::RESOURCE,
            namespace: self.namespace.clone(),
            code: 0,
            cause: cause.into(),
        }
    }

    /// The answer to a request, within its time.
    async fn answer<K: Watched, T>(
        &self,
        verb: &'static str,
        request: impl Future<Output = Result<T, kube::Error>>,
    ) -> Result<T, RequestError> {
        match time::timeout(REQUEST_TIMEOUT, request).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(error)) => Err(self.failed::<K>(verb, error)),
            Err(_) => Err(self.error::<K>(verb, "no answer within 30 s")),
        }
    }

    fn failed<K: Watched>(&self, verb: &'static str, error: kube::Error) -> RequestError {
        match error {
            kube::Error::Api(status) => RequestError {
                code: status.code,
                ..self.error::<K>(verb, status)
            },
            error => self.error::<K>(verb, error),
        }
    }
}

/// What can be watched.
pub(super) trait Watched:
    Resource<DynamicType = (), Scope = NamespaceResourceScope>
    + Clone
    + Debug
    + DeserializeOwned
    + Send
    + 'static
{
    /// As errors and roles name it.
    const RESOURCE: &str;
}

struct Watcher<K> {
    query: Query,
    /// None: list first.
    position: Option<Position<K>>,
    has_failed: bool,
}

struct Position<K> {
    api: Api<K>,
    version: String,
    /// Whether a watch has ended since the list.
    is_resumed: bool,
    open: Option<OpenWatch<K>>,
}

struct OpenWatch<K> {
    events: BoxStream<'static, kube::Result<WatchEvent<K>>>,
    since: Instant,
    has_spoken: bool,
}

/// Where a watcher goes after one step.
enum Step<K> {
    Tell(ResourceEvent<K>),
    Continue,
    ListAgain,
}

impl<K: Watched> Watcher<K> {
    async fn next(&mut self) -> Result<ResourceEvent<K>, RequestError> {
        if self.has_failed {
            // Whoever reads ahead stops here, and makes its pause.
            task::yield_now().await;
        }
        loop {
            // It is lost with an error.
            let Some(mut position) = self.position.take() else {
                let (position, all) = self.query.list().await?;
                self.position = Some(position);
                return Ok(ResourceEvent::Listed(all));
            };
            let step = match self.query.advance(&mut position).await {
                // It was away for longer than the server remembers.
                Err(error) if error.code == GONE && position.is_resumed => Step::ListAgain,
                step => step?,
            };
            match step {
                Step::ListAgain => {
                    let part = with_rng(|rng| rng.random_range(0.0..=1.0));
                    time::sleep(LIST_SPREAD.mul_f64(part)).await;
                }
                Step::Continue => self.position = Some(position),
                Step::Tell(event) => {
                    self.position = Some(position);
                    return Ok(event);
                }
            }
        }
    }
}

impl Query {
    async fn list<K: Watched>(&self) -> Result<(Position<K>, Vec<K>), RequestError> {
        let client = self.answer::<K, _>("list", self.cluster.client()).await?;
        let api = Api::namespaced(client, &self.namespace);
        let mut params = ListParams {
            label_selector: self.labels.clone(),
            field_selector: self.fields.map(str::to_owned),
            limit: Some(MOST_IN_PAGE),
            ..ListParams::default()
        };
        let mut all = Vec::new();
        loop {
            let page = self.answer::<K, _>("list", api.list(&params)).await?;
            all.extend(page.items);
            params.continue_token = page.metadata.continue_.filter(|token| !token.is_empty());
            if params.continue_token.is_some() {
                continue;
            }
            let version = page.metadata.resource_version.filter(|v| !v.is_empty());
            let position = Position {
                api,
                version: version
                    .ok_or_else(|| self.error::<K>("list", "the list has no resourceVersion"))?,
                is_resumed: false,
                open: None,
            };
            return Ok((position, all));
        }
    }

    async fn advance<K: Watched>(
        &self,
        position: &mut Position<K>,
    ) -> Result<Step<K>, RequestError> {
        let timeout = self.cluster.watch_timeout;
        if position.open.is_none() {
            let params = WatchParams {
                label_selector: self.labels.clone(),
                field_selector: self.fields.map(str::to_owned),
                timeout: Some(u32::try_from(timeout.as_secs()).unwrap_or(u32::MAX)),
                ..WatchParams::default()
            };
            let opened = position.api.watch(&params, &position.version);
            position.open = Some(OpenWatch {
                events: self.answer::<K, _>("watch", opened).await?.boxed(),
                since: now(),
                has_spoken: false,
            });
        }
        let Some(open) = &mut position.open else {
            return Ok(Step::Continue);
        };
        let event = time::timeout(timeout + WATCH_MARGIN, open.events.next()).await;
        let Ok(Some(event)) = event else {
            return self.ended(position);
        };
        open.has_spoken = true;
        let (event, version) = match event.map_err(|error| self.failed::<K>("watch", error))? {
            WatchEvent::Added(object) | WatchEvent::Modified(object) => {
                let version = object.resource_version();
                (Some(ResourceEvent::Applied(object)), version)
            }
            WatchEvent::Deleted(object) => {
                let version = object.resource_version();
                (Some(ResourceEvent::Deleted(object)), version)
            }
            WatchEvent::Bookmark(bookmark) => (None, Some(bookmark.metadata.resource_version)),
            WatchEvent::Error(status) => {
                return Err(self.failed::<K>("watch", kube::Error::Api(status)));
            }
        };
        let Some(version) = version.filter(|version| !version.is_empty()) else {
            return Err(self.error::<K>("watch", "an event has no resourceVersion"));
        };
        position.version = version;
        Ok(event.map_or(Step::Continue, Step::Tell))
    }

    /// The watch ended because its time is over, or its connection is dead.
    fn ended<K: Watched>(&self, position: &mut Position<K>) -> Result<Step<K>, RequestError> {
        let Some(open) = position.open.take() else {
            return Ok(Step::ListAgain);
        };
        let lasted = now().saturating_duration_since(open.since);
        if lasted < SHORTEST_WATCH {
            return Err(self.error::<K>("watch", "the watch ended at once"));
        }
        position.is_resumed = true;
        // Only what ended in time is resumed. After a broken connection another server may answer, one that lost its data and
        // waits in silence for a resourceVersion that it has yet to reach. A healthy one sends a bookmark before the end.
        let is_over = lasted + SHORTEST_WATCH >= self.cluster.watch_timeout;
        Ok(if is_over && open.has_spoken {
            Step::Continue
        } else {
            Step::ListAgain
        })
    }
}

/// A request that the API server did not serve.
#[derive(Debug)]
pub(super) struct RequestError {
    verb: &'static str,
    resource: &'static str,
    namespace: String,
    /// Of the server's answer, or 0.
    code: u16,
    cause: Box<dyn StdError + Send + Sync>,
}

impl fmt::Display for RequestError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            verb,
            resource,
            namespace,
            ..
        } = self;
        write!(f, "cannot {verb} {resource} in namespace \"{namespace}\"")?;
        if self.code == FORBIDDEN {
            f.write_str("; it takes a Role with the verbs list and watch")?;
        }
        Ok(())
    }
}

impl StdError for RequestError {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        Some(&*self.cause)
    }
}
