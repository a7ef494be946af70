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
//! spreads requests over the instances. On the balancer's side an instance is a *member*: its connection, its load, its
//! history.
//!
//! One task for each balancer, the *driver*, follows discovery and starts dials, each a task of its own. Requests never pass
//! through it: a clone of `Balance` reads one published snapshot, picks, and calls.
//!
//! # Begin
//!
//! A worker registers, a caller balances; any `Service<Instance>` is a connector:
//!
//! ```
//! use rolecall::{BalanceLayer, Instance, Registrar, Registration, Registry};
//! use std::convert::Infallible;
//! use tower::{Layer, Service, service_fn};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let registry = Registry::new();
//! let here = Registration::new("worker").endpoint("http", "127.0.0.1:8080".parse()?);
//! let _lease = registry.register(here).await?;
//!
//! let connector = service_fn(|instance: Instance| async move {
//!     // Dial `instance.addr()` here, and answer with the connection as a service.
//!     let greet = service_fn(move |name: &'static str| {
//!         let greeting = format!("{name}, from {}", instance.addr());
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
//! With the feature `http`, `http::client(registry, "worker:http")?` is all of it for HTTP; with `grpc`,
//! `GreeterClient::new(grpc::channel(registry, "worker:grpc")?)` is for clients that were generated for tonic.
//!
//! # What happens when
//!
//! | Situation | What happens |
//! |---|---|
//! | instance killed, connection refused or reset | at most the requests in its hands fail; no picks until it is connected again |
//! | instance answers errors at once | charged at the first failure, soon ejected; attracts no traffic |
//! | instance hangs | callers that give up, or [`attempt_timeout`](BalanceLayer::attempt_timeout), raise its load at once; ejected as *unresponsive* although no error ever came. A caller's wait counts from 20 times the mean latency, or from a second and 8 times it. **If callers wait for ever and there is no `attempt_timeout`, no rule can see a hang** |
//! | instance turns slow | load moves away within a few of its answers; it is not ejected for that |
//! | every instance bad | no ejection goes beyond the cap, nor takes the last one; if all are out nevertheless, all are picked from |
//! | ejected instance recovers | a trial first, then slow start; trials that fail are at most one in 200 requests, and three |
//! | few requests, some instances bad | no more fail than without ejection |
//! | a fault that all instances share | nobody is ejected for it |
//! | overload, instances shed by errors | no more fail than without ejection |
//! | a pause that all instances share | no member is left idle for it |
//! | the process itself stalls | nobody is charged for it; [`Status::stalls`] counts it |
//! | new instance | starts at the fleet's mean latency; neither starved nor flooded |
//! | discovery down, flapping, emptied, suddenly shrunk | traffic goes on with the last known good set |
//! | instance removed or draining | no new picks; what is in flight finishes; then its connection closes |
//! | announced again with other weight or metadata | keeps connection, load and history |
//! | announced again with another address | the new one is dialled before the old connection is given up |
//! | nobody sends | discovery, dials and the ends of ejections go on |
//! | the runtime ends | connections are lost; the next call in a runtime [starts over](Balance#runtimes) |
//! | hundreds of silent addresses among a few that live | a live one is found within a second or two |
//!
//! # Ejection
//!
//! On by default, from two instances on, and made to need no tuning. Each failure is looked at by three rules, in the
//! thread that reports it: failures in a row (five, and more while the others fail too), callers that waited for nothing,
//! and half of at least ten requests within ten seconds. The member that a rule finds is out for 5 to 10 s at first. Then a
//! *trial* decides, one request at a time: an answer brings the member back with a tenth of its share, growing to the whole in
//! 5 s. Trials that fail are rationed: three at once, then one in 200 requests. A trial that fails, and being found again soon,
//! double the time, to a minute. How many may be out at once, of so many eligible members:
//!
//! | members | 1 | 2 | 3 | 4 | 5 | 10 |
//! |---|---|---|---|---|---|---|
//! | may be ejected | 0 | 1 | 1 | 2 | 2 | 5 |
//!
//! A member that failed and gets no traffic since is *suspect* after a second, twice as long after each time: one request
//! in about 200 finds out, and two failures in a row are enough there. If all eligible members are out, by hand or because
//! the others lost their connection, all of them are picked from, by their load: *panic mode*. [`OutlierConfig`] has the
//! figures, a shadow mode that only tells, and `outlier(None)` switches it off, also
//! [while it runs](Control::reconfigure).
//!
//! # Readiness, waiting, errors
//!
//! `poll_ready` is always ready and reserves nothing; `call` picks with the request in hand. While nobody is usable calls
//! wait, for at most [`unavailable_after`](ConfigBuilder::unavailable_after) since somebody was; after that all fail at
//! once. Where all are at [`max_in_flight`](ConfigBuilder::max_in_flight) calls fail without a wait, and so does one more than
//! [`max_waiting`](ConfigBuilder::max_waiting) allows to wait. [`Error::kind`] tells
//! the reason, its text counts the members (`4 known: 3 refused (111), 1 draining`), and [`Error::was_sent`] tells whether
//! a retry is safe. [`attempt_timeout`](BalanceLayer::attempt_timeout) limits how long an instance may take to answer.
//!
//! # Services that are not `Clone`
//!
//! The service of an instance is cloned for each request, and shared between threads. A service that is not `Clone` goes
//! behind tower's `Buffer`, one per instance. [`BalanceLayer`] says what to do with one that is not `Sync`, and what a clone
//! costs. Limits and timeouts for one instance go there too:
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
//! ([`classify_fn`](BalanceLayer::classify_fn)) says otherwise. The default, [`ClassifyResult`], does not charge an instance for
//! what a balancer or load shedder below refused to send; tower's load shedder is recognized with the feature `tower-errors`. A
//! service that hides a lost connection and reports it from `call` says [`Outcome::Unsent`], so that the connection is dialled
//! again and the caller knows that nothing was sent. A [`Classify`] sees the request too: the rule for a long poll can differ
//! from that of other paths. A failure may have a [label](Attempt::failure_labelled), which status and reasons show.
//!
//! # At three in the morning
//!
//! [`Control::status`] is a table of every member: state, for how long its connection is up or down, in flight, picks,
//! failures, latency, what failed lately, why its last dial failed, and for its last ejection the rule with the figures
//! that fired it and the threshold, how often, and until when. [`Control::events`] tells what happens; the same goes to
//! `tracing` under the target `rolecall`: ejections and returns at `info`, and at `warn` a cap that keeps an outlier, panic
//! mode, nothing usable, a discovery that fails. Requests are not logged, dials and connections at `debug`.
//! [`Control::eject`] and [`Control::restore`] overrule the rules, and [`Control::reconfigure`] changes them while they run.
//!
//! # Simulate it
//!
//! All rules live in [`fleet`], a pure state machine that takes time and randomness as arguments: simulate your own fleet
//! with the very code that balances it. `examples/lab` does, from a file; [`guide::tuning`] says what came out.
//!
//! Tests of your own program run on tokio's paused time. This one waits three seconds in no time:
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
//! None is on by default.
//!
//! | Feature | Adds |
//! |---|---|
//! | `grpc` | `grpc::channel`, where clients generated for tonic take a channel |
//! | `guard` | `guard::Guard` lets only the registered in; `guard::Networks` lets calls go nowhere else |
//! | `http` | `http::client` and its parts: pooled HTTP/1.1 and HTTP/2 |
//! | `retry` | `retry::Retry`, a policy for `tower::retry`: again on another instance, where that is safe |
//! | `folder` | `discovery::Folder`: a folder in which the processes of one machine register (Unix) |
//! | `roles-file` | `discovery::RolesFile`: instances in a TOML or JSON file that people write |
//! | `serde` | `discovery::backend::Record`; `Serialize` for [`Status`]; `Deserialize` for [`BalanceConfig`]; both for [`Target`], [`Instance`] and their parts |
//! | `tls` | `http::Tls`, TLS by rustls for `http` and `grpc` |
//! | `tower-errors` | requests that tower's `LoadShed` refuses below a balancer are charged to no instance |
//! | `worker` | `Worker`: an instance that registers, guards its endpoints and calls others, by its environment |
//!
//! # Limits
//!
//! - It needs tokio.
//! - A caller balances by what it sees itself; very many callers with few requests each learn slowly.
//! - Latency is measured to the answer, to the head of an HTTP response, or to the first message of a gRPC one; of long streams
//!   it says little.
//! - Weights divide the queue, not the latency: at idle, shares are pulled towards equal (80:20 for 10:1 at two members).
//! - [`Visibility`] keeps honest callers apart. It is no access control; [`guide::boundary`] says what is.

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;

