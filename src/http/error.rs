//! What goes wrong between a caller and one instance, and whether the request had left by then.

use std::error::Error as StdError;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;
use std::{fmt, io};

#[cfg(feature = "tls")]
use tokio_rustls::rustls::Error as TlsError;
#[cfg(feature = "tls")]
use tokio_rustls::rustls::pki_types::{InvalidDnsNameError, ServerName};

use crate::balance::socket::SocketError;
use crate::error::BoxError;
use crate::event::dial::DialError;
use crate::model::address::Address;
use crate::runtime::causes::chain;
use crate::runtime::local_fault;
#[cfg(feature = "tls")]
use crate::runtime::text::excerpt;

/// Why no connection to an instance could be opened.
///
/// Its [`source`](StdError::source) is the [`io::Error`] of the failed connect or TLS handshake, or hyper's error of a failed handshake.
#[derive(Debug, Clone)]
pub struct ConnectError {
    address: Address,
    // Shared, because every request that waits for one HTTP/2 connection is told of its failure.
    cause: Arc<ConnectCause>,
}

/// The kind of a [`ConnectError`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ConnectErrorKind {
    /// No connection: refused, reset, unreachable, or closed at once.
    Io,
    /// The connect timeout passed.
    TimedOut,
    /// The TLS handshake failed: one side does not accept the other one, or the server does not speak TLS.
    Tls,
    /// The server speaks another protocol than the connector: HTTP/1.1 instead of HTTP/2, the reverse, or TLS.
    Protocol,
    /// The program asked for what cannot work: no tokio runtime, a name that is no TLS server name, a loopback address to
    /// dial another host from.
    Setup,
}

#[derive(Debug)]
enum ConnectCause {
    Io(io::Error),
    Socket(SocketError),
    /// From a loopback address to another host.
    Loopback(IpAddr, SocketError),
    TimedOut(Step, Duration, io::Error),
    Handshake(BoxError),
    /// The server spoke, or closed, and that was not the protocol of the connector.
    Protocol(Mismatch),
    NoRuntime,
    #[cfg(feature = "tls")]
    Tls(ServerName<'static>, io::Error),
    #[cfg(feature = "tls")]
    ServerName(String, InvalidDnsNameError),
}

/// A part of a dial.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    Connect,
    #[cfg(feature = "tls")]
    Tls,
    Http,
}

/// What a server says instead of what its protocol demands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mismatch {
    /// HTTP/2 was expected, by its preface.
    Http1,
    /// The same, over TLS: the server did not agree on it.
    #[cfg(feature = "tls")]
    NotAgreed,
    /// A plain connection was expected.
    Tls,
    /// HTTP/2 was expected, and closed is what the server did.
    Silent,
    /// HTTP/2 was expected.
    Unknown,
}

impl ConnectError {
    pub(super) fn io(address: impl Into<Address>, error: io::Error) -> Self {
        Self::new(address, ConnectCause::Io(error))
    }

    /// No address of the instance could be connected to, from `from` or from an address of the system's choice.
    pub(super) fn socket(address: Address, from: Option<IpAddr>, error: SocketError) -> Self {
        let reaches_out = address.ip().is_some_and(|ip| !ip.is_loopback());
        let loopback = from.filter(|from| from.is_loopback() && reaches_out);
        match loopback {
            Some(from) if !local_fault::is_local_fault(&error) => {
                Self::new(address, ConnectCause::Loopback(from, error))
            }
            _ => Self::new(address, ConnectCause::Socket(error)),
        }
    }

    pub(super) fn timed_out(address: impl Into<Address>, step: Step, limit: Duration) -> Self {
        let error = io::Error::from(io::ErrorKind::TimedOut);
        Self::new(address, ConnectCause::TimedOut(step, limit, error))
    }

    /// The instance accepted the connection and closed it at once.
    pub(super) fn closed(address: impl Into<Address>) -> Self {
        Self::io(address, io::ErrorKind::ConnectionAborted.into())
    }

