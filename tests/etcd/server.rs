//! A real etcd server, alone or one of several members, in a folder of its own; killed and cleared away when dropped.

use std::env;
use std::ffi::OsString;
use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

pub(crate) struct Server {
    root: PathBuf,
    client: u16,
    peer: u16,
    name: String,
    /// Names and peer URLs of all members.
    members: String,
    /// Options beyond the usual ones.
    options: Vec<OsString>,
    scheme: &'static str,
    process: Option<Child>,
}

/// For a server to answer on a machine that is busy with something else.
const PATIENCE: Duration = Duration::from_secs(60);

impl Server {
    pub(crate) fn start() -> Self {
        let mut server = Self::prepare();
        server.restart();
        server
    }

    /// Three members of one cluster.
    pub(crate) fn start_three() -> [Self; 3] {
        let mut servers = [Self::prepare(), Self::prepare(), Self::prepare()];
        for (number, server) in servers.iter_mut().enumerate() {
            server.name = format!("m{number}");
        }
        let members: Vec<_> = servers.iter().map(|server| server.member()).collect();
        for server in &mut servers {
            server.members = members.join(",");
            server.spawn();
        }
        for server in &servers {
            server.wait_until_ready();
        }
        servers
    }

    fn member(&self) -> String {
        format!("{}=http://127.0.0.1:{}", self.name, self.peer)
    }

    /// One that speaks TLS, and takes only callers whose certificate the CA signed.
    pub(crate) fn start_with_tls(files: impl Fn(&Path) -> [PathBuf; 3]) -> Self {
        let mut server = Self::prepare();
        let [ca, cert, key] = files(&server.root);
        for (option, file) in [
            ("--trusted-ca-file", ca),
            ("--cert-file", cert),
            ("--key-file", key),
        ] {
            server.options.extend([option.into(), file.into()]);
        }
        server.options.push("--client-cert-auth".into());
        server.scheme = "https";
        server.restart();
        server
    }

    fn prepare() -> Self {
        static MADE: AtomicU32 = AtomicU32::new(0);
        let number = MADE.fetch_add(1, Ordering::Relaxed);
        let root = format!("rolecall-etcd-{}-{number}", std::process::id());
        let root = env::temp_dir().join(root);
        fs::create_dir_all(&root).unwrap();
        let [client, peer] = free_ports();
        let mut server = Self {
            root,
            client,
            peer,
            name: "t".to_owned(),
            members: String::new(),
            options: Vec::new(),
            scheme: "http",
            process: None,
        };
        server.members = server.member();
        server
    }

    pub(crate) fn endpoint(&self) -> String {
        format!("127.0.0.1:{}", self.client)
    }

    /// Starts it, again with the data that it had.
    pub(crate) fn restart(&mut self) {
        self.spawn();
        self.wait_until_ready();
    }

    fn spawn(&mut self) {
        let program = env::var_os("ROLECALL_ETCD").unwrap_or_else(|| "etcd".into());
        let client = format!("{}://127.0.0.1:{}", self.scheme, self.client);
        let peer = format!("http://127.0.0.1:{}", self.peer);
        let log = fs::File::create(self.root.join("log")).unwrap();
        let child = Command::new(&program)
            .args(["--name", &self.name])
            .args(["--logger", "zap", "--log-level", "error"])
            .args(["--heartbeat-interval", "50", "--election-timeout", "250"])
            .args([
                "--listen-client-urls",
                &client,
                "--advertise-client-urls",
                &client,
            ])
            .args([
                "--listen-peer-urls",
                &peer,
                "--initial-advertise-peer-urls",
                &peer,
            ])
            .args(["--initial-cluster", &self.members])
            .arg("--data-dir")
            .arg(self.root.join("data"))
            .args(&self.options)
            .stdout(Stdio::null())
            .stderr(log)
            .spawn();
        let problem = "etcd does not start: install etcd-server, or name its path in ROLECALL_ETCD";
        self.process = Some(child.expect(problem));
    }

    /// TLS servers are ready when they listen; the others say so.
    #[expect(clippy::disallowed_methods, reason = "a real process takes real time")]
    fn wait_until_ready(&self) {
        let began = Instant::now();
        let is_ready = || match self.scheme {
            "http" => self
                .get("/health")
                .is_some_and(|text| text.contains("true")),
            _ => TcpStream::connect(self.addr()).is_ok(),
        };
        while !is_ready() {
            let log = || fs::read_to_string(self.root.join("log")).unwrap_or_default();
            assert!(began.elapsed() < PATIENCE, "etcd is not ready: {}", log());
            thread::sleep(Duration::from_millis(10));
        }
    }

    fn addr(&self) -> SocketAddr {
        ([127, 0, 0, 1], self.client).into()
    }

    fn get(&self, path: &str) -> Option<String> {
        let mut stream = TcpStream::connect(self.addr()).ok()?;
        stream.set_read_timeout(Some(Duration::from_secs(5))).ok()?;
        write!(stream, "GET {path} HTTP/1.0\r\n\r\n").ok()?;
        let mut text = String::new();
        stream.read_to_string(&mut text).ok()?;
        Some(text)
    }

    /// A number that the server counts.
    pub(crate) fn metric(&self, name: &str) -> Option<f64> {
        let metrics = self.get("/metrics")?;
        let line = metrics
            .lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line?.trim().parse().ok()
    }

    /// Ends it at once, as a crash does.
    pub(crate) fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.kill().unwrap();
            process.wait().unwrap();
        }
    }

    /// A new, empty server takes its place.
    pub(crate) fn lose_data(&mut self) {
        self.kill();
        fs::remove_dir_all(self.root.join("data")).unwrap();
        self.restart();
    }

    pub(crate) fn freeze(&self) {
        self.signal(Signal::STOP);
    }

    pub(crate) fn thaw(&self) {
        self.signal(Signal::CONT);
    }

    fn signal(&self, signal: Signal) {
        let process = self.process.as_ref().expect("it runs");
        kill_process(Pid::from_child(process), signal).unwrap();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(mut process) = self.process.take() {
            let _ = process.kill();
            let _ = process.wait();
        }
        let _ = fs::remove_dir_all(&self.root);
    }
}

/// Two that nobody listens on now. They are below the ports that the system gives to callers: one of those could be taken
/// while the server is down, even by a caller that dials the server and meets itself.
fn free_ports() -> [u16; 2] {
    static TRIED: AtomicU32 = AtomicU32::new(0);
    let free = || loop {
        let tried = TRIED.fetch_add(1, Ordering::Relaxed);
        let number = std::process::id().wrapping_mul(31).wrapping_add(tried) % 20_000;
        let port = 10_000 + u16::try_from(number).unwrap();
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    };
    [free(), free()]
}
