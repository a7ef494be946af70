use std::fmt;
use std::net::IpAddr;
use std::time::Duration;

use crate::model::instance::InstanceId;
use crate::model::name::Boundary;
use crate::runtime::text::excerpt;

/// Why an address is admitted or not; made by [`Guard::explain`](super::Guard::explain). `Display` is one line for people.
#[derive(Clone, Debug)]
pub struct Explanation {
    pub(super) ip: IpAddr,
    pub(super) friend: Option<(Boundary, InstanceId)>,
    /// The admitted boundaries that discovery answered for.
    pub(super) heard: Vec<Boundary>,
    /// Those it did not answer for yet.
    pub(super) unheard: Vec<Boundary>,
    pub(super) age: Option<Duration>,
    /// What discovery reported since.
    pub(super) errors: Vec<(Boundary, String)>,
}

impl Explanation {
    /// The address asked for; an IPv4 address that came as an IPv6 one is an IPv4 address.
    pub fn ip(&self) -> IpAddr {
        self.ip
    }

    /// Whether it is admitted.
    pub fn is_admitted(&self) -> bool {
        self.friend.is_some()
    }

    /// One of the instances that have this address, written `role/id`, and its boundary.
    pub fn instance(&self) -> Option<(&Boundary, &InstanceId)> {
        let friend = self.friend.as_ref();
        friend.map(|(boundary, instance)| (boundary, instance))
    }

    /// How old the knowledge is: the time since discovery last answered, for the boundary where that is longest ago.
    /// `None` if it answered for none. Most backends answer again only when something changed.
    pub fn age(&self) -> Option<Duration> {
        self.age
    }
}

impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.friend {
            Some((boundary, instance)) => {
                let instance = excerpt(instance.as_str());
                write!(f, "known: {instance} of {boundary} has this address")?;
            }
            None if self.heard.is_empty() => f.write_str("unknown")?,
            None => {
                f.write_str("unknown: no registration of ")?;
                listed(f, &self.heard)?;
                f.write_str(" has this address")?;
            }
        }
        if let Some(age) = self.age {
            write!(f, "; {} s old", age.as_secs())?;
        }
        if !self.unheard.is_empty() {
            f.write_str("; nothing was heard yet of ")?;
            listed(f, &self.unheard)?;
        }
        self.errors.iter().try_for_each(|(boundary, error)| {
            write!(f, "; discovery of {boundary}'s peers reports: {error}")
        })
    }
}

/// `"shop, billing or default"`.
fn listed(f: &mut fmt::Formatter<'_>, boundaries: &[Boundary]) -> fmt::Result {
    for (at, boundary) in boundaries.iter().enumerate() {
        f.write_str(match at {
            0 => "",
            _ if at + 1 == boundaries.len() => " or ",
            _ => ", ",
        })?;
        write!(f, "{boundary}")?;
    }
    Ok(())
}
