//! Instances that DNS knows.

mod answer;
mod names;
mod query;
mod resolver;
mod uri;

pub use names::Dns;
pub use query::DnsQuery;
pub(super) use uri::from_uri;
