//! What a caller asks for: [`Target`].

use std::convert::Infallible;
use std::error::Error as StdError;
use std::fmt;
use std::str::FromStr;

use crate::model::name::{Boundary, EndpointName, NameError, Role};
use crate::runtime::text::excerpt;

/// One endpoint of one role, as a caller names it: `role:endpoint`, or `boundary/role:endpoint`.
///
/// Without a boundary it means the caller's own: see [`BalanceLayer::boundary`](crate::BalanceLayer::boundary). [`Display`](fmt::Display) and [`FromStr`] round-trip.
///
/// # Examples
///
/// ```
/// use rolecall::Target;
///
/// let target: Target = "media/worker:http".parse()?;
/// assert_eq!(target.role().as_str(), "worker");
/// assert_eq!(target.to_string(), "media/worker:http");
/// # Ok::<(), rolecall::TargetError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Target {
    boundary: Option<Boundary>,
    role: Role,
    endpoint: EndpointName,
}

impl Target {
    /// The endpoint of the role in the caller's own boundary.
    #[must_use]
    pub fn new(role: Role, endpoint: EndpointName) -> Self {
        Self {
            boundary: None,
            role,
            endpoint,
        }
    }

    /// The same role and endpoint in the given boundary.
    #[must_use]
    pub fn in_boundary(mut self, boundary: Boundary) -> Self {
        self.boundary = Some(boundary);
        self
    }

    /// The boundary that was named; `None` means the caller's own.
    #[must_use]
    pub fn boundary(&self) -> Option<&Boundary> {
        self.boundary.as_ref()
    }

    /// The role asked for.
    #[must_use]
    pub fn role(&self) -> &Role {
        &self.role
    }

    /// The named port asked for.
    #[must_use]
    pub fn endpoint(&self) -> &EndpointName {
        &self.endpoint
    }

    fn parse(text: &str) -> Result<Self, TargetFault> {
        if text.is_empty() {
            return Err(TargetFault::Empty);
        }
        if text.contains("://") {
            return Err(TargetFault::Url);
        }
        let (boundary, rest) = match text.split_once('/') {
            Some((boundary, rest)) => (Some(boundary), rest),
            None => (None, text),
        };
        if rest.contains('/') {
            return Err(TargetFault::ExtraSlash);
        }
        let (role, endpoint) = rest.split_once(':').ok_or(TargetFault::NoColon)?;
        if endpoint.contains(':') {
            return Err(TargetFault::ExtraColon);
        }
        Ok(Self {
            boundary: boundary.map(Boundary::new).transpose()?,
            role: Role::new(role)?,
            endpoint: EndpointName::new(endpoint)?,
        })
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(boundary) = &self.boundary {
            write!(f, "{boundary}/")?;
        }
        write!(f, "{}:{}", self.role, self.endpoint)
    }
}

impl FromStr for Target {
    type Err = TargetError;

    fn from_str(text: &str) -> Result<Self, TargetError> {
        Self::parse(text).map_err(|fault| TargetError {
            text: excerpt(text),
            fault,
        })
    }
}

impl TryFrom<&str> for Target {
    type Error = TargetError;

    fn try_from(text: &str) -> Result<Self, TargetError> {
        text.parse()
    }
}

impl TryFrom<String> for Target {
    type Error = TargetError;

    fn try_from(text: String) -> Result<Self, TargetError> {
        text.parse()
    }
}

impl TryFrom<&String> for Target {
    type Error = TargetError;

    fn try_from(text: &String) -> Result<Self, TargetError> {
        text.parse()
    }
}

impl From<&Target> for Target {
    fn from(target: &Target) -> Self {
        target.clone()
    }
}

#[cfg(feature = "serde")]
impl serde::Serialize for Target {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(feature = "serde")]
impl<'de> serde::Deserialize<'de> for Target {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = <String as serde::Deserialize>::deserialize(deserializer)?;
        text.parse().map_err(|error: TargetError| {
            // A deserializer's error has no source, so the cause goes into its text.
            match error.source() {
                Some(cause) => serde::de::Error::custom(format_args!("{error}: {cause}")),
                None => serde::de::Error::custom(error),
            }
        })
    }
}

/// A text that is not a [`Target`]. Its source is a [`NameError`] if one of the names is invalid.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TargetError {
    text: Box<str>,
    fault: TargetFault,
}

impl TargetError {
    /// The whole text that was refused, escaped and cut to 80 characters.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }
}

