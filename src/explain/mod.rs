//! Why each member gets the share of requests that it gets: [`Status`] in, sentences out.

pub(crate) mod member;
pub(crate) mod reason;
pub(crate) mod table;
pub(crate) mod target;

use std::fmt;

use self::member::MemberExplanation;
use self::target::Circumstance;
use crate::model::target::Target;
use crate::status::Status;

/// What the state of a balancer means: one sentence for the target and one for each member.
///
/// [`Control::explain`](crate::Control::explain), [`Fleet::explain`](crate::fleet::Fleet::explain) and
/// [`Status::explain`] return it. `Display` writes the sentences, one a line. Shares are those of the last 10 s. They are
/// left out where the fleet reads no clock, with [`Load::least_in_flight`](crate::Load::least_in_flight) and ejection off.
///
/// With the feature `serde` it can be serialized. Durations are then numbers of seconds.
///
/// # Examples
///
/// ```
/// use rolecall::fleet::Fleet;
/// use rolecall::{BalanceConfig, Instance};
/// use std::net::SocketAddr;
/// use std::time::Instant;
///
/// let now = Instant::now();
/// let fleet = Fleet::new(BalanceConfig::default(), 1, now);
/// let set = ["127.0.0.1:1", "127.0.0.1:2"].map(|addr| Instance::new(addr, addr.parse::<SocketAddr>().unwrap()));
/// let mut dials = fleet.apply(set.into_iter().collect(), now).into_iter();
/// fleet.connected(dials.next().map(|dial| (dial.ticket, ())), now);
/// let refused = std::io::Error::from(std::io::ErrorKind::ConnectionRefused);
/// fleet.dial_failed(dials.next().unwrap().ticket, refused, now);
///
/// let explanation = fleet.explain(now);
/// assert_eq!(explanation.usable, 1);
/// assert!(explanation.members[1].to_string().starts_with(
///     "127.0.0.1:2 (127.0.0.1:2) gets no requests: not connected for 0 s, the last dial failed: refused"
/// ));
/// ```
#[derive(Clone, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct Explanation {
    /// The balanced target; `None` for a fleet without a balancer.
    pub target: Option<Target>,
    /// How many members a pick chooses from.
    pub usable: usize,
    /// How many instances are known.
    pub known: usize,
    /// What affects all members.
    pub circumstances: Vec<Circumstance>,
    /// Every known instance, by id.
    pub members: Vec<MemberExplanation>,
}

impl Status {
    /// Says in words why each member gets the share of requests that it gets.
    ///
    /// Costs a few allocations per member and takes no lock.
    pub fn explain(&self) -> Explanation {
        Explanation {
            target: self.target.clone(),
            usable: self.usable,
            known: self.members.len(),
            circumstances: Circumstance::of(self),
            members: MemberExplanation::of(self),
        }
    }
}

impl Explanation {
    /// Writes the sentence for the target.
    pub(crate) fn write_sentence(&self, f: &mut dyn fmt::Write) -> fmt::Result {
        if let Some(target) = &self.target {
            write!(f, "{target}: ")?;
        }
        write!(f, "{} of {} usable", self.usable, self.known)?;
        for circumstance in &self.circumstances {
            let is_count = matches!(circumstance, Circumstance::Unusable { .. });
            write!(f, "{} {circumstance}", if is_count { ',' } else { ';' })?;
        }
        Ok(())
    }
}

impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.write_sentence(f)?;
        for member in &self.members {
            write!(f, "\n  {member}")?;
        }
        Ok(())
    }
}
