//! What an instance announces besides its address.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use super::{InstanceError, WeightError, check_text};
use crate::model::name::Boundary;
use crate::runtime::text::{parsed_from_text, text_newtype};

/// Identifies an instance among all of its role. It stays the same when the address changes.
///
/// Made from any text: `InstanceId::from("worker-1")`. [`Instance::validate`](crate::Instance::validate) takes 1 to 253 bytes
/// without whitespace and control characters.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct InstanceId(Arc<str>);

text_newtype!(InstanceId);

impl From<&str> for InstanceId {
    fn from(id: &str) -> Self {
        Self(Arc::from(id))
    }
}

impl From<String> for InstanceId {
    fn from(id: String) -> Self {
        Self(Arc::from(id))
    }
}

impl From<Arc<str>> for InstanceId {
    fn from(id: Arc<str>) -> Self {
        Self(id)
    }
}

impl From<&InstanceId> for InstanceId {
    fn from(id: &InstanceId) -> Self {
        id.clone()
    }
}

#[cfg(feature = "serde")]
impl<'de> serde::Deserialize<'de> for InstanceId {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let id = <String as serde::Deserialize>::deserialize(deserializer)?;
        check_text("id", &id).map_err(serde::de::Error::custom)?;
        Ok(Self::from(id))
    }
}

/// The share of requests an instance asks for, relative to the other weights: 0 to 65535, default 1.
///
/// Weight 0 means connected but never picked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(into = "u16", try_from = "i64"))]
pub struct Weight(u16);

impl Weight {
    /// No share: connected, never picked, not counted.
    pub const ZERO: Self = Self(0);

    /// A weight of this size.
    #[must_use]
    pub const fn new(weight: u16) -> Self {
        Self(weight)
    }

    /// The number.
    #[must_use]
    pub const fn get(self) -> u16 {
        self.0
    }
}

impl Default for Weight {
    fn default() -> Self {
        Self(1)
    }
}

impl fmt::Display for Weight {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl From<u16> for Weight {
    fn from(weight: u16) -> Self {
        Self(weight)
    }
}

impl From<Weight> for u16 {
    fn from(weight: Weight) -> Self {
        weight.0
    }
}

impl TryFrom<u32> for Weight {
    type Error = WeightError;

    fn try_from(weight: u32) -> Result<Self, WeightError> {
        i64::from(weight).try_into()
    }
}

impl TryFrom<i64> for Weight {
    type Error = WeightError;

    fn try_from(weight: i64) -> Result<Self, WeightError> {
        u16::try_from(weight)
            .map(Self)
            .map_err(|_| WeightError::new(&weight.to_string()))
    }
}

impl FromStr for Weight {
    type Err = WeightError;

    fn from_str(text: &str) -> Result<Self, WeightError> {
        text.parse().map(Self).map_err(|_| WeightError::new(text))
    }
}

/// The failure domain an instance runs in, such as a rack or a data centre.
///
/// 1 to 253 bytes without whitespace and control characters.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Zone(Arc<str>);

impl Zone {
    /// A zone of this name.
    ///
    /// # Errors
    ///
    /// [`InstanceError`] if the text is empty, longer than 253 bytes, or has whitespace or control characters.
    pub fn new(zone: impl AsRef<str>) -> Result<Self, InstanceError> {
        check_text("zone", zone.as_ref())?;
        Ok(Self(Arc::from(zone.as_ref())))
    }

    /// Whether both name the same zone. Sources differ in case, so case does not matter.
    pub(crate) fn is_same(&self, other: &Self) -> bool {
        self.0.eq_ignore_ascii_case(&other.0)
    }
}

text_newtype!(Zone);
parsed_from_text!(Zone, InstanceError);

/// Whether an instance wants requests, by its own announcement.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "snake_case"))]
#[non_exhaustive]
pub enum Availability {
    /// Ready for requests.
    #[default]
    Available,
    /// Picked only while no available instance is pickable.
    Busy,
    /// No new picks; what is in flight finishes.
    Draining,
}

impl fmt::Display for Availability {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Available => "available",
            Self::Busy => "busy",
            Self::Draining => "draining",
        })
    }
}

/// Which boundaries may see an instance.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "snake_case"))]
#[non_exhaustive]
pub enum Visibility {
    /// Only its own boundary.
    #[default]
    Internal,
    /// Every boundary.
    Public,
    /// Its own boundary and these.
    Granted(Vec<Boundary>),
}

impl Visibility {
    /// Whether a caller in `caller` may see an instance of boundary `owner`.
    #[must_use]
    pub fn allows(&self, owner: &Boundary, caller: &Boundary) -> bool {
        owner == caller
            || match self {
                Self::Internal => false,
                Self::Public => true,
                Self::Granted(to) => to.contains(caller),
            }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_out_of_range_name_value_and_range() {
        assert_eq!(Weight::try_from(65_535_u32).unwrap().get(), 65_535);
        for error in [
            Weight::try_from(65_536_u32).unwrap_err(),
            Weight::try_from(65_536_i64).unwrap_err(),
            "65536".parse::<Weight>().unwrap_err(),
        ] {
            assert_eq!(
                error.to_string(),
                "invalid weight \"65536\": it is no whole number from 0 to 65535"
            );
        }
        assert_eq!(Weight::try_from(-1_i64).unwrap_err().value(), "-1");
        for text in ["", "1.5", "-1", "one", " 1"] {
            assert!(text.parse::<Weight>().is_err(), "{text:?}");
        }
    }

    #[test]
    fn zones_are_bounded() {
        assert_eq!(Zone::new("eu-1a").unwrap(), "eu-1a");
        assert!(Zone::new("").is_err());
        assert!(
            Zone::new("a\tb")
                .unwrap_err()
                .to_string()
                .contains("\"a\\tb\"")
        );
        assert!(Zone::new("z".repeat(254)).is_err());
    }

    #[test]
    fn visibility_always_includes_the_own_boundary() {
        let [owner, friend, stranger] =
            ["owner", "friend", "stranger"].map(|b| Boundary::new(b).unwrap());
        let granted = Visibility::Granted(vec![friend.clone()]);
        for (visibility, to_friend, to_stranger) in [
            (&Visibility::Internal, false, false),
            (&Visibility::Public, true, true),
            (&granted, true, false),
        ] {
            assert!(visibility.allows(&owner, &owner));
            assert_eq!(
                visibility.allows(&owner, &friend),
                to_friend,
                "{visibility:?}"
            );
            assert_eq!(
                visibility.allows(&owner, &stranger),
                to_stranger,
                "{visibility:?}"
            );
        }
    }
}
