//! Chapters of four kinds. Those that use a feature are there with that feature.
//!
//! | Tutorial | |
//! |---|---|
//! | `tutorial` | ten minutes: two workers and a caller on one machine, then on etcd |
//!
//! | How to | |
//! |---|---|
//! | `how_to::axum`, `how_to::tonic`, `how_to::tcp` | use it with your server and your protocol |
//! | [`http`] | HTTP clients: TLS, middleware for each instance, WebSockets, reqwest |
//! | `how_to::timeouts`, `how_to::retries`, `how_to::hedging` | limit and repeat requests |
//! | `how_to::draining` | stop a worker without failing a request |
//! | [`how_to::testing`] | test your program on paused time |
//! | [`servers`], `kubernetes` | find instances by etcd, DNS and Kubernetes |
//! | [`backends`] | write a discovery backend |
//! | [`migrating`] | leave tonic's `balance_list`, `tower::balance`, ginepro or a proxy |
//!
//! | Reference | |
//! |---|---|
//! | [`operations`] | log lines, status and metrics at night |
//! | [`BalanceConfig`](crate::BalanceConfig), [`OutlierConfig`](crate::OutlierConfig) | every setting with unit, range and default |
//! | [`Event`](crate::Event), [`ErrorKind`](crate::ErrorKind) | every event and every error |
//!
//! | Explanation | |
//! |---|---|
//! | [`tuning`] | how picks and ejection work, by figures, and what a simulation can tell |
//! | [`boundary`] | what the guard protects, and what it does not |
//! | [`comparison`], [`performance`] | what it costs and how it compares |

#[cfg(all(feature = "axum", feature = "folder", feature = "worker"))]
#[doc = include_str!("tutorial.md")]
pub mod tutorial {}

/// One task a page.
pub mod how_to {
    #[cfg(all(feature = "axum", feature = "worker"))]
    #[doc = include_str!("how_to/axum.md")]
    pub mod axum {}

    #[cfg(feature = "worker")]
    #[doc = include_str!("how_to/draining.md")]
    pub mod draining {}

    #[cfg(feature = "http")]
    #[doc = include_str!("how_to/hedging.md")]
    pub mod hedging {}

    #[cfg(all(feature = "grpc", feature = "retry"))]
    #[doc = include_str!("how_to/retries.md")]
    pub mod retries {}

    #[cfg(feature = "net")]
    #[doc = include_str!("how_to/tcp.md")]
    pub mod tcp {}

    #[doc = include_str!("how_to/testing.md")]
    pub mod testing {}

    #[cfg(feature = "http")]
    #[doc = include_str!("how_to/timeouts.md")]
    pub mod timeouts {}

    #[cfg(all(feature = "grpc", feature = "tonic", feature = "worker"))]
    #[doc = include_str!("how_to/tonic.md")]
    pub mod tonic {}
}

#[doc = include_str!("tuning.md")]
pub mod tuning {}

#[doc = include_str!("comparison.md")]
pub mod comparison {}

#[doc = include_str!("performance.md")]
pub mod performance {}

#[doc = include_str!("routing.md")]
pub mod routing {}

#[doc = include_str!("boundary.md")]
pub mod boundary {}

#[doc = include_str!("backends.md")]
pub mod backends {}

#[doc = include_str!("operations.md")]
pub mod operations {}

#[doc = include_str!("migrating.md")]
pub mod migrating {}

#[doc = include_str!("http.md")]
pub mod http {}

#[doc = include_str!("servers.md")]
pub mod servers {}

#[cfg(feature = "kubernetes")]
#[doc = include_str!("kubernetes.md")]
pub mod kubernetes {}
