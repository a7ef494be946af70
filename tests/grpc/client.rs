//! A client of the service `test.Ordered`, by hand as tonic would generate it.

use futures::StreamExt;
use tonic::body::Body;
use tonic::client::{Grpc, GrpcService};
use tonic::codegen::http::uri::PathAndQuery;
use tonic::{IntoRequest, IntoStreamingRequest, Response, Status, Streaming};
use tonic_prost::ProstCodec;

use crate::server::{Answer, Order};

pub(crate) struct OrderedClient<T>(Grpc<T>);

impl<T> OrderedClient<T>
where
    T: GrpcService<Body>,
    T::ResponseBody: hyper::body::Body<Data = bytes::Bytes> + Send + 'static,
    <T::ResponseBody as hyper::body::Body>::Error: Into<rolecall::BoxError> + Send,
{
    pub(crate) fn new(channel: T) -> Self {
        Self(Grpc::new(channel))
    }

    /// Sends no larger messages.
    pub(crate) fn max_encoding_message_size(self, limit: usize) -> Self {
        Self(self.0.max_encoding_message_size(limit))
    }

    pub(crate) async fn unary(
        &mut self,
        order: impl IntoRequest<Order>,
    ) -> Result<Response<Answer>, Status> {
        self.ready().await?;
        let path = PathAndQuery::from_static("/test.Ordered/Unary");
        let codec = ProstCodec::<Order, Answer>::default();
        self.0.unary(order.into_request(), path, codec).await
    }

    pub(crate) async fn client_stream(
        &mut self,
        orders: impl IntoStreamingRequest<Message = Order>,
    ) -> Result<Response<Answer>, Status> {
        self.ready().await?;
        let path = PathAndQuery::from_static("/test.Ordered/ClientStream");
        let codec = ProstCodec::<Order, Answer>::default();
        let orders = orders.into_streaming_request();
        self.0.client_streaming(orders, path, codec).await
    }

    pub(crate) async fn server_stream(
        &mut self,
        order: impl IntoRequest<Order>,
    ) -> Result<Response<Streaming<Answer>>, Status> {
        self.ready().await?;
        let path = PathAndQuery::from_static("/test.Ordered/ServerStream");
        let codec = ProstCodec::<Order, Answer>::default();
        let order = order.into_request();
        self.0.server_streaming(order, path, codec).await
    }

    pub(crate) async fn bidi(
        &mut self,
        orders: impl IntoStreamingRequest<Message = Order>,
    ) -> Result<Response<Streaming<Answer>>, Status> {
        self.ready().await?;
        let path = PathAndQuery::from_static("/test.Ordered/Bidi");
        let codec = ProstCodec::<Order, Answer>::default();
        let orders = orders.into_streaming_request();
        self.0.streaming(orders, path, codec).await
    }

    async fn ready(&mut self) -> Result<(), Status> {
        let ready = self.0.ready().await;
        ready.map_err(|error| Status::unknown(error.into().to_string()))
    }
}

/// The numbers of a stream's messages, and how it ended.
pub(crate) async fn read(stream: &mut Streaming<Answer>) -> (Vec<u32>, Result<(), Status>) {
    let mut numbers = Vec::new();
    while let Some(answer) = stream.next().await {
        match answer {
            Ok(answer) => numbers.push(answer.number),
            Err(status) => return (numbers, Err(status)),
        }
    }
    (numbers, Ok(()))
}
