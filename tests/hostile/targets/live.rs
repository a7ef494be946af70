//! Parsers behind a file, a socket or a server.

use std::cell::RefCell;
use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use futures::StreamExt;
use rolecall::discovery::{Folder, RolesFile};
use rolecall::guard::Guard;
use rolecall::{Boundary, Discovery, Registry, Target};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::{Builder, Runtime};
use tokio::time;

use super::told;

fn runtime() -> Runtime {
    let runtime = Builder::new_current_thread().enable_all().build();
    runtime.expect("a runtime")
}

/// A folder of this thread, gone with it.
struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Self {
        use std::os::unix::fs::DirBuilderExt;
        let name = format!("rolecall-hostile-{name}-{}", std::process::id());
        let path = std::env::temp_dir().join(name);
        let made = fs::DirBuilder::new()
            .mode(0o700)
            .recursive(true)
            .create(&path);
        made.expect("a folder");
        Self(path)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn worker() -> Target {
    "worker:http".parse().expect("a target")
}

/// The first answer: it comes at once, whatever is wrong.
async fn answered(discovery: &impl Discovery) {
    let mut answers = discovery.watch(&worker());
    let answer = time::timeout(Duration::from_secs(9), answers.next()).await;
    match answer
        .expect("an answer in time")
        .expect("a watch does not end")
    {
        Ok(set) => set
            .iter()
            .for_each(|instance| instance.validate().expect("valid")),
        Err(error) => told(&error),
    }
}

pub(crate) fn roles_file(data: &[u8]) {
    thread_local! {
        static PLACE: (Runtime, Scratch) = (runtime(), Scratch::new("roles"));
    }
    PLACE.with(|(runtime, scratch)| {
        // The first byte says which of the two forms it has.
        let is_json = data.first().is_some_and(|first| *first == b'{');
        let name = if is_json { "roles.json" } else { "roles.toml" };
        let path = scratch.0.join(name);
        fs::write(&path, data).expect("a file");
        runtime.block_on(answered(&RolesFile::new(&path)));
    });
}

/// A record that its registrant left when it was killed: it is read before it is removed.
pub(crate) fn folder_entry(data: &[u8]) {
    thread_local! {
        static PLACE: (Runtime, Scratch) = (runtime(), Scratch::new("folder"));
    }
    PLACE.with(|(runtime, scratch)| {
        let path = scratch.0.join("default.worker.w.rolecall");
        fs::create_dir_all(scratch.0.join(".rolecall/claims")).expect("a folder");
        fs::write(&path, data).expect("a file");
        runtime.block_on(answered(&Folder::new(&scratch.0)));
        let left = fs::read(&path);
        assert!(
            left.is_err() || left.is_ok_and(|left| left == data),
            "changed"
        );
    });
}

/// The first bytes of a connection of a trusted proxy.
pub(crate) fn proxy_header(data: &[u8]) {
    struct Server {
        runtime: Runtime,
        at: std::net::SocketAddr,
    }
    thread_local! {
        static SERVER: RefCell<Option<Server>> = const { RefCell::new(None) };
    }
    SERVER.with_borrow_mut(|server| {
        let server = server.get_or_insert_with(|| {
            let runtime = runtime();
            let at = runtime.block_on(async {
                let guard = Guard::builder(Registry::new(), Boundary::default());
                let guard = guard.trust_proxy([127, 0, 0, 1].into()).build();
                let guard = guard.expect("a guard");
                let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
                let at = listener.local_addr().expect("an address");
                let mut listener = guard.wrap(listener);
                tokio::spawn(async move {
                    loop {
                        drop(listener.accept().await);
                    }
                });
                at
            });
            Server { runtime, at }
        });
        server.runtime.block_on(async {
            let mut client = TcpStream::connect(server.at).await.expect("a connection");
            // It may be closed before all is written.
            let _ = client.write_all(data).await;
            let _ = client.shutdown().await;
            let closed = time::timeout(Duration::from_secs(2), client.read(&mut [0])).await;
            assert!(matches!(closed.expect("closed in time"), Ok(0) | Err(_)));
        });
    });
}

/// What a DNS server answers to anything.
#[cfg(feature = "dns")]
pub(crate) fn dns_answer(data: &[u8]) {
    use rolecall::discovery::Dns;
    use tokio::net::UdpSocket;
    thread_local! {
        static RUNTIME: Runtime = runtime();
    }
    let data = data.to_vec();
    RUNTIME.with(|runtime| {
        runtime.block_on(async move {
            let server = UdpSocket::bind("127.0.0.1:0").await.expect("a port");
            let at = server.local_addr().expect("an address");
            let answering = tokio::spawn(async move {
                let mut question = [0; 4096];
                while let Ok((_, from)) = server.recv_from(&mut question).await {
                    // Of another id it would not be read.
                    let answer = [&question[..2], data.get(2..).unwrap_or_default()].concat();
                    let _ = server.send_to(&answer, from).await;
                }
            });
            let dns = Dns::srv("svc.test").servers([at]);
            answered(&dns.timeout(Duration::from_millis(20))).await;
            answering.abort();
        });
    });
}

/// What an API server answers to anything: a list, or lines of a watch.
#[cfg(feature = "kubernetes")]
pub(crate) fn kubernetes_list(data: &[u8]) {
    use bytes::Bytes;
    use http_body_util::Full;
    use rolecall::discovery::Kubernetes;
    thread_local! {
        static RUNTIME: Runtime = runtime();
    }
    let data = Bytes::copy_from_slice(data);
    RUNTIME.with(|runtime| {
        runtime.block_on(async move {
            let server = tower::service_fn(move |_: http::Request<kube::client::Body>| {
                let answer = http::Response::new(Full::new(data.clone()));
                async move { Ok::<_, std::convert::Infallible>(answer) }
            });
            let client = kube::Client::new(server, "default");
            let cluster = Kubernetes::with_client(client);
            answered(&cluster).await;
            let mut peers = cluster.peers(&Boundary::default());
            let _ = futures::FutureExt::now_or_never(peers.next());
        });
    });
}
