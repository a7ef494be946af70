//! Certificates, servers that have them, and what tests wait for.

use std::convert::Infallible;
use std::error::Error as StdError;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

use bytes::Bytes;
use http_body_util::{BodyExt, Empty, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, date_time_ymd,
};
use rolecall::Instance;
use rolecall::http::{CallError, ConnectError, Connection, Connector, Tls};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName};
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{WantsServerCert, WebPkiClientVerifier};
use rustls::version::TLS12;
use rustls::{ClientConfig, ConfigBuilder, RootCertStore, ServerConfig};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tower::ServiceExt;

pub(crate) use crate::waiting::{until, within};

pub(crate) type Client = Connection<Empty<Bytes>>;

pub(crate) const NAME: &str = "worker.test";

/// Signs certificates, and knows who trusts it.
pub(crate) struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    pub(crate) fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        // Authorities of one name are taken for one another until the signature is looked at.
        static AUTHORITIES: AtomicUsize = AtomicUsize::new(0);
        let name = format!("authority {}", AUTHORITIES.fetch_add(1, SeqCst));
        params.distinguished_name.push(DnType::CommonName, name);
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    fn roots(&self) -> Arc<RootCertStore> {
        let mut roots = RootCertStore::empty();
        roots.add(self.0.der().clone()).unwrap();
        Arc::new(roots)
    }

    /// For a server whose certificate was valid once.
    pub(crate) fn expired_server(&self, name: &str) -> ServerConfig {
        let mut params = CertificateParams::new([name.to_owned()]).unwrap();
        params.not_before = date_time_ymd(2001, 1, 1);
        params.not_after = date_time_ymd(2002, 1, 1);
        let identity = self.certify(params);
        finish(identity, ServerConfig::builder().with_no_client_auth())
    }

    fn certify(
        &self,
        params: CertificateParams,
    ) -> (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>) {
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.0).unwrap();
        let key = PrivatePkcs8KeyDer::from(key.serialize_der());
        (vec![certificate.der().clone()], key.into())
    }

    fn identify(&self, name: &str) -> (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>) {
        self.certify(CertificateParams::new([name.to_owned()]).unwrap())
    }

    /// For a server of this name, which agrees on HTTP/2 and HTTP/1.1.
    pub(crate) fn server(&self, name: &str) -> ServerConfig {
        self.finish(name, ServerConfig::builder().with_no_client_auth())
    }

    /// The same, for one that speaks TLS 1.2 and no later one.
    pub(crate) fn old_server(&self, name: &str) -> ServerConfig {
        let config = ServerConfig::builder_with_protocol_versions(&[&TLS12]);
        self.finish(name, config.with_no_client_auth())
    }

    /// For one that asks clients for a certificate of this authority.
    pub(crate) fn asking_server(&self, name: &str) -> ServerConfig {
        let config = ServerConfig::builder().with_client_cert_verifier(self.clients());
        self.finish(name, config)
    }

    /// The same, for one that speaks TLS 1.2 and no later one.
    pub(crate) fn old_asking_server(&self, name: &str) -> ServerConfig {
        let config = ServerConfig::builder_with_protocol_versions(&[&TLS12]);
        self.finish(name, config.with_client_cert_verifier(self.clients()))
    }

    fn clients(&self) -> Arc<dyn ClientCertVerifier> {
        WebPkiClientVerifier::builder(self.roots()).build().unwrap()
    }

    fn finish(
        &self,
        name: &str,
        config: ConfigBuilder<ServerConfig, WantsServerCert>,
    ) -> ServerConfig {
        finish(self.identify(name), config)
    }

    /// For a client that trusts this authority.
    pub(crate) fn client(&self) -> Arc<ClientConfig> {
        let config = ClientConfig::builder().with_root_certificates(self.roots());
        Arc::new(config.with_no_client_auth())
    }

    /// The same, for one that has a certificate of its own.
    pub(crate) fn known_client(&self) -> Arc<ClientConfig> {
        let (chain, key) = self.identify("caller.test");
        let config = ClientConfig::builder().with_root_certificates(self.roots());
        Arc::new(config.with_client_auth_cert(chain, key).unwrap())
    }

    /// Trusts this authority and expects `NAME`.
    pub(crate) fn tls(&self) -> Tls {
        Tls::from(self.client()).server_name(server_name(NAME))
    }
}

fn finish(
    (chain, key): (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>),
    config: ConfigBuilder<ServerConfig, WantsServerCert>,
) -> ServerConfig {
    let mut config = config.with_single_cert(chain, key).unwrap();
    config.alpn_protocols = vec!["h2".into(), "http/1.1".into()];
    config
}

