//! Servers: tonic's, with a service that does what it is told; hyper's, for answers that tonic does not give; and sockets.

use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::task::{Context, Poll};
use std::time::Duration;

use futures::future::BoxFuture;
use futures::stream::BoxStream;
use futures::{Stream, StreamExt};
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Runtime;
use tokio::sync::Semaphore;
use tonic::body::Body;
use tonic::server::{Grpc, NamedService};
use tonic::transport::server::TcpIncoming;
use tonic::{Code, Status, Streaming};
use tonic_prost::ProstCodec;
use tower::Service;

use crate::support::free_addr;

/// What a call shall be answered.
#[derive(Clone, Copy, PartialEq, prost::Message)]
pub(crate) struct Order {
    /// So many messages.
    #[prost(uint32, tag = "1")]
    pub(crate) messages: u32,
    /// Each of them only when the gate is opened for it, and the end too.
    #[prost(bool, tag = "2")]
    pub(crate) gated: bool,
    /// Then this status.
    #[prost(int32, tag = "3")]
    pub(crate) code: i32,
    /// Nothing, for ever.
    #[prost(bool, tag = "4")]
    pub(crate) hang: bool,
}

impl Order {
    pub(crate) fn messages(messages: u32) -> Self {
        Self {
            messages,
            ..Self::default()
        }
    }

    pub(crate) fn gated(self) -> Self {
        Self {
            gated: true,
            ..self
        }
    }

    pub(crate) fn ending_in(self, code: Code) -> Self {
        Self {
            code: code.into(),
            ..self
        }
    }

    pub(crate) fn hang() -> Self {
        Self {
            hang: true,
            ..Self::default()
        }
    }
}

#[derive(Clone, Copy, PartialEq, prost::Message)]
pub(crate) struct Answer {
    #[prost(uint32, tag = "1")]
    pub(crate) number: u32,
}

/// A server in a runtime of its own, so that it dies at once and as a whole.
pub(crate) struct Server {
    pub(crate) addr: SocketAddr,
    pub(crate) gate: Arc<Semaphore>,
    pub(crate) arrived: Arc<AtomicUsize>,
    runtime: Option<Runtime>,
}

impl Server {
    /// A real tonic server, of the service below and of tonic's own health service.
    pub(crate) fn tonic() -> Self {
        Self::tonic_at(free_addr())
    }

    pub(crate) fn tonic_at(addr: SocketAddr) -> Self {
        Self::start_at(addr, |listener, ordered| async move {
            let (_, health) = tonic_health::server::health_reporter();
            tonic::transport::Server::builder()
                .add_service(ordered)
                .add_service(health)
                .serve_with_incoming(TcpIncoming::from(listener).with_nodelay(Some(true)))
                .await
                .unwrap();
        })
    }

    /// An HTTP/2 server.
    pub(crate) fn http<H, F, B>(handler: H) -> Self
    where
        H: Fn(Request<hyper::body::Incoming>) -> F + Clone + Send + Sync + 'static,
        F: Future<Output = Response<B>> + Send + 'static,
        B: hyper::body::Body<Data: Send, Error: Into<rolecall::BoxError>> + Send + 'static,
    {
        Self::connections(move |stream| {
            let handler = handler.clone();
            let service = service_fn(move |request| {
                let response = handler(request);
                async move { Ok::<_, Infallible>(response.await) }
            });
            async move {
                hyper::server::conn::http2::Builder::new(TokioExecutor::new())
                    // A server that was kept from running finds many cancelled calls, and would close the connection.
                    .max_pending_accept_reset_streams(1000)
                    .serve_connection(TokioIo::new(stream), service)
                    .await
                    .map_err(io::Error::other)
            }
        })
    }

    /// A script for every connection.
    pub(crate) fn connections<S, F>(script: S) -> Self
    where
        S: Fn(TcpStream) -> F + Send + 'static,
        F: Future<Output = io::Result<()>> + Send + 'static,
    {
        Self::start(|listener, _| async move {
            while let Ok((stream, _)) = listener.accept().await {
                stream.set_nodelay(true).unwrap();
                tokio::spawn(script(stream));
            }
        })
    }

    fn start<S, F>(serve: S) -> Self
    where
        S: FnOnce(TcpListener, Ordered) -> F,
        F: Future<Output = ()> + Send + 'static,
    {
        Self::start_at(free_addr(), serve)
    }

    pub(crate) fn start_at<S, F>(addr: SocketAddr, serve: S) -> Self
    where
        S: FnOnce(TcpListener, Ordered) -> F,
        F: Future<Output = ()> + Send + 'static,
    {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let listener = std::net::TcpListener::bind(addr).unwrap();
        listener.set_nonblocking(true).unwrap();
        let addr = listener.local_addr().unwrap();
        let ordered = Ordered {
            gate: Arc::new(Semaphore::new(0)),
            arrived: Arc::default(),
        };
        let (gate, arrived) = (ordered.gate.clone(), ordered.arrived.clone());
        let entered = runtime.enter();
        let serving = serve(TcpListener::from_std(listener).unwrap(), ordered);
        drop(entered);
        runtime.spawn(serving);
        Self {
            addr,
            gate,
            arrived,
            runtime: Some(runtime),
        }
    }