mod balance;
pub mod discovery;
mod error;
mod event;
pub mod fleet;
#[cfg(feature = "grpc")]
pub mod grpc;
#[cfg(feature = "guard")]
pub mod guard;
pub mod guide;
#[cfg(feature = "http")]
pub mod http;
mod model;
#[cfg(feature = "retry")]
pub mod retry;
mod runtime;
mod status;
#[cfg(feature = "worker")]
mod worker;

pub use balance::{
    Attempt, Balance, BalanceLayer, Classify, ClassifyFn, ClassifyResult, Control, Driver, Failed,
    Outcome, ResponseFuture, connect,
};
pub use discovery::{Discovery, Lease, List, Registrar, Registration, Registry};
pub use error::census::Census;
pub use error::{BoxError, Error, ErrorKind};
pub use event::{DialError, EjectionReason, Event, Withheld};
pub use fleet::{
    Backoff, BalanceConfig, ConfigBuilder, ConfigError, Load, OutlierBuilder, OutlierConfig,
};
pub use model::hints::Hints;
pub use model::instance::{
    Availability, Instance, InstanceError, InstanceId, InstanceSet, Visibility, Weight,
    WeightError, Zone,
};
pub use model::name::{Boundary, EndpointName, NameError, Role};
pub use model::target::{Target, TargetError};
pub use status::{
    EjectionCounters, EjectionMode, EjectionStatus, MemberState, MemberStatus, Status,
};
#[cfg(feature = "worker")]
pub use worker::{Drained, Worker, WorkerError};
