//! [`Address`]: where an instance can be reached.

use std::error::Error as StdError;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::Path;
use std::str::FromStr;
use std::sync::Arc;

use crate::runtime::text::{excerpt, is_invisible};

/// Where an instance can be reached: an IP address with a port, or the path of a Unix socket.
///
/// It is written `10.0.0.7:80`, `[::1]:80` or `unix:/run/worker.sock`, also by serde. [`Display`](fmt::Display) and
/// [`FromStr`] round-trip for every address that passes [`Instance::validate`](crate::Instance::validate). Cheap to clone.
///
/// # Examples
///
/// ```
/// use rolecall::Address;
/// use std::net::SocketAddr;
///
/// let tcp: Address = "10.0.0.7:80".parse()?;
/// assert_eq!(tcp, Address::from(([10, 0, 0, 7], 80)));
/// assert_eq!(tcp.tcp(), Some(SocketAddr::from(([10, 0, 0, 7], 80))));
///
/// let unix = Address::unix("/run/worker.sock")?;
/// assert_eq!(unix.to_string(), "unix:/run/worker.sock");
/// # Ok::<(), rolecall::AddressError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Address {
    /// A TCP port.
    Tcp(SocketAddr),
    /// A Unix socket, which only processes on the same host can reach. [`Address::unix`] checks the path.
    Unix(Arc<Path>),
}

/// `sun_path` has 108 bytes on Linux, of which the last is NUL.
const LONGEST_PATH: usize = 107;

impl Address {
    /// The Unix socket at this path.
    ///
    /// # Errors
    ///
    /// An [`AddressError`] if the path is not absolute, is longer than 107 bytes, is not UTF-8, or contains NUL, control or
    /// invisible characters.
    pub fn unix(path: impl AsRef<Path>) -> Result<Self, AddressError> {
        let path = path.as_ref();
        match path_fault(path) {
            Some(reason) => Err(AddressError::new(&path.to_string_lossy(), reason)),
            None => Ok(Self::Unix(Arc::from(path))),
        }
    }

    /// The IP address and the port of a TCP address.
    #[must_use]
    pub fn tcp(&self) -> Option<SocketAddr> {
        match self {
            Self::Tcp(addr) => Some(*addr),
            Self::Unix(_) => None,
        }
    }

    /// The IP address of a TCP address.
    #[must_use]
    pub fn ip(&self) -> Option<IpAddr> {
        self.tcp().map(|addr| addr.ip())
    }

    /// The port of a TCP address.
    #[must_use]
    pub fn port(&self) -> Option<u16> {
        self.tcp().map(|addr| addr.port())
    }

    /// The path of a Unix socket.
    #[must_use]
    pub fn path(&self) -> Option<&Path> {
        match self {
            Self::Tcp(_) => None,
            Self::Unix(path) => Some(path),
        }
    }

    /// Why no caller can dial it; `None` if callers can.
    pub(crate) fn fault(&self) -> Option<&'static str> {
        match self {
            Self::Tcp(addr) => ip_fault(addr.ip()).or_else(|| {
                (addr.port() == 0).then_some(
                    "port 0 asks for any free port; announce the port that local_addr() returns",
                )
            }),
            Self::Unix(path) => path_fault(path),
        }
    }
}

/// Why no caller can dial this ip; `None` if callers can.
pub(crate) fn ip_fault(ip: IpAddr) -> Option<&'static str> {
    let canonical = ip.to_canonical();
    if canonical.is_unspecified() {
        Some(
            "it is where a server listens, not where it can be reached; announce the address callers dial",
        )
    } else if canonical.is_multicast() || canonical == IpAddr::V4(Ipv4Addr::BROADCAST) {
        Some("it reaches many hosts; announce the address of one")
    } else {
        None
    }
}

fn path_fault(path: &Path) -> Option<&'static str> {
    let Some(text) = path.to_str() else {
        return Some("the path is not UTF-8 text");
    };
    if text.contains('\0') {
        Some("the path has a NUL character")
    } else if !path.is_absolute() {
        Some("the path is not absolute; write unix:/run/worker.sock")
    } else if text.len() > LONGEST_PATH {
        Some("the path is longer than 107 bytes, which is the limit of a Unix socket")
    } else if text.chars().any(|c| c.is_control() || is_invisible(c)) {
        Some("the path has control or invisible characters")
    } else {
        None
    }
}

impl From<SocketAddr> for Address {
    fn from(addr: SocketAddr) -> Self {
        Self::Tcp(addr)
    }
}

/// An IP address, in any form that the standard library takes, and a port.
impl<I: Into<IpAddr>> From<(I, u16)> for Address {
    fn from(addr: (I, u16)) -> Self {
        Self::Tcp(SocketAddr::from(addr))
    }
}

impl PartialEq<SocketAddr> for Address {
    fn eq(&self, other: &SocketAddr) -> bool {
        self.tcp() == Some(*other)
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(addr) => addr.fmt(f),
            Self::Unix(path) => f.pad(&format!("unix:{}", path.display())),
        }
    }
}

/// Checks the form of the text. That the address can be dialled is checked by
/// [`Instance::validate`](crate::Instance::validate): `0.0.0.0:0` is an address.
impl FromStr for Address {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        if let Some(path) = text.strip_prefix("unix:") {
            // As in a URI: `unix:///run/worker.sock`.
            let path = path
                .strip_prefix("//")
                .filter(|path| path.starts_with('/'))
                .unwrap_or(path);
            return Self::unix(path).map_err(|error| AddressError::new(text, error.reason));
        }
        let expected = "expected an IP address with a port, such as 10.0.0.7:80, or unix: and an absolute path";
        let reason = match text.rsplit_once(':') {
            Some((host, port)) if is_host_name(host) && port.parse::<u16>().is_ok() => HOST_NAME,
            _ => expected,
        };
        text.parse()
            .map(Self::Tcp)
            .map_err(|_| AddressError::new(text, reason))
    }
}

