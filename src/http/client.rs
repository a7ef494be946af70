use http_body::Body;
use tower_layer::Layer;

use super::classify::ClassifyStatus;
use super::connection::Connection;
use super::connector::Connector;
use crate::balance::{Balance, BalanceLayer};
use crate::discovery::Discovery;
use crate::error::BoxError;
use crate::model::target::{Target, TargetError};

/// Balances HTTP/1.1 requests over the instances of a target: [`BalanceLayer`], [`Connector`] and [`ClassifyStatus`] with
/// their defaults. [`Balance::control`] observes and steers the client.
///
/// For other settings, such as a time limit for each attempt, put the three together:
///
/// ```no_run
/// use http_body_util::Empty;
/// use rolecall::{BalanceLayer, Registry, http};
/// use std::time::Duration;
/// use tower::Layer;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let mut client = BalanceLayer::new(Registry::new(), "worker:http")?
///     .attempt_timeout(Duration::from_secs(2))
///     .classify(http::ClassifyStatus::new())
///     .layer(http::Connector::<Empty<bytes::Bytes>>::new().http2());
/// # Ok(())
/// # }
/// ```
///
/// # Errors
///
/// `target` is not written as one.
pub fn client<B, T>(
    discovery: impl Discovery,
    target: T,
) -> Result<Balance<Connection<B>, ClassifyStatus>, TargetError>
where
    B: Body + Send + Unpin + 'static,
    B::Data: Send,
    B::Error: Into<BoxError>,
    T: TryInto<Target>,
    T::Error: Into<TargetError>,
{
    let layer = BalanceLayer::new(discovery, target)?.classify(ClassifyStatus::new());
    Ok(layer.layer(Connector::new()))
}
