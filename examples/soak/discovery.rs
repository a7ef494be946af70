//! What is announced: the truth about the servers, or what a discovery in trouble makes of it.

use std::net::SocketAddr;
use std::sync::Arc;

use futures::stream::{self, BoxStream, StreamExt};
use rolecall::discovery::DiscoveryError;
use rolecall::{Availability, Boundary, Discovery, Instance, InstanceSet, Target};
use tokio::sync::watch;

use crate::servers;

/// How discovery answers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Answers {
    /// With the truth, confirmed.
    #[default]
    Truth,
    /// With an empty set that is not confirmed.
    Nothing,
    /// With the first three instances, not confirmed.
    Three,
    Error,
}

/// One instance as it is announced.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Announced {
    pub(crate) addr: SocketAddr,
    pub(crate) weight: u16,
    pub(crate) availability: Availability,
    pub(crate) is_present: bool,
}

#[derive(Clone, Debug)]
struct News {
    instances: Vec<Announced>,
    answers: Answers,
}

/// The one place that says who is there; clones are the same.
#[derive(Clone)]
pub(crate) struct Announcer(Arc<watch::Sender<News>>);

impl Announcer {
    pub(crate) fn new(addrs: Vec<SocketAddr>) -> Self {
        let announced = |addr| Announced {
            addr,
            weight: 1,
            availability: Availability::Available,
            is_present: true,
        };
        Self(Arc::new(watch::Sender::new(News {
            instances: addrs.into_iter().map(announced).collect(),
            answers: Answers::Truth,
        })))
    }

    pub(crate) fn edit(&self, server: u8, edit: impl FnOnce(&mut Announced)) {
        self.0
            .send_modify(|news| edit(&mut news.instances[usize::from(server)]));
    }

    pub(crate) fn edit_all(&self, servers: &[u8], edit: impl Fn(&mut Announced)) {
        self.0.send_modify(|news| {
            for &server in servers {
                edit(&mut news.instances[usize::from(server)]);
            }
        });
    }

    pub(crate) fn set_answers(&self, answers: Answers) {
        self.0.send_modify(|news| news.answers = answers);
    }

    /// Waits until watchers get the truth.
    pub(crate) async fn until_truth(&self) {
        let mut news = self.0.subscribe();
        // The sender is here.
        let _ = news.wait_for(|news| news.answers == Answers::Truth).await;
    }

    pub(crate) fn discovery(&self) -> impl Discovery + use<> {
        self.watched(false, usize::MAX)
    }

    /// Begins with the truth, even while discovery is in trouble: a new balancer knows nothing else.
    pub(crate) fn beginning_well(&self) -> impl Discovery + use<> {
        self.watched(true, usize::MAX)
    }

    /// The same, and a watch ends after the first set.
    pub(crate) fn ending(&self) -> impl Discovery + use<> {
        self.watched(true, 1)
    }

    fn watched(&self, begins_well: bool, answers: usize) -> Watched {
        Watched {
            announcer: self.clone(),
            begins_well,
            answers,
        }
    }
}

struct Watched {
    announcer: Announcer,
    begins_well: bool,
    /// After how many answers a watch ends.
    answers: usize,
}

impl Discovery for Watched {
    fn watch(&self, _: &Target) -> BoxStream<'static, Result<InstanceSet, DiscoveryError>> {
        let mut news = self.announcer.0.subscribe();
        news.mark_changed();
        let answers = stream::unfold((news, self.begins_well), async |(mut news, well)| {
            news.changed().await.ok()?;
            let newest = news.borrow_and_update().clone();
            let answers = if well { Answers::Truth } else { newest.answers };
            Some((answer(&newest.instances, answers), (news, false)))
        });
        Box::pin(answers.take(self.answers))
    }

    fn peers(&self, _: &Boundary) -> BoxStream<'static, Result<InstanceSet, DiscoveryError>> {
        rolecall::discovery::no_peers()
    }

    fn refresh(&self, _: &Target) {}
}

fn answer(announced: &[Announced], answers: Answers) -> Result<InstanceSet, DiscoveryError> {
    let instances = || {
        let numbered = (0..).zip(announced).filter(|(_, it)| it.is_present);
        numbered.map(|(number, announced)| {
            Instance::new(servers::id(number), announced.addr)
                .with_weight(announced.weight)
                .with_availability(announced.availability)
        })
    };
    match answers {
        Answers::Truth => Ok(instances().collect::<InstanceSet>().confirmed()),
        Answers::Nothing => Ok(InstanceSet::empty()),
        Answers::Three => Ok(instances().take(3).collect()),
        Answers::Error => Err(DiscoveryError::backend(
            "asking the soak's discovery",
            "it is down",
        )),
    }
}
