//! The PROXY protocol, versions 1 and 2, as the
//! [specification](https://www.haproxy.org/download/3.2/doc/proxy-protocol.txt) has it: of a connection that a proxy passes
//! on, the first bytes tell where it came from.
//!
//! Strict, and limited in size and time. Exactly the header is read, so that what follows is the server's.

use std::error::Error as StdError;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::str::FromStr;
use std::time::Duration;

use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tokio::time::timeout;

/// The specification asks for at least three seconds, the time in which a lost packet is sent again.
const TIME: Duration = Duration::from_secs(3);
/// The longest line of version 1, its end included.
const LONGEST_V1: usize = 107;
/// The addresses and additions of version 2. The additions are skipped; certificates' names fit in.
const LONGEST_V2: usize = 4096;

const SIGNATURE_V2: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";
/// Signature, version and command, family and protocol, length.
const HEAD_V2: usize = 16;

/// Where a proxy's connection comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Source {
    Client(SocketAddr),
    /// From the proxy itself.
    Proxy,
}

/// What was wrong with the PROXY header of a connection from a trusted proxy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum HeaderError {
    /// It did not begin with one.
    Missing,
    /// It breaks the protocol's rules.
    Invalid(&'static str),
    /// It is longer than 107 bytes (version 1), or has more than 4096 after its head (version 2).
    TooLong,
    /// It tells no address: the proxy did not know it, or the connection did not come over TCP.
    NoAddress,
    /// It was not there within three seconds.
    TimedOut,
    /// The connection ended before it was there.
    Ended,
    /// More than 1024 others were awaited already.
    TooMany,
}

impl fmt::Display for HeaderError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing => f.write_str("no PROXY header"),
            Self::Invalid(rule) => write!(f, "invalid PROXY header: {rule}"),
            Self::TooLong => f.write_str("PROXY header too long"),
            Self::NoAddress => f.write_str("PROXY header without an address"),
            Self::TimedOut => f.write_str("no PROXY header within 3 s"),
            Self::Ended => f.write_str("ended before the PROXY header was there"),
            Self::TooMany => f.write_str("too many PROXY headers are awaited"),
        }
    }
}

impl StdError for HeaderError {}

/// A header of version 2, for a connection from the first of these addresses to the second. `None`: the connection is the
/// proxy's own, or did not come over TCP (`LOCAL`).
pub(super) fn header(addresses: Option<(SocketAddr, SocketAddr)>) -> Vec<u8> {
    let mut header = SIGNATURE_V2.to_vec();
    let Some((from, to)) = addresses else {
        header.extend([0x20, 0, 0, 0]);
        return header;
    };
    match (from.ip().to_canonical(), to.ip().to_canonical()) {
        (IpAddr::V4(from), IpAddr::V4(to)) => {
            header.extend([0x21, 0x11, 0, 12]);
            header.extend(from.octets().into_iter().chain(to.octets()));
        }
        // A trusted proxy may have told of the other family: both as IPv6 addresses, then.
        (from, to) => {
            let mapped = |ip| match ip {
                IpAddr::V4(ip) => ip.to_ipv6_mapped(),
                IpAddr::V6(ip) => ip,
            };
            header.extend([0x21, 0x21, 0, 36]);
            header.extend(mapped(from).octets().into_iter().chain(mapped(to).octets()));
        }
    }
    header.extend(
        from.port()
            .to_be_bytes()
            .into_iter()
            .chain(to.port().to_be_bytes()),
    );
    header
}

/// Reads the header of a proxy's connection.
pub(super) async fn read(io: &mut TcpStream) -> Result<Source, HeaderError> {
    let source = timeout(TIME, read_header(io)).await;
    source.unwrap_or(Err(HeaderError::TimedOut))
}

