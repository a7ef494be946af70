//! tower's own balancers, as its documentation builds them.

use std::convert::Infallible;
use std::time::Duration;

use tower::Service;
use tower::balance::p2c::Balance;
use tower::discover::ServiceList;
use tower::load::{CompleteOnResponse, PeakEwmaDiscover, PendingRequestsDiscover};

use super::service::Request;

/// linkerd's defaults for the same metric.
const DEFAULT_RTT: Duration = Duration::from_millis(30);
const DECAY: Duration = Duration::from_secs(10);

pub(crate) type PeakEwma<S> = Balance<PeakEwmaDiscover<ServiceList<Vec<S>>>, Request>;
pub(crate) type PendingRequests<S> = Balance<PendingRequestsDiscover<ServiceList<Vec<S>>>, Request>;

/// Power of two choices by latency. Needs a runtime's context: it reads tokio's clock.
pub(crate) fn peak_ewma<S>(instances: u16) -> PeakEwma<S>
where
    S: Service<Request, Response = u16, Error = Infallible> + From<u16>,
{
    let discover = ServiceList::new(roster(instances));
    Balance::new(PeakEwmaDiscover::new(
        discover,
        DEFAULT_RTT,
        DECAY,
        CompleteOnResponse::default(),
    ))
}

/// Power of two choices by requests in flight.
pub(crate) fn pending_requests<S>(instances: u16) -> PendingRequests<S>
where
    S: Service<Request, Response = u16, Error = Infallible> + From<u16>,
{
    let discover = ServiceList::new(roster(instances));
    Balance::new(PendingRequestsDiscover::new(
        discover,
        CompleteOnResponse::default(),
    ))
}

fn roster<S: From<u16>>(instances: u16) -> Vec<S> {
    (0..instances).map(S::from).collect()
}
