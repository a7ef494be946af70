//! A real BIND with one zone, `svc.test`, that changes live; killed and cleared away when dropped.

use std::env;
use std::fs;
use std::io::Write;
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

pub(crate) struct Server {
    root: PathBuf,
    port: u16,
    process: Option<Child>,
}

/// For a server to answer on a machine that is busy with something else.
const PATIENCE: Duration = Duration::from_secs(60);

const ZONE: &str = "$TTL 1
@ SOA ns.svc.test. root.svc.test. 1 3600 600 86400 1
@ NS ns.svc.test.
ns A 127.0.0.1
";

impl Server {
    pub(crate) fn start() -> Self {
        static MADE: AtomicU32 = AtomicU32::new(0);
        let number = MADE.fetch_add(1, Ordering::Relaxed);
        let root = format!("rolecall-dns-{}-{number}", std::process::id());
        let root = env::temp_dir().join(root);
        fs::create_dir_all(&root).unwrap();
        fs::set_permissions(&root, fs::Permissions::from_mode(0o755)).unwrap();
        let mut server = Self {
            root,
            port: free_port(),
            process: None,
        };
        let (root, port) = (server.root.display(), server.port);
        let config = format!(
            "options {{ directory \"{root}\"; pid-file \"{root}/named.pid\"; \
             session-keyfile \"{root}/session.key\"; listen-on port {port} {{ 127.0.0.1; }}; \
             listen-on-v6 {{ none; }}; recursion no; dnssec-validation no; querylog yes; \
             allow-query {{ 127.0.0.1; }}; empty-zones-enable no; minimal-responses no; \
             rrset-order {{ order random; }}; }};\ncontrols {{ }};\n\
             zone \"svc.test\" {{ type primary; file \"{root}/zone\"; \
             allow-update {{ 127.0.0.1; }}; }};\n"
        );
        fs::write(server.root.join("named.conf"), config).unwrap();
        fs::write(server.root.join("zone"), ZONE).unwrap();
        server.restart();
        server
    }

    pub(crate) fn addr(&self) -> SocketAddr {
        ([127, 0, 0, 1], self.port).into()
    }

    #[expect(clippy::disallowed_methods, reason = "a real process takes real time")]
    pub(crate) fn restart(&mut self) {
        let log = fs::File::options()
            .create(true)
            .append(true)
            .open(self.root.join("log"));
        let child = Command::new("named")
            .env("PATH", path())
            .args(["-f", "-g", "-n", "1", "-c"])
            .arg(self.root.join("named.conf"))
            .stdout(Stdio::null())
            .stderr(log.unwrap())
            .spawn();
        self.process = Some(child.expect("named does not start: install bind9"));
        let began = Instant::now();
        while TcpStream::connect(self.addr()).is_err() {
            assert!(
                began.elapsed() < PATIENCE,
                "named is not ready: {}",
                self.log()
            );
            thread::sleep(Duration::from_millis(10));
        }
    }

    fn log(&self) -> String {
        fs::read_to_string(self.root.join("log")).unwrap_or_default()
    }

    /// How many queries it got that contain this text.
    pub(crate) fn queries(&self, text: &str) -> usize {
        let log = self.log();
        let queries = log.lines().filter(|line| line.contains(": query: "));
        queries.filter(|line| line.contains(text)).count()
    }

    /// Changes records, all at once: `add NAME TTL TYPE DATA` or `delete NAME [TYPE [DATA]]`, with names below the zone.
    pub(crate) fn update(&self, changes: &[impl AsRef<str>]) {
        self.try_update(changes).unwrap();
    }

    /// The same, where the server may be gone.
    pub(crate) fn try_update(&self, changes: &[impl AsRef<str>]) -> Result<(), String> {
        let mut nsupdate = Command::new("nsupdate")
            .env("PATH", path())
            .args(["-t", "20", "-u", "5", "-r", "1"])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("nsupdate does not start: install bind9-dnsutils");
        let mut script = format!("server 127.0.0.1 {}\nzone svc.test\n", self.port);
        for change in changes {
            script += &format!("update {}\n", change.as_ref());
        }
        script += "send\n";
        let mut stdin = nsupdate.stdin.take().unwrap();
        stdin.write_all(script.as_bytes()).unwrap();
        drop(stdin);
        let done = nsupdate.wait_with_output().unwrap();
        match done.status.success() {
            true => Ok(()),
            false => Err(String::from_utf8_lossy(&done.stderr).into_owned()),
        }
    }

    pub(crate) fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.kill().unwrap();
            process.wait().unwrap();
        }
    }

    /// Starts again with a zone that cannot be loaded, so that it answers SERVFAIL.
    pub(crate) fn break_zone(&mut self) {
        self.kill();
        let _ = fs::remove_file(self.root.join("zone.jnl"));
        fs::write(self.root.join("zone"), "no zone").unwrap();
        self.restart();
    }

    /// Starts again with an empty zone.
    pub(crate) fn empty_zone(&mut self) {
        self.kill();
        let _ = fs::remove_file(self.root.join("zone.jnl"));
        fs::write(self.root.join("zone"), ZONE).unwrap();
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

/// With the folders that a user's path may lack.
fn path() -> String {
    let path = env::var("PATH").unwrap_or_default();
    format!("{path}:/usr/sbin:/sbin")
}

/// One that nobody uses now, over either protocol. It is below the ports that the system gives to callers, one of which
/// could take it while the server is down.
fn free_port() -> u16 {
    static TRIED: AtomicU32 = AtomicU32::new(0);
    loop {
        let tried = TRIED.fetch_add(1, Ordering::Relaxed);
        let number = std::process::id().wrapping_mul(31).wrapping_add(tried) % 20_000;
        let port = 10_000 + u16::try_from(number).unwrap();
        let tcp = TcpListener::bind(("127.0.0.1", port));
        if tcp.is_ok() && UdpSocket::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}