async fn read_header(io: &mut TcpStream) -> Result<Source, HeaderError> {
    let mut first = [0];
    if io.peek(&mut first).await.map_err(ended)? == 0 {
        return Err(HeaderError::Ended);
    }
    match first {
        [b'P'] => v1(&read_line(io).await?),
        [b'\r'] => {
            let mut head = [0; HEAD_V2];
            io.read_exact(&mut head).await.map_err(ended)?;
            let head = HeadV2::of(&head)?;
            let mut body = vec![0; head.length];
            io.read_exact(&mut body).await.map_err(ended)?;
            head.source(&body)
        }
        _ => Err(HeaderError::Missing),
    }
}

/// A line with its end. It is looked at before it is taken, since what follows is not ours.
async fn read_line(io: &mut TcpStream) -> Result<Vec<u8>, HeaderError> {
    let mut line = Vec::with_capacity(LONGEST_V1);
    while line.len() < LONGEST_V1 {
        let mut seen = [0; LONGEST_V1];
        let room = &mut seen[..LONGEST_V1 - line.len()];
        let count = io.peek(room).await.map_err(ended)?;
        let seen = &room[..count];
        let end = seen.iter().position(|byte| *byte == b'\n');
        let taken = end.map_or(count, |at| at + 1);
        if taken == 0 {
            return Err(HeaderError::Ended);
        }
        let from = line.len();
        line.resize(from + taken, 0);
        io.read_exact(&mut line[from..]).await.map_err(ended)?;
        if end.is_some() {
            return Ok(line);
        }
    }
    Err(HeaderError::TooLong)
}

fn ended(_: std::io::Error) -> HeaderError {
    HeaderError::Ended
}

/// `"PROXY TCP4 192.0.2.1 10.0.0.7 56324 443\r\n"`.
fn v1(line: &[u8]) -> Result<Source, HeaderError> {
    let invalid = HeaderError::Invalid;
    let line = std::str::from_utf8(line).map_err(|_| invalid("not ASCII"))?;
    let line = line.strip_suffix("\r\n");
    let line = line.ok_or(invalid("the line does not end with CR LF"))?;
    let mut fields = line.split(' ');
    if fields.next() != Some("PROXY") {
        return Err(HeaderError::Missing);
    }
    match fields.next() {
        Some("TCP4") => v1_addresses::<Ipv4Addr>(fields),
        Some("TCP6") => v1_addresses::<Ipv6Addr>(fields),
        // Whatever follows is to be ignored.
        Some("UNKNOWN") => Err(HeaderError::NoAddress),
        _ => Err(invalid("neither TCP4, TCP6 nor UNKNOWN")),
    }
}

fn v1_addresses<'a, Ip>(mut fields: impl Iterator<Item = &'a str>) -> Result<Source, HeaderError>
where
    Ip: FromStr + Into<IpAddr>,
{
    let mut ip = || fields.next()?.parse::<Ip>().ok();
    let (source, destination) = (ip(), ip());
    let mut port = || v1_port(fields.next()?);
    let (source_port, destination_port) = (port(), port());
    let (Some(ip), Some(_)) = (source, destination) else {
        return Err(HeaderError::Invalid("an address is none of its family"));
    };
    let (Some(port), Some(_)) = (source_port, destination_port) else {
        return Err(HeaderError::Invalid("a port is no number from 0 to 65535"));
    };
    if fields.next().is_some() {
        return Err(HeaderError::Invalid("something follows the ports"));
    }
    Ok(Source::Client(SocketAddr::new(ip.into(), port)))
}

/// Digits alone: no sign, no zero in front.
fn v1_port(text: &str) -> Option<u16> {
    let is_number = text.bytes().all(|byte| byte.is_ascii_digit());
    let is_short = text == "0" || !text.starts_with('0');
    (is_number && is_short).then(|| text.parse().ok())?
}

#[derive(Debug, PartialEq, Eq)]
struct HeadV2 {
    /// Whether it is the proxy's own connection.
    is_local: bool,
    family: Family,
    /// Bytes that follow.
    length: usize,
}

