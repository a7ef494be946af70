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
    sending: Sending,
}

/// Which sending of its request a pick is for. It has no effect on the pick; metrics and spans report it.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) enum Sending {
    #[default]
    First,
    /// A retry.
    Retry { earlier_attempts: u32 },
    /// The free resend of a request that no instance acted on.
    #[cfg(feature = "http")]
    Resend { earlier_attempts: u32 },
}

impl Sending {
    /// How many attempts the request had before.
    pub(crate) const fn earlier_attempts(self) -> u32 {
        match self {
            Self::First => 0,
            Self::Retry { earlier_attempts } => earlier_attempts,
            #[cfg(feature = "http")]
            Self::Resend { earlier_attempts } => earlier_attempts,
        }
    }
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
            sending: Sending::First,
        }
    }

    /// Asks for another instance than these, while one is usable.
    ///
    /// Metrics and spans count the request as a retry that had one attempt with each of them.
    pub const fn avoid(instances: &'c [InstanceId]) -> Self {
        let sending = match instances.len() {
            0 => Sending::First,
            attempts => Sending::Retry {
                earlier_attempts: attempts as u32,
            },
        };
        Self {
            avoid: instances,
            pin: None,
            sending,
        }
    }

    /// Asks for this instance and no other.
    ///
    /// The pick ignores everything but the connection: it takes an instance that is busy, ejected, on probation or of weight
    /// zero, and is never a trial. While the instance is ejected, the outcome of the request neither returns it nor ejects it
    /// for longer.
    ///
    /// # Errors
    ///
    /// A call fails at once with [`ErrorKind::Pinned`](crate::ErrorKind::Pinned) if the instance is unknown or draining. If
    /// it is not connected, the call waits as if no instance were usable, and then fails with the same kind. Meanwhile the
    /// instance is dialled at least twice a second. If the instance is at
    /// [`max_in_flight`](crate::ConfigBuilder::max_in_flight), the kind is [`Saturated`](crate::ErrorKind::Saturated).
    ///
    /// # Cost
    ///
    /// A binary search by id, without a lock. The first pinned pick after a change of the fleet makes an index of its
    /// members, under the lock that changes take.
    pub const fn pin(instance: &'c InstanceId) -> Self {
        Self::none().pinned_to(Some(instance))
    }

    /// The same hints with this pin.
    pub(crate) const fn pinned_to(self, pin: Option<&'c InstanceId>) -> Self {
        Self { pin, ..self }
    }

    /// The same hints, but these instances to avoid.
    pub(crate) const fn avoiding<'a>(self, instances: &'a [InstanceId]) -> Hints<'a>
    where
        'c: 'a,
    {
        Hints {
            avoid: instances,
            ..self
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

    /// The same hints for this sending of the request.
    #[cfg(feature = "http")]
    pub(crate) const fn for_sending(self, sending: Sending) -> Self {
        Self { sending, ..self }
    }

    pub(crate) const fn sending(&self) -> Sending {
        self.sending
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
