//! nginx and HAProxy as instances: real servers that close connections as they please. Without them there is nothing to test,
//! which is said; where `CI` is `true`, it fails.

use std::fs::{self, File};
use std::io::Write;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering::SeqCst};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Empty};
use hyper::Request;
use rolecall::http::{Connection, Connector, HttpClassifier, Tls};
use rolecall::{Balance, BalanceLayer, List, MemberState};
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::net::TcpStream;
use tower::{Layer, ServiceExt};

use crate::support::{until, within};

const NAME: &str = "worker.test";
/// A file of a certificate and its key.
const IDENTITY: &str = "identity.pem";

type Client = Balance<Connection<Empty<Bytes>>, HttpClassifier>;

#[derive(Clone, Copy, Debug)]
enum Kind {
    Nginx,
    HaProxy,
}

impl Kind {
    fn binary(self) -> Option<PathBuf> {
        let name = match self {
            Self::Nginx => "nginx",
            Self::HaProxy => "haproxy",
        };
        let path = std::env::var_os("PATH").unwrap_or_default();
        let folders = std::env::split_paths(&path).chain(["/usr/sbin".into()]);
        let found = folders
            .map(|folder| folder.join(name))
            .find(|file| file.is_file());
        if found.is_none() {
            let is_ci = std::env::var("CI").is_ok_and(|ci| ci == "true");
            assert!(!is_ci, "{name} is not installed");
            // Past the capture of a test's output.
            let _ = writeln!(std::io::stderr(), "skipped: {name} is not installed");
        }
        found
    }

    /// Answers `well`, and closes every connection after ten requests where it can be told to. With TLS its certificate and
    /// key are in the folder.
    fn config(self, addr: SocketAddr, http2: bool, tls: bool, folder: &Path) -> String {
        let folder = folder.display();
        match self {
            Self::Nginx => {
                let http2 = if http2 { " http2" } else { "" };
                let (ssl, identity) = if tls {
                    let files = format!(
                        "ssl_certificate {folder}/{IDENTITY}; ssl_certificate_key {folder}/{IDENTITY};"
                    );
                    (" ssl", files)
                } else {
                    ("", String::new())
                };
                let paths = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"];
                let paths = paths.map(|path| format!("{path}_temp_path {folder}/{path};"));
                format!(
                    "daemon off; master_process off; pid {folder}/pid; events {{}}\n\
                     http {{ access_log off; keepalive_requests 10; {}\n\
                     server {{ listen {addr}{ssl}{http2}; {identity} location / {{ return 200 well; }} }} }}\n",
                    paths.join(" ")
                )
            }
            Self::HaProxy => {
                let http2 = match (http2, tls) {
                    (false, false) => "",
                    (true, false) => " proto h2",
                    (false, true) => " alpn http/1.1",
                    (true, true) => " alpn h2",
                };
                let ssl = if tls {
                    format!(" ssl crt {folder}/{IDENTITY}")
                } else {
                    String::new()
                };
                format!(
                    "global\n  maxconn 256\n\
                     defaults\n  mode http\n  timeout client 10s\n  timeout connect 10s\n  timeout server 10s\n\
                     frontend well\n  bind {addr}{ssl}{http2}\n  \
                     http-request return status 200 content-type text/plain string well\n"
                )
            }
        }
    }
}

/// A process, and the folder that it writes to.
struct Proxy {
    addr: SocketAddr,
    child: Child,
    folder: PathBuf,
}

