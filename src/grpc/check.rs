//! A check by the standard health service.

use std::future::poll_fn;
use std::pin::pin;

use futures_util::future::BoxFuture;
use http::Request;
use http::header::{CONTENT_TYPE, TE};
use http_body::Body;
use tonic::Code;
use tower_service::Service;

use super::code::{self, Head};
use crate::error::BoxError;
use crate::http::{Connection, IncomingBody, ReplayBody};
use crate::model::instance::Instance;

/// A `HealthCheckRequest` for the whole server: a message of no bytes, and the five before it.
const WHOLE_SERVER: &[u8] = &[0; 5];
/// The five bytes before a message, and a `HealthCheckResponse` of the status `SERVING`.
const SERVING: &[u8] = &[0, 0, 0, 0, 2, 0x08, 1];
/// The most bytes of an answer that are read.
const MOST_READ: usize = 1024;

/// A check by the standard health service, `grpc.health.v1.Health/Check`, of the whole server: for
/// [`Builder::check`](super::Builder::check).
///
/// `SERVING` is a success. So is the status `Unimplemented`: the server has no health service, and answers. Anything else is
/// a failure.
///
/// ```
/// use rolecall::{Registry, grpc};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), rolecall::TargetError> {
/// let channel = grpc::Channel::builder(Registry::new(), "worker:grpc")?
///     .check(grpc::check())
///     .build();
/// # drop(channel);
/// # Ok(())
/// # }
/// ```
pub fn check()
-> impl Fn(Connection<ReplayBody>, Instance) -> BoxFuture<'static, Result<(), BoxError>>
+ Clone
+ Send
+ Sync
+ 'static {
    |mut service, _| {
        Box::pin(async move {
            let request = Request::post("/grpc.health.v1.Health/Check")
                .header(CONTENT_TYPE, "application/grpc")
                .header(TE, "trailers")
                .body(ReplayBody::from(WHOLE_SERVER))?;
            poll_fn(|cx| service.poll_ready(cx)).await?;
            let response = service.call(request).await?;
            let (code, message) = match Head::of(&response) {
                Head::Ended(code) => (code, Vec::new()),
                Head::Begun => read(response.into_body()).await?,
                Head::Foreign(status) => {
                    return Err(format!("HTTP status {status} and no gRPC status").into());
                }
            };
            match code {
                Code::Unimplemented => Ok(()),
                Code::Ok if message == SERVING => Ok(()),
                Code::Ok => Err("the health service says that it is not serving".into()),
                code => Err(format!("the health service failed: {}", code::name(code)).into()),
            }
        })
    }
}

/// The status and the data of an answer.
async fn read(body: IncomingBody) -> Result<(Code, Vec<u8>), BoxError> {
    let mut body = pin!(body);
    let mut data = Vec::new();
    let mut code = Code::Unknown;
    while let Some(frame) = poll_fn(|cx| body.as_mut().poll_frame(cx)).await {
        let frame = frame?;
        if let Some(more) = frame.data_ref() {
            data.extend_from_slice(more);
        }
        if let Some(written) = frame.trailers_ref().and_then(code::written) {
            code = written;
        }
        if data.len() > MOST_READ {
            return Err("the answer of the health service is too long".into());
        }
    }
    Ok((code, data))
}
