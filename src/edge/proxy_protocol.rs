//! The PROXY protocol, versions 1 and 2: a balancer says who the client is before the first byte of TLS or HTTP
//! (<https://www.haproxy.org/download/2.9/doc/proxy-protocol.txt>).

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use tokio::io::{AsyncRead, AsyncReadExt};

/// Reads the header that must be the first thing on `stream`, and not a byte more. `None`: the connection is the balancer's own,
/// or of a kind that has no address.
///
/// # Errors
///
/// Of the stream, or `InvalidData` where it does not begin with such a header.
pub(super) async fn read_header(stream: &mut (impl AsyncRead + Unpin)) -> io::Result<Option<SocketAddr>> {
    let mut begin = [0; 12];
    stream.read_exact(&mut begin).await?;
    if begin == SIGNATURE { read_v2(stream).await } else { read_v1(&begin, stream).await }
}

/// A line of text: `PROXY TCP4 198.51.100.1 203.0.113.9 5555 443`.
async fn read_v1(begin: &[u8], stream: &mut (impl AsyncRead + Unpin)) -> io::Result<Option<SocketAddr>> {
    if !begin.starts_with(b"PROXY ") {
        return Err(invalid());
    }
    let mut line = begin.to_vec();
    // Byte by byte: what follows is not ours.
    while !line.ends_with(b"\r\n") {
        if line.len() >= LONGEST_LINE {
            return Err(invalid());
        }
        line.push(stream.read_u8().await?);
    }
    let line = std::str::from_utf8(&line).map_err(|_| invalid())?;
    let mut parts = line.trim_end_matches("\r\n").split(' ').skip(1);
    let mut part = || parts.next().ok_or_else(invalid);
    let family = part()?;
    if family == "UNKNOWN" {
        return Ok(None);
    }
    let (source, target, port, _) =
        (part()?, part()?, part()?, part()?.parse::<u16>().map_err(|_| invalid())?);
    let addresses: (IpAddr, IpAddr) = match family {
        "TCP4" => (IpAddr::V4(parse(source)?), IpAddr::V4(parse(target)?)),
        "TCP6" => (IpAddr::V6(parse(source)?), IpAddr::V6(parse(target)?)),
        _ => return Err(invalid()),
    };
    if parts.next().is_some() {
        return Err(invalid());
    }
    Ok(Some(SocketAddr::new(addresses.0, parse(port)?)))
}

fn parse<T: std::str::FromStr>(text: &str) -> io::Result<T> {
    text.parse().map_err(|_| invalid())
}

/// Binary, behind its signature: version and command, family, length, addresses, and fields that are skipped.
async fn read_v2(stream: &mut (impl AsyncRead + Unpin)) -> io::Result<Option<SocketAddr>> {
    let (command, family, length) =
        (stream.read_u8().await?, stream.read_u8().await?, stream.read_u16().await?);
    if length > MOST_BYTES {
        return Err(invalid());
    }
    let mut body = vec![0; usize::from(length)];
    stream.read_exact(&mut body).await?;
    match command {
        // LOCAL: the balancer's own check.
        0x20 => return Ok(None),
        0x21 => {}
        _ => return Err(invalid()),
    }
    let source = match family {
        // Over IPv4: two addresses, two ports.
        0x11 => body.first_chunk::<12>().map(|&[a, b, c, d, _, _, _, _, high, low, _, _]| {
            SocketAddr::new(Ipv4Addr::new(a, b, c, d).into(), u16::from_be_bytes([high, low]))
        }),
        0x21 => body.first_chunk::<16>().zip(body.get(32..36)).and_then(|(address, ports)| {
            let port = ports.first_chunk::<2>()?;
            Some(SocketAddr::new(Ipv6Addr::from(*address).into(), u16::from_be_bytes(*port)))
        }),
        // Neither TCP over IPv4 nor over IPv6: the receiver goes by the connection itself.
        0x00 | 0x31 => return Ok(None),
        _ => return Err(invalid()),
    };
    source.map(Some).ok_or_else(invalid)
}

fn invalid() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "no PROXY header")
}

const SIGNATURE: [u8; 12] = *b"\r\n\r\n\0\r\nQUIT\n";

/// The longest line of version 1 has 107 bytes.
const LONGEST_LINE: usize = 107;

