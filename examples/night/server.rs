//! Small HTTP servers whose faults can be switched on and off.

use std::net::SocketAddr;

use rolecall::{BoxError, Instance, InstanceId};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::sync::watch;

#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    Ok,
    /// Answers 503.
    Unavailable,
    /// Takes requests and never answers.
    Hang,
    /// Closes the connection instead of answering.
    Close,
}

pub(crate) struct Server {
    id: InstanceId,
    address: SocketAddr,
    mode: watch::Sender<Mode>,
}

impl Server {
    pub(crate) async fn start(id: &str) -> Result<Self, BoxError> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let (mode, modes) = watch::channel(Mode::Ok);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, modes.clone()));
            }
        });
        let id = InstanceId::from(id);
        Ok(Self { id, address, mode })
    }

    pub(crate) fn id(&self) -> &InstanceId {
        &self.id
    }

    pub(crate) fn instance(&self) -> Instance {
        Instance::new(self.id.clone(), self.address)
    }

    pub(crate) fn set(&self, mode: Mode) {
        self.mode.send_replace(mode);
    }
}

/// Answers requests without a body, one after the other.
async fn serve(mut stream: impl AsyncRead + AsyncWrite + Unpin, mut modes: watch::Receiver<Mode>) {
    let mut read = Vec::new();
    loop {
        while !read.ends_with(b"\r\n\r\n") {
            match stream.read_buf(&mut read).await {
                Ok(0) | Err(_) => return,
                Ok(_) => {}
            }
        }
        read.clear();
        let mode = *modes.borrow();
        let answer: &[u8] = match mode {
            Mode::Ok => b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n",
            Mode::Unavailable => b"HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\n\r\n",
            Mode::Close => return,
            Mode::Hang => {
                // Until the fault is over.
                let _ = modes.wait_for(|mode| *mode != Mode::Hang).await;
                return;
            }
        };
        if stream.write_all(answer).await.is_err() {
            return;
        }
    }
}

/// The same over TLS, with a certificate that can be replaced.
pub(crate) mod tls {
    use std::net::SocketAddr;
    use std::sync::Arc;

    use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
    use rolecall::http::Tls;
    use rolecall::{BoxError, Instance};
    use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer, ServerName};
    use rustls::{ClientConfig, RootCertStore, ServerConfig};
    use tokio::net::TcpListener;
    use tokio::sync::watch;
    use tokio_rustls::TlsAcceptor;

    use super::{Mode, serve};

    pub(crate) struct Authority(CertifiedIssuer<'static, KeyPair>);

    pub(crate) struct Server {
        id: &'static str,
        address: SocketAddr,
        config: watch::Sender<Arc<ServerConfig>>,
    }

    /// Starts a server that has a certificate of this name.
    pub(crate) async fn start(
        id: &'static str,
        name: &str,
    ) -> Result<(Authority, Server), BoxError> {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let authority = CertifiedIssuer::self_signed(params, KeyPair::generate()?)?;
        let authority = Authority(authority);
        let config = watch::Sender::new(authority.server(name)?);
        let configs = config.subscribe();
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let (mode, modes) = watch::channel(Mode::Ok);
        tokio::spawn(async move {
            // Its mode never changes.
            let _mode = mode;
            while let Ok((stream, _)) = listener.accept().await {
                let acceptor = TlsAcceptor::from(Arc::clone(&configs.borrow()));
                let modes = modes.clone();
                tokio::spawn(async move {
                    if let Ok(stream) = acceptor.accept(stream).await {
                        serve(stream, modes).await;
                    }
                });
            }
        });
        let server = Server {
            id,
            address,
            config,
        };
        Ok((authority, server))
    }

    impl Server {
        pub(crate) fn instance(&self) -> Instance {
            Instance::new(self.id, self.address)
        }

        /// Replaces the certificate by one of this name.
        pub(crate) fn certify(&self, authority: &Authority, name: &str) -> Result<(), BoxError> {
            self.config.send_replace(authority.server(name)?);
            Ok(())
        }
    }

    impl Authority {
        fn server(&self, name: &str) -> Result<Arc<ServerConfig>, BoxError> {
            let key = KeyPair::generate()?;
            let params = CertificateParams::new([name.to_owned()])?;
            let certificate = params.signed_by(&key, &self.0)?;
            let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
            let chain = vec![certificate.der().clone()];
            let config = ServerConfig::builder().with_no_client_auth();
            Ok(Arc::new(config.with_single_cert(chain, key)?))
        }

        /// For a client that trusts this authority, and expects a server of this name.
        pub(crate) fn client(&self, name: &'static str) -> Result<Tls, BoxError> {
            let mut roots = RootCertStore::empty();
            roots.add(self.0.der().clone())?;
            let config = ClientConfig::builder().with_root_certificates(roots);
            let tls = Tls::from(Arc::new(config.with_no_client_auth()));
            Ok(tls.server_name(ServerName::try_from(name)?))
        }
    }
}