const HOST_NAME: &str = "expected an IP address with a port, found a host name; discovery::Dns (feature dns) takes host names";

fn is_host_name(text: &str) -> bool {
    let is_part = |byte: u8| byte.is_ascii_alphanumeric() || b".-_".contains(&byte);
    text.bytes().all(is_part) && text.bytes().any(|byte| byte.is_ascii_alphabetic())
}

#[cfg(feature = "serde")]
impl serde::Serialize for Address {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(feature = "serde")]
impl<'de> serde::Deserialize<'de> for Address {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = <String as serde::Deserialize>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// Whether a text names a kind of address as `unix:` does, and one that this release does not know.
#[cfg(feature = "serde")]
pub(crate) fn is_of_later_kind(text: &str) -> bool {
    let Some((kind, rest)) = text.split_once(':') else {
        return false;
    };
    let is_part = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    kind.starts_with(|first: char| first.is_ascii_lowercase())
        && kind.bytes().all(is_part)
        && kind != "unix"
        && rest.parse::<u16>().is_err()
        && text.parse::<IpAddr>().is_err()
}

/// A text or path that is not an [`Address`], with the rule that it breaks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AddressError {
    value: Box<str>,
    reason: &'static str,
}

impl AddressError {
    fn new(value: &str, reason: &'static str) -> Self {
        let value = excerpt(value);
        Self { value, reason }
    }

    #[cfg(feature = "serde")]
    pub(crate) fn of_later_kind(value: &str) -> Self {
        Self::new(value, "its kind is unknown to this release")
    }

    /// The value that was refused, escaped and cut to 80 characters.
    #[must_use]
    pub fn value(&self) -> &str {
        &self.value
    }
}

impl fmt::Display for AddressError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "invalid address \"{}\": {}", self.value, self.reason)
    }
}

impl StdError for AddressError {}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(text: &str) -> String {
        text.parse::<Address>().unwrap_err().to_string()
    }

    #[test]
    fn a_host_name_is_refused_with_the_type_that_takes_it() {
        for name in ["localhost:80", "worker-1.example.com:8080", "a_b:1"] {
            assert!(refusal(name).contains("discovery::Dns"), "{name}");
        }
        for other in ["localhost", "10.0.0.7", "[::1]:http", "x y:80", ":80"] {
            assert!(!refusal(other).contains("discovery::Dns"), "{other}");
        }
    }

    #[test]
    fn addresses_read_as_they_are_written() {
        let longest = format!("unix:/{}", "x".repeat(106));
        for text in [
            "10.0.0.7:80",
            "[::1]:80",
            "[fe80::1%3]:80",
            "0.0.0.0:0",
            "unix:/run/w.sock",
            "unix:/srv/my role/ü.sock",
            &longest,
        ] {
            let address: Address = text.parse().unwrap();
            assert_eq!(address.to_string(), text);
            assert_eq!(address.tcp().is_none(), text.starts_with("unix:"));
        }
        let uri: Address = "unix:///run/w.sock".parse().unwrap();
        assert_eq!(uri, Address::unix("/run/w.sock").unwrap());
        assert_eq!(format!("{uri:>20}|"), "    unix:/run/w.sock|");
    }

    #[test]
    fn what_is_no_address_is_refused_and_named() {
        for text in [
            "",
            "10.0.0.7",
            "localhost:80",
            ":80",
            "10.0.0.7:99999",
            "/run/w.sock",
        ] {
            let says = format!("invalid address \"{text}\": expected an IP address with a port");
            assert!(refusal(text).starts_with(&says), "{}", refusal(text));
        }
        for (path, says) in [
            ("", "not absolute"),
            ("run/w.sock", "not absolute"),
            ("//host/w.sock\0", "NUL"),
            ("/run/a\nb", "control or invisible"),
            ("/run/a\u{202e}b", "control or invisible"),
            (&format!("/{}", "x".repeat(107)), "longer than 107 bytes"),
        ] {
            let error = refusal(&format!("unix:{path}"));
            assert!(error.starts_with("invalid address \"unix:"), "{error}");
            assert!(error.contains(says), "{error}");
            assert!(!error.contains(char::is_control), "{error}");
        }
    }

    #[cfg(feature = "serde")]
    #[test]
    fn a_kind_of_a_later_release_is_told_from_garbage() {
        for later in ["vsock:3:1024", "quic://10.0.0.7:80", "h3:[::1]:80"] {
            assert!(is_of_later_kind(later), "{later}");
        }
        for garbage in [
            "",
            "10.0.0.7",
            "localhost:80",
            "unix:w.sock",
            "fe80::1",
            "X:y",
            ":1:1",
        ] {
            assert!(!is_of_later_kind(garbage), "{garbage}");
        }
    }

    #[cfg(unix)]
    #[test]
    fn a_path_that_is_not_text_is_refused() {
        use std::ffi::OsStr;
        use std::os::unix::ffi::OsStrExt;

        let path = Path::new(OsStr::from_bytes(b"/run/\xff"));
        assert!(Address::unix(path).is_err());
        assert!(Address::Unix(Arc::from(path)).fault().is_some());
    }
}