impl Proxy {
    async fn start(kind: Kind, binary: &Path, http2: bool, identity: Option<&str>) -> Self {
        let addr = free_addr();
        let name = format!("rolecall-{}-{}", std::process::id(), addr.ip());
        let folder = std::env::temp_dir().join(name);
        fs::create_dir_all(&folder).unwrap();
        let config = folder.join("config");
        let tls = identity.is_some();
        fs::write(&config, kind.config(addr, http2, tls, &folder)).unwrap();
        fs::write(folder.join(IDENTITY), identity.unwrap_or_default()).unwrap();
        let mut command = Command::new(binary);
        match kind {
            Kind::Nginx => command
                .arg("-p")
                .arg(&folder)
                .arg("-e")
                .arg(folder.join("log"))
                .arg("-c"),
            Kind::HaProxy => command.arg("-db").arg("-f"),
        };
        let output = File::create(folder.join("output")).unwrap();
        let child = command
            .arg(&config)
            .stdin(Stdio::null())
            .stdout(output.try_clone().unwrap())
            .stderr(output)
            .spawn()
            .unwrap();
        let mut proxy = Self {
            addr,
            child,
            folder,
        };
        within(async {
            while TcpStream::connect(addr).await.is_err() {
                let ended = proxy.child.try_wait().unwrap();
                assert!(ended.is_none(), "{}", proxy.complaints());
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        })
        .await;
        proxy
    }

    fn complaints(&self) -> String {
        let files = ["output", "log"].map(|file| fs::read_to_string(self.folder.join(file)));
        files.into_iter().flatten().collect()
    }

    fn kill(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.kill();
        let _ = fs::remove_dir_all(&self.folder);
    }
}

/// A port of an address that nobody else uses.
fn free_addr() -> SocketAddr {
    static USED: AtomicU8 = AtomicU8::new(1);
    let ip = if cfg!(target_os = "linux") {
        Ipv4Addr::new(127, 78, 0, USED.fetch_add(1, SeqCst))
    } else {
        Ipv4Addr::LOCALHOST
    };
    TcpListener::bind((ip, 0)).unwrap().local_addr().unwrap()
}

/// Whether a call was answered well. One that is lost with its connection, and known not to be sent, is made again.
async fn call(client: &Client) -> Result<(), rolecall::BoxError> {
    let response = loop {
        let request = Request::get("/").body(Empty::new())?;
        match client.clone().oneshot(request).await {
            Err(error) if !error.was_sent() => {}
            answer => break answer?,
        }
    };
    let body = response.into_body().collect().await?.to_bytes();
    if body == "well" {
        Ok(())
    } else {
        Err(format!("{body:?}").into())
    }
}

async fn until_refused(addr: SocketAddr) {
    within(async {
        while TcpStream::connect(addr).await.is_ok() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    })
    .await;
}

async fn no_call_fails(client: &Client) {
    let callers = (0..8).map(|_| async {
        for _ in 0..50 {
            call(client).await.expect("no call fails");
        }
    });
    within(futures::future::join_all(callers)).await;
}

async fn serves_until_it_is_killed(kind: Kind, tls: bool) {
    let Some(binary) = kind.binary() else { return };
    let identity = tls.then(|| rcgen::generate_simple_self_signed([NAME.to_owned()]).unwrap());
    let pem = identity.as_ref().map(|identity| {
        let key = identity.signing_key.serialize_pem();
        [identity.cert.pem(), key].concat()
    });
    for http2 in [false, true] {
        let mut proxies = [
            Proxy::start(kind, &binary, http2, pem.as_deref()).await,
            Proxy::start(kind, &binary, http2, pem.as_deref()).await,
        ];
        let list = List::from_addrs(proxies.each_ref().map(|proxy| proxy.addr)).unwrap();
        let connector = Connector::new();
        let connector = if http2 { connector.http2() } else { connector };
        let connector = match &identity {
            Some(identity) => connector.tls(trusting(identity.cert.der())),
            None => connector,
        };
        let client = BalanceLayer::new(list, "worker:http")
            .unwrap()
            .classify(HttpClassifier::new())
            .layer(connector);
        until(|| client.control().status().usable == 2).await;
        no_call_fails(&client).await;
        for member in client.control().status().members {
            assert!(member.picks > 0, "both are asked");
            assert_eq!(
                (member.in_flight, member.failures),
                (0, 0),
                "{kind:?} {http2}"
            );
        }
        // Nothing is in flight, so nothing is lost with it, once that is known.
        proxies[0].kill();
        until_refused(proxies[0].addr).await;
        no_call_fails(&client).await;
        // The one that was slower may not be asked for a while: so its loss would not show, were there another one.
        assert!(
            client
                .control()
                .eject(&proxies[1].addr.to_string().into(), Duration::from_secs(60))
        );
        within(async {
            while client.control().status().usable != 1 {
                call(&client).await.expect("no call fails");
            }
        })
        .await;
        let members = client.control().status().members;
        let lost = members
            .iter()
            .find(|member| *member.instance.address() == proxies[0].addr);
        assert_ne!(
            lost.unwrap().state,
            MemberState::Ejected,
            "it is gone, and not bad"
        );
    }
}

fn trusting(certificate: &CertificateDer<'static>) -> Tls {
    let mut roots = RootCertStore::empty();
    roots.add(certificate.clone()).unwrap();
    let config = ClientConfig::builder().with_root_certificates(roots);
    let tls = Tls::from(Arc::new(config.with_no_client_auth()));
    tls.server_name(ServerName::try_from(NAME).unwrap())
}

#[tokio::test]
async fn nginx() {
    serves_until_it_is_killed(Kind::Nginx, false).await;
}

#[tokio::test]
async fn nginx_over_tls() {
    serves_until_it_is_killed(Kind::Nginx, true).await;
}

#[tokio::test]
async fn haproxy() {
    serves_until_it_is_killed(Kind::HaProxy, false).await;
}

#[tokio::test]
async fn haproxy_over_tls() {
    serves_until_it_is_killed(Kind::HaProxy, true).await;
}
