//! A discovery of one's own: what another process tells over the standard input.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use futures::StreamExt;
use futures::stream::unfold;
use rolecall::discovery::{BoxStream, DiscoveryError};
use rolecall::{Address, Boundary, Discovery, Instance, InstanceSet, Target, Visibility};
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::sync::{mpsc, watch};

/// What has to be known of an instance here.
#[derive(Serialize, Deserialize)]
pub(crate) struct Told {
    id: String,
    address: Address,
    visibility: Visibility,
}

impl Told {
    pub(crate) fn of(instance: &Instance) -> Self {
        Self {
            id: instance.id().to_string(),
            address: instance.address().clone(),
            visibility: instance.visibility().clone(),
        }
    }

    fn instance(self) -> Instance {
        Instance::new(self.id, self.address).with_visibility(self.visibility)
    }
}

#[derive(Clone, Default)]
pub(crate) struct News(Arc<Mutex<HashMap<String, watch::Sender<Option<InstanceSet>>>>>);

impl News {
    /// Takes the news in, and passes on what else is said: commands. It ends when the starter is gone.
    pub(crate) fn commands(&self) -> mpsc::UnboundedReceiver<String> {
        let (pass_on, commands) = mpsc::unbounded_channel();
        let news = self.clone();
        tokio::spawn(async move {
            let mut lines = BufReader::new(tokio::io::stdin()).lines();
            while let Ok(Some(line)) = lines.next_line().await {
                if !news.take_in(&line) && pass_on.send(line).is_err() {
                    return;
                }
            }
        });
        commands
    }

    /// Whether it is news.
    fn take_in(&self, line: &str) -> bool {
        let Some((topic, list)) = line.split_once(" [") else {
            return false;
        };
        // What cannot be read changes nothing, as with every discovery.
        if let Ok(told) = serde_json::from_str::<Vec<Told>>(&format!("[{list}")) {
            let set: InstanceSet = told.into_iter().map(Told::instance).collect();
            self.topic(topic).send_replace(Some(set.confirmed()));
        }
        true
    }

    fn topic(&self, topic: &str) -> watch::Sender<Option<InstanceSet>> {
        let mut topics = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        topics.entry(topic.to_owned()).or_default().clone()
    }

    /// The present set, and each later one.
    fn follow(&self, topic: &str) -> BoxStream<'static, Result<InstanceSet, DiscoveryError>> {
        let mut told = self.topic(topic).subscribe();
        told.mark_changed();
        unfold(told, async |mut told| {
            loop {
                told.changed().await.ok()?;
                let set = told.borrow_and_update().clone();
                if let Some(set) = set {
                    return Some((Ok(set), told));
                }
            }
        })
        .boxed()
    }
}

impl Discovery for News {
    fn watch(&self, target: &Target) -> BoxStream<'static, Result<InstanceSet, DiscoveryError>> {
        self.follow(&format!("set {target}"))
    }

    fn peers(
        &self,
        boundary: &Boundary,
    ) -> BoxStream<'static, Result<InstanceSet, DiscoveryError>> {
        self.follow(&format!("peers {boundary}"))
    }

    fn refresh(&self, _: &Target) {}
}
