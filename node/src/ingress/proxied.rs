//! PROXY protocol, version 2: what a TCP balancer says of its client before the client's own bytes.
//!
//! It is believed where the operator says that only balancers connect here (`listen.proxy_protocol`), and then it must
//! be there: a listener that took both would believe any client about its address.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tokio::time::timeout;

/// How each header begins.
const SIGNATURE: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";
/// Signature, version and command, family, length.
const FIXED: usize = 16;
/// Addresses and whatever else a balancer adds. More than any of them sends.
const REST_MAX: usize = 4096;

/// Takes the header off a connection; gives the client's address, or nothing where the balancer speaks for itself: a check.
///
/// # Errors
/// There is no header, or none that is understood; nobody knows then whose connection it is.
pub(super) async fn take(tcp: &mut TcpStream, within: Duration) -> io::Result<Option<SocketAddr>> {
    let read = async {
        let mut fixed = [0; FIXED];
        tcp.read_exact(&mut fixed).await?;
        let head = Head::read(&fixed).ok_or_else(|| wrong("it does not begin with a PROXY header of version 2"))?;
        if head.rest > REST_MAX {
            return Err(wrong("its PROXY header is too long"));
        }
        let mut rest = vec![0; head.rest];
        tcp.read_exact(&mut rest).await?;
        match head.command {
            Command::Local => Ok(None),
            Command::Proxy => head.source(&rest).ok_or_else(|| wrong("its PROXY header is cut short")),
        }
    };
    let late = |_| io::Error::new(io::ErrorKind::TimedOut, "no PROXY header came");
    timeout(within, read).await.map_err(late)?
}

fn wrong(what: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Command {
    Local,
    Proxy,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Family {
    V4,
    V6,
    /// Addresses that are none of a TCP client.
    Other,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Head {
    command: Command,
    family: Family,
    rest: usize,
}

impl Head {
    fn read(fixed: &[u8; FIXED]) -> Option<Self> {
        let [.., version, family, high, low] = *fixed;
        if !fixed.starts_with(SIGNATURE) {
            return None;
        }
        let command = match version {
            0x20 => Command::Local,
            0x21 => Command::Proxy,
            _ => return None,
        };
        let family = match family {
            0x11 => Family::V4,
            0x21 => Family::V6,
            _ => Family::Other,
        };
        Some(Self { command, family, rest: usize::from(u16::from_be_bytes([high, low])) })
    }

    /// The client's address in what follows; the outer `None` where it is cut short.
    fn source(self, rest: &[u8]) -> Option<Option<SocketAddr>> {
        let port = |at: usize| Some(u16::from_be_bytes(rest.get(at..at + 2)?.try_into().ok()?));
        let address = match self.family {
            Family::V4 => {
                let ip: [u8; 4] = rest.get(..4)?.try_into().ok()?;
                (IpAddr::V4(Ipv4Addr::from(ip)), port(8)?)
            }
            Family::V6 => {
                let ip: [u8; 16] = rest.get(..16)?.try_into().ok()?;
                (IpAddr::V6(Ipv6Addr::from(ip)), port(32)?)
            }
            Family::Other => return Some(None),
        };
        Some(Some(address.into()))
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncWriteExt;
    use tokio::net::TcpListener;

    use super::*;

    const WITHIN: Duration = Duration::from_millis(200);

    /// What is taken of these bytes, and what is left behind them.
    async fn taken(bytes: &[u8]) -> (io::Result<Option<SocketAddr>>, Vec<u8>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (mut tcp, _) = listener.accept().await.unwrap();
        client.write_all(bytes).await.unwrap();
        let result = take(&mut tcp, WITHIN).await;
        drop(client);
        let mut left = Vec::new();
        // A reset says the same as an end here.
        tcp.read_to_end(&mut left).await.ok();
        (result, left)
    }

    fn header(command: u8, family: u8, rest: &[u8]) -> Vec<u8> {
        let length = u16::try_from(rest.len()).unwrap().to_be_bytes();
        [&SIGNATURE[..], &[command, family], &length, rest].concat()
    }

    #[tokio::test]
    async fn the_client_s_address_is_taken_and_the_client_s_bytes_are_left() {
        let v4 = [10, 1, 2, 3, 10, 0, 0, 1, 0x30, 0x39, 0, 80];
        // With something behind the addresses that this does not know.
        let v4_more = [&v4[..], &[4, 0, 1, 0]].concat();
        let mut v6 = [0; 36];
        (v6[15], v6[33]) = (1, 99);

        let (first, left) = taken(&[header(0x21, 0x11, &v4_more), b"GET /".to_vec()].concat()).await;
        assert_eq!((first.unwrap(), left), (Some("10.1.2.3:12345".parse().unwrap()), b"GET /".to_vec()));
        let (second, left) = taken(&header(0x21, 0x21, &v6)).await;
        assert_eq!((second.unwrap(), left), (Some("[::1]:99".parse().unwrap()), Vec::new()));
    }

    #[tokio::test]
    async fn a_check_of_the_balancer_is_its_own() {
        assert_eq!(taken(&header(0x20, 0, &[])).await.0.unwrap(), None);
        assert_eq!(taken(&header(0x21, 0x31, &[0; 216])).await.0.unwrap(), None);
    }

    #[tokio::test]
    async fn whoever_brings_no_header_is_not_believed() {
        let bare = taken(b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n").await.0.unwrap_err();
        let short = taken(&header(0x21, 0x11, &[10, 1])).await.0.unwrap_err();
        let old = taken(&header(0x11, 0x11, &[0; 12])).await.0.unwrap_err();
        let silent = taken(&SIGNATURE[..5]).await.0.unwrap_err();
        let long = taken(&[&SIGNATURE[..], &[0x21, 0x11, 0xff, 0xff]].concat()).await.0.unwrap_err();

        let kinds = [bare, short, old, silent, long].map(|error| error.kind());
        assert_eq!(kinds[..3], [io::ErrorKind::InvalidData; 3]);
        assert_eq!((kinds[3], kinds[4]), (io::ErrorKind::TimedOut, io::ErrorKind::InvalidData));
    }
}
