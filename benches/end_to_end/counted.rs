//! A fixed number of requests of one case, for `count.sh`.

use std::net::SocketAddr;
use std::sync::Arc;

use rolecall::BoxError;
use tokio::runtime::Runtime;
use tokio::task::JoinSet;

use crate::clients::{self, Protocol};
use crate::measure::{Ask, Case};
use crate::process::{Server, own_cpu_micros};
use crate::{SERVERS, grpc};

/// Before anything is counted: connections open, and buffers reach their size.
const WARM_UP: u32 = 2_000;

/// What `--count PROTOCOL CASE IN_FLIGHT REQUESTS` asks for.
pub(crate) struct Counted {
    protocol: String,
    case: String,
    in_flight: u16,
    requests: u32,
}

impl Counted {
    pub(crate) fn from_args() -> Result<Option<Self>, BoxError> {
        let args: Vec<_> = std::env::args()
            .skip_while(|arg| arg != "--count")
            .collect();
        let [_, protocol, case, in_flight, requests, ..] = &args[..] else {
            return Ok(None);
        };
        Ok(Some(Self {
            protocol: protocol.clone(),
            case: case.clone(),
            in_flight: in_flight.parse()?,
            requests: requests.parse()?,
        }))
    }

    pub(crate) fn run(self, runtime: &Runtime) -> Result<(), BoxError> {
        let servers: Vec<_> = (0..SERVERS).map(Server::start).collect::<Result<_, _>>()?;
        let addrs: Vec<SocketAddr> = servers.iter().map(Server::addr).collect();
        let cases: Vec<Case<'_>> = match self.protocol.as_str() {
            "http1" => clients::cases(runtime, Protocol::Http1, &addrs)?,
            "http2" => clients::cases(runtime, Protocol::Http2, &addrs)?,
            "grpc" => grpc::cases(runtime, &addrs)?,
            other => return Err(format!("no protocol {other}").into()),
        };
        let case = cases.iter().find(|case| case.name == self.case);
        let case = case.ok_or_else(|| format!("no case {}", self.case))?;
        runtime.block_on(ask_for(&case.ask, self.in_flight, WARM_UP))?;
        let before = own_cpu_micros()?;
        counted_requests(runtime, &case.ask, self.in_flight, self.requests)?;
        let cpu = (own_cpu_micros()? - before) / f64::from(self.requests);
        println!("{cpu:.2} µs of CPU");
        Ok(())
    }
}

/// Callgrind counts what this function does.
#[inline(never)]
fn counted_requests(
    runtime: &Runtime,
    ask: &Ask,
    in_flight: u16,
    requests: u32,
) -> Result<(), BoxError> {
    runtime.block_on(ask_for(ask, in_flight, requests))
}

async fn ask_for(ask: &Ask, in_flight: u16, requests: u32) -> Result<(), BoxError> {
    let mut callers = JoinSet::new();
    for caller in 0..in_flight {
        let ask = Arc::clone(ask);
        callers.spawn(async move {
            for _ in 0..requests / u32::from(in_flight) {
                ask(caller).await?;
            }
            Ok::<_, BoxError>(())
        });
    }
    for caller in callers.join_all().await {
        caller?;
    }
    Ok(())
}