#[derive(Debug, PartialEq, Eq)]
enum Family {
    V4,
    V6,
    Other,
}

impl HeadV2 {
    fn of(head: &[u8; HEAD_V2]) -> Result<Self, HeaderError> {
        let [.., command, family, high, low] = *head;
        if !head.starts_with(SIGNATURE_V2) {
            return Err(HeaderError::Missing);
        }
        let is_local = match command {
            0x20 => true,
            0x21 => false,
            _ => return Err(HeaderError::Invalid("neither LOCAL nor PROXY of version 2")),
        };
        let family = match family {
            // Of the proxy's own connections it is to be ignored.
            _ if is_local => Family::Other,
            0x11 => Family::V4,
            0x21 => Family::V6,
            // Unspecified, over UDP, or over a socket of the proxy's machine.
            0x00 | 0x12 | 0x22 | 0x31 | 0x32 => Family::Other,
            _ => return Err(HeaderError::Invalid("no known family and protocol")),
        };
        let length = usize::from(u16::from_be_bytes([high, low]));
        if length > LONGEST_V2 {
            return Err(HeaderError::TooLong);
        }
        Ok(Self {
            is_local,
            family,
            length,
        })
    }

    fn source(&self, body: &[u8]) -> Result<Source, HeaderError> {
        // Of the proxy's own connections the addresses are to be ignored.
        if self.is_local {
            return Ok(Source::Proxy);
        }
        let client = match self.family {
            Family::V4 => v2_client::<4>(body),
            Family::V6 => v2_client::<16>(body),
            Family::Other => return Err(HeaderError::NoAddress),
        };
        let client = client.ok_or(HeaderError::Invalid("shorter than its addresses"))?;
        Ok(Source::Client(client))
    }
}

