//! Calls that their metadata or an extension keeps with one instance.

use rolecall::grpc::{self, GrpcClassifier};
use rolecall::http::PinTo;
use rolecall::{Error, ErrorKind, InstanceId, PinFault};
use tonic::{Code, Request};

use crate::server::{Order, Server};
use crate::support::{all_usable, builder, client, within};

#[tokio::test]
async fn metadata_or_an_extension_keeps_calls_with_their_instance() {
    let servers = [Server::tonic(), Server::tonic(), Server::tonic()];
    let classify = GrpcClassifier::new().pin_by(|metadata| {
        let id = metadata.get("x-instance")?.to_str().ok()?;
        Some(InstanceId::from(id))
    });
    let channel = builder(&servers).classify(classify).build();
    all_usable(&channel).await;
    let mut client = client(&channel);
    for id in ["a", "b", "c", "b"] {
        let mut call = Request::new(Order::messages(1));
        call.metadata_mut()
            .insert("x-instance", id.parse().unwrap());
        let answer = within(client.unary(call)).await.unwrap();
        assert_eq!(grpc::answered_by(&answer).unwrap(), id);

        let mut call = Request::new(Order::messages(1));
        call.extensions_mut().insert(PinTo(id.into()));
        let answer = within(client.unary(call)).await.unwrap();
        assert_eq!(grpc::answered_by(&answer).unwrap(), id);
    }
    let mut call = Request::new(Order::messages(1));
    call.extensions_mut().insert(PinTo("x".into()));
    let status = within(client.unary(call)).await.unwrap_err();
    assert_eq!(status.code(), Code::Unavailable);
    let error = Error::find(&status).expect("our error is among the sources");
    assert!(
        matches!(error.kind(), ErrorKind::Pinned(PinFault::Unknown)),
        "{error}"
    );
}
