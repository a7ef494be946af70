//! `etcd://a:2379,b:2379/prefix?ttl=10s`

use std::fs;

use super::cluster::Etcd;
use crate::discovery::uri_parts::{Parts, duration};
use crate::error::BoxError;
use crate::runtime::text::excerpt;

const PARAMETERS: &[&str] = &[
    "ttl",
    "user",
    "password-file",
    "ca",
    "cert",
    "key",
    "server-name",
];

/// Secrets are in files, whose paths the URI names: URIs are logged.
pub(in crate::discovery) fn from_uri(rest: &str) -> Result<Etcd, BoxError> {
    let parts = Parts::of(rest)?;
    parts.only(PARAMETERS)?;
    if parts.hosts.iter().any(|host| host.contains('@')) {
        return Err(
            "name the user by ?user=NAME&password-file=PATH: a URI is no place for a password"
                .into(),
        );
    }
    let mut builder = Etcd::builder(parts.hosts.iter().copied());
    if !parts.path.is_empty() {
        builder = builder.prefix(parts.path);
    }
    if let Some(ttl) = parts.parameter("ttl") {
        builder = builder.ttl(duration(ttl)?);
    }
    if let Some(ca) = parts.parameter("ca") {
        builder = builder.ca_certificate(read(ca)?);
    }
    if let Some(name) = parts.parameter("server-name") {
        builder = builder.server_name(name);
    }
    if let Some((user, file)) = pair(&parts, "user", "password-file")? {
        let password = String::from_utf8(read(file)?)?;
        builder = builder.user(user, password.trim_end_matches(['\r', '\n']));
    }
    if let Some((certificate, key)) = pair(&parts, "cert", "key")? {
        builder = builder.client_certificate(read(certificate)?, read(key)?);
    }
    Ok(builder.build()?)
}

/// Two parameters of which neither makes sense alone.
fn pair<'a>(
    parts: &Parts<'a>,
    first: &str,
    second: &str,
) -> Result<Option<(&'a str, &'a str)>, BoxError> {
    match (parts.parameter(first), parts.parameter(second)) {
        (None, None) => Ok(None),
        (Some(one), Some(other)) => Ok(Some((one, other))),
        _ => Err(format!("{first} and {second} go together").into()),
    }
}

fn read(path: &str) -> Result<Vec<u8>, BoxError> {
    fs::read(path).map_err(|error| format!("reading \"{}\": {error}", excerpt(path)).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_uri_names_endpoints_prefix_and_time_to_live() {
        for good in [
            "//a:2379",
            "//a:2379,b:2379/shop?ttl=5s",
            "//a:1//with/slash",
        ] {
            assert!(from_uri(good).is_ok(), "{good}");
        }
        for (bad, says) in [
            ("", "there is none"),
            ("//", "there is none"),
            ("a:2379", "there is none"),
            ("//a", "host:port"),
            ("//me:secret@a:2379", "password-file"),
            ("//a:2379?ttl=5", "500ms, 10s"),
            ("//a:2379?tll=5s", "there are ttl"),
            ("//a:2379?user=me", "user and password-file go together"),
            ("//a:2379?cert=x", "cert and key go together"),
            ("//a:2379?ca=/does/not/exist", "/does/not/exist"),
        ] {
            let error = from_uri(bad).unwrap_err().to_string();
            assert!(error.contains(says), "{bad:?} gave {error}");
            assert!(!error.contains("secret"), "{error}");
        }
    }
}
