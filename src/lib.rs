//! Client-side load balancing for private, role-based services: one tower layer, no proxy.
//!
//! ```text
//!          Discovery (registry · list · file · changes · yours)
//!              │  stream of whole sets of Instance
//!              ▼
//!  request  ┌─────────┐              ┌────────────────────────────────────┐
//!  ──────▶  │ Balance │ ◀── driver ─▶│ fleet:: (pure: no runtime, no clock)│
//!           └─────────┘  dials       │ members · load · pick · outlier    │
//!              │ pick (lock-free)    └────────────────────────────────────┘
//!              ▼
//!        inner service of the picked instance ── outcome ──▶ load, outlier
//! ```
//!
//! A *role* is a named group of interchangeable *instances*. Each instance opens *endpoints*, named ports, that its own
//! *boundary* may reach. A caller asks for a *target*, `"role:endpoint"`, and gets one [`Balance`]: a tower service that
//! spreads requests over the instances. The balancer's view of an instance is a *member*: its connection, load and
//! history.
//!
//! Each balancer has one task, the *driver*, which follows discovery and starts dials. Each dial is a task of its own.
//! Requests never pass through the driver: a clone of `Balance` reads one published snapshot, picks, and calls.
//!
//! # Begin
//!
//! A worker registers, and a caller balances. Any `Service<Instance>` is a connector:
//!
//! ```
//! use rolecall::{BalanceLayer, Instance, Registrar, Registration, Registry};
//! use std::convert::Infallible;
//! use tower::{Layer, Service, service_fn};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let registry = Registry::new();
//! let here = Registration::new("worker").endpoint("http", ([127, 0, 0, 1], 8080));
//! let _lease = registry.register(here).await?;
//!
//! let connector = service_fn(|instance: Instance| async move {
//!     // Dial `instance.address()` here, and answer with the connection as a service.
//!     let greet = service_fn(move |name: &'static str| {
//!         let greeting = format!("{name}, from {}", instance.address());
//!         async { Ok::<_, Infallible>(greeting) }
//!     });
//!     Ok::<_, Infallible>(greet)
//! });
//! let mut balance = BalanceLayer::new(registry, "worker:http")?.layer(connector);
//! assert_eq!(balance.call("hello").await?, "hello, from 127.0.0.1:8080");
//! # Ok(())
//! # }
//! ```
//!
//! With the feature `http`, `http::Client::new(registry, "worker:http")?` is a complete HTTP client. With `grpc`,
//! `GreeterClient::new(grpc::Channel::new(registry, "worker:grpc")?)` serves clients generated for tonic.
//!
//! # What happens when
//!
//! | Situation | What happens |
//! |---|---|
//! | instance killed, connection refused or reset | at most its requests in flight fail; it is not picked until it is connected again |
//! | instance returns errors immediately | its load rises at the first failure, and it is soon ejected; it attracts no traffic |
//! | instance hangs | callers that give up, or [`attempt_timeout`](BalanceLayer::attempt_timeout), raise its load at once; ejected as *unresponsive* although it returned no error. A caller's wait counts from 20 times the mean latency, or from a second and 8 times the mean. **If callers wait forever and there is no `attempt_timeout`, no rule can see a hang** |
//! | instance turns slow | load moves away within a few of its answers; it is not ejected |
//! | every instance bad | rules eject no more than the cap, and never the last one; if all are out nevertheless, all are picked from |
//! | ejected instance recovers | a trial first, then slow start; at most three trials fail, plus one in 200 requests |
//! | few requests, some instances bad | no more requests fail than without ejection |
//! | a fault that all instances share | no instance is ejected |
//! | overload, instances shed load with errors | no more requests fail than without ejection |
//! | a pause that all instances share | no member is left idle |
//! | the process itself stalls | the stall is not held against any instance; [`Status::stalls`] counts it |
//! | new instance | starts at the fleet's mean latency; neither starved nor flooded |
//! | discovery down, flapping, emptied, suddenly shrunk | traffic continues with the last good set |
//! | instance removed or draining | no new picks; requests in flight finish; then its connection closes |
//! | announced again with another weight or other metadata | keeps connection, load and history |
//! | announced again with another address | the new address is dialled before the old connection is closed |
//! | no requests | discovery, dials and the ends of ejections continue |
//! | the runtime ends | connections are lost; the next call in a runtime [starts over](Balance#runtimes) |
//! | hundreds of unresponsive addresses and a few live ones | a live one is found within a second or two |
//!
//! # Ejection
//!
//! Ejection is on by default from two instances on, and is designed to need no tuning. Three rules check each failure, in
//! the thread that reports it: failures in a row (five, or more while the others fail too), callers that gave up without an
//! answer, and failure of half of at least ten requests within ten seconds. A rule that fires ejects the member, for 5 to
//! 10 s at first. Then a *trial* decides, one request at a time. If it succeeds, the member returns with a tenth of its
//! share, which grows to the whole in 5 s. Failed trials are rationed: three at once, then one in 200 requests. A failed
//! trial doubles the ejection time, and so does another ejection soon after, up to a minute. The rules eject at most this
//! many of the eligible members at once:
//!
//! | members | 1 | 2 | 3 | 4 | 5 | 10 |
//! |---|---|---|---|---|---|---|
//! | may be ejected | 0 | 1 | 1 | 2 | 2 | 5 |
//!
//! A member that failed and has had no traffic since is *suspect* after a second, and after twice as long each further
//! time. About one request in 200 tries it, and two failures in a row eject it. If all eligible members are out, by hand or
//! because the others lost their connection, picks choose among all of them by load: *panic mode*. [`OutlierConfig`] has
//! the figures and a shadow mode that only reports. `outlier(None)` switches ejection off, also
//! [at run time](Control::reconfigure).
//!
//! # Readiness, waiting, errors
//!
//! `poll_ready` is always ready and reserves nothing; `call` picks the member for its request. While no member is usable,
//! calls wait. Once [`unavailable_after`](ConfigBuilder::unavailable_after) has passed since the last one was usable, all
//! calls fail at once. If all members are at [`max_in_flight`](ConfigBuilder::max_in_flight), calls fail without waiting.
//! So does a call that would exceed [`max_waiting`](ConfigBuilder::max_waiting). [`Error::kind`] is the reason, the error
//! text counts the members (`4 known: 3 refused (111), 1 draining`), and [`Error::was_sent`] tells whether a retry is safe.
//! [`attempt_timeout`](BalanceLayer::attempt_timeout) limits how long an instance may take to answer.
//!
//! # Services that are not `Clone`
//!
//! The service of an instance is cloned for each request, and shared between threads. Put a service that is not `Clone`
//! behind tower's `Buffer`, one per instance. [`BalanceLayer`] explains what to do if it is not `Sync`, and what a clone
//! costs. Limits and timeouts for one instance belong there, too:
//!
//! ```
//! # use rolecall::{BalanceLayer, Instance, List};
//! # use tower::{Layer, ServiceBuilder, service_fn};
//! # fn connect(_: Instance) -> impl tower::Service<String, Response = String, Error = std::io::Error, Future: Send> + Send + 'static {
//! #     service_fn(|request: String| async { Ok::<_, std::io::Error>(request) })
//! # }
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let list = List::from_addrs(["127.0.0.1:8001".parse()?])?;
//! let connector = service_fn(|instance: Instance| async move {
//!     let service = ServiceBuilder::new()
//!         .buffer(64)
//!         .timeout(std::time::Duration::from_secs(1))
//!         .service(connect(instance));
//!     Ok::<_, std::io::Error>(service)
//! });
//! let balance = BalanceLayer::new(list, "worker:lines")?.layer(connector);
//! # drop(balance);
//! # Ok(())
//! # }
//! ```
//!
//! # What counts as failure
//!
//! `Ok` is success and `Err` is failure, unless a [`Classify`] or a closure
//! ([`classify_fn`](BalanceLayer::classify_fn)) decides otherwise. The default, [`ClassifyResult`], does not charge an
//! instance for requests that a balancer or load shedder below refused to send. It recognizes tower's load shedder with the
//! feature `tower-errors`. If a service reports a lost connection only from `call`, classify this as [`Outcome::Unsent`]:
//! the connection is then dialled again, and the caller knows that nothing was sent. A [`Classify`] sees the request, too,
//! so a long poll can have another rule than other paths. A failure may have a [label](Attempt::failure_labelled), which
//! status and ejection reasons show.
//!
//! # At three in the morning
//!
//! [`Control::status`] is a table of all members: state, how long the connection has been up or down, requests in flight,
//! picks, failures, latency, recent failures, and why the last dial failed. For the last ejection it shows the rule with
//! its figures and threshold, how often the member was ejected, and until when. [`Control::explain`] says in one sentence
//! for each member why it gets the share of requests that it gets. [`Control::events`] is a stream of changes.
//! They are also logged with `tracing` under the target `rolecall`: at `warn` what begins, such as an ejection, an
//! unreachable instance or failing discovery; at `info` its end, with how long it lasted; at `debug` what is normal or
//! repeats. Requests are not logged. [`Control::eject`] and [`Control::restore`] override the rules, and [`Control::reconfigure`] changes them at
//! run time.
//!
//! # Simulate it
//!
//! All rules live in [`fleet`], a pure state machine that takes time and randomness as arguments. You can simulate your own
//! fleet with the code that balances it. `examples/lab` does this from a file; [`guide::tuning`] has the results.
//!
//! Tests of your own program can use tokio's paused time. This one waits three seconds without taking any:
//!
//! ```
//! use rolecall::{BalanceLayer, ErrorKind, Instance, List};
//! use std::{convert::Infallible, future::pending};
//! use tower::{Layer, Service, service_fn};
//!
//! # type Never = tower::util::BoxCloneSyncService<(), (), Infallible>;
//! # #[tokio::main(flavor = "current_thread", start_paused = true)]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let list = List::from_addrs(["127.0.0.1:8001".parse()?])?;
//! let never = service_fn(|_: Instance| pending::<Result<Never, Infallible>>());
//! let mut balance = BalanceLayer::new(list, "worker:http")?.layer(never);
//!
//! let began = tokio::time::Instant::now();
//! let error = balance.call(()).await.unwrap_err();
//! assert!(matches!(error.kind(), ErrorKind::NoneUsable(_)) && !error.was_sent());
//! assert_eq!(began.elapsed().as_secs(), 3);
//! # Ok(())
//! # }
//! ```
//!
//! # Features
//!
//! No feature is on by default.
//!
//! | Feature | Adds |
//! |---|---|
//! | `cache` | `DiscoveryExt::cached`: stores the last sets on disk, so that a process can start while discovery is down |
//! | `conformance` | `discovery::conformance`: the suite that discovery backends pass, for one of your own |
//! | `console` | `console::Console`: a page that shows all balancers of a program, with their events live, and controls |
//! | `axum` | `axum::serve` takes a `guard::Listener` |
//! | `grpc` | `grpc::Channel`, where clients generated for tonic take a channel |
//! | `guard` | `guard::Guard` accepts connections from registered instances only; `guard::Networks` limits where calls may go |
//! | `http` | `http::Client` and its parts: pooled HTTP/1.1 and HTTP/2 |
//! | `net` | `connect::dial`: a TCP connection or a Unix socket to an instance, over the first of its addresses that answers |
//! | `retry` | `retry::Retry`, a policy for `tower::retry`: retries on another instance if that is safe |
//! | `dns` | `discovery::Dns`: instances that DNS knows, by SRV records or addresses |
//! | `etcd` | `discovery::Etcd`: instances that register in etcd; building it needs `protoc` |
//! | `folder` | `discovery::Folder`: a folder in which the processes of one machine register (Unix) |
//! | `metrics` | `metrics::report`: counters, gauges and histograms for any exporter of the `metrics` facade |
//! | `roles-file` | `discovery::RolesFile`: instances in a hand-written TOML or JSON file |
//! | `serde` | `discovery::backend::Record`; `Serialize` for [`Status`]; `Deserialize` for [`BalanceConfig`]; both for [`Target`], [`Instance`] and their parts |
//! | `tls` | `http::Tls`, TLS by rustls for `http` and `grpc` |
//! | `tonic` | tonic's server takes a `guard::Listener` |
//! | `tower-errors` | requests that tower's `LoadShed` rejects below a balancer are not charged to an instance |
//! | `worker` | `Worker`: an instance that registers, guards its endpoints and calls others, configured by its environment |
//!
//! # Limits
//!
//! - It needs tokio.
//! - Each caller balances by what it observes itself. If there are many callers with few requests each, they learn slowly.
//! - Latency is measured until the answer, the head of an HTTP response, or the first message of a gRPC response. It says
//!   little about long streams.
//! - Weights divide the queue, not the latency: at idle, shares are pulled towards equal (80:20 for 10:1 at two members).
//! - [`Visibility`] separates well-behaved callers. It is not access control; [`guide::boundary`] explains what is.

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;

