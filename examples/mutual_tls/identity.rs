//! Who somebody is: a certificate with the role in it, and the check of the other side's.

use std::sync::Arc;

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    SanType,
};
use rolecall::{Address, BoxError};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName};
use rustls::server::WebPkiClientVerifier;
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::{TlsAcceptor, TlsConnector, client, server};

/// TLS wants a host's name. It is the same in every certificate here, since what counts is the role.
const HOST: &str = "instance.rolecall";

/// Signs certificates. On a platform this is where an instance proves what it is before it gets one.
pub(crate) struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    pub(crate) fn new() -> Result<Self, BoxError> {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Ok(Self(CertifiedIssuer::self_signed(
            params,
            KeyPair::generate()?,
        )?))
    }

    /// The identity of an instance of this role: `"shop/catalog"`.
    pub(crate) fn identify(&self, role: &str) -> Result<Identity, BoxError> {
        let mut params = CertificateParams::new([HOST.to_owned()])?;
        let name = SanType::URI(uri(role).try_into()?);
        params.subject_alt_names.push(name);
        params.extended_key_usages = vec![
            ExtendedKeyUsagePurpose::ClientAuth,
            ExtendedKeyUsagePurpose::ServerAuth,
        ];
        let key = KeyPair::generate()?;
        let certificate = params.signed_by(&key, &self.0)?;
        let mut roots = RootCertStore::empty();
        roots.add(self.0.der().clone())?;
        Ok(Identity {
            roots: Arc::new(roots),
            certificate: certificate.der().clone(),
            key: key.serialize_der(),
        })
    }
}

/// What an instance shows to others, and by whom theirs has to be signed.
pub(crate) struct Identity {
    roots: Arc<RootCertStore>,
    certificate: CertificateDer<'static>,
    key: Vec<u8>,
}

impl Identity {
    /// The same certificate, in the hands of one that trusts whom the other trusts.
    pub(crate) fn trusting(self, other: &Self) -> Self {
        let roots = Arc::clone(&other.roots);
        Self { roots, ..self }
    }

    fn chain(&self) -> Vec<CertificateDer<'static>> {
        vec![self.certificate.clone()]
    }

    fn key(&self) -> PrivateKeyDer<'static> {
        PrivatePkcs8KeyDer::from(self.key.clone()).into()
    }

    pub(crate) fn server(&self) -> Result<TlsAcceptor, BoxError> {
        let clients = WebPkiClientVerifier::builder(Arc::clone(&self.roots)).build()?;
        let config = ServerConfig::builder()
            .with_client_cert_verifier(clients)
            .with_single_cert(self.chain(), self.key())?;
        Ok(TlsAcceptor::from(Arc::new(config)))
    }

    pub(crate) fn client(&self) -> Result<TlsConnector, BoxError> {
        let config = ClientConfig::builder()
            .with_root_certificates(Arc::clone(&self.roots))
            .with_client_auth_cert(self.chain(), self.key())?;
        Ok(TlsConnector::from(Arc::new(config)))
    }
}

/// Lets a client in if its certificate is signed by the authority and says one of these roles.
pub(crate) async fn accept<IO: AsyncRead + AsyncWrite + Unpin>(
    acceptor: &TlsAcceptor,
    io: IO,
    roles: &[&str],
) -> Result<server::TlsStream<IO>, BoxError> {
    let stream = acceptor.accept(io).await?;
    check(stream.get_ref().1.peer_certificates(), roles)?;
    Ok(stream)
}

/// Connects, and says not a word to a server whose certificate does not say this role.
pub(crate) async fn connect(
    connector: &TlsConnector,
    address: &Address,
    role: &str,
) -> Result<client::TlsStream<TcpStream>, BoxError> {
    let addr = address.tcp().ok_or("no TCP address")?;
    let io = TcpStream::connect(addr).await?;
    let stream = connector.connect(ServerName::try_from(HOST)?, io).await?;
    check(stream.get_ref().1.peer_certificates(), &[role])?;
    Ok(stream)
}

/// The signature was checked in the handshake; this is about the role.
fn check(certificates: Option<&[CertificateDer<'_>]>, roles: &[&str]) -> Result<(), BoxError> {
    let certificate = certificates.and_then(<[_]>::first);
    let certificate = webpki::EndEntityCert::try_from(certificate.ok_or("no certificate")?)?;
    let names: Vec<&str> = certificate.valid_uri_names().collect();
    if roles.iter().any(|role| names.contains(&uri(role).as_str())) {
        return Ok(());
    }
    let wanted: Vec<String> = roles.iter().map(|role| uri(role)).collect();
    Err(format!("it is {}, not {}", names.join(", "), wanted.join(" or ")).into())
}

fn uri(role: &str) -> String {
    format!("rolecall://{role}")
}
