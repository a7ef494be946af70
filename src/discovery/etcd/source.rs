//! What a watch reads: everything at one revision, then each change from there.

use std::collections::VecDeque;
use std::sync::Arc;

use etcd_client::{EventType, GetOptions, KeyValue, WatchOptions, WatchStream};
use futures_core::Stream;
use futures_util::stream;

use super::connection::{Connection, LARGEST_ANSWER, REQUEST, RequestError, Session};
use super::keys::{Keys, Watched};
use crate::discovery::backend::{CatalogUpdate, Scope};
use crate::error::discovery::DiscoveryError;
use crate::runtime::text::legible;

/// The updates of what is watched. It never ends: after an error, which any cancelled watch is, it lists again.
pub(super) fn updates(
    connection: Arc<Connection>,
    keys: Keys,
    watched: Watched,
) -> impl Stream<Item = Result<CatalogUpdate, RequestError>> + Send {
    let prefix = keys.of_all(&watched);
    stream::unfold(None, move |source: Option<Source>| {
        let (connection, keys, prefix) = (Arc::clone(&connection), keys.clone(), prefix.clone());
        async move {
            let read = async {
                let mut source = match source {
                    Some(source) => source,
                    None => Source::open(&connection, keys, prefix).await?,
                };
                let update = source.next().await?;
                Ok((update, source))
            };
            Some(match read.await {
                Ok((update, source)) => (Ok(update), Some(source)),
                Err(error) => (Err(error), None),
            })
        }
    })
}

struct Source {
    keys: Keys,
    watch: WatchStream,
    ready: VecDeque<CatalogUpdate>,
    /// Keeps the connection open.
    _session: Session,
}

impl Source {
    async fn open(
        connection: &Arc<Connection>,
        keys: Keys,
        prefix: String,
    ) -> Result<Self, RequestError> {
        let mut session = Session::new(connection, REQUEST);
        let all = GetOptions::new().with_prefix();
        let listed = session.request(|client| {
            let (prefix, all) = (prefix.as_str(), all.clone());
            let kv = client.kv_client();
            async move {
                let mut kv = kv.max_decoding_message_size(LARGEST_ANSWER);
                kv.get(prefix, Some(all)).await
            }
        });
        let listed = listed.await?;
        let revision = listed.header().map_or(0, |header| header.revision());
        let from = WatchOptions::new()
            .with_prefix()
            .with_fragment()
            .with_start_revision(revision + 1);
        let watch = session.request(|client| {
            let (prefix, from) = (prefix.as_str(), from.clone());
            let watch = client.watch_client();
            async move {
                let mut watch = watch.max_decoding_message_size(LARGEST_ANSWER);
                watch.watch(prefix, Some(from)).await
            }
        });
        let watch = watch.await?;

        let mut faults = Vec::new();
        let mut announced = Vec::with_capacity(listed.kvs().len());
        for stored in listed.kvs() {
            match keys.announcement(stored.key(), stored.value()) {
                Ok(announcement) => announced.push(announcement),
                Err(fault) => faults.push(fault),
            }
        }
        let mut ready = VecDeque::from([CatalogUpdate::Replace(Scope::All, announced)]);
        ready.extend(one_fault(faults));
        Ok(Self {
            keys,
            watch,
            ready,
            _session: session,
        })
    }

    async fn next(&mut self) -> Result<CatalogUpdate, RequestError> {
        loop {
            if let Some(update) = self.ready.pop_front() {
                return Ok(update);
            }
            let Some(message) = self.watch.message().await? else {
                return Err(RequestError::Ended);
            };
            if message.canceled() {
                let why = match message.compact_revision() {
                    0 => legible(message.cancel_reason()),
                    revision => format!("what changed before revision {revision} is compacted"),
                };
                return Err(RequestError::Cancelled(why));
            }
            let mut faults = Vec::new();
            for event in message.events() {
                let Some(changed) = event.kv() else { continue };
                match self.update(event.event_type(), changed) {
                    Ok(update) => self.ready.push_back(update),
                    Err(fault) => faults.push(fault),
                }
            }
            self.ready.extend(one_fault(faults));
        }
    }

    fn update(&self, what: EventType, stored: &KeyValue) -> Result<CatalogUpdate, DiscoveryError> {
        match what {
            EventType::Put => {
                let announcement = self.keys.announcement(stored.key(), stored.value())?;
                Ok(CatalogUpdate::Put(announcement))
            }
            EventType::Delete => Ok(CatalogUpdate::Remove(self.keys.read(stored.key())?)),
        }
    }
}

/// The first fault, with the number of the others. It is an update and no error, so that reading goes on without a pause.
fn one_fault(faults: Vec<DiscoveryError>) -> Option<CatalogUpdate> {
    let others = faults.len().saturating_sub(1);
    let first = faults.into_iter().next()?;
    let fault = match others {
        0 => first,
        others => DiscoveryError::backend(format!("reading {} keys of etcd", others + 1), first),
    };
    Some(CatalogUpdate::Fault(fault))
}
