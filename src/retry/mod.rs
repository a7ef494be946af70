//! Retries on another instance (feature `retry`).
//!
//! [`Retry`] is a policy for [`tower::retry`]. It decides which requests are retried, and avoids the instances that were
//! tried. tower implements budget and backoff.
//!
//! ```no_run
//! use http_body_util::Full;
//! use rolecall::{Registry, http, retry::Retry};
//! use tower::{ServiceBuilder, retry::RetryLayer};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let client = ServiceBuilder::new()
//!     .layer(RetryLayer::new(Retry::new().idempotent_methods()))
//!     .service(http::Client::<Full<bytes::Bytes>>::new(Registry::new(), "worker:http")?);
//! # let _ = client;
//! # Ok(())
//! # }
//! ```
//!
//! # What is retried
//!
//! | Result | Retried |
//! |---|---|
//! | an [`Error`](crate::Error) of an instance that [was not sent](crate::Error::was_sent) | always; the first time at once, without budget |
//! | any other error of an instance or of a layer below, [`attempt_timeout`](crate::BalanceLayer::attempt_timeout) included | if the request is idempotent |
//! | status 502, 503 or 504; gRPC `Unavailable` with no message before | if the request is idempotent |
//! | the request's own body failed; no instance is usable, or all are at `max_in_flight` | never |
//! | any other | never |
//!
//! No request counts as idempotent by default. [`Retry::idempotent_methods`] marks the methods that HTTP defines as
//! idempotent. The extension [`Idempotent`] marks a single request and overrules the method. All gRPC calls are `POST`, so
//! only the extension marks them.
//!
//! Many gRPC servers send the head of a stream at once, and fail later. So if a call is marked and its request messages are
//! complete, the response is held back until its first message or its end: until then it can be retried. Do not mark a
//! subscription whose caller waits for the head.
//!
//! A request that no instance acted on is sent again once, immediately and without budget, by
//! [`http::Resend`](crate::http::Resend) below or by [`Retry`]. So if every instance is down, a request is sent at most twice,
//! and once more for each retry that attempts, budget and backoff allow.
//!
//! If no instance is usable, the balancer has already waited for
//! [`unavailable_after`](crate::ConfigBuilder::unavailable_after), so the request is not retried.
//!
//! # Bodies
//!
//! A request is cloned before it is sent. So its body must be `Clone`, such as `http_body_util::Full`, or an
//! [`http::ReplayBody`](crate::http::ReplayBody). [`ReplayLayer`] makes a replay body of any body:
//!
//! ```no_run
//! # use rolecall::{Registry, grpc, retry::{ReplayLayer, Retry}};
//! # use tower::{ServiceBuilder, retry::RetryLayer};
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), rolecall::TargetError> {
//! # #[cfg(feature = "grpc")] {
//! let channel = ServiceBuilder::new()
//!     .layer(ReplayLayer::new())
//!     .layer(RetryLayer::new(Retry::new()))
//!     .service(grpc::Channel::new(Registry::new(), "worker:grpc")?);
//! # fn is_channel<T: tonic::client::GrpcService<tonic::body::Body>>(_: T) {}
//! # is_channel(channel);
//! # }
//! # Ok(())
//! # }
//! ```
//!
//! # Time
//!
//! No attempt starts after the request's [`Deadline`] or after the time in `grpc-timeout`. If the backoff would last longer,
//! the last failure is returned at once. A later attempt sends the remaining time in `grpc-timeout`.
//!
//! `tower::timeout` above [`Retry`] limits all attempts together.
//! [`attempt_timeout`](crate::BalanceLayer::attempt_timeout) limits each attempt; the instance is charged, named in the error, and
//! avoided by the next attempt. A `tower::timeout` between [`Retry`] and the balancer cannot name the instance.
//!
//! # Which instances were tried
//!
//! [`answered_by`](crate::http::answered_by), [`Error::instance`](crate::Error::instance) and the span's field
//! `rolecall.instance` name the last instance. The extension [`http::Tried`](crate::http::Tried) of the response and
//! [`Error::tried`](crate::Error::tried) name the earlier ones.
//!
//! # Other requests than HTTP
//!
//! Write a policy that notes the instances in the request, and a classifier that makes [hints](crate::Classify::hints) of them:
//!
//! ```
//! use rolecall::{Attempt, Classify, Error, Failed, Hints, InstanceId};
//! use std::future::{Ready, ready};
//! use tower::retry::Policy;
//!
//! #[derive(Clone)]
//! struct Query {
//!     text: String,
//!     tried: Vec<InstanceId>,
//! }
//!
//! struct ClassifyQuery;
//!
//! impl<Res, Err> Classify<Query, Res, Err> for ClassifyQuery {
//!     type Response = Res;
//!     /// The instances that had the query before.
//!     type Context = Vec<InstanceId>;
//!
//!     fn begin(&self, query: &Query) -> Vec<InstanceId> {
//!         query.tried.clone()
//!     }
//!
//!     fn hints<'c>(&self, tried: &'c Vec<InstanceId>) -> Hints<'c> {
//!         Hints::avoid(tried)
//!     }
//!
//!     fn classify(
//!         &self,
//!         _: Vec<InstanceId>,
//!         result: Result<Res, Err>,
//!         attempt: Attempt,
//!     ) -> Result<Res, Failed<Err>> {
//!         match result {
//!             Ok(_) => attempt.success(),
//!             Err(_) => attempt.failure(),
//!         }
//!         result.map_err(Failed::sent)
//!     }
//! }
//!
//! #[derive(Clone)]
//! struct Thrice;
//!
//! impl<Res> Policy<Query, Res, Error> for Thrice {
//!     type Future = Ready<()>;
//!
//!     fn retry(&mut self, query: &mut Query, result: &mut Result<Res, Error>) -> Option<Ready<()>> {
//!         let failed_at = result.as_ref().err()?.instance()?;
//!         query.tried.push(failed_at.clone());
//!         (query.tried.len() < 3).then(|| ready(()))
//!     }
//!
//!     fn clone_request(&mut self, query: &Query) -> Option<Query> {
//!         Some(query.clone())
//!     }
//! }
//! ```

mod body;
mod ending;
#[cfg(feature = "grpc")]
mod grpc;
mod mark;
mod policy;
mod replay;
mod wait;

pub use body::TryClone;
pub use mark::{Deadline, Idempotent};
pub use policy::Retry;
pub use replay::{Replay, ReplayLayer};
pub use wait::Wait;
