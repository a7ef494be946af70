use std::error::Error as StdError;
use std::fmt;
use std::time::Duration;

use etcd_client::{Certificate, ConnectOptions, Identity, TlsOptions};

use super::cluster::Etcd;
use super::connection::Connection;
use super::keys::Keys;
use crate::runtime::text::uri_excerpt;

impl Etcd {
    /// Begins to describe an etcd cluster by the endpoints of its members: `host:port`, `http://host:port` or
    /// `https://host:port`.
    ///
    /// One endpoint is used at a time. The first is drawn at random, and the next in order follows when a connection fails.
    /// Nothing is dialled before the first watch or registration is polled.
    pub fn builder<E: Into<String>>(endpoints: impl IntoIterator<Item = E>) -> EtcdBuilder {
        EtcdBuilder {
            endpoints: endpoints.into_iter().map(Into::into).collect(),
            prefix: "rolecall".to_owned(),
            ttl: Duration::from_secs(10),
            user: None,
            ca: None,
            identity: None,
            server_name: None,
        }
    }
}

/// Describes an etcd cluster, and how its keys are used; see [`Etcd::builder`].
#[derive(Clone)]
#[must_use = "it does nothing until `build` is called"]
pub struct EtcdBuilder {
    endpoints: Vec<String>,
    prefix: String,
    ttl: Duration,
    user: Option<(String, String)>,
    ca: Option<Certificate>,
    identity: Option<Identity>,
    server_name: Option<String>,
}

const SHORTEST_TTL: Duration = Duration::from_secs(1);
const LONGEST_TTL: Duration = Duration::from_secs(3600);

impl EtcdBuilder {
    /// What all keys begin with, without the slash that follows. Default: `rolecall`.
    pub fn prefix(mut self, prefix: impl Into<String>) -> Self {
        self.prefix = prefix.into();
        self
    }

    /// The time after which an instance is gone that no longer renews its lease: whole seconds, rounded up, from 1 s to 1 h,
    /// and the nearer bound outside. Default: 10 s.
    ///
    /// The server may grant a longer one; with its own defaults at least 2 s.
    pub fn ttl(mut self, ttl: Duration) -> Self {
        let ttl = ttl.clamp(SHORTEST_TTL, LONGEST_TTL);
        let partial = u64::from(ttl.subsec_nanos() > 0);
        self.ttl = Duration::from_secs(ttl.as_secs() + partial);
        self
    }

    /// Signs in with this name and password. Default: no user.
    pub fn user(mut self, name: impl Into<String>, password: impl Into<String>) -> Self {
        self.user = Some((name.into(), password.into()));
        self
    }

    /// Uses TLS, and trusts servers whose certificate is signed by this one, in PEM.
    pub fn ca_certificate(mut self, pem: impl AsRef<[u8]>) -> Self {
        self.ca = Some(Certificate::from_pem(pem));
        self
    }

    /// Shows this certificate to the servers, with its private key, both in PEM. Needs a
    /// [`ca_certificate`](Self::ca_certificate).
    pub fn client_certificate(mut self, pem: impl AsRef<[u8]>, key: impl AsRef<[u8]>) -> Self {
        self.identity = Some(Identity::from_pem(pem, key));
        self
    }

    /// Expects this name in the servers' certificates. Default: the host of the endpoint.
    pub fn server_name(mut self, name: impl Into<String>) -> Self {
        self.server_name = Some(name.into());
        self
    }

    /// Makes the backend. It sends nothing yet, and needs no runtime.
    ///
    /// # Errors
    ///
    /// An [`EtcdConfigError`] if there is no endpoint, if one is not of the form `host:port`, if the prefix is empty, or if an
    /// `https` endpoint has no [`ca_certificate`](Self::ca_certificate), or an `http` endpoint has one.
    pub fn build(self) -> Result<Etcd, EtcdConfigError> {
        if self.endpoints.is_empty() {
            return Err(EtcdConfigErrorKind::Endpoint.because("there is none"));
        }
        let uses_tls = self.ca.is_some() || self.identity.is_some() || self.server_name.is_some();
        for endpoint in &self.endpoints {
            check_endpoint(endpoint, uses_tls)?;
        }
        if uses_tls && self.ca.is_none() {
            return Err(EtcdConfigErrorKind::Tls.because("it needs the certificate of a CA"));
        }
        let prefix = self.prefix.trim_end_matches('/');
        if prefix.is_empty() {
            return Err(EtcdConfigErrorKind::Prefix.because("it is empty"));
        }
        let mut options = ConnectOptions::new();
        if let Some((name, password)) = self.user {
            options = options.with_user(name, password);
        }
        if let Some(ca) = self.ca {
            let mut tls = TlsOptions::new().ca_certificate(ca);
            if let Some(identity) = self.identity {
                tls = tls.identity(identity);
            }
            if let Some(name) = self.server_name {
                tls = tls.domain_name(name);
            }
            options = options.with_tls(tls);
        }
        let connection = Connection::new(self.endpoints, options);
        Ok(Etcd::new(connection, Keys::new(prefix), self.ttl))
    }
}

