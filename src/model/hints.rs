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
}

impl<'c> Hints<'c> {
    /// Hints that ask for nothing.
    pub const fn none() -> Self {
        Self { avoid: &[] }
    }

    /// Asks for another instance than these, while one is usable.
    pub const fn avoid(instances: &'c [InstanceId]) -> Self {
        Self { avoid: instances }
    }

    /// The instances to avoid.
    pub const fn avoided(&self) -> &'c [InstanceId] {
        self.avoid
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