    pub(crate) fn arrived(&self) -> usize {
        self.arrived.load(SeqCst)
    }

    /// Closes every socket.
    pub(crate) async fn kill(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            let shutdown = move || runtime.shutdown_timeout(Duration::from_secs(10));
            tokio::task::spawn_blocking(shutdown).await.unwrap();
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// The service `test.Ordered`, by hand as tonic would generate it.
#[derive(Clone)]
pub(crate) struct Ordered {
    gate: Arc<Semaphore>,
    arrived: Arc<AtomicUsize>,
}

impl NamedService for Ordered {
    const NAME: &'static str = "test.Ordered";
}

impl Service<Request<Body>> for Ordered {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Response<Body>, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let this = self.clone();
        let mut grpc = Grpc::new(ProstCodec::<Answer, Order>::default());
        Box::pin(async move {
            Ok(match request.uri().path() {
                "/test.Ordered/Unary" => grpc.unary(Unary(this), request).await,
                "/test.Ordered/ClientStream" => grpc.client_streaming(Client(this), request).await,
                "/test.Ordered/ServerStream" => grpc.server_streaming(Serve(this), request).await,
                "/test.Ordered/Bidi" => grpc.streaming(Bidi(this), request).await,
                path => Status::unimplemented(path).into_http(),
            })
        })
    }
}

type Answers = BoxStream<'static, Result<Answer, Status>>;

impl Ordered {
    /// One answer, which tells how many messages it was asked for.
    async fn one(self, order: Order) -> Result<tonic::Response<Answer>, Status> {
        self.arrived.fetch_add(1, SeqCst);
        self.pass(order).await;
        end(order)?;
        let number = order.messages;
        Ok(tonic::Response::new(Answer { number }))
    }

    fn many(self, order: Order) -> Answers {
        self.arrived.fetch_add(1, SeqCst);
        let gate = self.clone();
        let answers = futures::stream::iter(1..=order.messages).then(move |number| {
            let gate = gate.clone();
            async move {
                gate.pass(order).await;
                Ok(Answer { number })
            }
        });
        let end = futures::stream::once(async move {
            self.pass(order).await;
            end(order)
        });
        let end = end.filter_map(|end| async { end.err().map(Err) });
        answers.chain(end).boxed()
    }

    async fn pass(&self, order: Order) {
        if order.hang {
            std::future::pending::<()>().await;
        }
        if order.gated {
            self.gate.acquire().await.unwrap().forget();
        }
    }
}

fn end(order: Order) -> Result<(), Status> {
    match Code::from(order.code) {
        Code::Ok => Ok(()),
        code => Err(Status::new(code, "as ordered")),
    }
}

/// A call kind's own service type, for tonic has one trait for each.
macro_rules! kind {
    ($name:ident, $request:ty => $response:ty, |$this:ident, $asked:ident| $answer:expr) => {
        struct $name(Ordered);

        impl Service<tonic::Request<$request>> for $name {
            type Response = tonic::Response<$response>;
            type Error = Status;
            type Future = BoxFuture<'static, Result<Self::Response, Status>>;

            fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Status>> {
                Poll::Ready(Ok(()))
            }

            fn call(&mut self, request: tonic::Request<$request>) -> Self::Future {
                let ($this, $asked) = (self.0.clone(), request.into_inner());
                Box::pin($answer)
            }
        }
    };
}

kind!(Unary, Order => Answer, |this, order| this.one(order));
kind!(Client, Streaming<Order> => Answer, |this, orders| async move {
    this.one(sum(orders).await?).await
});
kind!(Serve, Order => Answers, |this, order| async move {
    Ok(tonic::Response::new(this.many(order)))
});
kind!(Bidi, Streaming<Order> => Answers, |this, orders| async move {
    Ok(tonic::Response::new(this.each(orders).boxed()))
});

/// The orders of a stream as one.
async fn sum(mut orders: Streaming<Order>) -> Result<Order, Status> {
    let mut sum = Order::default();
    while let Some(order) = orders.message().await? {
        sum.messages += order.messages;
        sum.gated |= order.gated;
        sum.code |= order.code;
    }
    Ok(sum)
}

impl Ordered {
    fn each(self, orders: Streaming<Order>) -> impl Stream<Item = Result<Answer, Status>> + use<> {
        orders.flat_map(move |order| match order {
            Ok(order) => self.clone().many(order),
            Err(status) => futures::stream::iter([Err(status)]).boxed(),
        })
    }
}
