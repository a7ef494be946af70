//! The hops that a balancer in the caller spares: whichever of them is there, with one thread and little configured.

use std::ffi::{OsStr, OsString};
use std::fmt::Write;
use std::fs;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{self, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rolecall::BoxError;

use crate::process::Process;

const START: Duration = Duration::from_secs(10);

/// A running proxy.
pub(crate) struct Proxy {
    pub(crate) name: &'static str,
    pub(crate) http1: SocketAddr,
    /// HTTP/2 with prior knowledge, towards the servers too.
    pub(crate) http2: Option<SocketAddr>,
    process: Process,
    _folder: Folder,
}

impl Proxy {
    pub(crate) fn pid(&self) -> u32 {
        self.process.pid()
    }
}

/// Starts those that there are, and returns when they listen.
pub(crate) fn start_all(servers: &[SocketAddr]) -> Result<Vec<Proxy>, BoxError> {
    let mut proxies = Vec::new();
    if let Some(binary) = installed("haproxy") {
        let start = |at: &Ports, folder: &Path| {
            let config = folder.join("haproxy.cfg");
            fs::write(&config, haproxy(at, servers)?)?;
            Process::start(quiet(
                Command::new(&binary).arg("-db").arg("-f").arg(config),
            ))
        };
        proxies.push(proxy("HAProxy", true, start)?);
    }
    if let Some(binary) = installed("nginx") {
        let start = |at: &Ports, folder: &Path| {
            let config = folder.join("nginx.conf");
            fs::write(&config, nginx(at, folder, servers)?)?;
            Process::start(quiet(
                Command::new(&binary)
                    .arg("-p")
                    .arg(folder)
                    .arg("-c")
                    .arg(config),
            ))
        };
        proxies.push(proxy("nginx", false, start)?);
    }
    if let Some(binary) = std::env::var_os("ENVOY") {
        let start = |at: &Ports, _: &Path| {
            let config = envoy(at, servers).map_err(io::Error::other)?;
            Process::start(quiet(
                Command::new(&binary)
                    .args(["--concurrency", "1", "--disable-hot-restart"])
                    .args(["--log-level", "off", "--config-yaml", &config]),
            ))
        };
        proxies.push(proxy("Envoy", true, start)?);
    }
    Ok(proxies)
}

struct Ports {
    http1: SocketAddr,
    http2: SocketAddr,
}

fn proxy(
    name: &'static str,
    speaks_http2: bool,
    start: impl FnOnce(&Ports, &Path) -> io::Result<Process>,
) -> Result<Proxy, BoxError> {
    let (first, second) = (free_port()?, free_port()?);
    let ports = Ports {
        http1: first.local_addr()?,
        http2: second.local_addr()?,
    };
    drop((first, second));
    let folder = Folder::new(name)?;
    let process = start(&ports, &folder.0)?;
    let deadline = Instant::now() + START;
    while let Err(error) = TcpStream::connect(ports.http1) {
        if Instant::now() > deadline {
            return Err(format!("{name} does not start: {error}").into());
        }
        thread::sleep(Duration::from_millis(10));
    }
    Ok(Proxy {
        name,
        http1: ports.http1,
        http2: speaks_http2.then_some(ports.http2),
        process,
        _folder: folder,
    })
}

fn free_port() -> io::Result<TcpListener> {
    TcpListener::bind((Ipv4Addr::new(127, 0, 1, 100), 0))
}

fn installed(name: &str) -> Option<OsString> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    // Where Debian puts servers, which is not on everybody's path.
    let folders = std::env::split_paths(&path).chain([PathBuf::from("/usr/sbin")]);
    let mut found = folders.map(|folder| folder.join(name));
    found
        .find(|file| file.is_file())
        .map(|file| file.as_os_str().to_owned())
}

fn quiet(command: &mut Command) -> &mut Command {
    command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
}

/// A folder of its own, removed when this is dropped.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> io::Result<Self> {
        let folder = std::env::temp_dir().join(format!("rolecall-{name}-{}", process::id()));
        fs::create_dir(&folder)?;
        Ok(Self(folder))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // What stays is a few small files where such files belong.
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// A line for each server, from its number and address.
fn each(
    servers: &[SocketAddr],
    line: impl Fn(usize, SocketAddr) -> String,
) -> Result<String, std::fmt::Error> {
    let mut lines = String::new();
    for (number, server) in servers.iter().enumerate() {
        writeln!(lines, "{}", line(number, *server))?;
    }
    Ok(lines)
}

