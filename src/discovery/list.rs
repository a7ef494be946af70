//! A fixed list of instances.

use std::future;
use std::net::SocketAddr;

use futures_util::stream;

use super::{
    BoxFuture, BoxStream, Discovery, DiscoveryError, Lease, RegisterError, Registrar, Registration,
    no_peers,
};
use crate::model::instance::{Instance, InstanceError, InstanceSet};
use crate::model::name::Boundary;
use crate::model::target::Target;

/// A fixed set of instances, the same for every target. A registration is [left to the platform](Lease::by_platform).
///
/// The set is confirmed, so an empty list is not doubted.
///
/// # Examples
///
/// ```
/// use rolecall::List;
///
/// let list = List::from_addrs([([127, 0, 0, 1], 8001).into(), ([127, 0, 0, 1], 8002).into()])?;
/// # Ok::<(), rolecall::InstanceError>(())
/// ```
#[derive(Clone, Debug)]
pub struct List {
    pub(super) set: InstanceSet,
}

impl List {
    /// Makes a list of these instances. If an id occurs twice, the last entry wins.
    ///
    /// # Errors
    ///
    /// [`InstanceError`] for the first instance that does not pass [`Instance::validate`].
    pub fn new(instances: impl IntoIterator<Item = Instance>) -> Result<Self, InstanceError> {
        let set = instances
            .into_iter()
            .map(|instance| instance.validate().map(|()| instance))
            .collect::<Result<InstanceSet, _>>()?;
        Ok(Self {
            set: set.confirmed(),
        })
    }

    /// Makes a list of instances at these addresses. The address is the id.
    ///
    /// # Errors
    ///
    /// [`InstanceError`] for the first address that cannot be dialled.
    pub fn from_addrs(addrs: impl IntoIterator<Item = SocketAddr>) -> Result<Self, InstanceError> {
        Self::new(
            addrs
                .into_iter()
                .map(|addr| Instance::new(addr.to_string(), addr)),
        )
    }
}

impl Discovery for List {
    fn watch(&self, _: &Target) -> BoxStream<'static, Result<InstanceSet, DiscoveryError>> {
        Box::pin(stream::iter([Ok(self.set.clone())]))
    }

    /// Returns [`no_peers`](super::no_peers): a list has no boundaries.
    fn peers(&self, _: &Boundary) -> BoxStream<'static, Result<InstanceSet, DiscoveryError>> {
        no_peers()
    }

    fn refresh(&self, _: &Target) {}
}

impl Registrar for List {
    /// Announces nothing, because the list is fixed.
    fn register(
        &self,
        registration: Registration,
    ) -> BoxFuture<'static, Result<Lease, RegisterError>> {
        let announcement = registration.validate();
        Box::pin(future::ready(announcement.map(|a| Lease::by_platform(&a))))
    }
}

#[cfg(test)]
mod tests {
    use futures::StreamExt;

    use super::*;
    use crate::discovery::LeaseState;

    fn at(id: &str, addr: &str) -> Instance {
        Instance::new(id, addr.parse::<SocketAddr>().unwrap())
    }

    #[tokio::test]
    async fn every_target_gets_the_same_confirmed_set_and_then_no_more_news() {
        let list =
            List::from_addrs(["127.0.0.1:2", "127.0.0.1:1"].map(|a| a.parse().unwrap())).unwrap();
        for target in ["worker:http", "media/other:grpc"] {
            let answers: Vec<_> = list.watch(&target.parse().unwrap()).collect().await;
            let [Ok(set)] = &answers[..] else {
                panic!("{answers:?}")
            };
            assert!(set.is_confirmed());
            assert_eq!(
                set.iter().map(|i| i.id().as_str()).collect::<Vec<_>>(),
                ["127.0.0.1:1", "127.0.0.1:2"]
            );
        }
    }

    #[test]
    fn what_cannot_be_dialled_is_refused() {
        assert!(List::new([at("a", "127.0.0.1:1"), at("b", "0.0.0.0:1")]).is_err());
        assert!(List::new([at("a", "127.0.0.1:0")]).is_err());
        assert!(List::new([at("", "127.0.0.1:1")]).is_err());
    }

    #[tokio::test]
    async fn of_duplicates_the_last_stays_and_is_reported() {
        let list = List::new([at("a", "127.0.0.1:1"), at("a", "127.0.0.1:2")]).unwrap();
        let set = list
            .watch(&"worker:http".parse().unwrap())
            .next()
            .await
            .unwrap()
            .unwrap();
        assert_eq!(set.get("a").unwrap().address().to_string(), "127.0.0.1:2");
        assert_eq!(set.duplicates().len(), 1);
    }

    #[tokio::test]
    async fn a_list_leaves_registrations_to_the_platform() {
        let list = List::new([]).unwrap();
        let lease = list.register(Registration::new("worker")).await.unwrap();
        assert!(matches!(lease.state(), LeaseState::ByPlatform));
        assert!(list.register(Registration::new("Worker")).await.is_err());
    }
}