    pub(super) fn handshake(address: impl Into<Address>, error: BoxError) -> Self {
        Self::new(address, ConnectCause::Handshake(error))
    }

    pub(super) fn protocol(address: impl Into<Address>, found: Mismatch) -> Self {
        Self::new(address, ConnectCause::Protocol(found))
    }

    pub(super) fn no_runtime(address: impl Into<Address>) -> Self {
        Self::new(address, ConnectCause::NoRuntime)
    }

    #[cfg(feature = "tls")]
    pub(super) fn tls(
        address: impl Into<Address>,
        name: ServerName<'static>,
        error: io::Error,
    ) -> Self {
        use tokio_rustls::rustls::AlertDescription::NoApplicationProtocol;
        if let Some(TlsError::AlertReceived(NoApplicationProtocol)) = rustls_error(&error) {
            return Self::protocol(address, Mismatch::NotAgreed);
        }
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

    /// The kind of failure.
    #[must_use]
    pub fn kind(&self) -> ConnectErrorKind {
        match *self.cause {
            ConnectCause::Io(_) | ConnectCause::Socket(_) => ConnectErrorKind::Io,
            ConnectCause::TimedOut(..) => ConnectErrorKind::TimedOut,
            ConnectCause::Handshake(_) | ConnectCause::Protocol(_) => ConnectErrorKind::Protocol,
            ConnectCause::Loopback(..) | ConnectCause::NoRuntime => ConnectErrorKind::Setup,
            #[cfg(feature = "tls")]
            ConnectCause::Tls(..) => ConnectErrorKind::Tls,
            #[cfg(feature = "tls")]
            ConnectCause::ServerName(..) => ConnectErrorKind::Setup,
        }
    }

    /// Whether this process has no file descriptors, local ports or memory for a connection: no fault of the instance.
    #[must_use]
    pub fn is_local_fault(&self) -> bool {
        match &*self.cause {
            ConnectCause::Io(error) => local_fault::is_local_fault(error),
            ConnectCause::Socket(error) => local_fault::is_local_fault(error),
            _ => false,
        }
    }

    /// Whether the connect timeout passed without an answer.
    #[must_use]
    pub fn is_timeout(&self) -> bool {
        matches!(*self.cause, ConnectCause::TimedOut(..))
    }

    /// What a census counts it under, unless that follows from the I/O error.
    fn label(&self) -> Option<&'static str> {
        match &*self.cause {
            ConnectCause::Io(_) | ConnectCause::Socket(_) | ConnectCause::TimedOut(..) => None,
            ConnectCause::Loopback(..) => Some("dialled from loopback"),
            ConnectCause::Handshake(_) => Some("HTTP handshake failed"),
            ConnectCause::Protocol(Mismatch::Tls) => Some("server speaks TLS"),
            ConnectCause::Protocol(Mismatch::Http1) => Some("server speaks HTTP/1.1"),
            ConnectCause::Protocol(_) => Some("not HTTP/2"),
            ConnectCause::NoRuntime => Some("no runtime"),
            #[cfg(feature = "tls")]
            ConnectCause::Tls(_, error) => Some(tls_label(error)),
            #[cfg(feature = "tls")]
            ConnectCause::ServerName(..) => Some("invalid TLS server name"),
        }
    }
}

#[cfg(feature = "tls")]
fn rustls_error(error: &io::Error) -> Option<&TlsError> {
    error.get_ref()?.downcast_ref()
}

/// The names of a certificate that does not have the expected one. The peer chose them: a few, escaped and cut.
#[cfg(feature = "tls")]
fn presented_names(error: &io::Error) -> Option<String> {
    use tokio_rustls::rustls::CertificateError::NotValidForNameContext;
    let Some(TlsError::InvalidCertificate(NotValidForNameContext { presented, .. })) =
        rustls_error(error)
    else {
        return None;
    };
    let plain = |name: &String| {
        let quoted = name
            .strip_prefix("DnsName(")
            .and_then(|name| name.strip_suffix(')'));
        excerpt(quoted.unwrap_or(name).trim_matches('"'))
    };
    let names: Vec<_> = presented.iter().take(3).map(plain).collect();
    let more = if presented.len() > 3 { ", …" } else { "" };
    Some(match names.is_empty() {
        true => "no name".to_owned(),
        false => names.join(", ") + more,
    })
}

