//! What goes wrong between a caller and one instance, and whether the request had left by then.

use std::any::Any;
use std::error::Error as StdError;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use std::{fmt, io};

#[cfg(feature = "tls")]
use tokio_rustls::rustls::pki_types::{InvalidDnsNameError, ServerName};

use crate::error::BoxError;
use crate::event::DialError;
use crate::model::address::Address;
use crate::runtime::causes::chain;
use crate::runtime::local_fault;

/// Why no connection to an instance could be opened.
///
/// Its [`source`](StdError::source) is the [`io::Error`] of the failed connect or TLS handshake, or hyper's error of a failed handshake.
#[derive(Debug, Clone)]
pub struct ConnectError {
    address: Address,
    // Shared, because every request that waits for one HTTP/2 connection is told of its failure.
    cause: Arc<ConnectCause>,
}

#[derive(Debug)]
enum ConnectCause {
    Io(io::Error),
    TimedOut(Duration, io::Error),
    Handshake(hyper::Error),
    NoRuntime,
    Unsupported,
    #[cfg(feature = "tls")]
    Tls(ServerName<'static>, io::Error),
    #[cfg(feature = "tls")]
    ServerName(String, InvalidDnsNameError),
    #[cfg(feature = "tls")]
    NoHttp2,
}

impl ConnectError {
    pub(super) fn io(address: impl Into<Address>, error: io::Error) -> Self {
        Self::new(address, ConnectCause::Io(error))
    }

    pub(super) fn timed_out(address: impl Into<Address>, limit: Duration) -> Self {
        let error = io::Error::from(io::ErrorKind::TimedOut);
        Self::new(address, ConnectCause::TimedOut(limit, error))
    }

    /// The instance accepted the connection and closed it at once.
    pub(super) fn closed(address: impl Into<Address>) -> Self {
        Self::io(address, io::ErrorKind::ConnectionAborted.into())
    }

    pub(super) fn handshake(address: impl Into<Address>, error: hyper::Error) -> Self {
        Self::new(address, ConnectCause::Handshake(error))
    }

    pub(super) fn no_runtime(address: impl Into<Address>) -> Self {
        Self::new(address, ConnectCause::NoRuntime)
    }

    /// This connector cannot dial addresses of that kind.
    pub(super) fn unsupported(address: impl Into<Address>) -> Self {
        Self::new(address, ConnectCause::Unsupported)
    }

    #[cfg(feature = "tls")]
    pub(super) fn tls(
        address: impl Into<Address>,
        name: ServerName<'static>,
        error: io::Error,
    ) -> Self {
        Self::new(address, ConnectCause::Tls(name, error))
    }

    #[cfg(feature = "tls")]
    pub(super) fn server_name(
        address: impl Into<Address>,
        name: String,
        error: InvalidDnsNameError,
    ) -> Self {
        Self::new(address, ConnectCause::ServerName(name, error))
    }

    #[cfg(feature = "tls")]
    pub(super) fn no_http2(address: impl Into<Address>) -> Self {
        Self::new(address, ConnectCause::NoHttp2)
    }

    /// Whether TLS is the reason.
    #[cfg(feature = "tls")]
    fn is_tls(&self) -> bool {
        matches!(
            *self.cause,
            ConnectCause::Tls(..) | ConnectCause::ServerName(..) | ConnectCause::NoHttp2
        )
    }

    /// Whether one side could talk to the other one, and does not trust it.
    pub(super) fn is_distrust(&self) -> bool {
        #[cfg(feature = "tls")]
        if let ConnectCause::Tls(_, error) = &*self.cause {
            return error.kind() == io::ErrorKind::InvalidData;
        }
        false
    }

    fn new(address: impl Into<Address>, cause: ConnectCause) -> Self {
        Self {
            address: address.into(),
            cause: Arc::new(cause),
        }
    }

    /// The address that was dialled.
    #[must_use]
    pub fn address(&self) -> &Address {
        &self.address
    }

    /// Whether this process has no file descriptors, local ports or memory for a connection: no fault of the instance.
    #[must_use]
    pub fn is_local_fault(&self) -> bool {
        matches!(&*self.cause, ConnectCause::Io(error) if local_fault::is_local_fault(error))
    }

    /// Whether the connect timeout passed without an answer.
    #[must_use]
    pub fn is_timeout(&self) -> bool {
        matches!(*self.cause, ConnectCause::TimedOut(..))
    }
}

impl From<ConnectError> for DialError {
    fn from(error: ConnectError) -> Self {
        #[cfg(feature = "tls")]
        if error.is_tls() {
            return Self::labelled("TLS failed", error);
        }
        Self::new(error)
    }
}

impl fmt::Display for ConnectError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let addr = &self.address;
        match *self.cause {
            ConnectCause::Io(_) => write!(f, "cannot connect to {addr}"),
            ConnectCause::TimedOut(limit, _) => {
                write!(f, "cannot connect to {addr} within {limit:?}")
            }
            ConnectCause::Handshake(_) => write!(f, "no HTTP handshake with {addr}"),
            #[cfg(feature = "tls")]
            ConnectCause::Tls(ref name, _) => {
                write!(f, "no TLS handshake with {addr} as {:?}", name.to_str())
            }
            #[cfg(feature = "tls")]
            ConnectCause::ServerName(ref name, _) => {
                write!(f, "no TLS with {addr}: {name:?} is no server name")
            }
            #[cfg(feature = "tls")]
            ConnectCause::NoHttp2 => {
                write!(f, "{addr} did not agree on HTTP/2 in the TLS handshake")
            }
            ConnectCause::Unsupported => {
                write!(
                    f,
                    "cannot connect to {addr}: only TCP addresses are dialled"
                )
            }
            ConnectCause::NoRuntime => {
                write!(
                    f,
                    "cannot connect to {addr} without a running tokio runtime"
                )
            }
        }
    }
}

