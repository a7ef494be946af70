//! The parts of a URI such as `etcd://a:2379,b:2379/prefix?ttl=10s`.

use std::time::Duration;

use crate::error::BoxError;
use crate::runtime::text::excerpt;

/// What comes after `scheme:`.
#[derive(Debug)]
pub(super) struct Parts<'a> {
    /// Between `//` and the path, at the commas.
    pub(super) hosts: Vec<&'a str>,
    /// Without the slash in front of it.
    pub(super) path: &'a str,
    pub(super) parameters: Vec<(&'a str, &'a str)>,
}

impl<'a> Parts<'a> {
    pub(super) fn of(rest: &'a str) -> Result<Self, BoxError> {
        let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
        let (hosts, path) = match rest.strip_prefix("//") {
            Some(rest) => rest.split_once('/').unwrap_or((rest, "")),
            None => ("", rest),
        };
        let given = query.split('&').filter(|parameter| !parameter.is_empty());
        let parameters: Vec<_> = given
            .map(|parameter| {
                let (name, value) = parameter.split_once('=')?;
                (!value.is_empty()).then_some((name, value))
            })
            .collect::<Option<_>>()
            .ok_or_else(|| {
                format!(
                    "expected name=value after \"?\", found \"{}\"",
                    excerpt(query)
                )
            })?;
        for (at, (name, _)) in parameters.iter().enumerate() {
            if parameters[..at].iter().any(|(other, _)| other == name) {
                return Err(format!("the parameter \"{}\" occurs twice", excerpt(name)).into());
            }
        }
        Ok(Self {
            hosts: hosts.split(',').filter(|host| !host.is_empty()).collect(),
            path,
            parameters,
        })
    }

    /// The value of a parameter.
    pub(super) fn parameter(&self, wanted: &str) -> Option<&'a str> {
        let found = self.parameters.iter().find(|(name, _)| *name == wanted);
        found.map(|(_, value)| *value)
    }

    /// An error if there is a parameter that the scheme does not have.
    pub(super) fn only(&self, known: &[&str]) -> Result<(), BoxError> {
        let mut names = self.parameters.iter().map(|(name, _)| *name);
        match names.find(|name| !known.contains(name)) {
            None => Ok(()),
            Some(name) => Err(unknown(name, known)),
        }
    }
}

/// For a parameter that the scheme does not have.
pub(super) fn unknown(name: &str, known: &[&str]) -> BoxError {
    let known = known.join(", ");
    format!("unknown parameter \"{}\"; there are {known}", excerpt(name)).into()
}

/// A time such as `500ms`, `10s`, `1m` or `1h`.
pub(super) fn duration(text: &str) -> Result<Duration, BoxError> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let milliseconds = match unit {
        "ms" => Some(1),
        "s" => Some(1000),
        "m" => Some(60_000),
        "h" => Some(3_600_000),
        _ => None,
    };
    let number = number.parse::<u64>().ok();
    let milliseconds = number.and_then(|number| number.checked_mul(milliseconds?));
    milliseconds.map(Duration::from_millis).ok_or_else(|| {
        let text = excerpt(text);
        format!("expected a time such as 500ms, 10s, 1m or 1h, found \"{text}\"").into()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_uri_has_hosts_a_path_and_parameters() {
        let parts = Parts::of("//a:1,b:2/x/y?ttl=10s&user=u").unwrap();
        assert_eq!((parts.hosts, parts.path), (vec!["a:1", "b:2"], "x/y"));
        assert_eq!(parts.parameters, [("ttl", "10s"), ("user", "u")]);
        let parts = Parts::of("example.com").unwrap();
        assert_eq!((parts.hosts.len(), parts.path), (0, "example.com"));
        for bad in ["//a?ttl", "//a?ttl=", "//a?=", "//a?ttl=1s&ttl=2s"] {
            assert!(Parts::of(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_time_has_a_unit() {
        for (text, milliseconds) in [
            ("500ms", 500),
            ("10s", 10_000),
            ("1m", 60_000),
            ("1h", 3_600_000),
        ] {
            assert_eq!(duration(text).unwrap(), Duration::from_millis(milliseconds));
        }
        for bad in [
            "",
            "10",
            "s",
            "-1s",
            "1 s",
            "1d",
            "99999999999999999999s",
            "9999999999999999h",
        ] {
            assert!(duration(bad).is_err(), "{bad}");
        }
    }
}