pub(crate) fn server_name(name: &'static str) -> ServerName<'static> {
    ServerName::try_from(name).unwrap()
}

/// A server that plays a script on each connection, once the handshake is done, and counts the connections.
pub(crate) struct Server {
    pub(crate) addr: SocketAddr,
    accepted: Arc<AtomicUsize>,
    closing: watch::Sender<()>,
    accepting: JoinHandle<()>,
}

impl Server {
    pub(crate) async fn start<S, F>(config: ServerConfig, script: S) -> Self
    where
        S: Fn(TlsStream<TcpStream>) -> F + Clone + Send + 'static,
        F: Future<Output = ()> + Send + 'static,
    {
        let acceptor = TlsAcceptor::from(Arc::new(config));
        Self::raw(move |stream| {
            let accept = acceptor.accept(stream);
            let script = script.clone();
            async move {
                // Strangers go away.
                if let Ok(stream) = accept.await {
                    script(stream).await;
                }
            }
        })
        .await
    }

    pub(crate) async fn raw<S, F>(script: S) -> Self
    where
        S: Fn(TcpStream) -> F + Send + 'static,
        F: Future<Output = ()> + Send + 'static,
    {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let accepted = Arc::new(AtomicUsize::new(0));
        let count = accepted.clone();
        let (closing, closed) = watch::channel(());
        let accepting = tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                stream.set_nodelay(true).unwrap();
                count.fetch_add(1, SeqCst);
                let script = script(stream);
                let mut closed = closed.clone();
                closed.mark_unchanged();
                tokio::spawn(async move {
                    tokio::select! {
                        () = script => {}
                        _ = closed.changed() => {}
                    }
                });
            }
        });
        Self {
            addr,
            accepted,
            closing,
            accepting,
        }
    }

    /// An HTTP server that answers with the scheme of the request.
    pub(crate) async fn http(config: ServerConfig) -> Self {
        Self::start(config, serve).await
    }

    pub(crate) fn accepted(&self) -> usize {
        self.accepted.load(SeqCst)
    }

    /// Drops all connections, without a word.
    pub(crate) fn close_connections(&self) {
        self.closing.send_replace(());
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

pub(crate) async fn serve<IO>(stream: IO)
where
    IO: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
{
    let service = service_fn(|request: Request<Incoming>| async move {
        let scheme = request.uri().scheme_str().unwrap_or("no scheme").to_owned();
        Ok::<_, Infallible>(Response::new(Full::<Bytes>::from(scheme)))
    });
    let server = auto::Builder::new(TokioExecutor::new());
    // However it ends: what matters is what the client says.
    let _ = server.serve_connection(TokioIo::new(stream), service).await;
}

pub(crate) fn connector(http2: bool) -> Connector<Empty<Bytes>> {
    let connector = Connector::new();
    match http2 {
        true => connector.http2(),
        false => connector.http1(),
    }
}

pub(crate) async fn dial(
    connector: Connector<Empty<Bytes>>,
    addr: SocketAddr,
) -> Result<Client, ConnectError> {
    let dialled = within(connector.oneshot(Instance::new("a", addr))).await;
    dialled.map_err(|error| {
        let cause: &ConnectError = error.source().downcast_ref().unwrap();
        cause.clone()
    })
}

pub(crate) async fn get(
    client: &Client,
) -> Result<Response<rolecall::http::IncomingBody>, CallError> {
    within(client.clone().oneshot(request())).await
}

pub(crate) fn request() -> Request<Empty<Bytes>> {
    Request::get("/").body(Empty::new()).unwrap()
}

pub(crate) async fn body<B>(response: Response<B>) -> Bytes
where
    B: hyper::body::Body<Data = Bytes, Error: std::fmt::Debug>,
{
    let body = within(response.into_body().collect()).await;
    body.unwrap().to_bytes()
}

/// An error and its causes.
pub(crate) fn told(error: &(dyn StdError + 'static)) -> String {
    let chain = std::iter::successors(Some(error), |&error| error.source());
    let told: Vec<_> = chain.map(ToString::to_string).collect();
    told.join(": ")
}

/// The kind of the first `io::Error` in the chain.
pub(crate) fn io_kind(error: &(dyn StdError + 'static)) -> io::ErrorKind {
    let mut chain = std::iter::successors(Some(error), |&error| error.source());
    let error = chain.find_map(<dyn StdError>::downcast_ref::<io::Error>);
    error.expect("an io::Error in the chain").kind()
}