fn haproxy(at: &Ports, servers: &[SocketAddr]) -> io::Result<String> {
    let http1 = each(servers, |number, server| {
        format!("  server s{number} {server}")
    });
    let http2 = each(servers, |number, server| {
        format!("  server s{number} {server} proto h2")
    });
    Ok(format!(
        "global
  nbthread 1
defaults
  mode http
  timeout connect 5s
  timeout client 60s
  timeout server 60s
  http-reuse always
frontend http1
  bind {}
  default_backend http1
frontend http2
  bind {} proto h2
  default_backend http2
backend http1
  balance random(2)
{}backend http2
  balance random(2)
{}",
        at.http1,
        at.http2,
        http1.map_err(io::Error::other)?,
        http2.map_err(io::Error::other)?,
    ))
}

fn nginx(at: &Ports, folder: &Path, servers: &[SocketAddr]) -> io::Result<String> {
    let servers = each(servers, |_, server| format!("    server {server};"));
    let folder = OsStr::display(folder.as_os_str());
    Ok(format!(
        "daemon off;
master_process off;
pid {folder}/pid;
error_log stderr crit;
events {{ worker_connections 1024; }}
http {{
  access_log off;
  client_body_temp_path {folder}/body;
  proxy_temp_path {folder}/proxy;
  fastcgi_temp_path {folder}/fastcgi;
  uwsgi_temp_path {folder}/uwsgi;
  scgi_temp_path {folder}/scgi;
  keepalive_requests 1000000000;
  upstream servers {{
    random two least_conn;
{}    keepalive 128;
    keepalive_requests 1000000000;
  }}
  server {{
    listen {};
    location / {{
      proxy_pass http://servers;
      proxy_http_version 1.1;
      proxy_set_header Connection \"\";
    }}
  }}
}}
",
        servers.map_err(io::Error::other)?,
        at.http1,
    ))
}

fn envoy(at: &Ports, servers: &[SocketAddr]) -> Result<String, std::fmt::Error> {
    let socket = |addr: SocketAddr| {
        format!(
            "{{ socket_address: {{ address: {}, port_value: {} }} }}",
            addr.ip(),
            addr.port()
        )
    };
    let endpoints = each(servers, |_, server| {
        format!("        - endpoint: {{ address: {} }}", socket(server))
    })?;
    let extensions = "type.googleapis.com/envoy.extensions";
    let mut listeners = String::new();
    let mut clusters = String::new();
    for (name, addr, protocol) in [
        ("http1", at.http1, "http_protocol_options"),
        ("http2", at.http2, "http2_protocol_options"),
    ] {
        write!(
            listeners,
            r#"
  - address: {}
    filter_chains:
    - filters:
      - name: envoy.filters.network.http_connection_manager
        typed_config:
          "@type": {extensions}.filters.network.http_connection_manager.v3.HttpConnectionManager
          stat_prefix: {name}
          route_config:
            virtual_hosts:
            - name: servers
              domains: ["*"]
              routes: [{{ match: {{ prefix: "/" }}, route: {{ cluster: {name} }} }}]
          http_filters:
          - name: envoy.filters.http.router
            typed_config:
              "@type": {extensions}.filters.http.router.v3.Router"#,
            socket(addr)
        )?;
        write!(
            clusters,
            r#"
  - name: {name}
    type: STATIC
    lb_policy: LEAST_REQUEST
    typed_extension_protocol_options:
      envoy.extensions.upstreams.http.v3.HttpProtocolOptions:
        "@type": {extensions}.upstreams.http.v3.HttpProtocolOptions
        explicit_http_config: {{ {protocol}: {{}} }}
    load_assignment:
      cluster_name: {name}
      endpoints:
      - lb_endpoints:
{endpoints}"#
        )?;
    }
    Ok(format!(
        "static_resources:\n  listeners:{listeners}\n  clusters:{clusters}"
    ))
}
