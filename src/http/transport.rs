//! Transports: what opens the byte streams under HTTP.

use std::fmt;
use std::future::poll_fn;
use std::io;
use std::net::IpAddr;
use std::sync::Arc;

use futures_util::future::BoxFuture;
use tokio::io::{AsyncRead, AsyncWrite};
#[cfg(unix)]
use tokio::net::UnixStream;
use tower_service::Service;

use super::stream::Raw;
use super::tcp::TcpOptions;
use crate::balance::socket::Socket;
use crate::error::BoxError;
use crate::model::address::Address;

/// Opens a byte stream to one address.
#[derive(Clone)]
pub(super) enum Transport {
    System(Arc<TcpOptions>),
    Custom(Arc<dyn Dial>),
}

pub(super) trait Dial: Send + Sync {
    fn dial(&self, address: Address) -> BoxFuture<'static, io::Result<Raw>>;
}

impl Transport {
    /// The local ip of dials to this address, if the program chose one.
    pub(super) fn local_address_for(&self, address: &Address) -> Option<IpAddr> {
        match self {
            Self::System(tcp) => tcp.local_address_for(address.tcp()?),
            Self::Custom(_) => None,
        }
    }

    pub(super) async fn dial(&self, address: &Address) -> io::Result<Raw> {
        let tcp = match self {
            Self::System(tcp) => tcp,
            Self::Custom(transport) => return transport.dial(address.clone()).await,
        };
        Ok(Raw::Socket(match address {
            Address::Tcp(addr) => Socket::Tcp(tcp.connect(*addr).await?),
            #[cfg(unix)]
            Address::Unix(path) => Socket::Unix(UnixStream::connect(path).await?),
            #[cfg(not(unix))]
            Address::Unix(_) => return Err(io::ErrorKind::Unsupported.into()),
        }))
    }
}

impl fmt::Debug for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::System(tcp) => tcp.fmt(f),
            Self::Custom(_) => f.write_str("Custom"),
        }
    }
}

/// A transport of the program.
pub(super) struct Custom<T>(pub(super) T);

impl<T> Dial for Custom<T>
where
    T: Service<Address> + Clone + Send + Sync + 'static,
    T::Response: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    T::Error: Into<BoxError>,
    T::Future: Send,
{
    fn dial(&self, address: Address) -> BoxFuture<'static, io::Result<Raw>> {
        let mut service = self.0.clone();
        Box::pin(async move {
            poll_fn(|cx| service.poll_ready(cx)).await.map_err(plain)?;
            let stream = service.call(address).await.map_err(plain)?;
            Ok(Raw::Custom(Box::new(stream)))
        })
    }
}

/// An I/O error as it is, and any other in one.
fn plain(error: impl Into<BoxError>) -> io::Error {
    match error.into().downcast() {
        Ok(error) => *error,
        Err(error) => io::Error::other(error),
    }
}
