//! The service `demo.Greeter`, as tonic's code generator would write it, and without one.

use std::convert::Infallible;
use std::future::{Ready, ready};
use std::task::{Context, Poll};

use futures::future::BoxFuture;
use futures::stream::{self, BoxStream, StreamExt};
use rolecall::BoxError;
use tonic::body::Body;
use tonic::client::GrpcService;
use tonic::codegen::http;
use tonic::codegen::http::uri::PathAndQuery;
use tonic::server::NamedService;
use tonic::{Request, Response, Status, Streaming};
use tonic_prost::ProstCodec;
use tower::Service;

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Hello {
    #[prost(string, tag = "1")]
    pub(crate) name: String,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Greeting {
    #[prost(string, tag = "1")]
    pub(crate) text: String,
    /// The server's name.
    #[prost(string, tag = "2")]
    pub(crate) from: String,
}

const GREET: &str = "/demo.Greeter/Greet";
const GREET_THRICE: &str = "/demo.Greeter/GreetThrice";

/// What is generated for callers: over any channel.
#[derive(Clone)]
pub(crate) struct GreeterClient<T>(tonic::client::Grpc<T>);

impl<T> GreeterClient<T>
where
    T: GrpcService<Body>,
    T::ResponseBody: hyper::body::Body<Data = bytes::Bytes> + Send + 'static,
    <T::ResponseBody as hyper::body::Body>::Error: Into<BoxError> + Send,
{
    pub(crate) fn new(channel: T) -> Self {
        Self(tonic::client::Grpc::new(channel))
    }

    /// A unary call.
    pub(crate) async fn greet(
        &mut self,
        hello: Request<Hello>,
    ) -> Result<Response<Greeting>, Status> {
        self.ready().await?;
        let path = PathAndQuery::from_static(GREET);
        self.0.unary(hello, path, ProstCodec::default()).await
    }

    /// A server stream.
    pub(crate) async fn greet_thrice(
        &mut self,
        hello: Request<Hello>,
    ) -> Result<Response<Streaming<Greeting>>, Status> {
        self.ready().await?;
        let path = PathAndQuery::from_static(GREET_THRICE);
        self.0
            .server_streaming(hello, path, ProstCodec::default())
            .await
    }

    async fn ready(&mut self) -> Result<(), Status> {
        let ready = self.0.ready().await;
        ready.map_err(|error| Status::unknown(error.into().to_string()))
    }
}

/// What is generated for servers, and the service itself.
#[derive(Clone)]
pub(crate) struct Greeter {
    pub(crate) name: String,
}

impl Greeter {
    fn greeting(&self, hello: &Hello) -> Greeting {
        Greeting {
            text: format!("hello {}", hello.name),
            from: self.name.clone(),
        }
    }
}

impl NamedService for Greeter {
    const NAME: &'static str = "demo.Greeter";
}

impl Service<http::Request<Body>> for Greeter {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<http::Response<Body>, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let greeter = self.clone();
        let mut grpc = tonic::server::Grpc::new(ProstCodec::default());
        Box::pin(async move {
            Ok(match request.uri().path() {
                GREET => grpc.unary(Greet(greeter), request).await,
                GREET_THRICE => grpc.server_streaming(GreetThrice(greeter), request).await,
                _ => Status::unimplemented("no such method").into_http(),
            })
        })
    }
}

struct Greet(Greeter);

impl Service<Request<Hello>> for Greet {
    type Response = Response<Greeting>;
    type Error = Status;
    type Future = Ready<Result<Response<Greeting>, Status>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Status>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, hello: Request<Hello>) -> Self::Future {
        ready(Ok(Response::new(self.0.greeting(hello.get_ref()))))
    }
}

struct GreetThrice(Greeter);

impl Service<Request<Hello>> for GreetThrice {
    type Response = Response<BoxStream<'static, Result<Greeting, Status>>>;
    type Error = Status;
    type Future = Ready<Result<Self::Response, Status>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Status>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, hello: Request<Hello>) -> Self::Future {
        let greeting = self.0.greeting(hello.get_ref());
        let thrice = stream::iter(vec![Ok(greeting); 3]);
        ready(Ok(Response::new(thrice.boxed())))
    }
}
