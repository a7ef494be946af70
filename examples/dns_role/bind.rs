//! A BIND of this program's own, with the zone `svc.test`.

use std::env;
use std::fs;
use std::io;
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::{Duration, Instant};

use rolecall::BoxError;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::process::{Child, Command};
use tokio::time::sleep;

const ZONE: &str = "$TTL 1
@ SOA ns.svc.test. root.svc.test. 1 3600 600 86400 1
@ NS ns.svc.test.
ns A 127.0.0.1
";

/// Dropped, it is killed and its data is removed.
pub(crate) struct Bind {
    folder: PathBuf,
    port: u16,
    process: Option<Child>,
}

impl Bind {
    pub(crate) async fn start() -> Result<Self, BoxError> {
        let name = format!("rolecall-dns-role-{}", std::process::id());
        let folder = env::temp_dir().join(name);
        fs::create_dir_all(&folder)?;
        fs::set_permissions(&folder, fs::Permissions::from_mode(0o755))?;
        let port = free_port()?;
        let root = folder.display();
        let config = format!(
            "options {{ directory \"{root}\"; pid-file \"{root}/named.pid\"; \
             session-keyfile \"{root}/session.key\"; listen-on port {port} {{ 127.0.0.1; }}; \
             listen-on-v6 {{ none; }}; recursion no; dnssec-validation no; \
             allow-query {{ 127.0.0.1; }}; empty-zones-enable no; }};\ncontrols {{ }};\n\
             zone \"svc.test\" {{ type primary; file \"{root}/zone\"; \
             allow-update {{ 127.0.0.1; }}; }};\n"
        );
        fs::write(folder.join("named.conf"), config)?;
        fs::write(folder.join("zone"), ZONE)?;
        let mut bind = Self {
            folder,
            port,
            process: None,
        };
        bind.restart().await?;
        Ok(bind)
    }

    pub(crate) fn addr(&self) -> SocketAddr {
        ([127, 0, 0, 1], self.port).into()
    }

    /// Starts it with the records that it has.
    pub(crate) async fn restart(&mut self) -> Result<(), BoxError> {
        let started = command("named")
            .args(["-f", "-g", "-n", "1", "-c"])
            .arg(self.folder.join("named.conf"))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        self.process = Some(started.map_err(missing)?);
        let began = Instant::now();
        while TcpStream::connect(self.addr()).await.is_err() {
            if began.elapsed() > Duration::from_secs(20) {
                return Err("named does not listen".into());
            }
            sleep(Duration::from_millis(20)).await;
        }
        Ok(())
    }

    pub(crate) async fn kill(&mut self) -> io::Result<()> {
        match self.process.take() {
            Some(mut process) => process.kill().await,
            None => Ok(()),
        }
    }

    /// Changes records, all at once.
    pub(crate) async fn update(&self, changes: &[String]) -> Result<(), BoxError> {
        let mut script = format!("server 127.0.0.1 {}\nzone svc.test\n", self.port);
        for change in changes {
            script += &format!("update {change}\n");
        }
        script += "send\n";
        let mut nsupdate = command("nsupdate")
            .stdin(Stdio::piped())
            .spawn()
            .map_err(missing)?;
        let mut stdin = nsupdate.stdin.take().ok_or("no pipe")?;
        stdin.write_all(script.as_bytes()).await?;
        drop(stdin);
        match nsupdate.wait().await?.success() {
            true => Ok(()),
            false => Err("nsupdate failed".into()),
        }
    }
}

impl Drop for Bind {
    fn drop(&mut self) {
        drop(self.process.take());
        let _ = fs::remove_dir_all(&self.folder);
    }
}

/// With the folders that a user's path may lack.
fn command(program: &str) -> Command {
    let path = env::var("PATH").unwrap_or_default();
    let mut command = Command::new(program);
    command
        .env("PATH", format!("{path}:/usr/sbin:/sbin"))
        .kill_on_drop(true);
    command
}

fn missing(error: io::Error) -> BoxError {
    match error.kind() {
        io::ErrorKind::NotFound => "BIND is not installed: apt install bind9 bind9-dnsutils".into(),
        _ => error.into(),
    }
}

/// One that nobody uses now, over either protocol. It is below the ports that the system gives to callers, one of which
/// could take it while BIND is down.
fn free_port() -> Result<u16, BoxError> {
    let start = u16::try_from(std::process::id() % 20_000)?;
    let is_free = |port: &u16| {
        let tcp = TcpListener::bind(("127.0.0.1", *port));
        tcp.is_ok() && UdpSocket::bind(("127.0.0.1", *port)).is_ok()
    };
    let port = (10_000 + start..32_000).find(is_free);
    port.ok_or_else(|| "no port is free".into())
}