/// Source and destination, then their ports.
fn v2_client<const N: usize>(body: &[u8]) -> Option<SocketAddr>
where
    IpAddr: From<[u8; N]>,
{
    let (source, rest) = body.split_first_chunk::<N>()?;
    let (_destination, rest) = rest.split_first_chunk::<N>()?;
    let (port, rest) = rest.split_first_chunk::<2>()?;
    rest.first_chunk::<2>()?;
    Some(SocketAddr::new(
        IpAddr::from(*source),
        u16::from_be_bytes(*port),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(addr: &str) -> Result<Source, HeaderError> {
        Ok(Source::Client(addr.parse().unwrap()))
    }

    fn v2(command: u8, family: u8, body: &[u8]) -> Result<Source, HeaderError> {
        let mut head = [0; HEAD_V2];
        head[..12].copy_from_slice(SIGNATURE_V2);
        head[12] = command;
        head[13] = family;
        head[14..].copy_from_slice(&u16::try_from(body.len()).unwrap().to_be_bytes());
        HeadV2::of(&head)?.source(body)
    }

    #[test]
    fn version_1_tells_the_client() {
        assert_eq!(
            v1(b"PROXY TCP4 192.0.2.1 10.0.0.7 56324 443\r\n"),
            client("192.0.2.1:56324")
        );
        assert_eq!(
            v1(b"PROXY TCP6 2001:db8::1 ::1 0 65535\r\n"),
            client("[2001:db8::1]:0")
        );
        assert_eq!(v1(b"PROXY UNKNOWN\r\n"), Err(HeaderError::NoAddress));
        assert_eq!(
            v1(b"PROXY UNKNOWN ffff::1 ffff::2 1 2\r\n"),
            Err(HeaderError::NoAddress)
        );
    }

    #[test]
    fn what_is_not_quite_version_1_is_refused() {
        for line in [
            "PROXY TCP4 192.0.2.1 10.0.0.7 56324 443\n",
            "PROXY TCP4 192.0.2.1 10.0.0.7 56324 443 \r\n",
            "PROXY TCP4 192.0.2.1 10.0.0.7 56324\r\n",
            "PROXY TCP4 192.0.2.1 10.0.0.7\r\n",
            "PROXY TCP4  192.0.2.1 10.0.0.7 1 2\r\n",
            "PROXY TCP4 192.0.2.01 10.0.0.7 1 2\r\n",
            "PROXY TCP4 192.0.2.256 10.0.0.7 1 2\r\n",
            "PROXY TCP4 ::1 ::1 1 2\r\n",
            "PROXY TCP6 192.0.2.1 10.0.0.7 1 2\r\n",
            "PROXY TCP4 192.0.2.1 10.0.0.7 +1 2\r\n",
            "PROXY TCP4 192.0.2.1 10.0.0.7 01 2\r\n",
            "PROXY TCP4 192.0.2.1 10.0.0.7 65536 2\r\n",
            "PROXY TCP4 192.0.2.1 10.0.0.7 1 2\r\r\n",
            "PROXY\tTCP4 192.0.2.1 10.0.0.7 1 2\r\n",
            "PROXY tcp4 192.0.2.1 10.0.0.7 1 2\r\n",
            "PROXY UDP4 192.0.2.1 10.0.0.7 1 2\r\n",
            "PROXY \r\n",
            "PROXY\r\n",
            "PROXYTCP4 192.0.2.1 10.0.0.7 1 2\r\n",
            "POST / HTTP/1.1\r\n",
            "\r\n",
            "",
        ] {
            assert!(v1(line.as_bytes()).is_err(), "{line:?}");
        }
        assert!(v1(b"PROXY TCP4 \xff\xfe 10.0.0.7 1 2\r\n").is_err());
    }

    #[test]
    fn version_2_tells_the_client() {
        let v4 = [192, 0, 2, 1, 10, 0, 0, 7, 0xdc, 4, 1, 187];
        assert_eq!(v2(0x21, 0x11, &v4), client("192.0.2.1:56324"));
        let with_additions = [&v4[..], &[4, 0, 1, 0]].concat();
        assert_eq!(v2(0x21, 0x11, &with_additions), client("192.0.2.1:56324"));
        let mut v6 = [0; 36];
        v6[15] = 1;
        v6[33] = 80;
        assert_eq!(v2(0x21, 0x21, &v6), client("[::1]:80"));
        assert_eq!(v2(0x20, 0x00, &[]), Ok(Source::Proxy));
        assert_eq!(
            v2(0x20, 0x11, &v4),
            Ok(Source::Proxy),
            "its own, as it says"
        );
        assert_eq!(v2(0x20, 0x41, &v4), Ok(Source::Proxy), "of any family");
    }

    #[test]
    fn what_is_not_quite_version_2_is_refused() {
        let v4 = [192, 0, 2, 1, 10, 0, 0, 7, 0xdc, 4, 1, 187];
        for command in (0..=u8::MAX).filter(|byte| !(0x20..=0x21).contains(byte)) {
            assert!(matches!(
                v2(command, 0x11, &v4),
                Err(HeaderError::Invalid(_))
            ));
        }
        for family in (0..=u8::MAX).filter(|byte| *byte != 0x11) {
            assert!(v2(0x21, family, &v4).is_err(), "{family:#x}");
        }
        for length in 0..v4.len() {
            assert!(v2(0x21, 0x11, &v4[..length]).is_err());
        }
        assert!(v2(0x21, 0x21, &[0; 35]).is_err());
        assert_eq!(v2(0x21, 0x11, &[0; 4097]), Err(HeaderError::TooLong));
        assert_eq!(v2(0x20, 0x11, &[0; 4097]), Err(HeaderError::TooLong));
        assert_eq!(v2(0x21, 0x31, &[0; 216]), Err(HeaderError::NoAddress));
        let mut signed_wrong = [0; HEAD_V2];
        signed_wrong[..12].copy_from_slice(b"\r\n\r\n\0\r\nQUIT\r");
        assert_eq!(HeadV2::of(&signed_wrong), Err(HeaderError::Missing));
    }
}
