//! HTTP/1.1 by hand, for what no client would send and in an order no client would send it.

use std::io;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use troupe_tests::eventually::LONG;

/// An answer.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    /// Status line and headers.
    pub(crate) head: String,
    pub(crate) body: String,
}

impl Answer {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let lines = self.head.lines().skip(1).filter_map(|line| line.split_once(':'));
        lines.filter(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim()).next()
    }
}

/// A request's head without a body, ended.
pub(crate) fn head(method: &str, path: &str, headers: &str) -> String {
    format!("{method} {path} HTTP/1.1\r\nhost: troupe\r\nauthorization: Bearer sk-test\r\n{headers}\r\n")
}

/// Writes all of `pieces` before anything is read, as plain clients do.
///
/// # Errors
/// When the other side hangs up first.
pub(crate) async fn write_all(socket: &mut TcpStream, pieces: impl IntoIterator<Item = Vec<u8>>) -> io::Result<()> {
    for piece in pieces {
        let written = timeout(LONG, socket.write_all(&piece)).await;
        written.unwrap_or_else(|_| panic!("nothing was read for {LONG:?}"))?;
    }
    Ok(())
}

/// Reads one answer with a `content-length`.
///
/// # Errors
/// When the connection ends before the answer does.
pub(crate) async fn answer(socket: &mut TcpStream) -> io::Result<Answer> {
    let read = timeout(LONG, read_answer(socket)).await;
    read.unwrap_or_else(|_| panic!("no answer for {LONG:?}"))
}

async fn read_answer(socket: &mut TcpStream) -> io::Result<Answer> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(socket.read_u8().await?);
    }
    let head = String::from_utf8(head).unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    let mut answer = Answer { status, head, body: String::new() };
    let length: usize = answer.header("content-length").map_or(0, |length| length.parse().unwrap());
    let mut body = vec![0; length];
    socket.read_exact(&mut body).await?;
    answer.body = String::from_utf8(body).unwrap();
    Ok(answer)
}

/// Waits until the other side has closed the connection; gives what came before.
pub(crate) async fn closed(socket: &mut TcpStream) -> Vec<u8> {
    let mut rest = Vec::new();
    let end = timeout(LONG, socket.read_to_end(&mut rest)).await;
    match end.unwrap_or_else(|_| panic!("the connection was still open after {LONG:?}")) {
        Ok(_) => {}
        Err(error) => assert_eq!(error.kind(), io::ErrorKind::ConnectionReset),
    }
    rest
}
