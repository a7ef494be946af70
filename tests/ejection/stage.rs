//! Servers, the clients that balance over them, and what happened.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use futures::StreamExt;
use rolecall::{BalanceConfig, Event, Instance, List, MemberStatus, OutlierConfig, Status};
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::{sleep, timeout};

use crate::load::{Client, Load};
use crate::server::{Server, Work};

/// How long a scenario is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Length {
    /// As short as it can be and still fail.
    Short,
    /// As long as is promised.
    Full,
}

pub(crate) struct Stage {
    pub(crate) servers: Vec<Server>,
    pub(crate) clients: Vec<Client>,
    began: Instant,
    events: Arc<Mutex<Vec<(Instant, usize, Event)>>>,
    _place: SemaphorePermit<'static>,
}

/// Scenarios that are played at once, whatever the test harness thinks of: load is a matter of the whole machine.
static PLACES: Semaphore = Semaphore::const_new(2);

impl Stage {
    /// So many servers, named `a` and on, and one client for all, through [`Client`] as it is.
    pub(crate) async fn of(servers: usize, work: Work) -> Self {
        Self::with_clients(servers, work, 1).await
    }

    pub(crate) async fn with_clients(servers: usize, work: Work, clients: usize) -> Self {
        Self::build(servers, work, clients, |list| {
            Client::new(list, "worker:http").unwrap()
        })
        .await
    }

    pub(crate) async fn with_config(
        servers: usize,
        work: Work,
        clients: usize,
        config: &BalanceConfig,
    ) -> Self {
        Self::build(servers, work, clients, |list| {
            let client = Client::builder(list, "worker:http").config(config.clone());
            client.build().unwrap()
        })
        .await
    }

    /// Ejections begin with 2 s, and the way back takes 1 s: for tests that are to see both in a short time.
    pub(crate) async fn hasty(servers: usize, work: Work) -> Self {
        let outlier = OutlierConfig::builder().base_ejection_time(Duration::from_secs(2));
        let config = BalanceConfig::builder()
            .slow_start(Duration::from_secs(1))
            .outlier(outlier.build().unwrap())
            .build();
        Self::with_config(servers, work, 1, &config.unwrap()).await
    }

    async fn build(
        servers: usize,
        work: Work,
        clients: usize,
        client: impl Fn(List) -> Client,
    ) -> Self {
        let place = PLACES.acquire().await.expect("never closed");
        let servers: Vec<_> = (0..servers).map(|_| Server::start(work)).collect();
        let instances = servers
            .iter()
            .zip('a'..)
            .map(|(server, id)| Instance::new(id.to_string(), server.addr));
        let list = List::new(instances).unwrap();
        let clients: Vec<_> = (0..clients).map(|_| client(list.clone())).collect();
        let events = Arc::<Mutex<Vec<_>>>::default();
        for (number, client) in clients.iter().enumerate() {
            let (mut news, events) = (client.control().events(), Arc::clone(&events));
            tokio::spawn(async move {
                while let Some(event) = news.next().await {
                    events.lock().unwrap().push((Instant::now(), number, event));
                }
            });
        }
        let stage = Self {
            servers,
            clients,
            began: Instant::now(),
            events,
            _place: place,
        };
        for client in 0..stage.clients.len() {
            let usable = stage.servers.len();
            stage.until(client, |status| status.usable == usable).await;
        }
        stage
    }

    pub(crate) fn client(&self) -> &Client {
        &self.clients[0]
    }

    /// Ten callers, who share the clients there are.
    pub(crate) fn load(&self, rate: f64, patience: Option<Duration>) -> Load {
        let clients = self.clients.iter().cycle().take(10).cloned();
        Load::start(clients, rate, patience)
    }

    pub(crate) fn member(&self, id: &str) -> MemberStatus {
        let members = self.client().control().status().members;
        let member = members.into_iter().find(|m| *m.instance.id() == *id);
        member.expect("a known instance")
    }

    /// Waits until it is so with a client.
    pub(crate) async fn until(&self, client: usize, reached: impl Fn(&Status) -> bool) {
        let status = || self.clients[client].control().status();
        let looks = async {
            while !reached(&status()) {
                sleep(Duration::from_millis(2)).await;
            }
        };
        let is_reached = timeout(Duration::from_secs(60), looks).await.is_ok();
        assert!(
            is_reached,
            "never reached: {}\n{}",
            status(),
            self.timeline()
        );
    }

    pub(crate) fn events(&self) -> Vec<(Instant, Event)> {
        let events = self.events.lock().unwrap();
        events
            .iter()
            .map(|(at, _, event)| (*at, event.clone()))
            .collect()
    }

    pub(crate) fn ejections(&self) -> usize {
        let is_ejection = |event: &Event| matches!(event, Event::Ejected { .. });
        self.events()
            .iter()
            .filter(|(_, event)| is_ejection(event))
            .count()
    }

    /// What happened, by time and client; for a test that fails, and for people.
    pub(crate) fn timeline(&self) -> String {
        let mut text = String::new();
        for (at, client, event) in &*self.events.lock().unwrap() {
            let at = at.saturating_duration_since(self.began).as_secs_f64();
            writeln!(text, "  {at:8.3} s  client {client}  {event}").unwrap();
        }
        text
    }

    /// How often each kind of event came; for people.
    pub(crate) fn census(&self) -> String {
        let mut counts = BTreeMap::new();
        for (_, event) in self.events() {
            let text = format!("{event:?}");
            let kind = text.split([' ', '{']).next().unwrap_or_default().to_owned();
            *counts.entry(kind).or_insert(0) += 1;
        }
        format!("{counts:?}")
    }
}

/// Plays a scenario again, twice at most, when it answers that the machine was too busy to tell anything by it. What is
/// promised has to be measured; a short version may be left untold.
pub(crate) async fn insist<T>(
    length: Length,
    scenario: impl AsyncFn(Length) -> Option<T>,
) -> Option<T> {
    for _ in 0..3 {
        let told = scenario(length).await;
        if told.is_some() {
            return told;
        }
        println!("the machine was too busy: nothing is told by this");
    }
    assert_eq!(length, Length::Short, "not measured on so busy a machine");
    None
}

/// Lets the scenario go on for so long, under load.
pub(crate) async fn pass(time: Duration) {
    sleep(time).await;
}