/// More than any balancer adds to the addresses.
const MOST_BYTES: u16 = 4096;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::collection::vec;
    use proptest::prelude::any;
    use proptest::{prop_assert, prop_assert_eq, proptest};
    use tokio::runtime::Builder;

    /// What the header says, and what is left behind it.
    fn read(bytes: &[u8]) -> (Result<Option<String>, io::ErrorKind>, usize) {
        let runtime = Builder::new_current_thread().build().unwrap();
        let mut left = bytes;
        let read = runtime.block_on(read_header(&mut left));
        (read.map(|client| client.map(|client| client.to_string())).map_err(|error| error.kind()), left.len())
    }

    fn v2(command: u8, family: u8, body: &[u8]) -> Vec<u8> {
        let length = u16::try_from(body.len()).unwrap().to_be_bytes();
        [&SIGNATURE[..], &[command, family], &length, body].concat()
    }

    #[test]
    fn each_header_is_read_to_its_end_and_no_further() {
        let ipv4 = [198, 51, 100, 1, 203, 0, 113, 9, 0x15, 0xb3, 0x01, 0xbb];
        let mut ipv6 = [0; 36];
        ipv6[..4].copy_from_slice(&[0x20, 0x01, 0x0d, 0xb8]);
        ipv6[15] = 1;
        ipv6[32..34].copy_from_slice(&[0x15, 0xb3]);
        type Row<'r> = (Vec<u8>, Result<Option<&'r str>, ()>);
        let rows: Vec<Row<'_>> = vec![
            (b"PROXY TCP4 198.51.100.1 203.0.113.9 5555 443\r\n".to_vec(), Ok(Some("198.51.100.1:5555"))),
            (b"PROXY TCP6 2001:db8::1 ::1 5555 443\r\n".to_vec(), Ok(Some("[2001:db8::1]:5555"))),
            (b"PROXY UNKNOWN\r\n".to_vec(), Ok(None)),
            (b"PROXY UNKNOWN whatever it says\r\n".to_vec(), Ok(None)),
            (b"PROXY TCP4 2001:db8::1 ::1 5555 443\r\n".to_vec(), Err(())),
            (b"PROXY TCP4 198.51.100.1 203.0.113.9 99999 443\r\n".to_vec(), Err(())),
            (b"PROXY TCP4 198.51.100.1 203.0.113.9 5555\r\n".to_vec(), Err(())),
            (b"PROXY TCP4 198.51.100.1 203.0.113.9 5555 443 1\r\n".to_vec(), Err(())),
            (b"PROXY UDP4 198.51.100.1 203.0.113.9 5555 443\r\n".to_vec(), Err(())),
            (b"GET / HTTP/1.1\r\nHost: x\r\n\r\n".to_vec(), Err(())),
            ([b"PROXY UNKNOWN ".to_vec(), vec![b'x'; 200]].concat(), Err(())),
            (v2(0x21, 0x11, &ipv4), Ok(Some("198.51.100.1:5555"))),
            (v2(0x21, 0x11, &[&ipv4[..], &[3, 0, 4, 1, 2, 3, 4]].concat()), Ok(Some("198.51.100.1:5555"))),
            (v2(0x21, 0x21, &ipv6), Ok(Some("[2001:db8::1]:5555"))),
            (v2(0x20, 0x00, &[]), Ok(None)),
            (v2(0x20, 0x11, &ipv4), Ok(None)),
            (v2(0x21, 0x00, &[]), Ok(None)),
            (v2(0x21, 0x31, &[0; 216]), Ok(None)),
            (v2(0x21, 0x11, &ipv4[..11]), Err(())),
            (v2(0x21, 0x21, &ipv6[..35]), Err(())),
            (v2(0x11, 0x11, &ipv4), Err(())),
            (v2(0x22, 0x11, &ipv4), Err(())),
            (v2(0x21, 0x12, &ipv4), Err(())),
            (v2(0x21, 0x11, &[0; 5000]), Err(())),
        ];
        for (mut bytes, expected) in rows {
            bytes.extend(b"behind");
            let shown = String::from_utf8_lossy(&bytes).into_owned();
            let (got, left) = read(&bytes);
            assert_eq!(got.as_ref().map(Option::as_deref).map_err(|_| ()), expected, "{shown:?}");
            if expected.is_ok() {
                assert_eq!(left, "behind".len(), "{shown:?}");
            }
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_a_header_or_an_error(bytes in vec(any::<u8>(), 0..200), signed in any::<bool>()) {
            let bytes = if signed { [&SIGNATURE[..], &bytes].concat() } else { bytes };
            let (got, left) = read(&bytes);
            prop_assert!(left <= bytes.len());
            if !signed && !bytes.starts_with(b"PROXY ") {
                prop_assert_eq!(got.is_err(), true);
            }
        }
    }
}
