//! gRPC over a balanced target (feature `grpc`).
//!
//! [`Channel`] is all most callers need: it goes wherever a client that was generated for tonic takes a channel.
//!
//! ```no_run
//! # use rolecall::{Registry, grpc};
//! # struct GreeterClient<T>(T);
//! # impl<T> GreeterClient<T> { fn new(channel: T) -> Self { Self(channel) } }
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), rolecall::TargetError> {
//! let registry = Registry::new();
//! let greeter = GreeterClient::new(grpc::Channel::new(registry, "worker:grpc")?);
//! # let _ = greeter.0;
//! # Ok(())
//! # }
//! ```
//!
//! Each instance has one to four HTTP/2 connections, those of [`http::Connector`](crate::http::Connector). [`GrpcClassifier`] judges
//! instances by the status of their answers, wherever it stands: in the head, in the trailers, or nowhere, if a proxy answers
//! instead.
//!
//! # Streams
//!
//! The latency of a call is the time to its first message, and its slot is held until the trailers, however long a stream is.
//! A stream that breaks is a failure. One that the caller drops is not.
//!
//! The head of an answer says little: tonic's servers send that of a stream at once, others with the first message. A caller
//! that reads late is no latency of the instance, and a message that was there by then counts as come with the head. The time
//! in which a caller keeps the instance waiting for its own messages is not told apart from the instance's.
//!
//! A subscription whose first message waits for something to happen is one slow answer, counted as at most fifteen times the
//! mean latency: where few calls are such, its instance is given less to do for some seconds after. Where many are, latency
//! is noise: give them a channel of their own, with [`Load::least_in_flight`](crate::Load::least_in_flight).
//!
//! # Errors
//!
//! tonic's generated clients return a [`tonic::Status`]. Where no instance gave one it is ours: `Unavailable`, `ResourceExhausted`
//! if all instances are at `max_in_flight`, `DeadlineExceeded` if the caller's time was over, or what gRPC makes of an HTTP status
//! or of a reset stream. Its message names target and instance, with all causes, and [`Error::find`](crate::Error::find) finds
//! the [`Error`](crate::Error) in its sources. [`failed_at`] tells the instance of any failed call, [`answered_by`] that of any
//! other.
//!
//! ```
//! fn may_retry(status: &tonic::Status) -> bool {
//!     rolecall::Error::find(status).is_some_and(|error| !error.was_sent())
//! }
//! ```
//!
//! A service that passes a status of its own callee on to its callers passes the names on too.
//!
//! A call that no instance acted on, because its connection had ended or the instance closes it or refuses the stream, is sent
//! once more: all kinds of calls, see [`http::Resend`](crate::http::Resend).
//!
//! # Time limits
//!
//! The `grpc-timeout` of a request, [`tonic::Request::set_timeout`], is a limit for the whole call: also for a stream that has
//! begun, other than with tonic's own channel, where it ends with the head of the answer. A call whose time is over is
//! cancelled, and judged as any cancelled call.
//!
//! # Limits
//!
//! - A reset of a stream by which an instance or a proxy says `CANCEL` or `NO_ERROR` looks like the end of the stream, because
//!   hyper tells no more. Without trailers it is a failure all the same.
//! - A server that stood still may close the connection of a caller who cancelled many calls meanwhile, by time limits too:
//!   h2 ones do from 20 on. The calls that it has by then fail as `Unavailable`.
//! - A message that cannot be decoded fails in the caller's client, which the instance is not charged for.

mod body;
mod channel;
mod check;
mod classify;
mod code;
pub(crate) mod deadline;
mod details;
pub(crate) mod first_message;
mod future;
mod origin;
mod outcome;
mod status;

pub use body::ResponseBody;
pub use channel::{Builder, Channel};
pub use check::check;
pub use classify::GrpcClassifier;
pub use future::ResponseFuture;
pub use origin::{answered_by, failed_at};
pub use outcome::TrackedBody;