#[cfg(feature = "tls")]
fn tls_label(error: &io::Error) -> &'static str {
    use tokio_rustls::rustls::CertificateError as Fault;
    match rustls_error(error) {
        Some(TlsError::InvalidCertificate(fault)) => match fault {
            Fault::Expired | Fault::ExpiredContext { .. } => "certificate expired",
            Fault::NotValidYet | Fault::NotValidYetContext { .. } => "certificate not valid yet",
            Fault::NotValidForName | Fault::NotValidForNameContext { .. } => {
                "certificate for another name"
            }
            Fault::UnknownIssuer => "certificate of an unknown issuer",
            Fault::Revoked => "certificate revoked",
            Fault::BadSignature => "certificate with a bad signature",
            _ => "certificate refused",
        },
        Some(TlsError::InvalidMessage(_)) => "server speaks no TLS",
        _ => "TLS failed",
    }
}

impl From<ConnectError> for DialError {
    fn from(error: ConnectError) -> Self {
        match error.label() {
            Some(label) => Self::labelled(label, error),
            None => Self::new(error),
        }
    }
}

impl fmt::Display for ConnectError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let addr = &self.address;
        match &*self.cause {
            ConnectCause::Io(_) => write!(f, "cannot connect to {addr}"),
            // Its own text names all addresses.
            ConnectCause::Socket(error) => error.fmt(f),
            ConnectCause::Loopback(from, _) => write!(
                f,
                "cannot connect to {addr} from {from}: a loopback address reaches only this host"
            ),
            ConnectCause::TimedOut(step, limit, _) => match step {
                Step::Connect => write!(f, "cannot connect to {addr} within {limit:?}"),
                #[cfg(feature = "tls")]
                Step::Tls => write!(f, "no TLS handshake with {addr} within {limit:?}"),
                Step::Http => write!(f, "no HTTP/2 settings from {addr} within {limit:?}"),
            },
            ConnectCause::Handshake(_) => write!(f, "no HTTP handshake with {addr}"),
            ConnectCause::Protocol(found) => match found {
                Mismatch::Http1 => {
                    write!(f, "expected HTTP/2, but {addr} speaks HTTP/1.1")
                }
                #[cfg(feature = "tls")]
                Mismatch::NotAgreed => write!(
                    f,
                    "expected HTTP/2, but {addr} did not agree on it in the TLS handshake"
                ),
                Mismatch::Tls => write!(f, "expected plain HTTP, but {addr} speaks TLS"),
                Mismatch::Silent => write!(
                    f,
                    "expected HTTP/2, but {addr} closed the connection, as a server of HTTP/1.1 does"
                ),
                Mismatch::Unknown => write!(f, "expected HTTP/2, but {addr} does not speak it"),
            },
            #[cfg(feature = "tls")]
            ConnectCause::Tls(name, error)
                if matches!(rustls_error(error), Some(TlsError::InvalidMessage(_))) =>
            {
                let name = name.to_str();
                write!(f, "expected TLS as {name:?}, but {addr} does not speak it")
            }
            #[cfg(feature = "tls")]
            ConnectCause::Tls(name, error) if presented_names(error).is_some() => {
                let (presented, name) = (presented_names(error).unwrap_or_default(), name.to_str());
                write!(
                    f,
                    "the certificate of {addr} is for {presented}, not for {name}"
                )
            }
            #[cfg(feature = "tls")]
            ConnectCause::Tls(name, _) => {
                write!(f, "no TLS handshake with {addr} as {:?}", name.to_str())
            }
            #[cfg(feature = "tls")]
            ConnectCause::ServerName(name, _) => {
                write!(f, "invalid TLS server name {name:?} for {addr}")
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
            ConnectCause::Io(error) | ConnectCause::TimedOut(_, _, error) => Some(error),
            ConnectCause::Socket(error) | ConnectCause::Loopback(_, error) => error.source(),
            ConnectCause::Handshake(error) => Some(&**error),
            #[cfg(feature = "tls")]
            ConnectCause::Tls(_, error) => Some(error),
            #[cfg(feature = "tls")]
            ConnectCause::ServerName(_, error) => Some(error),
            ConnectCause::NoRuntime | ConnectCause::Protocol(_) => None,
        }
    }
}

