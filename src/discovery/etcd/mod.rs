//! Instances that register in etcd.

mod builder;
mod cluster;
mod connection;
mod keys;
mod registrant;
mod source;
mod uri;

pub use builder::{EtcdBuilder, EtcdConfigError, EtcdConfigErrorKind};
pub use cluster::Etcd;
pub(super) use uri::from_uri;
