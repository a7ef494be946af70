//! The check by the standard health service.

use rolecall::grpc;
use tonic::transport::server::TcpIncoming;
use tonic_health::ServingStatus;

use crate::server::Server;
use crate::support::{all_usable, builder, member};

/// What the check of an only server says, if it failed.
async fn error(server: &Server) -> Option<String> {
    let channel = builder([server]).check(grpc::check()).build();
    all_usable(&channel).await;
    let check = member(&channel).check;
    check.expect("checked before it is usable").error
}

fn health(status: ServingStatus) -> Server {
    Server::start_at(crate::support::free_addr(), move |listener, _| async move {
        let (reporter, health) = tonic_health::server::health_reporter();
        reporter.set_service_status("", status).await;
        tonic::transport::Server::builder()
            .add_service(health)
            .serve_with_incoming(TcpIncoming::from(listener).with_nodelay(Some(true)))
            .await
            .unwrap();
    })
}

#[tokio::test]
async fn serving_is_a_success_and_so_is_a_server_without_a_health_service() {
    assert_eq!(error(&health(ServingStatus::Serving)).await, None);
    // tonic answers `Unimplemented` for a service that it does not have.
    let without = Server::start_at(
        crate::support::free_addr(),
        |listener, ordered| async move {
            tonic::transport::Server::builder()
                .add_service(ordered)
                .serve_with_incoming(TcpIncoming::from(listener))
                .await
                .unwrap();
        },
    );
    assert_eq!(error(&without).await, None);
}

#[tokio::test]
async fn not_serving_and_what_is_no_grpc_server_are_failures() {
    let said = error(&health(ServingStatus::NotServing)).await.unwrap();
    assert!(said.contains("not serving"), "{said}");
    let foreign = Server::http(|_| async { hyper::Response::new(String::from("hello")) });
    let said = error(&foreign).await.unwrap();
    assert!(
        said.contains("HTTP status 200 OK and no gRPC status"),
        "{said}"
    );
}
