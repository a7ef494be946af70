//! `etcd://a:2379,b:2379/prefix?ttl=10s`

use std::fs;

use super::builder::EtcdBuilder;
use super::cluster::Etcd;
use crate::discovery::uri_parts::{Parts, duration, unknown};
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
    let Parts {
        hosts,
        path,
        parameters,
    } = Parts::of(rest)?;
    if hosts.iter().any(|host| host.contains('@')) {
        return Err(
            "name the user by ?user=NAME&password-file=PATH: a URI is no place for a password"
                .into(),
        );
    }
    let mut builder = Etcd::builder(hosts.iter().copied());
    if !path.is_empty() {
        builder = builder.prefix(path);
    }
    for (name, value) in &parameters {
        builder = match *name {
            "ttl" => builder.ttl(duration(value)?),
            "ca" => builder.ca_certificate(read(value)?),
            "server-name" => builder.server_name(*value),
            name if PARAMETERS.contains(&name) => builder,
            name => return Err(unknown(name, PARAMETERS)),
        };
    }
    let given = |wanted: &str| {
        let found = parameters.iter().find(|(name, _)| *name == wanted);
        found.map(|(_, value)| *value)
    };
    builder = pair(
        builder,
        "user",
        given("user"),
        "password-file",
        given("password-file"),
        |builder, user, file| {
            let password = String::from_utf8(read(file)?)?;
            Ok(builder.user(user, password.trim_end_matches(['\r', '\n'])))
        },
    )?;
    builder = pair(
        builder,
        "cert",
        given("cert"),
        "key",
        given("key"),
        |builder, certificate, key| Ok(builder.client_certificate(read(certificate)?, read(key)?)),
    )?;
    Ok(builder.build()?)
}

/// Applies two parameters of which neither makes sense alone.
fn pair(
    builder: EtcdBuilder,
    first: &str,
    first_value: Option<&str>,
    second: &str,
    second_value: Option<&str>,
    apply: impl FnOnce(EtcdBuilder, &str, &str) -> Result<EtcdBuilder, BoxError>,
) -> Result<EtcdBuilder, BoxError> {
    match (first_value, second_value) {
        (None, None) => Ok(builder),
        (Some(one), Some(other)) => apply(builder, one, other),
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
