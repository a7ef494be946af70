//! A check by a `GET`.

use std::future::poll_fn;
use std::pin::{Pin, pin};

use futures_util::future::BoxFuture;
use http::Request;
use http_body::Body;
use tower_service::Service;

use super::connection::Connection;
use super::connection::IncomingBody;
use super::replay::ReplayBody;
use crate::error::BoxError;
use crate::model::instance::Instance;

/// The most bytes of a response that a check reads. A longer one costs its HTTP/1.1 connection.
const MOST_READ: usize = 64 * 1024;

/// A check that sends `GET path` to an instance: for [`ClientBuilder::check`](super::ClientBuilder::check).
///
/// A status from 200 to 399 is a success. Any other status, an error, and a path that is no valid URI are failures.
///
/// ```
/// use rolecall::{Registry, http};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), rolecall::TargetError> {
/// let client: http::Client = http::Client::builder(Registry::new(), "worker:http")
///     .check(http::check("/healthz"))
///     .build()?;
/// # drop(client);
/// # Ok(())
/// # }
/// ```
pub fn check(
    path: impl Into<String>,
) -> impl Fn(Connection<ReplayBody>, Instance) -> BoxFuture<'static, Result<(), BoxError>>
+ Clone
+ Send
+ Sync
+ 'static {
    let path = path.into();
    move |mut service, _| {
        let path = path.clone();
        Box::pin(async move {
            let request = Request::get(&path).body(ReplayBody::empty())?;
            poll_fn(|cx| service.poll_ready(cx)).await?;
            let response = service.call(request).await?;
            let status = response.status();
            read(response.into_body()).await?;
            if status.is_success() || status.is_redirection() {
                return Ok(());
            }
            Err(format!("GET {path} was answered with {status}").into())
        })
    }
}

/// Reads a body, so that its connection can be used again.
async fn read(body: IncomingBody) -> Result<(), BoxError> {
    let mut body = pin!(body);
    let mut left = MOST_READ;
    while let Some(frame) = next(body.as_mut()).await {
        let read = frame?.data_ref().map_or(0, bytes::Bytes::len);
        match left.checked_sub(read) {
            Some(rest) => left = rest,
            None => break,
        }
    }
    Ok(())
}

async fn next<B: Body>(
    mut body: Pin<&mut B>,
) -> Option<Result<http_body::Frame<B::Data>, B::Error>> {
    poll_fn(|cx| body.as_mut().poll_frame(cx)).await
}