impl fmt::Display for TargetError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "invalid target \"{}\": ", self.text)?;
        match &self.fault {
            TargetFault::Empty => f.write_str("it is empty; write role:endpoint"),
            TargetFault::Url => f.write_str("it is a URL; write role:endpoint"),
            TargetFault::NoColon => {
                f.write_str("it names no endpoint; write role:endpoint, as in worker:http")
            }
            TargetFault::ExtraColon => f.write_str("more than one ':'; write role:endpoint"),
            TargetFault::ExtraSlash => {
                f.write_str("more than one '/'; write boundary/role:endpoint")
            }
            TargetFault::Name(error) if error.is_empty() => {
                write!(f, "its {} is empty", error.field())
            }
            TargetFault::Name(error) => write!(f, "its {} is invalid", error.field()),
        }
    }
}

impl StdError for TargetError {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        match &self.fault {
            TargetFault::Name(error) => Some(error),
            _ => None,
        }
    }
}

/// Lets a [`Target`] be passed where `T: TryInto<Target>, T::Error: Into<TargetError>` is required.
impl From<Infallible> for TargetError {
    fn from(never: Infallible) -> Self {
        match never {}
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum TargetFault {
    Empty,
    Url,
    NoColon,
    ExtraColon,
    ExtraSlash,
    Name(NameError),
}

impl From<NameError> for TargetFault {
    fn from(error: NameError) -> Self {
        Self::Name(error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target_error(text: &str) -> String {
        let error = Target::from_str(text).unwrap_err();
        match error.source() {
            Some(source) => format!("{error}: {source}"),
            None => error.to_string(),
        }
    }

    #[test]
    fn targets_round_trip_through_text() {
        for text in ["worker:http", "media/worker:http", "a/b:c"] {
            assert_eq!(text.parse::<Target>().unwrap().to_string(), text);
        }
        let made = Target::new(Role::new("b").unwrap(), EndpointName::new("c").unwrap())
            .in_boundary(Boundary::new("a").unwrap());
        assert_eq!(Target::try_from("a/b:c").unwrap(), made);
        assert_eq!(made.boundary().unwrap(), &"a");
    }

    #[test]
    fn half_written_targets_are_named_whole() {
        for (text, says) in [
            ("", "it is empty"),
            ("worker", "it names no endpoint"),
            ("media/worker", "it names no endpoint"),
            ("worker:", "its endpoint name is empty"),
            (":http", "its role is empty"),
            (":", "its role is empty"),
            ("/worker:http", "its boundary is empty"),
            ("media/:http", "its role is empty"),
            ("a/b/c:http", "more than one '/'"),
            ("worker:http:tls", "more than one ':'"),
            ("http://worker:8080", "it is a URL"),
            ("worker:8080", "not a port number"),
            ("Worker:http", "names are lower case"),
            ("10.0.0.1:http", "without dots"),
            ("worker:http/", "it names no endpoint"),
        ] {
            let error = target_error(text);
            assert!(error.contains(says), "{text:?} gave {error:?}");
            assert!(
                error.starts_with(&format!("invalid target \"{text}\": ")),
                "{error:?}"
            );
        }
    }

    #[test]
    fn apis_take_anything_that_becomes_a_target() {
        fn takes<T: TryInto<Target, Error: Into<TargetError>>>(
            target: T,
        ) -> Result<Target, TargetError> {
            target.try_into().map_err(Into::into)
        }
        let target = takes("worker:http").unwrap();
        let text = String::from("worker:http");
        assert_eq!(takes(text.clone()).unwrap(), target);
        assert_eq!(takes(&text).unwrap(), target);
        assert_eq!(takes(&target).unwrap(), target);
        assert_eq!(takes(target.clone()).unwrap(), target);
        assert!(takes("worker").is_err());
    }

    #[cfg(feature = "serde")]
    #[test]
    fn names_and_targets_are_strings_in_serde() {
        let target: Target = serde_json::from_str("\"media/worker:http\"").unwrap();
        assert_eq!(
            serde_json::to_string(&target).unwrap(),
            "\"media/worker:http\""
        );
        for error in [
            serde_json::from_str::<Role>("\"Worker\"").unwrap_err(),
            serde_json::from_str::<Target>("\"Worker:http\"").unwrap_err(),
        ] {
            assert!(
                error.to_string().contains("names are lower case"),
                "{error}"
            );
        }
    }
}