mod balance;
#[cfg(feature = "console")]
pub mod console;
pub mod discovery;
mod error;
mod event;
mod explain;
pub mod fleet;
#[cfg(feature = "grpc")]
pub mod grpc;
#[cfg(feature = "guard")]
pub mod guard;
pub mod guide;
#[cfg(feature = "http")]
pub mod http;
#[cfg(feature = "metrics")]
pub mod metrics;
mod model;
#[cfg(feature = "retry")]
pub mod retry;
mod runtime;
mod status;
#[cfg(feature = "worker")]
mod worker;

pub use balance::{
    Attempt, Balance, BalanceLayer, Check, Classify, ClassifyFn, ClassifyResult, Control, Driver,
    Failed, NoCheck, Outcome, ResponseFuture, connect,
};
pub use discovery::{Discovery, DiscoveryExt, Lease, List, Registrar, Registration, Registry};
pub use error::census::Census;
pub use error::{BoxError, Error, ErrorKind};
pub use event::Event;
pub use event::dial::DialError;
pub use event::reason::{EjectionReason, Withheld};
pub use explain::Explanation;
pub use explain::member::MemberExplanation;
pub use explain::reason::{ShareReason, Spared};
pub use explain::target::Circumstance;
pub use fleet::{
    Backoff, BalanceConfig, ConfigBuilder, ConfigError, Load, OutlierBuilder, OutlierConfig, Subset,
};
pub use model::address::{Address, AddressError};
pub use model::hints::{Hints, PinFault};
pub use model::instance::{
    Availability, Instance, InstanceError, InstanceId, InstanceSet, Visibility, Weight,
    WeightError, Zone,
};
pub use model::name::{Boundary, EndpointName, NameError, Role};
pub use model::target::{Target, TargetError};
pub use status::{
    CheckStatus, EjectionCounters, EjectionMode, EjectionStatus, MemberState, MemberStatus,
    RankStatus, Status, SubsetStatus,
};
#[cfg(feature = "worker")]
pub use worker::{Drained, Worker, WorkerError};
