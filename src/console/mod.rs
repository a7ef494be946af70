//! A page that shows all balancers of a program while they run, for whoever is on call (feature `console`).
//!
//! [`Console`] is a tower service over HTTP requests. Mount it on a port that only operators reach: whoever reaches it can
//! read ids, addresses and errors. With axum:
//!
//! ```no_run
//! use axum::Router;
//! use rolecall::console::Console;
//! # use rolecall::{Balance, BoxError};
//! # async fn mount<S, C>(balance: Balance<S, C>) -> Result<(), BoxError> {
//!
//! let console = Console::new().add("jobs", balance.control());
//! let admin = Router::new().nest_service("/console", console);
//! let listener = tokio::net::TcpListener::bind("127.0.0.1:9000").await?;
//! axum::serve(listener, admin).await?;
//! # Ok(())
//! # }
//! ```
//!
//! With hyper, one connection after the other:
//!
//! ```no_run
//! use hyper::server::conn::http1;
//! use hyper_util::{rt::TokioIo, service::TowerToHyperService};
//! use rolecall::console::Console;
//! # use rolecall::{Balance, BoxError};
//! # async fn mount<S, C>(balance: Balance<S, C>) -> Result<(), BoxError> {
//!
//! let console = TowerToHyperService::new(Console::new().add("jobs", balance.control()));
//! let listener = tokio::net::TcpListener::bind("127.0.0.1:9000").await?;
//! loop {
//!     let (stream, _) = listener.accept().await?;
//!     tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), console.clone()));
//! }
//! # }
//! ```
//!
//! In a server of tonic, mount it on the router that `Routes::into_axum_router` returns.
//!
//! # What is served
//!
//! | Path | Method | Answer |
//! |---|---|---|
//! | `/` | GET | the page. `?target=jobs` shows one balancer, `?target=jobs&all` all of its instances |
//! | `/status.json` | GET | each balancer's [`Status`](crate::Status) and [`Explanation`](crate::Explanation), durations in seconds |
//! | `/events` | GET | server-sent events: each [`Event`](crate::Event) of each balancer, as JSON with the name of the balancer and a text |
//! | `/eject`, `/restore`, `/shadow` | POST | [controls](Console::with_controls), if the program allows them |
//!
//! All links on the page are relative, so that it works under any prefix. The page loads nothing from elsewhere. Without
//! JavaScript it is a plain table; with it, the page is updated once a second.
//!
//! # What the page shows
//!
//! Instances in trouble come first: ejected ones, those on probation and those without a connection. Below each stands the
//! sentence of [`explain`](crate::Control::explain): the rule that ejected it with its figures, or the error of the last dial.
//! The state says until when. By default at most 40 instances are shown, divided among the balancers; the page is below
//! 60 kB then.
//!
//! The graphs span two minutes and begin when the page is first opened. The list of events reaches further back: the balancer
//! keeps the last 1024 events for the console from [`add`](Console::add) on.
//!
//! # Cost
//!
//! Nothing is computed while nobody looks, apart from the copies of the last 1024 events: 112 KiB for each balancer, and a
//! clone of each event. While somebody looks, one task reads the [`status`](crate::Control::status) of all balancers once a
//! second. It ends a minute after the last viewer left. At most 64 connections may follow events; the next is refused
//! with 503.

mod body;
#[expect(
    clippy::module_inception,
    reason = "the module's one concept has its name"
)]
mod console;
mod controls;
mod escape;
mod graph;
mod history;
mod instance;
mod page;
mod parameters;
mod recorder;
mod response;
mod state;
mod stream;
mod timeline;
mod view;

pub use body::ConsoleBody;
pub use console::{Console, ConsoleFuture};
