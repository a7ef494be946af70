use super::instance::InstanceId;

/// What one request asks of a pick: which instances to avoid.
///
/// Hints are a preference. If every usable instance is to be avoided, one of them is picked.
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
/// ```
#[derive(Clone, Copy, Debug, Default)]
pub struct Hints<'c> {
    avoid: &'c [InstanceId],
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

impl<'c> Hints<'c> {
    /// Hints that ask for nothing.
    pub const fn none() -> Self {
        Self {
            avoid: &[],
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
            sending,
        }
    }

    /// The instances to avoid.
    pub const fn avoided(&self) -> &'c [InstanceId] {
        self.avoid
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