fn check_endpoint(endpoint: &str, uses_tls: bool) -> Result<(), EtcdConfigError> {
    let kind = EtcdConfigErrorKind::Endpoint;
    let authority = match endpoint.split_once("://") {
        None => endpoint,
        Some(("http", authority)) if !uses_tls => authority,
        Some(("https", authority)) if uses_tls => authority,
        Some(("http" | "https", _)) => {
            let kind = EtcdConfigErrorKind::Tls;
            return Err(kind.because(format!(
                "\"{}\" does not go with the other settings: https needs the certificate of a CA, and http takes none",
                uri_excerpt(endpoint)
            )));
        }
        Some(_) => {
            return Err(kind.because(format!(
                "\"{}\" is not http or https",
                uri_excerpt(endpoint)
            )));
        }
    };
    let port = authority.rsplit_once(':').and_then(|(host, port)| {
        let is_host = |byte: u8| byte.is_ascii_alphanumeric() || b".-_[]:".contains(&byte);
        let is_host = !host.is_empty() && host.bytes().all(is_host);
        port.parse::<u16>().ok().filter(|port| is_host && *port > 0)
    });
    match port {
        Some(_) => Ok(()),
        None => Err(kind.because(format!("\"{}\" is not host:port", uri_excerpt(endpoint)))),
    }
}

impl fmt::Debug for EtcdBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EtcdBuilder")
            .field("endpoints", &self.endpoints)
            .field("prefix", &self.prefix)
            .field("ttl", &self.ttl)
            .finish_non_exhaustive()
    }
}

/// Why an [`EtcdBuilder`] makes no backend.
#[derive(Clone, Debug)]
pub struct EtcdConfigError {
    kind: EtcdConfigErrorKind,
    problem: String,
}

/// Which setting an [`EtcdConfigError`] is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum EtcdConfigErrorKind {
    /// The endpoints.
    Endpoint,
    /// The prefix.
    Prefix,
    /// Certificates, or how they go with the endpoints.
    Tls,
}

impl EtcdConfigErrorKind {
    fn because(self, problem: impl Into<String>) -> EtcdConfigError {
        EtcdConfigError {
            kind: self,
            problem: problem.into(),
        }
    }
}

impl EtcdConfigError {
    /// Which setting is wrong.
    #[must_use]
    pub fn kind(&self) -> EtcdConfigErrorKind {
        self.kind
    }
}

impl fmt::Display for EtcdConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let field = match self.kind {
            EtcdConfigErrorKind::Endpoint => "endpoint",
            EtcdConfigErrorKind::Prefix => "prefix",
            EtcdConfigErrorKind::Tls => "TLS",
        };
        write!(f, "invalid etcd {field}: {}", self.problem)
    }
}

impl StdError for EtcdConfigError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_are_checked_before_anything_is_sent() {
        let none = Etcd::builder(Vec::<String>::new()).build().unwrap_err();
        assert_eq!(none.kind(), EtcdConfigErrorKind::Endpoint);
        for good in ["etcd-0:2379", "http://10.0.0.2:2379", "[::1]:2379"] {
            assert!(Etcd::builder([good]).build().is_ok(), "{good}");
        }
        for bad in [
            "",
            "etcd",
            ":2379",
            "etcd:0",
            "ftp://etcd:1",
            "a b:1",
            "http://etcd:1/x",
        ] {
            let error = Etcd::builder([bad]).build().unwrap_err();
            assert_eq!(
                error.kind(),
                EtcdConfigErrorKind::Endpoint,
                "{bad}: {error}"
            );
        }
        let error = Etcd::builder(["a:1"]).prefix("/").build().unwrap_err();
        assert_eq!(error.to_string(), "invalid etcd prefix: it is empty");
        for tls in [
            Etcd::builder(["https://a:1"]),
            Etcd::builder(["http://a:1"]).ca_certificate("x"),
            Etcd::builder(["a:1"]).client_certificate("x", "y"),
        ] {
            let error = tls.build().unwrap_err();
            assert_eq!(error.kind(), EtcdConfigErrorKind::Tls, "{error}");
        }
    }

    #[test]
    fn a_time_to_live_is_whole_seconds_within_its_bounds() {
        for (asked, kept) in [
            (0, 1),
            (1, 1),
            (999, 1),
            (1001, 2),
            (10_000, 10),
            (u64::MAX, 3600),
        ] {
            let builder = Etcd::builder(["a:1"]).ttl(Duration::from_millis(asked));
            assert_eq!(builder.ttl, Duration::from_secs(kept));
        }
    }
}
