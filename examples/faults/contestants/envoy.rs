//! Envoy as a hop on the way, if the environment variable `ENVOY` names its binary.
//!
//! With its defaults it would eject nobody of four, since it may eject a tenth, and would fail what it cannot connect.

use std::ffi::OsString;
use std::fmt::Write;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::process::{Command, Stdio};
use std::time::Duration;

use rolecall::BoxError;
use tokio::time::{Instant, sleep};

use super::{Client, ask_by, connection};
use crate::process::Process;

const START: Duration = Duration::from_secs(10);

pub(super) fn binary() -> Option<OsString> {
    std::env::var_os("ENVOY")
}

pub(super) async fn connect(servers: &[SocketAddr]) -> Result<Client, BoxError> {
    let binary = binary().ok_or("ENVOY does not name Envoy's binary")?;
    let addr = TcpListener::bind((Ipv4Addr::new(127, 0, 1, 100), 0))?.local_addr()?;
    let process = Process::start(
        Command::new(binary)
            .args(["--concurrency", "1", "--disable-hot-restart"])
            .args([
                "--log-level",
                "off",
                "--config-yaml",
                &config(addr, servers)?,
            ])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null()),
    )?;
    let deadline = Instant::now() + START;
    let connection = loop {
        match connection(addr).await {
            Ok(connection) => break connection,
            Err(error) if Instant::now() > deadline => return Err(error),
            Err(_) => sleep(Duration::from_millis(20)).await,
        }
    };
    Ok(Client {
        ask: ask_by(connection),
        _proxy: Some(process),
    })
}

/// Everything that is not set has Envoy's default; what is set is as near to ours as it goes.
fn config(addr: SocketAddr, servers: &[SocketAddr]) -> Result<String, std::fmt::Error> {
    let mut endpoints = String::new();
    for server in servers {
        write!(
            endpoints,
            "\n            - endpoint: {{ address: {} }}",
            socket_address(*server)
        )?;
    }
    let listen = socket_address(addr);
    Ok(format!(
        r#"
static_resources:
  listeners:
    - address: {listen}
      filter_chains:
        - filters:
            - name: envoy.filters.network.http_connection_manager
              typed_config:
                "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
                stat_prefix: faults
                route_config:
                  virtual_hosts:
                    - name: workers
                      domains: ["*"]
                      routes:
                        - match: {{ prefix: "/" }}
                          route:
                            cluster: workers
                            retry_policy:
                              retry_on: connect-failure,refused-stream,reset-before-request
                              num_retries: 2
                http_filters:
                  - name: envoy.filters.http.router
                    typed_config:
                      "@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router
  clusters:
    - name: workers
      type: STATIC
      lb_policy: LEAST_REQUEST
      outlier_detection: {{ max_ejection_percent: 50, base_ejection_time: 10s, interval: 1s }}
      load_assignment:
        cluster_name: workers
        endpoints:
          - lb_endpoints:{endpoints}
"#
    ))
}

fn socket_address(addr: SocketAddr) -> String {
    format!(
        "{{ socket_address: {{ address: {}, port_value: {} }} }}",
        addr.ip(),
        addr.port()
    )
}