impl StdError for ConnectError {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        match &*self.cause {
            ConnectCause::Io(error) | ConnectCause::TimedOut(_, error) => Some(error),
            ConnectCause::Handshake(error) => Some(error),
            #[cfg(feature = "tls")]
            ConnectCause::Tls(_, error) => Some(error),
            #[cfg(feature = "tls")]
            ConnectCause::ServerName(_, error) => Some(error),
            #[cfg(feature = "tls")]
            ConnectCause::NoHttp2 => None,
            ConnectCause::NoRuntime | ConnectCause::Unsupported => None,
        }
    }
}

/// Whether an exchange failed by the request's own body.
pub(crate) fn is_callers(error: &hyper::Error) -> bool {
    let reset = error.source().and_then(|cause| cause.downcast_ref());
    // An HTTP/2 stream that neither the peer nor the library reset was reset by hyper, for that.
    error.is_user() && !is_abandoned(error)
        || reset.is_some_and(|error: &h2::Error| {
            error.is_reset() && !error.is_remote() && !error.is_library()
        })
}

/// Whether hyper dropped a request, as it does with one that it was about to send when the instance said that it goes away.
/// It calls that a fault of its user, and tells it apart by nothing but its text.
fn is_abandoned(error: &hyper::Error) -> bool {
    error.to_string().starts_with("dispatch task is gone")
}

/// Why a [`Connection`](super::Connection) gave no response.
///
/// Its [`source`](StdError::source) is a [`ConnectError`] or a [`hyper::Error`].
#[derive(Debug)]
pub struct CallError {
    address: Address,
    cause: CallCause,
    returned: Returned,
}

/// A request that was not sent, for whoever knows its type.
///
/// An error is shared between threads, which no request needs to be.
#[derive(Default)]
struct Returned(Mutex<Option<Box<dyn Any + Send>>>);

impl fmt::Debug for Returned {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("..")
    }
}

#[derive(Debug)]
enum CallCause {
    Connect(ConnectError),
    Unsent(hyper::Error),
    Sent(hyper::Error),
}

impl CallError {
    pub(super) fn connect(error: ConnectError) -> Self {
        Self {
            address: error.address.clone(),
            cause: CallCause::Connect(error),
            returned: Returned::default(),
        }
    }

    pub(super) fn unsent(address: impl Into<Address>, error: hyper::Error) -> Self {
        Self {
            address: address.into(),
            cause: CallCause::Unsent(error),
            returned: Returned::default(),
        }
    }

    /// Gives the request of one that was not sent along.
    pub(super) fn returning(mut self, request: Option<impl Any + Send>) -> Self {
        let request = request.map(|request| Box::new(request) as Box<dyn Any + Send>);
        self.returned = Returned(Mutex::new(request));
        self
    }

    /// The request that it gives along, if that is of this type.
    pub(crate) fn take_returned<T: 'static>(&mut self) -> Option<T> {
        let slot = self.returned.0.get_mut();
        let slot = slot.unwrap_or_else(PoisonError::into_inner);
        let request = slot.take_if(|request| request.is::<T>())?;
        request.downcast().ok().map(|request| *request)
    }

    /// The error itself, if nothing is round it but a box.
    pub(crate) fn of(error: &mut dyn Any) -> Option<&mut Self> {
        if error.is::<BoxError>() {
            error.downcast_mut::<BoxError>()?.downcast_mut()
        } else {
            error.downcast_mut()
        }
    }

    pub(super) fn sent(address: impl Into<Address>, error: hyper::Error) -> Self {
        Self {
            address: address.into(),
            cause: CallCause::Sent(error),
            returned: Returned::default(),
        }
    }

    /// The address of the instance.
    #[must_use]
    pub fn address(&self) -> &Address {
        &self.address
    }

    /// Whether the instance may have acted on the request.
    ///
    /// `false` is certain: nothing left, or the instance said by HTTP/2 that it did not act on it (`GOAWAY`,
    /// `REFUSED_STREAM`). So that sending the request again, to this or another instance, is safe. `true` is the cautious
    /// answer: the instance may or may not have acted on the request.
    #[must_use]
    pub fn was_sent(&self) -> bool {
        matches!(self.cause, CallCause::Sent(_))
    }

    /// Whether the connection failed because this process lacks a resource, see [`ConnectError::is_local_fault`].
    #[must_use]
    pub fn is_local_fault(&self) -> bool {
        matches!(&self.cause, CallCause::Connect(error) if error.is_local_fault())
    }

    /// Whether the caller is to blame: the body of its own request failed.
    #[must_use]
    pub fn is_callers(&self) -> bool {
        matches!(&self.cause, CallCause::Sent(error) if is_callers(error))
    }

    /// The first `CallError` in a chain of sources, below whatever middleware wrapped it in.
    #[must_use]
    pub fn find<'a>(error: &'a (dyn StdError + 'static)) -> Option<&'a Self> {
        chain(error).find_map(|error| error.downcast_ref())
    }
}

impl fmt::Display for CallError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let addr = &self.address;
        match self.cause {
            CallCause::Connect(_) => write!(f, "no connection to {addr}"),
            CallCause::Unsent(_) => write!(f, "lost {addr} before the request was sent"),
            CallCause::Sent(_) => write!(f, "no response from {addr}"),
        }
    }
}

impl StdError for CallError {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        match &self.cause {
            CallCause::Connect(error) => Some(error),
            CallCause::Unsent(error) | CallCause::Sent(error) => Some(error),
        }
    }
}
