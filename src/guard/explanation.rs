use std::fmt;
use std::net::IpAddr;
use std::time::Duration;

use super::networks::Networks;
use crate::model::instance::InstanceId;
use crate::model::name::Boundary;
use crate::runtime::text::excerpt;

/// Why an address is admitted or denied.
#[derive(Clone, Debug)]
pub(super) enum Reason {
    /// An instance has it.
    Instance(Boundary, InstanceId),
    Networks(Networks),
    Denied,
}

/// Why an address is admitted or denied, from [`Guard::explain`](super::Guard::explain). `Display` writes it in one line.
#[derive(Clone, Debug)]
pub struct GuardExplanation {
    pub(super) ip: IpAddr,
    pub(super) reason: Reason,
    /// The allowed boundaries that discovery has answered for.
    pub(super) synced: Vec<Boundary>,
    /// The allowed boundaries that it has not answered for yet.
    pub(super) waiting: Vec<Boundary>,
    pub(super) age: Option<Duration>,
    /// The last error of discovery since then.
    pub(super) errors: Vec<(Boundary, String)>,
}

impl GuardExplanation {
    /// The address in question. An IPv4 address mapped into IPv6 is given as IPv4.
    pub fn ip(&self) -> IpAddr {
        self.ip
    }

    /// Whether it is admitted.
    pub fn is_admitted(&self) -> bool {
        !matches!(self.reason, Reason::Denied)
    }

    /// One of the instances that have this address, written `role/id`, and its boundary.
    pub fn instance(&self) -> Option<(&Boundary, &InstanceId)> {
        match &self.reason {
            Reason::Instance(boundary, instance) => Some((boundary, instance)),
            Reason::Networks(_) | Reason::Denied => None,
        }
    }

    /// The time since discovery last answered, for the boundary with the oldest answer. `None` if it answered for none. Most
    /// backends answer again only when something changes.
    pub fn age(&self) -> Option<Duration> {
        self.age
    }
}

impl fmt::Display for GuardExplanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ip = self.ip;
        match &self.reason {
            Reason::Instance(boundary, instance) => {
                let instance = excerpt(instance.as_str());
                write!(
                    f,
                    "admitted: {instance} of boundary {boundary} has address {ip}"
                )?;
            }
            Reason::Networks(networks) => {
                return write!(f, "admitted: {ip} is in the allowed networks {networks}");
            }
            Reason::Denied if self.synced.is_empty() => write!(f, "denied: {ip}")?,
            Reason::Denied => {
                f.write_str("denied: no instance registered in boundary ")?;
                listed(f, &self.synced)?;
                write!(f, " has address {ip}")?;
            }
        }
        if let Some(age) = self.age {
            write!(f, "; {} s old", age.as_secs())?;
        }
        if !self.waiting.is_empty() {
            f.write_str("; discovery has not answered yet for boundary ")?;
            listed(f, &self.waiting)?;
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
