//! TLS by rustls: the certificates of the moment, and whose name an instance has to prove.

use std::fmt;
use std::sync::Arc;

use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::ClientConfig;
use tokio_rustls::rustls::pki_types::ServerName;

use super::error::{ConnectError, Mismatch};
use super::stream::Raw;
use crate::model::address::Address;
use crate::model::instance::Instance;
use crate::model::name::Role;

/// Where an instance says by which name it is known.
const SERVER_NAME: &str = "tls-server-name";

/// How connections are encrypted, see [`Connector::tls`](super::Connector::tls) (feature `tls`).
///
/// Made of an `Arc<rustls::ClientConfig>`, or of a function that gives the one of the moment. Roots, client certificate and
/// cryptography are those of the configuration. Its ALPN protocols are not used: the connector offers the one it speaks.
///
/// # Server name
///
/// The certificate of an instance must be valid for one name, the first of these that is known:
///
/// 1. [`server_name`](Self::server_name), which the program sets.
/// 2. The metadata entry `tls-server-name` of the instance, a DNS name or an ip, but only after
///    [`trust_announced_names`](Self::trust_announced_names).
/// 3. The name of a [`role`](Self::role). `http::Client` and `grpc::Channel` use the role of their target; a
///    [`Connector`](super::Connector) knows none unless it is set.
/// 4. The ip of the instance, or `localhost` for a Unix socket.
///
/// A certificate for a later name is not accepted. By default whoever can write to discovery can make a caller dial another
/// address, but cannot choose the name that is verified there.
///
/// # Reload
///
/// [`from_fn`](Self::from_fn) is asked by every dial, so new certificates and roots are used from the next one on. Open
/// connections keep the old ones: [`max_connection_age`](super::Connector::max_connection_age) limits for how long.
///
/// ```
/// use rolecall::http;
/// use rustls::{ClientConfig, RootCertStore, pki_types::ServerName};
/// use std::sync::{Arc, Mutex, PoisonError};
/// use std::time::Duration;
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let roots = RootCertStore::empty();
/// let config = ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
/// // Whoever reads the certificates again puts the new configuration here.
/// let current = Arc::new(Mutex::new(Arc::new(config)));
///
/// let tls = http::Tls::from_fn(move || current.lock().unwrap_or_else(PoisonError::into_inner).clone())
///     .server_name(ServerName::try_from("worker.internal")?);
/// let connector = http::Connector::<String>::new()
///     .tls(tls)
///     .max_connection_age(Duration::from_secs(600));
/// # drop(connector);
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Tls {
    config: Arc<dyn Fn() -> Arc<ClientConfig> + Send + Sync>,
    server_name: Option<ServerName<'static>>,
    trusts_announced_names: bool,
    role: Option<Role>,
}

impl Tls {
    /// Asks `config` for the configuration at each dial. It must not block.
    #[must_use]
    pub fn from_fn(config: impl Fn() -> Arc<ClientConfig> + Send + Sync + 'static) -> Self {
        Self {
            config: Arc::new(config),
            server_name: None,
            trusts_announced_names: false,
            role: None,
        }
    }

    /// Verifies this name, whatever the role and the metadata of the instance.
    #[must_use]
    pub fn server_name(mut self, name: ServerName<'static>) -> Self {
        self.server_name = Some(name);
        self
    }

    /// Verifies the name in the metadata entry `tls-server-name` of an instance, unless the program set a
    /// [`server_name`](Self::server_name).
    ///
    /// Whoever can announce an instance then chooses the name that it must prove: a holder of any certificate that the roots
    /// accept can pose as an instance of the role. Use it only where discovery is as trusted as the program's configuration.
    /// A changed name counts from the next dial of the instance.
    #[must_use]
    pub fn trust_announced_names(mut self) -> Self {
        self.trusts_announced_names = true;
        self
    }

    /// Verifies the name of this role, unless a name comes before it in the [list](Self#server-name).
    ///
    /// A role of digits only is not a DNS name: dials of its instances fail.
    ///
    /// ```
    /// # fn connector(config: std::sync::Arc<rustls::ClientConfig>) -> Result<(), rolecall::TargetError> {
    /// use rolecall::{Target, http};
    ///
    /// let target: Target = "worker:http".parse()?;
    /// let tls = http::Tls::from(config).role(target.role());
    /// let connector = http::Connector::<String>::new().tls(tls);
    /// # drop(connector);
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn role(mut self, role: &Role) -> Self {
        self.role = Some(role.clone());
        self
    }

    /// The same, with this role unless the program set one.
    pub(crate) fn or_role(mut self, role: &Role) -> Self {
        self.role.get_or_insert_with(|| role.clone());
        self
    }

    /// The name that this instance must prove.
    pub(super) fn expect(&self, instance: &Instance) -> Result<Expected, ConnectError> {
        let address = instance.address();
        let parsed = |name: &str| {
            ServerName::try_from(name.to_owned())
                .map_err(|error| ConnectError::server_name(address.clone(), name.to_owned(), error))
        };
        let announced = instance.metadata().get(SERVER_NAME);
        let announced = announced.filter(|_| self.trusts_announced_names);
        let name = match (&self.server_name, announced, &self.role) {
            (Some(name), _, _) => name.clone(),
            (None, Some(name), _) => parsed(name)?,
            (None, None, Some(role)) => parsed(role.as_str())?,
            (None, None, None) => match address.ip() {
                Some(ip) => ip.into(),
                None => parsed("localhost")?,
            },
        };
        let config = Arc::clone(&self.config);
        Ok(Expected { config, name })
    }
}

/// The same configuration for every dial.
impl From<Arc<ClientConfig>> for Tls {
    fn from(config: Arc<ClientConfig>) -> Self {
        Self::from_fn(move || Arc::clone(&config))
    }
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tls")
            .field("server_name", &self.server_name)
            .field("trusts_announced_names", &self.trusts_announced_names)
            .field("role", &self.role)
            .finish_non_exhaustive()
    }
}

/// What a dial verifies.
#[derive(Clone)]
pub(super) struct Expected {
    config: Arc<dyn Fn() -> Arc<ClientConfig> + Send + Sync>,
    name: ServerName<'static>,
}

impl Expected {
    pub(super) async fn handshake(
        &self,
        stream: Raw,
        address: &Address,
        protocols: &[&'static str],
    ) -> Result<TlsStream<Raw>, ConnectError> {
        let connector = TlsConnector::from((self.config)());
        let stream = connector
            .with_alpn(protocols.iter().map(|&protocol| protocol.into()).collect())
            .connect(self.name.clone(), stream)
            .await
            .map_err(|error| ConnectError::tls(address.clone(), self.name.clone(), error))?;
        // A server that knows nothing of ALPN speaks HTTP/1.1.
        let agreed = stream.get_ref().1.alpn_protocol();
        if protocols == ["h2"] && agreed.is_none() {
            return Err(ConnectError::protocol(address.clone(), Mismatch::NotAgreed));
        }
        Ok(stream)
    }
}