/// Why a [`Connection`](super::Connection) gave no response.
///
/// Its [`source`](StdError::source), if there is one, is a [`ConnectError`], the error of the request's body, an
/// [`io::Error`], or an error of hyper or h2.
#[derive(Debug)]
pub struct CallError {
    address: Address,
    cause: CallCause,
}

#[derive(Debug)]
enum CallCause {
    Connect(ConnectError),
    /// `https` was asked for, without TLS.
    NoTls,
    Unsent {
        error: BoxError,
        /// Whether the instance has no other connection.
        is_last: bool,
    },
    Refused(BoxError),
    GoAway {
        error: BoxError,
        graceful: bool,
    },
    /// The body of the request failed, or its head cannot be sent.
    Request(BoxError),
    /// The head of the response exceeds our own limits.
    TooLarge(BoxError),
    Sent(BoxError),
}

impl CallError {
    fn new(address: impl Into<Address>, cause: CallCause) -> Self {
        Self {
            address: address.into(),
            cause,
        }
    }

    pub(super) fn connect(error: ConnectError) -> Self {
        Self::new(error.address.clone(), CallCause::Connect(error))
    }

    /// A `https` request, on a connection without TLS.
    pub(super) fn no_tls(address: impl Into<Address>) -> Self {
        Self::new(address, CallCause::NoTls)
    }

    pub(super) fn unsent(address: impl Into<Address>, error: BoxError) -> Self {
        let is_last = true;
        Self::new(address, CallCause::Unsent { error, is_last })
    }

    /// The same, while the instance has another connection.
    pub(super) fn unsent_on_one(address: impl Into<Address>, error: BoxError) -> Self {
        let is_last = false;
        Self::new(address, CallCause::Unsent { error, is_last })
    }

    pub(super) fn refused(address: impl Into<Address>, error: BoxError) -> Self {
        Self::new(address, CallCause::Refused(error))
    }

    pub(super) fn go_away(address: impl Into<Address>, error: BoxError, graceful: bool) -> Self {
        Self::new(address, CallCause::GoAway { error, graceful })
    }

    pub(super) fn sent(address: impl Into<Address>, error: BoxError) -> Self {
        Self::new(address, CallCause::Sent(error))
    }

    /// The head of the response exceeds our own limits.
    pub(super) fn too_large(address: impl Into<Address>, error: BoxError) -> Self {
        Self::new(address, CallCause::TooLarge(error))
    }

    /// The request is at fault.
    pub(super) fn request(address: impl Into<Address>, error: BoxError) -> Self {
        Self::new(address, CallCause::Request(error))
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
        matches!(
            self.cause,
            CallCause::Sent(_) | CallCause::Request(_) | CallCause::TooLarge(_)
        )
    }

    /// Whether the instance refused the HTTP/2 stream (`REFUSED_STREAM`): it has too much to do.
    #[must_use]
    pub fn is_refused(&self) -> bool {
        matches!(self.cause, CallCause::Refused(_))
    }

    /// Whether the instance closes its HTTP/2 connection with a `GOAWAY`, and does not act on the request.
    #[must_use]
    pub fn is_go_away(&self) -> bool {
        matches!(self.cause, CallCause::GoAway { .. })
    }

    /// Whether one connection was lost, and the instance has another one.
    pub(super) fn is_loss_of_one(&self) -> bool {
        matches!(self.cause, CallCause::Unsent { is_last: false, .. })
    }

