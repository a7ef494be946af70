//! Discovery and dials.

use rolecall::fleet::Dial;
use rolecall::{Availability, Instance, InstanceSet, Weight};

use super::Scenario;

impl Scenario {
    pub(super) fn announce(&mut self) -> &mut Self {
        let set: InstanceSet = self.set.values().cloned().collect();
        let dials = self.fleet.apply(set.confirmed(), self.now);
        self.dial(dials);
        self
    }

    /// Announces a changed instance.
    pub(crate) fn change(
        &mut self,
        id: &str,
        change: impl FnOnce(Instance) -> Instance,
    ) -> &mut Self {
        let new = || Instance::new(id, ([127, 0, 0, 1], 80));
        let instance = self.set.remove(id).unwrap_or_else(new);
        self.set.insert(id.to_owned(), change(instance));
        self.announce()
    }

    pub(crate) fn add(&mut self, id: &str) -> &mut Self {
        self.change(id, |instance| instance)
    }

    pub(crate) fn remove(&mut self, id: &str) -> &mut Self {
        self.set.remove(id);
        self.announce()
    }

    pub(crate) fn weigh(&mut self, id: &str, weight: u16) -> &mut Self {
        self.change(id, |instance| instance.with_weight(Weight::new(weight)))
    }

    pub(crate) fn say(&mut self, id: &str, availability: Availability) -> &mut Self {
        self.change(id, |instance| instance.with_availability(availability))
    }

    pub(crate) fn readdress(&mut self, id: &str, port: u16) -> &mut Self {
        self.change(id, |instance| instance.with_address(([127, 0, 0, 1], port)))
    }

    /// Lets dials hang until they are let through.
    pub(crate) fn hold_dials(&mut self) -> &mut Self {
        self.connects = false;
        self
    }

    pub(crate) fn let_dials_through(&mut self) -> &mut Self {
        self.connects = true;
        self.dial(Vec::new());
        self
    }

    pub(super) fn dial(&mut self, dials: Vec<Dial>) {
        self.dials.extend(dials);
        if self.connects {
            let dials = self.dials.drain(..).map(|dial| (dial.ticket, ()));
            self.fleet.connected(dials, self.now);
        }
    }
}
