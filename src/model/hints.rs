use std::fmt;

use super::instance::InstanceId;

/// What one request asks of a pick: which instances to avoid, or the one instance that it must go to.
///
/// Instances to avoid are a preference. If every usable instance is to be avoided, one of them is picked. A pin is not: the
/// request goes to that instance or fails.
///
/// # Examples
///
/// ```
/// use rolecall::{Hints, InstanceId};
///
/// let tried = [InstanceId::from("a"), InstanceId::from("b")];
/// let hints = Hints::avoid(&tried);
/// assert_eq!(hints.avoided(), tried);
/// assert!(Hints::none().avoided().is_empty());
/// assert_eq!(Hints::pin(&tried[0]).pinned(), Some(&tried[0]));
/// ```
#[derive(Clone, Copy, Debug, Default)]
pub struct Hints<'c> {
    avoid: &'c [InstanceId],
    pin: Option<&'c InstanceId>,
}

/// Why a request cannot have the instance that it is [pinned](Hints::pin) to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum PinFault {
    /// Discovery announces no instance of this id. The call fails at once.
    Unknown,
    /// The instance is draining: it takes no new requests. The call fails at once.
    Draining,
    /// The instance is not connected. The call waited for [`unavailable_after`](crate::ConfigBuilder::unavailable_after).
    Disconnected,
}

impl fmt::Display for PinFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Unknown => "is not announced",
            Self::Draining => "is draining",
            Self::Disconnected => "is not connected",
        })
    }
}

impl<'c> Hints<'c> {
    /// Hints that ask for nothing.
    pub const fn none() -> Self {
        Self {
            avoid: &[],
            pin: None,
        }
    }

    /// Asks for another instance than these, while one is usable.
    pub const fn avoid(instances: &'c [InstanceId]) -> Self {
        Self {
            avoid: instances,
            pin: None,
        }
    }

    /// Asks for this instance and no other.
    ///
    /// The pick ignores everything but the connection: it takes an instance that is busy, ejected, on probation or of weight
    /// zero, and is never a trial. It also takes no part in what the rules learn about an ejected instance.
    ///
    /// # Errors
    ///
    /// A call fails at once with [`ErrorKind::Pinned`](crate::ErrorKind::Pinned) if the instance is unknown or draining. If
    /// it is not connected, it is dialled twice a second or more often, and the call waits as if no instance were usable, then fails with the same kind. If the instance is
    /// at [`max_in_flight`](crate::ConfigBuilder::max_in_flight), the kind is
    /// [`Saturated`](crate::ErrorKind::Saturated).
    ///
    /// # Cost
    ///
    /// A binary search by id, without a lock. The first pinned pick after a change of the fleet sorts its members into an
    /// index, under the lock that changes take.
    pub const fn pin(instance: &'c InstanceId) -> Self {
        Self {
            avoid: &[],
            pin: Some(instance),
        }
    }

    /// The same pin, and these instances to avoid.
    pub(crate) const fn avoiding<'a>(self, instances: &'a [InstanceId]) -> Hints<'a>
    where
        'c: 'a,
    {
        Hints {
            avoid: instances,
            pin: self.pin,
        }
    }

    /// The instances to avoid.
    pub const fn avoided(&self) -> &'c [InstanceId] {
        self.avoid
    }

    /// The instance that the request must go to.
    pub const fn pinned(&self) -> Option<&'c InstanceId> {
        self.pin
    }
}

impl<'c> From<&'c [InstanceId]> for Hints<'c> {
    fn from(instances: &'c [InstanceId]) -> Self {
        Self::avoid(instances)
    }
}

impl<'c, const N: usize> From<&'c [InstanceId; N]> for Hints<'c> {
    fn from(instances: &'c [InstanceId; N]) -> Self {
        Self::avoid(instances)
    }
}

impl<'c> From<&'c Vec<InstanceId>> for Hints<'c> {
    fn from(instances: &'c Vec<InstanceId>) -> Self {
        Self::avoid(instances)
    }
}