    /// Whether that `GOAWAY` names an error. Sending the request again would repeat what the instance complains of.
    pub(super) fn is_go_away_with_error(&self) -> bool {
        matches!(
            self.cause,
            CallCause::GoAway {
                graceful: false,
                ..
            }
        )
    }

    /// Whether the connection failed because this process lacks a resource, see [`ConnectError::is_local_fault`].
    #[must_use]
    pub fn is_local_fault(&self) -> bool {
        matches!(&self.cause, CallCause::Connect(error) if error.is_local_fault())
    }

    /// Whether the caller is to blame, and not the instance: the body of its own request failed, its URI says `https` and the
    /// connector has no TLS, or the head of the response exceeds the connector's own limits.
    #[must_use]
    pub fn is_callers(&self) -> bool {
        match &self.cause {
            CallCause::Request(_) | CallCause::TooLarge(_) | CallCause::NoTls => true,
            CallCause::Connect(_)
            | CallCause::Unsent { .. }
            | CallCause::Sent(_)
            | CallCause::Refused(_)
            | CallCause::GoAway { .. } => false,
        }
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
            CallCause::NoTls => write!(
                f,
                "a https request needs TLS, and the connector to {addr} has none"
            ),
            CallCause::Unsent { .. } => write!(f, "lost {addr} before the request was sent"),
            CallCause::Refused(_) => write!(f, "{addr} refused the stream"),
            CallCause::GoAway { .. } => {
                write!(
                    f,
                    "{addr} closes the connection and did not act on the request"
                )
            }
            CallCause::Request(_) => write!(f, "the request to {addr} failed"),
            CallCause::TooLarge(_) => {
                write!(
                    f,
                    "the head of the response from {addr} exceeds our own limits"
                )
            }
            CallCause::Sent(_) => write!(f, "no response from {addr}"),
        }
    }
}

impl StdError for CallError {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        match &self.cause {
            CallCause::Connect(error) => Some(error),
            CallCause::NoTls => None,
            CallCause::Unsent { error, .. }
            | CallCause::Refused(error)
            | CallCause::GoAway { error, .. }
            | CallCause::Request(error)
            | CallCause::TooLarge(error)
            | CallCause::Sent(error) => Some(&**error),
        }
    }
}

/// Why a response body broke off.
///
/// Its [`source`](StdError::source) is the error of the request's body, an [`io::Error`], or an error of hyper or h2.
#[derive(Debug)]
pub struct BodyError {
    cause: BoxError,
    kind: BodyErrorKind,
}

#[derive(Debug)]
enum BodyErrorKind {
    Response,
    /// The body of the request failed.
    Request,
    /// The trailers exceed our own limits.
    TooLarge,
}

impl BodyError {
    pub(super) fn response(cause: BoxError) -> Self {
        let kind = BodyErrorKind::Response;
        Self { cause, kind }
    }

    pub(super) fn request(cause: BoxError) -> Self {
        let kind = BodyErrorKind::Request;
        Self { cause, kind }
    }

    /// The trailers of the response exceed our own limits.
    pub(super) fn too_large(cause: BoxError) -> Self {
        let kind = BodyErrorKind::TooLarge;
        Self { cause, kind }
    }

    /// Whether the caller is to blame: the body of its own request failed, or the trailers of the response exceed the
    /// connector's own limits.
    #[must_use]
    pub fn is_callers(&self) -> bool {
        match self.kind {
            BodyErrorKind::Response => false,
            BodyErrorKind::Request | BodyErrorKind::TooLarge => true,
        }
    }
}

impl fmt::Display for BodyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.kind {
            BodyErrorKind::Response => "the response body broke off",
            BodyErrorKind::Request => "the request body failed before the response was complete",
            BodyErrorKind::TooLarge => "the trailers of the response exceed our own limits",
        })
    }
}

impl StdError for BodyError {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        Some(&*self.cause)
    }
}
