//! Sending again on another instance (feature `retry`).
//!
//! [`Retry`] is a policy for [`tower::retry`]: it says what may be sent again, keeps it away from the instances that were
//! tried, and leaves budget and backoff to tower.
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
//! # What is sent again
//!
//! | Answer | Sent again |
//! |---|---|
//! | an [`Error`](crate::Error) of an instance that [was not sent](crate::Error::was_sent) | always; the first time at once, without budget |
//! | any other error of an instance or of a layer below, [`attempt_timeout`](crate::BalanceLayer::attempt_timeout) included | if the request is idempotent |
//! | status 502, 503 or 504; gRPC `Unavailable` with no message before | if the request is idempotent |
//! | the request's own body failed; nobody is usable, or all are at `max_in_flight` | never |
//! | any other | never |
//!
//! Nothing is idempotent unless the caller says so: by [`Retry::idempotent_methods`] for the methods that HTTP defines as such,
//! or by the extension [`Idempotent`] for a single request, which also overrules the method. gRPC calls are all `POST`: only
//! the extension marks them.
//!
//! A marked gRPC call whose messages are all at hand when it is made gets its answer, head included, only with its first message or its end: many
//! servers send the head of a stream at once, and what fails after it can then still be sent again. So do not mark a
//! subscription whose caller wants to know that it began.
//!
//! A request that no instance acted on is sent again once, at once and without budget, whether [`http::Resend`](crate::http::Resend)
//! below does that or [`Retry`]. So where every instance is down, a request is sent at most twice, and once more for each retry
//! that attempts, budget and backoff allow.
//!
//! Where nobody is usable the balancer has waited already, for
//! [`unavailable_after`](crate::ConfigBuilder::unavailable_after).
//!
//! # Bodies
//!
//! A request is cloned before it is sent, so its body is `Clone`, as `http_body_util::Full` is, or it is an
//! [`http::ReplayBody`](crate::http::ReplayBody). [`ReplayLayer`] makes one of any body:
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
//! No attempt begins after the request's [`Deadline`], or after the time in `grpc-timeout`, and no backoff outlasts them: the
//! last failure is answered at once instead. A later attempt is told what is left in `grpc-timeout`. `tower::timeout`
//! above [`Retry`] limits all attempts together. [`attempt_timeout`](crate::BalanceLayer::attempt_timeout) limits each attempt: its
//! error names the instance, which is charged and then avoided. A `tower::timeout` between [`Retry`] and the balancer cannot name it.
//!
//! # Who was it
//!
//! [`answered_by`](crate::http::answered_by), [`Error::instance`](crate::Error::instance) and the span's field `rolecall.instance` tell
//! the last instance. Those before are in [`http::Tried`](crate::http::Tried), an extension of the response, and in
//! [`Error::tried`](crate::Error::tried).
//!
//! # Other requests than HTTP
//!
//! A policy of your own and a classifier whose [hints](crate::Classify::hints) are what that policy wrote:
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
